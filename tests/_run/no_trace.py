"""The proof that nothing leaves a trace: all models of the zoo x all functions that promise it x all places to raise.

    python tests/_run/no_trace.py [--part 0.1 --seed 0] [--only PATTERN] [--device cuda] [--out FILE]

A cell makes a model, its batch, its loss, what is around it, an optimizer in the midst of training (with state, a hook
that clips, and gradients not used yet), photographs all of it (compare.py), calls the function, and photographs again.
"""

from __future__ import annotations

import argparse
import collections
import datetime
import multiprocessing
import os
import platform
import random
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import torch
from compare import Photograph
from torch import Tensor, nn

import unitgain as ug
from unitgain._run import NotPutBackError
from unitgain.graph import trace
from zoo import CASES, Case

STARTS = {  # from which call on it raises: a first look, the measured pass, a later step
    "": (1,),
    "forward": (1, 7, 9), "hook": (1, 7, 9), "interrupt": (1, 7, 9),
    "backward": (1, 2), "loss": (1, 2), "interrupt in backward": (1, 2),
}  # fmt: skip
WITHOUT_A_LOSS = ("spp", "trace", "summary", "init_ of nothing", "lsuv_")
OF_A_LEARNER = ("lr_find", "summary")
PASSES_ONLY = ("", "forward", "hook", "interrupt")

_calls: collections.Counter[str] = (
    collections.Counter()
)  # not rewound: the functions' own globals are not followed


class Exploded(Exception):
    """What the models of a cell raise."""


def explode(place: str, wanted: str, start: int) -> None:
    """Counts how often a place was reached, and raises there from the wanted time on."""
    if wanted.removeprefix("interrupt in ").replace("interrupt", "forward") != place:
        return
    _calls[place] += 1
    if _calls[place] >= start:
        raise KeyboardInterrupt if wanted.startswith("interrupt") else Exploded(place)


class Carrier(nn.Module):
    """A model around the model, which raises in its own forward pass, in backward or in a hook."""

    def __init__(self, inner: nn.Module, place: str, start: int):
        super().__init__()
        self.inner, self.place, self.start = inner, place, start
        if place == "hook":
            self.register_forward_hook(lambda *_: explode("hook", place, start))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        out = self.inner(*args, **kwargs)
        explode("forward", self.place, self.start)
        for tensor in out.values() if isinstance(out, dict) else (out,):
            if self.place.endswith("backward") and isinstance(tensor, Tensor) and tensor.requires_grad:
                tensor.register_hook(lambda _: explode("backward", self.place, self.start))
        return out


@dataclass
class Scene:
    """A case, ready to be photographed."""

    case: Case
    model: nn.Module
    optimizer: torch.optim.Optimizer
    loss: Any
    learner: Any = None
    before: Photograph = field(init=False)


def prepare(case: Case, place: str, start: int, wants_learner: bool) -> Scene:
    _calls.clear()
    model = Carrier(case.model, place, start) if place else case.model
    loss = case.loss
    if place == "loss" and callable(loss):

        def exploding(outputs: Any, target: Any) -> Tensor:
            explode("loss", place, start)
            return case.loss(outputs, target)

        loss = exploding
    trainable = [p for p in model.parameters() if p.requires_grad]
    has_sparse = any(getattr(m, "sparse", None) is True for m in model.modules())
    kind = torch.optim.SGD if has_sparse else torch.optim.Adam
    optimizer = kind(trainable, lr=1e-3)
    for p in trainable:
        p.grad = torch.full_like(p, 0.01)
    optimizer.step()
    for p in trainable[1::2]:
        p.grad = None
    if not has_sparse:

        def clip(*_: Any) -> None:  # what a hook returns is taken for arguments, a norm of zero too
            torch.nn.utils.clip_grad_norm_(trainable, 0.1)

        optimizer.register_step_pre_hook(clip)
    scene = Scene(case, model, optimizer, loss)
    if wants_learner:
        scene.learner = ug.train.Learner(model, [case.batch] * 3, loss, optimizer)
    around = {"optimizer": optimizer, "outside": case.outside, "learner": scene.learner}
    scene.before = Photograph(model=model, batch=case.batch, loss=loss, **around)
    return scene


def _inputs_alone(s: Scene) -> None:
    batch = s.case.batch
    ug.check(
        s.model, {k: v for k, v in batch.items() if k != "labels"} if isinstance(batch, dict) else batch[0]
    )


FUNCTIONS: dict[str, Callable[[Scene], Any]] = {
    "check": lambda s: ug.check(s.model, s.case.batch, s.loss),
    "check of inputs alone": _inputs_alone,
    "check, steps": lambda s: ug.check(s.model, s.case.batch, s.loss, steps=2),
    "check, optimizer": lambda s: ug.check(s.model, s.case.batch, s.loss, steps=2, optimizer=s.optimizer),
    "check, function": lambda s: ug.check(
        s.model, s.case.batch, s.loss, steps=2, optimizer=lambda ps: torch.optim.SGD(ps, 0.1, 0.9)
    ),
    "fix, dry run": lambda s: ug.fix(s.model, s.case.batch, s.loss, dry_run=True, reinitialize=True),
    "spp": lambda s: ug.spp(s.model, s.case.batch, open_gains=True),
    "lr_find": lambda s: s.learner.lr_find(steps=10),
    "trace": lambda s: trace(s.model, s.case.batch),
    "summary": lambda s: s.learner.summary(),
    "init_ of nothing": lambda s: ug.init_(s.model, batch=s.case.batch, only=[]),
    "lsuv_": lambda s: ug.lsuv_(s.model, s.case.batch),  # only where it raises
}


