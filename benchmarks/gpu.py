"""The benchmark grid of `make gpu`: what a Probe costs, gradient clipping, and normalizer-free training steps.

    python benchmarks/gpu.py [--out FILE] [--budget SECONDS] [--only PATTERN] [--tests LOG]
                             [--device cpu --tiny] [--warm NAME]

Every figure is the median over rounds, with quartiles. A round times each variant once, in random order, by CUDA
events around a block of steps; ratios are taken within a round. The yardstick runs twice in each round under two
names: the second's ratio is the noise. The page is written after every row, so that a run that is killed leaves
what it has; a row that fails says why and the rest goes on; what the budget does not allow is named.

--tiny    small models in place of the real ones: a rehearsal of this program, not a measurement
--tests   a log of pytest, whose last lines go into the page
--warm    only compiles the named network's step, for another process to find in the compiler's cache
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import datetime
import gc
import platform
import random
import re
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))
from agc import gradients
from reference import declare_torchvision_operators

import unitgain as ug

SEED = 0
LEAST_ROUNDS, MOST_ROUNDS = 3, 9


# ---- the page ----------------------------------------------------------------------------------------------


class Page:
    """Markdown that is whole after every row."""

    def __init__(self, path: Path | None, header: Sequence[str]):
        self.path, self.header = path, list(header)
        self.sections: list[list[str]] = []
        self.write()

    def section(self, title: str, *words: str, columns: Sequence[str] = ()) -> None:
        lines = [f"## {title}", "", *(f"{line}\n" for line in words)]
        if columns:
            lines += ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
        self.sections.append(lines)
        print(f"\n{title}", flush=True)
        self.write()

    def row(self, *cells: object) -> None:
        line = "| " + " | ".join(str(cell).replace("|", "/").replace("\n", " ") for cell in cells) + " |"
        self.sections[-1].append(line)
        print(line, flush=True)
        self.write()

    def write(self) -> None:
        if self.path is None:
            return
        text = "\n".join([*self.header, "", *("\n".join(s) + "\n" for s in self.sections)])
        beside = self.path.with_name(f".{self.path.name}.tmp")
        beside.write_text(text, encoding="utf-8")
        beside.replace(self.path)


def header(options: argparse.Namespace, place: torch.device) -> list[str]:
    versions = [f"python {platform.python_version()}", f"torch {torch.__version__}"]
    for name in ("unitgain", "timm", "torchvision"):
        with contextlib.suppress(Exception):
            versions.append(f"{name} {__import__(name).__version__}")
    if place.type == "cuda":
        major, minor = torch.cuda.get_device_capability(place)
        memory = torch.cuda.get_device_properties(place).total_memory / 2**30
        hardware = (
            f"{torch.cuda.get_device_name(place)}, compute capability {major}.{minor}, {memory:.0f} GiB; driver "
            f"{driver()}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
        )
    else:
        hardware = f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
    shown = [a for a in sys.argv[1:] if not a.startswith(("--out", "--tests"))]
    for name in ("--out", "--tests"):  # where the files were is nobody's business
        if name in sys.argv[1:]:
            shown.remove(sys.argv[sys.argv.index(name) + 1])
    return [
        "# On a GPU" + (" (a rehearsal with tiny models: no measurement)" if options.tiny else ""), "",
        f"{datetime.date.today()}; {hardware}", "", ", ".join(versions), "",
        f"command: python benchmarks/gpu.py {' '.join(shown)}".rstrip() + "; seeds: "
        f"{SEED} for weights and data, the round's number for its order. cuDNN's heuristics choose its algorithms "
        "(benchmark mode is off); TF32 as torch has it by default.", "",
        "Figures are medians over rounds (first to third quartile); a ratio is taken within a round.",
    ]  # fmt: skip


def driver() -> str:
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        lines = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.split()
        return lines[0] if lines else "unknown"
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def tests_section(page: Page, log: Path) -> None:
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    lines = text.splitlines()
    summary = next(
        (x.strip("= ") for x in reversed(lines) if re.search(r"\d+ (passed|failed|skipped|error)", x)), ""
    )
    page.section("Tests", summary or "no summary: pytest did not come to its end")
    bad = [x for x in lines if x.startswith(("FAILED", "ERROR"))]
    if bad:
        page.sections[-1] += ["```", *(x[:300] for x in bad[:60]), "```"]
        page.write()


# ---- measuring ---------------------------------------------------------------------------------------------


@dataclass
class Variant:
    """run: one step; steps: how many make a block; before: what is put back before a block, outside of the time."""

    run: Callable[[], object]
    steps: int = 10
    before: Callable[[], object] | None = None
    times: list[float] = field(default_factory=list)  # ms per step, one per round
    peak: float = float("nan")  # MiB above what lay on the device before a block


class Grid:
    """place: the device; deadline: of time.monotonic()."""

    def __init__(self, page: Page, place: torch.device, tiny: bool, deadline: float):
        self.page, self.place, self.tiny, self.deadline = page, place, tiny, deadline

    @property
    def left(self) -> float:
        return self.deadline - time.monotonic()

    def block(self, variant: Variant) -> float:
        """ms per step."""
        if variant.before is not None:
            variant.before()
        if self.place.type != "cuda":
            start = time.perf_counter()
            for _ in range(variant.steps):
                variant.run()
            return (time.perf_counter() - start) * 1e3 / variant.steps
        torch.cuda.synchronize()
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        for _ in range(variant.steps):
            variant.run()
        last.record()
        last.synchronize()
        return first.elapsed_time(last) / variant.steps

    def warm(self, variants: dict[str, Variant], steps: int = 3) -> dict[str, Variant]:
        """The variants that run at all; the others become rows that say why not."""
        good = {}
        for name, variant in variants.items():
            try:
                if variant.before is not None:
                    variant.before()
                for _ in range(1 if self.tiny else steps):
                    variant.run()
                if self.place.type == "cuda":
                    torch.cuda.synchronize()
                good[name] = variant
            except Exception as error:
                self.page.row(name, f"failed: {one_line(error)}")
        return good

    def measure(self, variants: dict[str, Variant], seconds: float) -> None:
        """Interleaved rounds, until the seconds are over (after at least three) or there are nine."""
        seconds = min(seconds, max(self.left, 1.0))
        start, rounds = time.monotonic(), 0
        least, most = (1, 1) if self.tiny else (LEAST_ROUNDS, MOST_ROUNDS)
        while rounds < most:
            spent = time.monotonic() - start
            if rounds >= least and spent * (rounds + 1) / rounds > seconds:
                break
            order = list(variants)
            random.Random(rounds).shuffle(order)
            for name in order:
                variants[name].times.append(self.block(variants[name]))
            rounds += 1

    def peaks(self, variants: dict[str, Variant], steps: int = 10) -> None:
        if self.place.type != "cuda":
            return
        for variant in variants.values():
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            for _ in range(steps):
                variant.run()
            torch.cuda.synchronize()
            variant.peak = (torch.cuda.max_memory_allocated() - before) / 2**20


def one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:240]


def spread(values: Sequence[float], digits: int = 3) -> str:
    middle = statistics.median(values)
    if len(values) < 2:
        return f"{middle:.{digits}f}"
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def ratio(variant: Variant, yardstick: Variant | None) -> str:
    if yardstick is None or not yardstick.times:
        return ""
    return spread([a / b for a, b in zip(variant.times, yardstick.times)])


# ---- networks ----------------------------------------------------------------------------------------------


class Attention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, t, c = x.shape
        q, k, v = (
            p.view(b, t, self.heads, -1).transpose(1, 2) for p in self.qkv(x).split(c, 2)
        )  # (B, H, T, C/H)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(b, t, c))


class TransformerBlock(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2, self.up, self.act = nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU("tanh")
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.down(self.act(self.up(self.norm2(x))))


class GPT(nn.Module):
    """GPT-2 small by default: 124M parameters, the head tied to the embedding, no dropout."""

    def __init__(
        self, vocabulary: int = 50257, context: int = 1024, width: int = 768, heads: int = 12, depth: int = 12
    ):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(TransformerBlock(width, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.tokens.weight
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.normal_(p, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1], device=tokens.device))
        return self.head(self.norm(self.blocks(x)))


def batch_norm_resnet(tiny: bool) -> nn.Module:
    if tiny:
        return ug.models.create("resnet_tiny", num_classes=1000)
    try:
        import timm

        return timm.create_model("resnet50")
    except Exception:
        return ug.models.create("resnet50")


_REAL = {"nf_resnet50": ("nf_resnet50", 224, 64), "nfnet_f0": ("dm_nfnet_f0", 192, 64)}
_TINY = {"nf_resnet50": ("test_nfnet", 32, 2), "nfnet_f0": ("test_nfnet", 32, 2)}


def normalizer_free(key: str, tiny: bool, whose: str) -> nn.Module:
    """Ours or timm's; dropout and stochastic depth off, so that both do the same."""
    name = (_TINY if tiny else _REAL)[key][0]
    if whose == "ours":
        return ug.models.create(name, drop_rate=0.0, stochastic_depth=0.0)
    import timm

    return timm.create_model(name, drop_rate=0.0, drop_path_rate=0.0)


