"""Whether a term of the loss has the wrong sign, although the loss has a lowest value. For rule UG120.

Two kinds are found. The loss is called on right answers and on others: a similarity without its minus is highest where
the outputs equal the targets. And one call of the loss is followed: the entropy of a softmax of the outputs, which is
added to a policy's loss where it is to be subtracted.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .._batch import Judged, map_tensors
from .._run import random_states
from ..record import EntropyFacts
from .asking import Question, right_answers
from .axes import Kept
from .where import calling_line

# ---- right answers ---------------------------------------------------------------------------------------------

_SIZES = (0.3, 1.0, 3.0)  # of the steps away from the targets, in units of their rms
_STEEP = 1e-3  # of the loss's range: the targets are a peak, not a plateau
_FAR, _FARTHER = 8.0, 30.0  # logits of certain answers
_BOUNDED = 0.05  # of the range: a similarity ends, a loss that punishes what is certain does not
_FEWEST = 8


def costs_most(ask: Question) -> bool | None:
    """Whether right answers cost more than all others; None where no answer is known to be right."""
    target, shape = ask.target, ask.logits.shape
    if not target.is_floating_point():
        found = [_is_dear(ask, outputs) for outputs, of in right_answers(ask) if of.shape == target.shape]
        return any(found) if found else None
    if target.numel() != ask.logits.numel() or target.numel() < _FEWEST or not bool(target.isfinite().all()):
        return None
    right = target.detach().to(ask.logits.dtype).reshape(shape)
    if bool(((right == 0) | (right == 1)).all()):
        return _is_dear(ask, right)
    return _is_peak(ask, right)


def _is_dear(ask: Question, right: Tensor) -> bool:
    """right: 0 and 1. Whether certain right answers cost most, and neither yes nor no alone makes them so."""
    sign = 2 * right - 1
    good, none, bad = (ask(size * sign) for size in (_FAR, 0.0, -_FAR))
    farther, yes, no = ask(_FARTHER * sign), ask(_FAR + 0 * sign), ask(0 * sign - _FAR)
    span = good - bad
    if not all(abs(v) < float("inf") for v in (good, none, bad, farther, yes, no)) or span <= 0:
        return False
    ends = abs(farther - good) <= _BOUNDED * span
    return ends and good - none > _BOUNDED * span and none > bad and good - max(yes, no) > _BOUNDED * span


def _is_peak(ask: Question, right: Tensor) -> bool:
    """Whether steps of any size and direction away from the targets lower the loss."""
    unit = right.dim() > 1 and right.shape[1] > 1 and _is_unit(ask.logits.detach())
    size = right.square().mean().sqrt()
    generator = torch.Generator().manual_seed(0)

    def at(made: Tensor) -> float:
        return ask(F.normalize(made, dim=1) if unit else made)

    noise = [torch.randn(right.shape, generator=generator).to(right) * size for _ in _SIZES]
    steps = [sign * scale * step for scale, step in zip(_SIZES, noise) for sign in (1, -1)]
    top = at(right)
    away = [*(at(right + step) for step in steps), at(-right), at(noise[0])]
    scaled = [at(0.5 * right), at(2 * right)]
    if not all(abs(v) < float("inf") for v in (top, *away, *scaled)):
        return False
    span = top - min(away)
    return span > 0 and top - max(away) > _STEEP * span and max(scaled) <= top + _STEEP * span


def _is_unit(outputs: Tensor) -> bool:
    return bool(((outputs.norm(dim=1) - 1).abs() < 1e-3).all())


def is_critics(ask: Question) -> bool | None:
    """Whether the loss is linear in the outputs, falling by those of one of two targets and rising by those of the
    other, as evenly: a critic's. None where there are not two targets, one for each output."""
    target, shape = ask.target, ask.logits.shape
    kinds = target.unique() if target.numel() == ask.logits.numel() else target.new_zeros(0)
    if len(kinds) != 2 or float(kinds[0]) not in (-1, 0) or float(kinds[1]) != 1:
        return None
    generator = torch.Generator().manual_seed(0)
    one, two = (torch.rand(shape, generator=generator).to(ask.logits) for _ in range(2))
    none, first, second, both, most = (ask(x) for x in (0 * one, one, two, one + two, 3 * one + 2 * two))
    rises, falls = (
        ask((target.reshape(shape) <= 0).to(one)) - none,
        none - ask((target.reshape(shape) > 0).to(one)),
    )
    span = max(abs(first - none), abs(second - none), 1e-6)
    linear = (
        max(abs(first + second - both - none), abs(3 * first + 2 * second - most - 4 * none)) <= _STEEP * span
    )
    return bool(linear and rises > 0 and falls > 0 and abs(rises - falls) <= 0.5 * max(rises, falls))


# ---- the entropy of a policy -----------------------------------------------------------------------------------

_SAME_VALUES = {"clamp", "clamp_min", "clip", "view", "reshape", "squeeze", "unsqueeze", "contiguous", "expand",
                "flatten", "float", "double", "to"}  # fmt: skip
