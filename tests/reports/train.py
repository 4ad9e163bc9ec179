"""Trains the reported and the cured variant of every case and prints both scores (less is better).

    python tests/reports/train.py [HALF ...|all] [NAME ...]

A case shows its trouble if the reported variant ends clearly worse: not finite, or at least half as much again as
the cured one and above it by more than rounding. Where that is not so, the line ends in WEAK. Of a healthy training
the score before and after is printed, and WEAK if it did not fall.
"""

from __future__ import annotations

import math
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))

import registry
from registry import Case, built


def trained(case: Case, cured: bool, steps: int | None = None) -> float:
    """The score after training this variant as reported, for the case's steps or for fewer."""
    torch.manual_seed(0)
    parts = built(case, cured)
    if case.form == "probe":
        return float(parts[2](None, *([] if steps is None else [steps])))
    return _fitted(case, parts, case.steps if steps is None else steps)


def _fitted(case: Case, parts: tuple[Any, ...], steps: int) -> float:
    """Full-batch training (or over data=, where the arguments have it), then the score."""
    model, batch, kwargs = parts[:3]
    make = kwargs.get("optimizer") or (lambda parameters: torch.optim.Adam(parameters, case.rate))
    optimizer = make(model.parameters())
    stream = iter(_endless(kwargs.get("data") or [batch]))
    value = math.nan
    for _ in range(steps):
        given = next(stream)

        def closure(given=given) -> torch.Tensor:
            optimizer.zero_grad()
            loss = (
                _stepped(kwargs["step"](model, given))
                if "step" in kwargs
                else _loss(model, given, kwargs["loss"])
            )
            if loss.requires_grad:
                loss.backward()
            return loss

        value = float(optimizer.step(closure))  # pyright: ignore[reportArgumentType]
    return float(parts[3](model)) if len(parts) > 3 else value


def _stepped(out: Any) -> torch.Tensor:
    """The loss of what a `step` gives."""
    return out["loss"] if isinstance(out, dict) else out


def _loss(model: Any, batch: Any, loss: Any) -> torch.Tensor:
    """By `loss`, or as the model returns it: alone, in a tuple, or in a mapping."""
    if loss is not None:
        *inputs, target = batch
        return loss(model(*inputs), target)
    out = model(**batch) if isinstance(batch, dict) else model(*batch)
    parts = [out["loss"]] if isinstance(out, dict) else [out] if torch.is_tensor(out) else list(out)
    return next(part for part in parts if part.dim() == 0)


def _endless(batches: Any) -> Any:
    while True:
        yield from batches


def is_clearly_worse(reported: float, cured: float) -> bool:
    return not math.isfinite(reported) or reported > max(1.5 * cured, cured + 1e-3)


def line(case: Case) -> str:
    start = time.process_time()  # of this process alone: other work on the machine does not count
    if case.kind == "healthy":
        first, last = trained(case, True, 1), trained(case, True)
        verdict = "" if last < 0.8 * first or last < first - 0.3 else "WEAK"
        scores = f"first {first:10.4g}  last  {last:10.4g}"
    else:
        reported, cured = trained(case, False), trained(case, True)
        verdict = "" if is_clearly_worse(reported, cured) else "WEAK"
        scores = f"reported {reported:10.4g}  cured {cured:10.4g}"
    seconds = time.process_time() - start
    return f"{case.name:46} {case.kind:9} {case.form:5} {scores}  {seconds:4.1f} s {verdict}"


def main() -> None:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    known = (*registry.HALVES, *registry.VARIANTS)
    named = [a for a in sys.argv[1:] if a not in ("all", *known)]
    halves = [a for a in sys.argv[1:] if a in known] or registry.HALVES
    cases = [case for case in registry.load(*halves) if not named or case.name in named]
    for case in cases:
        print(line(case), flush=True)
    print(len(cases), "cases")


if __name__ == "__main__":
    main()