class Step:
    """One step of training under bf16 autocast: forward, cross entropy, backward, SGD with momentum or AdamW."""

    def __init__(
        self, model: nn.Module, batch: tuple[Tensor, Tensor], adam: bool = False, compiled: str | None = None
    ):
        x, self.y = batch
        self.model = model.to(x.device).train()
        if x.dim() == 4:
            self.model = self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            x = x.contiguous(memory_format=torch.channels_last)
        self.x = x
        make = torch.optim.AdamW if adam else torch.optim.SGD
        options: dict[str, Any] = {"lr": 1e-4} if adam else {"lr": 1e-3, "momentum": 0.9}
        self.optimizer = make(self.model.parameters(), **options)
        self.call: Any = self.model if compiled is None else torch.compile(self.model, backend=compiled)

    def __call__(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.x.device.type, torch.bfloat16, enabled=self.x.device.type == "cuda"):
            loss = F.cross_entropy(self.call(self.x).flatten(0, -2), self.y.flatten())
        loss.backward()
        self.optimizer.step()


def images(key: str, tiny: bool, place: torch.device) -> tuple[Tensor, Tensor]:
    _, size, count = (_TINY if tiny else _REAL)[key]
    generator = torch.Generator().manual_seed(SEED)
    x = torch.randn(count, 3, size, size, generator=generator)
    return x.to(place), torch.randint(0, 1000, (count,), generator=generator).to(place)


