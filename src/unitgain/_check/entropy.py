"""Whether a term of the loss makes the entropy of a softmax of the outputs small. For rule UG120.

One call of the loss is followed. In a policy's loss such a term has the wrong sign: its entropy is to be kept large.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .._batch import Judged, map_tensors
from .._run import random_states
from ..record import EntropyFacts
from .kept import Kept
from .where import calling_line

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
