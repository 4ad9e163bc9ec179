"""Draws the pictures of README and docs/pictures.md anew, from networks that are trained here: some seconds each.

    python scripts/draw_figures.py [NAME...]

They are committed under docs/images, since README shows one of them. The numbers in them may differ in the last digit
from machine to machine, so they are drawn when something about them changes, not with every build.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

import unitgain as ug

IMAGES = Path(__file__).parents[1] / "docs" / "images"
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


def before_and_after() -> Figure:
    """Outputs of the five tanh layers as the network came and after ug.fix, and what training made of both."""
    batch = names(512)()
    torch.manual_seed(0)
    broken, repaired = NameNet(), NameNet()
    repaired.load_state_dict(broken.state_dict())
    result = ug.fix(repaired, batch)
    losses = [train(model, names(), 0.1, 400).metric("loss")[1] for model in (broken, repaired)]

    figure = Figure(figsize=(12, 3.4), dpi=120, layout="constrained", facecolor="white")
    left, middle, right = figure.subplots(1, 3)
    for axes, report, color, title in (
        (left, result.before, BEFORE, "as it came"), (middle, result.after, AFTER, "after ug.fix"),
    ):  # fmt: skip
        draw_layers(axes, report, color)
        axes.set_title(f"{title}: {report.verdict.split(' (')[0].split(',')[0]}", fontsize=10, loc="left")
    for values, color, label in zip(losses, (BEFORE, AFTER), ("as it came", "after ug.fix")):
        smooth = torch.as_tensor(values).unfold(0, 20, 1).mean(1)
        right.plot(range(20, 20 + len(smooth)), smooth, color=color, label=label)
    right.axhline(torch.tensor(27.0).log().item(), color="#777777", ls=":", lw=1)
    right.annotate("ln(27), a guess", (400, 3.25), ha="right", va="top", fontsize=8, color="#555555")
    right.set_yscale("log")
    right.set_yticks([2.5, 3, 5, 10, 20], ["2.5", "3", "5", "10", "20"])
    right.minorticks_off()
    right.set_xlabel("step")
    right.set_title("training loss, SGD at 0.1", fontsize=10, loc="left")
    right.legend(frameon=False, fontsize=9)
    for axes in (left, middle, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_layers(axes: Axes, report: ug.Report, color: str) -> None:
    """One line for each tanh layer's outputs, the deeper the darker; flat tails are shaded."""
    sites = [f"hidden.{i}" for i in (1, 3, 5, 7, 9)]
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
    example = runpy.run_path(str(IMAGES.parents[1] / "examples" / "05_loss_landscape.py"))
    results = []
    for make in ("plain", "residual"):
        batches = ug.data.load_names().train.batches(256, torch.Generator().manual_seed(0))
        results.append(ug.landscape(example[make](), next(batches), steps=300, data=batches))
    return ug.plots.landscape(results, labels=["plain", "residual"])


@cache
def papers() -> dict[str, Any]:
    """The networks of the signal propagation plots, from the example."""
    return runpy.run_path(str(IMAGES.parents[1] / "examples" / "06_signal_propagation.py"))


PICTURES = (
    "before-after",
    *(f"plots/{name}" for name in (*ug.plots.__all__, "lr_sweep")),
    *(f"spp/{name}" for name in papers()["FIGURES"]),
)


def main(wanted: list[str]) -> None:
    for path in PICTURES:
        name = path.rpartition("/")[2]
        if not wanted or name in wanted:
            (IMAGES / path).parent.mkdir(parents=True, exist_ok=True)
            draw(name).savefig(IMAGES / f"{path}.png", dpi={"before-after": 100, "atlas": 120}.get(name, 72))
            print(f"docs/images/{path}.png")


if __name__ == "__main__":
    main(sys.argv[1:])