_CHOOSES = {"gather", "getitem", "index_select", "take_along_dim"}
_FEW = 0.05  # of what was chosen, of either sign at least: advantages


def entropy_facts(done: Judged) -> EntropyFacts | None:
    """Of the loss's first term that makes the entropy of a softmax of the outputs small; None where there is none. The
    loss is called once more."""
    if done.function is None or done.loss is None or not done.loss.requires_grad:
        return None

    def fresh(t: Tensor) -> Tensor:
        return t.detach().clone().requires_grad_(t.is_floating_point())

    seen = _Terms()
    try:
        outputs = map_tensors(done.compared, fresh)
        target = map_tensors(done.target, lambda t: t.detach().clone())
        with torch.enable_grad(), random_states.kept():
            with seen:
                loss = done.function(outputs, target)
            if not seen.entropies or not loss.requires_grad:
                return None
            terms = [t for t, *_ in seen.entropies] + [t for t, _ in seen.chosen]
            slopes = torch.autograd.grad(loss, terms, allow_unused=True)
    except Exception:  # the caller's own code, on outputs that are no longer of its graph
        return None
    of_entropies, of_chosen = slopes[: len(seen.entropies)], slopes[len(seen.entropies) :]
    for slope, (_, key, sign, where) in zip(of_entropies, seen.entropies):
        if slope is not None and bool(slope.any()) and bool((sign * slope <= 0).all()):
            chosen = [g for g, (_, other) in zip(of_chosen, seen.chosen) if g is not None and other == key]
            return EntropyFacts(where, any(map(_has_both_signs, chosen)))
    return None


def _has_both_signs(slope: Tensor) -> bool:
    above, below = int((slope > 0).sum()), int((slope < 0).sum())
    return min(above, below) > _FEW * (above + below)


class _Terms(TorchFunctionMode):
    """Follows probabilities and their logarithms, each with a number that is that of the scores that they are of.

    entropies   products p log p (sign 1), or -p log p (sign -1): (tensor, scores, sign, line of the caller's code)
    chosen      logarithms or probabilities of single classes: (tensor, scores)
    """

    def __init__(self) -> None:
        super().__init__()
        self.entropies: list[tuple[Tensor, int, int, str | None]] = []
        self.chosen: list[tuple[Tensor, int]] = []
        self._logs: Kept[int] = Kept()
        self._probabilities: Kept[int] = Kept()
        self._sums: Kept[int] = Kept()  # logsumexp
        self._scores: Kept[int] = Kept()
        self._count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "").strip("_")
        with torch._C.DisableTorchFunction():
            if isinstance(out, Tensor) and out.requires_grad:
                self._see(name, [a for a in (*args, *(kwargs or {}).values()) if isinstance(a, Tensor)], out)
        return out

    def _key(self, scores: Tensor) -> int:
        known = self._logs[scores] or self._scores[scores]
        if known is None:
            self._count += 1
            known = self._scores[scores] = self._count
        return known

    def _see(self, name: str, given: list[Tensor], out: Tensor) -> None:
        if not given:
            return
        first, second = given[0], given[1] if len(given) > 1 else None
        log, probability = self._logs[first], self._probabilities[first]
        if name == "log_softmax":
            self._logs[out] = self._key(first)
        elif name == "softmax":
            self._probabilities[out] = self._key(first)
        elif name == "logsumexp":
            self._sums[out] = self._key(first)
        elif name == "sub" and second is not None and self._sums[second] == self._key(first):
            self._logs[out] = self._key(first)
        elif name == "log" and probability:
            self._logs[out] = probability
        elif name == "exp" and log:
            self._probabilities[out] = log
        elif name in ("entr", "special_entr") and probability:
            self.entropies.append((out, probability, -1, calling_line()))
        elif name in ("cross_entropy", "nll_loss") and out.dim():
            self.chosen.append((out, log or self._key(first)))
        elif name in _CHOOSES and (log or probability):
            self.chosen.append((out, log or probability or 0))
        elif name in ("mul", "rmul", "multiply") and second is not None:
            self._see_product(first, second, out)
        elif (
            name in _SAME_VALUES or (name in ("add", "radd") and second is None) or name in ("div", "truediv")
        ):
            if log:
                self._logs[out] = log
            elif probability:  # divided by their own sum, say
                self._probabilities[out] = probability

    def _see_product(self, one: Tensor, two: Tensor, out: Tensor) -> None:
        for p, log in (
            (self._probabilities[one], self._logs[two]),
            (self._probabilities[two], self._logs[one]),
        ):
            if p and p == log:
                self.entropies.append((out, p, 1, calling_line()))
                return
        for a, b in ((one, two), (two, one)):
            if (
                (key := self._logs[a] or self._probabilities[a])
                and not b.requires_grad
                and a.shape == b.shape
            ):
                self.chosen.append((out, key))