def tokens(tiny: bool, place: torch.device) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(SEED)
    shape, words = ((2, 16), 100) if tiny else ((8, 1024), 50257)
    x = torch.randint(0, words, shape, generator=generator).to(place)
    return x, x.roll(-1, 1)


# ---- the grid ----------------------------------------------------------------------------------------------


def probe_rows(
    grid: Grid, title: str, make: Callable[[], nn.Module], batch: Any, adam: bool, seconds: float
) -> None:
    torch.manual_seed(SEED)
    first = make()
    count = sum(p.numel() for p in first.parameters())
    shape = "x".join(map(str, batch[0].shape))
    grid.page.section(
        f"A Probe on {title}",
        f"{count:,} parameters, batch {shape}, {'AdamW' if adam else 'SGD with momentum'}, bf16 autocast"
        f"{', channels_last' if batch[0].dim() == 4 else ''}. Peak: MiB in use during ten steps, above what lay there "
        "before.",
        columns=("variant", "ms per step", "over bare", "peak MiB"),
    )
    settings: dict[str, dict[str, Any] | None] = {
        "bare": None, "bare again (noise)": None, "Probe, every=1": {"every": 1},
        "Probe, every=1, scalars only": {"every": 1, "histograms": False}, "Probe, every=10": {"every": 10},
        "Probe, every=100": {"every": 100},
    }  # fmt: skip
    blocks = [20, 20, 16, 16, 20, 100]
    with contextlib.ExitStack() as stack:
        variants: dict[str, Variant] = {}
        for (name, options), steps in zip(settings.items(), blocks):
            step = Step(copy.deepcopy(first), batch, adam)
            if options is not None:
                stack.enter_context(
                    ug.Probe(step.model, step.optimizer, strict=True, **{"every": 1, **options})
                )
            variants[name] = Variant(step, 1 if grid.tiny else steps)
        variants = grid.warm(variants, 5)
        grid.peaks(variants)
        grid.measure(variants, seconds)
        bare = variants.get("bare")
        for name, variant in variants.items():
            peak = f"{variant.peak:.0f}" if variant.peak == variant.peak else ""
            grid.page.row(name, spread(variant.times, 2), ratio(variant, bare), peak)


def probe_resnet(grid: Grid) -> None:
    batch = images("nf_resnet50", grid.tiny, grid.place)
    probe_rows(grid, "a ResNet-50 with BatchNorm", lambda: batch_norm_resnet(grid.tiny), batch, False, 25)


