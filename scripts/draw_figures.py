"""Draws the figures of README and docs, but those of the rules, from networks that are trained here: some seconds each.

    python scripts/draw_figures.py             # those that are out of date
    python scripts/draw_figures.py --all       # all of them, some minutes
    python scripts/draw_figures.py NAME...

    docs/images/before-after.png   the first two blocks of README.md, with ug.fix and without
    docs/images/updates.png        what the blocks of docs/tutorial.md write under that name
    docs/images/report.png         the page of the tutorial's first report; needs Chromium
    docs/images/plots              every function of ug.plots (docs/pictures.md)
    docs/images/spp                examples/06_signal_propagation.py

They are committed, since README shows one of them. The numbers in them may differ in the last digit from machine to
machine, so they are drawn when something about them changes, not with every build: each file says what it was drawn
from, which scripts/check_figures.py compares.
"""

from __future__ import annotations

import importlib.util
import inspect
import io
import math
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from figures import digest, stamp_of, stamped
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn

import unitgain as ug

ROOT = Path(__file__).parents[1]
IMAGES, EXAMPLES, PACKAGE = ROOT / "docs" / "images", ROOT / "examples", ROOT / "src" / "unitgain"
BEFORE, AFTER = "#D55E00", "#0072B2"


class NameNet(nn.Module):
    """The tutorial's network: three characters in, the next one out, five tanh layers, all weights from N(0, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(27, 10)
        self.hidden = nn.Sequential()
        width = 3 * 10
        for _ in range(5):
            self.hidden.append(nn.Linear(width, 100))
            self.hidden.append(nn.Tanh())
            width = 100
        self.output = nn.Linear(100, 27)
        for parameter in self.parameters():
            nn.init.normal_(parameter)

    def forward(self, x: Tensor) -> Tensor:  # (B, 3) character numbers
        return self.output(self.hidden(self.embedding(x).flatten(1)))  # (B, 27)


class ConvNet(nn.Sequential):
    """Five convolutions with ReLU on images of 16 x 16, as fast.ai's lesson 17 has them."""

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        width = 1
        for out in (8, 16, 32, 64):
            layers += [nn.Conv2d(width, out, 3, stride=2, padding=1), nn.ReLU()]
            width = out
        super().__init__(*layers, nn.Flatten(), nn.Linear(64, 10))


def with_norms() -> nn.Sequential:
    """The same with BatchNorm behind every convolution."""
    layers: list[nn.Module] = []
    for layer in ConvNet():
        layers += [layer, nn.BatchNorm2d(layer.out_channels)] if isinstance(layer, nn.Conv2d) else [layer]
    return nn.Sequential(*layers)


def train(model: nn.Module, batches: Callable[[], tuple[Tensor, Tensor]], lr: float, steps: int) -> ug.Record:
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    with ug.Probe(model, optimizer, maps=True) as probe:
        for _ in range(steps):
            x, y = batches()
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            probe.log(loss=loss)
    return probe.record


def names(batch: int = 64) -> Callable[[], tuple[Tensor, Tensor]]:
    data = ug.data.load_names().train.batches(batch, torch.Generator().manual_seed(0))
    return lambda: next(data)


def stripes(batch: int = 64) -> Callable[[], tuple[Tensor, Tensor]]:
    """Images of stripes in ten directions, with noise: standard deviation one."""
    generator = torch.Generator().manual_seed(0)
    angles = torch.arange(10) * torch.pi / 10
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")

    def draw() -> tuple[Tensor, Tensor]:
        classes = torch.randint(0, 10, (batch,), generator=generator)
        angle = angles[classes][:, None, None]
        shift = 6.28 * torch.rand(batch, 1, 1, generator=generator)
        waves = torch.sin(0.9 * (columns * angle.cos() + rows * angle.sin()) + shift)
        noise = torch.randn(batch, 16, 16, generator=generator)
        return (waves + 0.7 * noise)[:, None], classes

    return draw


