"""Whether one of several terms of the loss has the wrong sign. For rule UG120.

One call of the loss is followed, and the numbers that it computes on the way, one for all or one for each example, are
kept. A term is one that the loss simply adds or subtracts: its slope is the same whatever the outputs are. Then it is
asked as a loss is (signs.py): where outputs that equal the targets make what is added largest, or what is subtracted
smallest, the sign is wrong. Only terms that have an end are judged: of a part of a variance, or a smoothed label, the
sign is another one with good reason.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .._run import random_states
from ..record import TermFacts
from .asking import Question, put_in
from .signs import costs_most
from .where import calling_line

_MOST = 16  # numbers of one call that are asked for
_SAME = 1e-3  # relative: rounding of a slope
_FAR, _FARTHER = 30.0, 300.0  # times the outputs' usual size
_BOUNDED = 0.05  # of the range: what has an end changes by less between the two


def wrong_term(ask: Question) -> TermFacts | None:
    """The first term whose sign is wrong; None where there is none. The loss is called many times."""
    if not ask.logits.is_floating_point():
        return None
    made = torch.randn(ask.logits.shape, generator=torch.Generator().manual_seed(2)).to(ask.logits)
    runs = [_run(ask, outputs) for outputs in (ask.logits.detach(), made, 0.3 * made.flip(0))]
    if any(run is None for run in runs):
        return None
    first, *others = [run for run in runs if run is not None]
    if any(run.names != first.names for run in others) or len(first.names) < 2:
        return None
    answers: dict[bytes, list[float]] = {}
    for number, (slope, where) in enumerate(zip(first.slopes, first.lines)):
        if slope is None or not all(_alike(slope, run.slopes[number]) for run in others):
            continue
        sign = 1 if bool((slope > 0).all()) else -1 if bool((slope < 0).all()) else 0
        if not sign:
            continue
        term = _Term(ask.loss, ask.outputs, ask.logits, ask.target, number, sign, first.names, answers)
        if costs_most(term) and _has_an_end(term):
            return TermFacts(where, sign > 0)
    return None


def _alike(slope: Tensor, other: Tensor | None) -> bool:
    return (
        other is not None and other.shape == slope.shape and torch.allclose(slope, other, rtol=_SAME, atol=0)
    )


@dataclass
class _Run:
    """One call of the loss: of each number on the way its function, slope and line."""

    names: list[str]
    slopes: list[Tensor | None]
    lines: list[str | None]


def _run(ask: Question, made: Tensor) -> _Run | None:
    seen = _Numbers(len(ask.logits))
    outputs = made.clone().requires_grad_()
    try:
        with torch.enable_grad(), random_states.kept(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with seen:
                loss = ask.loss(_put_in(ask, outputs), ask.target.clone())
            if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
                return None
            numbers = [t for t in seen.found if t.requires_grad]
            slopes = iter(torch.autograd.grad(loss.sum(), numbers, allow_unused=True) if numbers else ())
    except Exception:  # the caller's own code, on outputs that it may not take
        return None
    return _Run(seen.names, [next(slopes) if t.requires_grad else None for t in seen.found], seen.lines)


def _put_in(ask: Question, made: Tensor) -> Any:
    """As `put_in` does, without a copy: the slope is that of these outputs."""
    return made if ask.outputs is ask.logits else put_in(ask.outputs, ask.logits, made)


@dataclass(frozen=True)
class _Term(Question):
    """One number on the way, as a loss: what it adds. names: the functions of a call that takes the same way;
    answers: those of all terms, by outputs and targets."""

    number: int
    sign: int
    names: list[str]
    answers: dict[bytes, list[float]] = field(repr=False)

    def __call__(self, made: Tensor, target: Tensor | None = None) -> float:
        answer = self.target if target is None else target
        key = _digest(made) + _digest(answer)
        if key not in self.answers:
            seen = _Numbers(len(self.logits))
            with seen:
                super().__call__(made, target)
            values = [float(t.detach().double().mean()) for t in seen.found]
            self.answers[key] = values if seen.names == self.names else []
        values = self.answers[key]
        return self.sign * values[self.number] if values else math.nan


def _digest(x: Tensor) -> bytes:
    return hashlib.blake2b(x.detach().cpu().contiguous().view(-1).double().numpy().tobytes()).digest()


def _has_an_end(term: _Term) -> bool:
    """Whether outputs that are far away cost about as much as those that are farther. (Of classes, and of targets of 0
    and 1, `costs_most` has asked for that.)"""
    target = term.target
    if not target.is_floating_point() or bool(((target == 0) | (target == 1)).all()):
        return True
    draw = torch.randn(term.logits.shape, generator=torch.Generator().manual_seed(3)).to(term.logits)
    right = target.to(term.logits.dtype).reshape(term.logits.shape)
    top, near, far, farther = (term(made) for made in (right, draw, _FAR * draw, _FARTHER * draw))
    span = max(abs(top - far), abs(near - far))
    return math.isfinite(farther) and abs(farther - far) <= max(_BOUNDED * span, 1e-6)


class _Numbers(TorchFunctionMode):
    """Keeps what a call of the loss computes as one number, or one for each of n examples."""

    def __init__(self, examples: int) -> None:
        super().__init__()
        self.found: list[Tensor] = []
        self.names: list[str] = []
        self.lines: list[str | None] = []
        self._examples = examples

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and out.is_floating_point() and len(self.found) < _MOST:
            one_each = out.dim() == 1 and len(out) == self._examples
            if out.dim() == 0 or one_each:
                with torch._C.DisableTorchFunction():
                    self.found.append(out)
                    self.names.append(getattr(func, "__name__", "").strip("_"))
                    self.lines.append(calling_line())
        return out