def probe_gpt(grid: Grid) -> None:
    def make() -> nn.Module:
        return GPT(100, 16, 32, 2, 2) if grid.tiny else GPT()

    probe_rows(grid, "GPT-2 small", make, tokens(grid.tiny, grid.place), True, 25)


def probe_nfnet(grid: Grid) -> None:
    batch = images("nfnet_f0", grid.tiny, grid.place)
    probe_rows(grid, "NFNet-F0", lambda: normalizer_free("nfnet_f0", grid.tiny, "ours"), batch, False, 25)


def clipping(grid: Grid) -> None:
    torch.manual_seed(SEED)
    parameters = list(normalizer_free("nfnet_f0", grid.tiny, "ours").parameters())
    kept = [g.to(grid.place) for g in gradients(parameters, 0.1)]
    parameters = [nn.Parameter(p.detach().to(grid.place)) for p in parameters]
    for p, g in zip(parameters, kept):
        p.grad = g.clone()
    size = sum(p.numel() for p in parameters)
    grid.page.section(
        "Adaptive gradient clipping",
        f"NFNet-F0's {size:,} float32 parameters in {len(parameters)} tensors, a tenth of the units above the limit. "
        "One pass reads weights and gradients and writes gradients (torch._foreach_add_).",
        columns=("variant", "ms", "over timm's", "over one pass"),
    )
    weights = [p.detach() for p in parameters]
    grads = [p.grad for p in parameters if p.grad is not None]

    def put_back() -> None:
        torch._foreach_copy_(grads, kept)

    def theirs() -> None:
        from timm.utils.agc import adaptive_clip_grad

        adaptive_clip_grad(parameters, 0.01)

    runs: dict[str, Callable[[], object]] = {
        "one pass": lambda: torch._foreach_add_(grads, weights),
        "one pass again (noise)": lambda: torch._foreach_add_(grads, weights),
        "timm adaptive_clip_grad": theirs,
        "ug.optim.agc_": lambda: ug.optim.agc_(parameters, 0.01),
        'ug.optim.agc_(gains="channel")': lambda: ug.optim.agc_(parameters, 0.01, gains="channel"),
    }
    variants = grid.warm({name: Variant(run, 1, put_back) for name, run in runs.items()})
    grid.measure(variants, 6)
    for name, variant in variants.items():
        timm, one = variants.get("timm adaptive_clip_grad"), variants.get("one pass")
        grid.page.row(name, spread(variant.times), ratio(variant, timm), ratio(variant, one))


def training(grid: Grid, key: str, title: str, compiled: bool, seconds: float) -> None:
    batch = images(key, grid.tiny, grid.place)
    backend = ("aot_eager" if grid.tiny else "inductor") if compiled else None
    makes: dict[str, Callable[[], nn.Module]] = {
        "timm's": lambda: normalizer_free(key, grid.tiny, "timm"),
        "timm's again (noise)": lambda: normalizer_free(key, grid.tiny, "timm"),
        "ours": lambda: normalizer_free(key, grid.tiny, "ours"),
        "ours, folded (nothing to standardize)": lambda: ug.nn.fold_(normalizer_free(key, grid.tiny, "ours")),
        "ResNet-50 with BatchNorm": lambda: batch_norm_resnet(grid.tiny),
    }
    if compiled:  # compiling is what costs here
        del makes["timm's again (noise)"], makes["ours, folded (nothing to standardize)"]
    if key != "nf_resnet50":
        del makes["ResNet-50 with BatchNorm"]
    shape = "x".join(map(str, batch[0].shape))
    grid.page.section(
        f"A training step of {title}, {'compiled' if compiled else 'eager'}",
        f"batch {shape}, bf16 autocast, channels_last, SGD with momentum"
        + (
            ", torch.compile with its defaults; first: the first step, with what the compiler's cache held."
            * compiled
        ),
        columns=("network", "ms per step", "over timm's", "over BatchNorm's", *(["first, s"] * compiled)),
    )
    variants: dict[str, Variant] = {}
    firsts: dict[str, float] = {}
    for name, make in makes.items():
        if compiled and variants and grid.left < 15 and not grid.tiny:
            grid.page.row(name, "left out: the time was up")
            continue
        torch.manual_seed(SEED)
        start = time.monotonic()
        try:
            step = Step(make(), batch, compiled=backend)
            good = grid.warm({name: Variant(step, 1 if grid.tiny else 10)}, 4)
        except Exception as error:
            grid.page.row(name, f"failed: {one_line(error)}")
            continue
        firsts[name] = time.monotonic() - start
        variants.update(good)
    grid.measure(variants, seconds)
    for name, variant in variants.items():
        cells = [ratio(variant, variants.get(n)) for n in ("timm's", "ResNet-50 with BatchNorm")]
        grid.page.row(name, spread(variant.times, 2), *cells, *([f"{firsts[name]:.0f}"] * compiled))