def blocks_of(page: str) -> list[str]:
    """The Python blocks of a page, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)


def before_and_after() -> Figure:
    """README's first two blocks as they are, and with a repair that does nothing: outputs of tanh layers, losses."""
    build, train_it = blocks_of("README.md")[:2]
    losses, reports = [], []
    for repair in (False, True):
        session: dict[str, Any] = {"__name__": "readme"}
        with redirect_stdout(io.StringIO()):
            exec(build, session)
            if repair:
                exec(train_it, session)
                reports = [session["result"].before, session["result"].after]
            else:
                with patch.object(ug, "fix"):
                    exec(train_it, session)
        losses.append(session["probe"].record.metric("loss")[1])

    figure = Figure(figsize=(12, 3.4), dpi=120, layout="constrained", facecolor="white")
    left, middle, right = figure.subplots(1, 3)
    for axes, report, color, title in (
        (left, reports[0], BEFORE, "as it came"), (middle, reports[1], AFTER, "after ug.fix"),
    ):  # fmt: skip
        draw_layers(axes, report, color)
        axes.set_title(f"{title}: {report.verdict.split(' (')[0].split(',')[0]}", fontsize=10, loc="left")
    for values, color, label in zip(losses, (BEFORE, AFTER), ("as it came", "after ug.fix")):
        right.plot(range(len(values)), values, color=color, label=label)
    right.axhline(math.log(10), color="#777777", ls=":", lw=1)
    right.annotate("ln(10), a guess", (300, 2.25), ha="right", va="top", fontsize=8, color="#555555")
    right.set_yscale("log")
    right.set_yticks([0.5, 1, 2, 5, 10], ["0.5", "1", "2", "5", "10"])
    right.minorticks_off()
    right.set_xlabel("step")
    right.set_title("training loss, SGD at 0.1", fontsize=10, loc="left")
    right.legend(frameon=False, fontsize=9)
    for axes in (left, middle, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_layers(axes: Axes, report: ug.Report, color: str) -> None:
    """One line for each tanh layer's outputs, the deeper the darker; flat tails are shaded."""
    sites = [s.name for s in report.record.sites("activation") if s.module == "Tanh"]
    found = {h.site: h for h in report.record.histograms("activation") if h.site in sites}
    edges = torch.linspace(-1, 1, 41).numpy()
    for i, site in enumerate(sites):
        h = found[site]
        density = h.onto(edges) / h.total / (edges[1] - edges[0])
        axes.stairs(density, edges, color=color, lw=1.4, alpha=0.35 + 0.13 * i)
    for low, high in ((-1, -0.97), (0.97, 1)):
        axes.axvspan(low, high, color="#E69F00", alpha=0.25, lw=0)
    worst = max(report.record.value("activation", s, "saturated") for s in sites)
    axes.set_xlabel(f"outputs of the five tanh layers; in flat tails: up to {worst:.0%}")
    axes.set_ylim(0)
    axes.set_xticks([-1, 0, 1])
    axes.set_yticks([])


def draw_compared(name: str) -> Figure:
    """Pictures of several records, and of none."""
    if name == "activation":
        return ug.plots.activation(torch.tanh)
    if name == "blocks":
        torch.manual_seed(0)
        batch = torch.randn(8, 3, 48, 48), torch.randint(0, 10, (8,))
        return ug.plots.blocks(ug.check(ug.models.create("resnet18", num_classes=10), batch, steps=4))
    if name == "whatif":
        batches = names(32)
        data = [batches() for _ in range(200)]
        model = ug.models.create("char_mlp_deep")
        return ug.whatif(
            model, data[0], vary={"gain": ["0.5", "1", "5/3", "3"]}, data=data, optimizer="sgd"
        ).plot()
    records = {}
    for gain in ("0.5", "5/3"):
        above, _, below = gain.partition("/")
        model = ug.models.create("char_mlp_deep", gain=float(above) / float(below or 1))
        records[f"gain {gain}"] = train(model, names(32), 0.02, 300)
    return (
        ug.plots.runs(records)
        if name == "runs"
        else ug.plots.before_after(*records.values(), names=tuple(records))
    )


def draw(name: str) -> Figure:
    if name == "before-after":
        return before_and_after()
    if name in papers()["FIGURES"]:
        return papers()["figure"](name)
    if name in ("activation", "runs", "before_after", "blocks", "whatif"):
        return draw_compared(name)
    torch.manual_seed(0)
    if name == "theory_over_depth":
        model = nn.Sequential(*[m for _ in range(8) for m in (nn.Linear(64, 64), nn.Tanh())])
        for layer in model[::2]:
            nn.init.zeros_(layer.bias)
        report = ug.check(model, torch.randn(256, 64))
        predicted = ug.theory.predict([ug.theory.Layer(64, 1 / (3 * 64) ** 0.5, activation="tanh")] * 8)
        sites = [f"{2 * i + 1}" for i in range(8)]
        return ug.plots.theory_over_depth(
            report.record, [p.std for p in predicted], [p.cosine for p in predicted], sites=sites
        )
    if name == "spp":
        model = ug.models.create("nf_resnet_tiny", num_classes=10)
        return ug.plots.spp(ug.spp(model, torch.randn(16, 3, 64, 64), open_gains=True))
    if name == "saturation_map":
        return ug.plots.saturation_map(ug.check(NameNet(), names()()).record)
    if name == "agc":
        return agc()
    if name == "batch_jitter":
        return ug.plots.batch_jitter(ug.batch_jitter(with_norms(), stripes()()[0]))
    if name == "atlas":
        return ug.plots.atlas(train(NameNet(), names(), 0.1, 300))
    if name == "landscape":
        return landscape()
    if name == "lr_sweep":
        return lr_sweep()
    if name in ("color_dim", "dead_chart", "histograms", "stats_over_depth"):
        return getattr(ug.plots, name)(train(ConvNet(), stripes(), 0.02, 300))
    model = NameNet()
    ug.fix(model, names()())
    return getattr(ug.plots, name)(train(model, names(), 0.1, 300))


def agc() -> Figure:
    model, batches = ConvNet(), stripes()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    with ug.Probe(model, optimizer) as probe, ug.optim.AGC(optimizer, model, clipping=0.05, probe=probe):
        for _ in range(300):
            x, y = batches()
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    return ug.plots.agc(probe.record)


def lr_sweep() -> Figure:
    """The how-to page's network."""
    data = ug.data.load_names().train
    model = ug.models.create("char_mlp_kaiming", generator=torch.Generator().manual_seed(0))
    loader = ug.train.InMemoryLoader((data.x[:8192], data.y[:8192]), 64, shuffle=True)
    learn = ug.train.Learner(model, loader, F.cross_entropy, lambda p: torch.optim.SGD(p, lr=0.1))
    return learn.lr_find().plot()


def landscape() -> Figure:
    """The example's two networks."""
    example = runpy.run_path(str(EXAMPLES / "05_loss_landscape.py"))
    results = []
    for make in ("plain", "residual"):
        batches = ug.data.load_names().train.batches(256, torch.Generator().manual_seed(0))
        results.append(ug.landscape(example[make](), next(batches), steps=300, data=batches))
    return ug.plots.landscape(results, labels=["plain", "residual"])


@cache
def papers() -> dict[str, Any]:
    """The networks of the signal propagation plots, from the example."""
    return runpy.run_path(str(EXAMPLES / "06_signal_propagation.py"))


@contextmanager
def chdir(folder: str) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def updates(to: Path) -> None:
    """What the tutorial writes under that name."""
    session: dict[str, Any] = {"__name__": "tutorial"}
    with TemporaryDirectory() as folder, chdir(folder), redirect_stdout(io.StringIO()):
        for block in blocks_of("docs/tutorial.md"):
            exec(block, session)
        to.write_bytes(Path("updates.png").read_bytes())


def page(to: Path) -> None:
    """The page of the tutorial's first report, in a browser."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        sys.exit("docs/images/report.png: drawn by Chromium, which is not on this machine")
    with TemporaryDirectory() as folder, chdir(folder):
        Path("name_net.py").write_text(blocks_of("docs/tutorial.md")[0], encoding="utf-8")
        spec = importlib.util.spec_from_file_location("name_net", "name_net.py")
        assert spec is not None
        assert spec.loader is not None
        net = sys.modules["name_net"] = importlib.util.module_from_spec(
            spec
        )  # so that the report finds its lines
        spec.loader.exec_module(net)
        ug.check(net.model, net.batch).save("report.html")
        subprocess.run(
            [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--screenshot=page.png",
             "--window-size=1100,840", f"file://{Path('report.html').resolve()}"],
            check=True, capture_output=True,
        )  # fmt: skip
        to.write_bytes(Path("page.png").read_bytes())


WHOLE_FILES: dict[str, Callable[[Path], None]] = {"updates": updates, "report": page}
# ---- which figures there are, and what each is drawn from ----------------------------------------------------

BOOKKEEPING = "# ---- which figures"
PICTURES = (
    "before-after",
    *WHOLE_FILES,
    *(f"plots/{name}" for name in (*ug.plots.__all__, "lr_sweep")),
    *(f"spp/{name}" for name in papers()["FIGURES"]),
)
RESOLUTION = {"before-after": 100, "atlas": 120}


def stamps() -> dict[Path, str]:
    """{figure: digest of what it is drawn from}: what draws here, the plot's file, the page or example that it runs."""
    return {IMAGES / f"{path}.png": digest(*map(_text, sources(path))) for path in PICTURES}


def sources(path: str) -> list[Path | str]:
    """Files, or the code of a page."""
    folder, _, name = path.rpartition("/")
    own: list[Path | str] = [Path(__file__).read_text(encoding="utf-8").partition(BOOKKEEPING)[0]]
    if folder == "spp":
        return [*own, EXAMPLES / "06_signal_propagation.py"]
    if name == "before-after":
        return [*own, *blocks_of("README.md")[:2]]
    if name in WHOLE_FILES:
        pages = sorted(PACKAGE.glob("report/html*.py")) + sorted(PACKAGE.glob("report/page/*"))
        return [*own, *blocks_of("docs/tutorial.md"), *(pages if name == "report" else [])]
    plots = PACKAGE / "report" / "plots"
    plot = Path(inspect.getfile(inspect.unwrap(getattr(ug.plots, name))))
    examples = {"landscape": [EXAMPLES / "05_loss_landscape.py"]}
    return [*own, plots / "_style.py", plot, *examples.get(name, [])]


def _text(source: Path | str) -> str:
    return source.read_text(encoding="utf-8") if isinstance(source, Path) else source


def in_few_colours(path: Path, colours: int) -> None:
    """Writes a picture with a palette: flat inks, of which the eye sees no difference at a third of the size."""
    few = Image.open(path).convert("RGB").quantize(colours, dither=Image.Dither.NONE)
    few.save(path, optimize=True)


def main(wanted: list[str]) -> None:
    os.environ.pop("UNITGAIN_DATA", None)  # the names that come with the package, whatever is on this machine
    os.environ["UNITGAIN_CACHE"] = os.devnull
    for path, stamp in stamps().items():
        if path.stem in wanted or "--all" in wanted or (not wanted and stamp_of(path) != stamp):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.stem in WHOLE_FILES:
                WHOLE_FILES[path.stem](path)
            else:
                draw(path.stem).savefig(path, dpi=RESOLUTION.get(path.stem, 72))
            in_few_colours(path, 64 if path.stem in WHOLE_FILES else 256)
            path.write_bytes(stamped(path.read_bytes(), stamp))
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main(sys.argv[1:])