@dataclass(frozen=True)
class Cell:
    case: str
    function: str
    place: str
    start: int

    def __str__(self) -> str:
        where = f"{self.place} from call {self.start}" if self.place else "nothing raises"
        return f"{self.case} / {self.function} / {where}"


def cells() -> Iterator[Cell]:
    for case in CASES:
        for function in FUNCTIONS:
            for place, starts in STARTS.items():
                if function in WITHOUT_A_LOSS and place not in PASSES_ONLY:
                    continue
                for start in starts:
                    yield Cell(case, function, place, start)


def sample(part: float, seed: int) -> list[Cell]:
    """A share of all cells, another one for each seed, with every model and every function in it."""
    every = list(cells())
    random.Random(seed).shuffle(every)
    chosen = every[: round(part * len(every))]
    for case in CASES:
        if not any(cell.case == case for cell in chosen):
            chosen.append(next(cell for cell in every if cell.case == case))
    return chosen


def run(cell: Cell) -> tuple[str, list[str]]:
    """(what the function did: "returned", "refused", "raised"; the differences that it left)."""
    torch.manual_seed(0)
    settings = torch.get_num_threads(), torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()
    scene = prepare(CASES[cell.case](), cell.place, cell.start, cell.function in OF_A_LEARNER)
    outcome = "returned"
    try:
        FUNCTIONS[cell.function](scene)
    except NotPutBackError as error:
        return "not put back", [str(error)]
    except ug.InputError as error:
        outcome = "raised" if isinstance(error.__cause__, Exploded) else "refused"
    except (Exception, KeyboardInterrupt) as error:
        outcome = (
            "raised"
            if isinstance(error, (Exploded, KeyboardInterrupt))
            else f"{type(error).__name__}: {error}"
        )
    left = scene.before.differences()
    moved = [f"_buffers[{name!r}]: memory" for name in scene.case.moves]
    left = [path for path in left if not path.endswith(tuple(moved))] if moved else left
    if cell.function == "lsuv_" and outcome == "returned":
        left = []  # setting weights is what it is for
    torch.set_num_threads(settings[0])  # whatever came of this cell, the next one begins anew
    torch.backends.cudnn.benchmark = settings[1]
    torch.set_float32_matmul_precision(settings[2])
    torch.set_grad_enabled(True)
    return outcome, left


def run_all(chosen: list[Cell], device: str | None) -> list[tuple[Cell, str, list[str]]]:
    """In a process of its own."""
    if device:
        torch.set_default_device(device)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    return [(cell, *run(cell)) for cell in chosen]


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--part", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="*", help="a pattern of cells: 'partly scripted / check*'")
    parser.add_argument("--device", help="cuda: everything is made on the GPU")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    chosen = [cell for cell in sample(options.part, options.seed) if fnmatchcase(str(cell), options.only)]
    start, bad = time.perf_counter(), []
    outcomes: dict[str, collections.Counter[str]] = {name: collections.Counter() for name in FUNCTIONS}
    shares = [[cell for cell in chosen if cell.case == case] for case in CASES]
    with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as pool:
        for found in pool.map(run_all, shares, [options.device] * len(shares)):
            for cell, outcome, left in found:
                outcomes[cell.function][outcome if outcome in KNOWN else "another error"] += 1
                if left or outcome not in KNOWN:
                    bad.append((cell, outcome, left))
                    print(f"{cell}: {outcome}: {'; '.join(left[:5])}", flush=True)
    seconds, clean = time.perf_counter() - start, len(chosen) - len(bad)
    where = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    lines = ["# No trace", "",
             f"{datetime.date.today()}; python {platform.python_version()}, torch {torch.__version__}, {where}", "",
             f"command: python tests/_run/no_trace.py {' '.join(sys.argv[1:])}".rstrip(), "",
             f"{len(CASES)} models x {len(FUNCTIONS)} functions x places where something raises (nowhere; forward, "
             "backward, the loss, a hook, Ctrl-C in forward and in backward, each from the first call on and from "
             f"later ones): {len(chosen)} cells in {seconds:.0f} s. **{clean} left no trace, {len(bad)} did.**", "",
             "| function | cells | returned | raised what the model raised | refused the model or batch |",
             "|---|---|---|---|---|"]  # fmt: skip
    for name, found in outcomes.items():
        counts = " | ".join(str(found[kind]) for kind in ("returned", "raised", "refused"))
        lines.append(f"| {name} | {sum(found.values())} | {counts} |")
    lines += ["", *(f"- {cell}: {outcome}: {'; '.join(left)}" for cell, outcome, left in bad)]
    text = "\n".join(lines).rstrip() + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    return bool(bad)


KNOWN = ("returned", "raised", "refused")

if __name__ == "__main__":
    sys.exit(main())