@dataclass
class Task:
    """least: seconds without which it is not begun."""

    name: str
    run: Callable[[Grid], None]
    least: float


TASKS = [
    Task("agc", clipping, 8),
    Task("probe resnet", probe_resnet, 20),
    Task("train nf_resnet50", lambda g: training(g, "nf_resnet50", "NF-ResNet-50", False, 12), 12),
    Task("probe gpt", probe_gpt, 20),
    Task("train nfnet_f0", lambda g: training(g, "nfnet_f0", "NFNet-F0", False, 12), 12),
    Task("probe nfnet", probe_nfnet, 20),
    Task("compiled nf_resnet50", lambda g: training(g, "nf_resnet50", "NF-ResNet-50", True, 8), 25),
    Task("compiled nfnet_f0", lambda g: training(g, "nfnet_f0", "NFNet-F0", True, 8), 25),
]


@contextlib.contextmanager
def failures_noted(grid: Grid, task: Task) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        traceback.print_exc()
        if not grid.page.sections:
            grid.page.section(task.name)
        grid.page.row(task.name, f"failed: {one_line(error)}")
    finally:
        gc.collect()
        if grid.place.type == "cuda":
            torch.cuda.empty_cache()


WARM = {
    "nf_resnet50": lambda tiny: ("nf_resnet50", normalizer_free("nf_resnet50", tiny, "ours")),
    "nf_resnet50-timm": lambda tiny: ("nf_resnet50", normalizer_free("nf_resnet50", tiny, "timm")),
    "resnet50": lambda tiny: ("nf_resnet50", batch_norm_resnet(tiny)),
    "nfnet_f0": lambda tiny: ("nfnet_f0", normalizer_free("nfnet_f0", tiny, "ours")),
    "nfnet_f0-timm": lambda tiny: ("nfnet_f0", normalizer_free("nfnet_f0", tiny, "timm")),
}


def warm(name: str, tiny: bool, place: torch.device) -> None:
    """Compiles a network's step, so that the compiler's cache on the disk has it."""
    torch.manual_seed(SEED)
    key, model = WARM[name](tiny)
    start = time.monotonic()
    step = Step(model, images(key, tiny, place), compiled="aot_eager" if tiny else "inductor")
    for _ in range(2):
        step()
    if place.type == "cuda":
        torch.cuda.synchronize()
    print(f"compiled {name} in {time.monotonic() - start:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--out", type=Path, help="the page")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--budget", type=float, default=240.0, help="seconds for all of it")
    parser.add_argument("--only", default="", help="tasks whose name matches this regular expression")
    parser.add_argument("--tests", type=Path)
    parser.add_argument("--warm", choices=list(WARM))
    options = parser.parse_args()
    deadline, place = time.monotonic() + options.budget, torch.device(options.device)
    with contextlib.suppress(Exception):
        declare_torchvision_operators()
    if options.warm:
        warm(options.warm, options.tiny, place)
        return
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
    page = Page(options.out, header(options, place))
    print("\n".join(page.header), flush=True)
    if options.tests is not None:
        tests_section(page, options.tests)
    grid = Grid(page, place, options.tiny, deadline)
    left_out = []
    for task in TASKS:
        if not re.search(options.only, task.name):
            continue
        if grid.left < task.least and not options.tiny:
            left_out.append(task.name)
            continue
        start = time.monotonic()
        with failures_noted(grid, task):
            task.run(grid)
        print(f"({task.name}: {time.monotonic() - start:.0f} s, {max(grid.left, 0):.0f} s left)", flush=True)
    if left_out:
        page.section("Left out", f"The {options.budget:.0f} seconds did not allow: {', '.join(left_out)}.")
    page.section("Time", f"{options.budget - grid.left:.0f} seconds for the grid.")


if __name__ == "__main__":
    main()
