"""The loss that a model computes itself, found as the one call of a loss function of torch in its forward.

Language models of many libraries, Lightning modules and step functions compute their loss where no one can ask it. If
forward (or the step) calls one loss function of torch, on targets that the batch holds, that call can be made again
with other outputs and targets, and is asked like a loss that was given. Where it calls none, but subtracts the targets
from something once, and the loss is the mean of the difference's squares or magnitudes, or half of it, it is that
error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .._batch import Judged, without_broadcast_warning
from ..stats import is_plain
from .broadcast import Stretched
from .intervals import ANYTHING, Interval
from .kept import Kept

FUNCTIONS = {
    "cross_entropy", "nll_loss", "binary_cross_entropy_with_logits", "binary_cross_entropy", "mse_loss", "l1_loss",
    "smooth_l1_loss", "huber_loss", "kl_div", "poisson_nll_loss", "soft_margin_loss", "multilabel_soft_margin_loss",
}  # fmt: skip
_PAIRED = {"sub", "rsub", "mul", "rmul"}
_ERRORS = {"mse_loss": F.mse_loss, "l1_loss": F.l1_loss}
_NAMES = ("input", "target")
_MOST_CALLS = 4  # that are asked one by one
_MOST_VALUES = 1_000_000  # of the outputs: they are copied


@dataclass(frozen=True)
class InnerLoss:
    """One call: what it compared, in copies, and what is known of the outputs.

    function  (outputs, target) -> scalar, the call again; what it gave for each value is averaged
    """

    name: str
    function: Callable[[Any, Any], Tensor]
    given: Tensor
    target: Tensor
    reach: Interval = ANYTHING

    def of(self, done: Judged) -> Judged:
        return replace(
            done,
            name=self.name,
            function=self.function,
            compared=self.given,
            logits=self.given,
            target=self.target,
        )


class InnerLosses:
    """Sees calls of functions.

    data    the batch's tensors, of which one must be what a call takes for its target
    labels  those of them that are the batch's targets, as far as it tells
    """

    def __init__(self, data: Iterable[Tensor], labels: Iterable[Tensor] = ()):
        self._data = [t for t in data if is_plain(t)]
        self._held = {_address(t) for t in self._data}
        self._labels = {
            (_address(t), t.shape) for t in labels if is_plain(t) and t.is_floating_point() and t.numel() > 1
        }
        self._differences: list[tuple[Tensor, Tensor]] = []
        self._apart: Kept[int] = Kept()  # number in `_differences`
        self._powers: Kept[tuple[int, str]] = Kept()  # of its squares or magnitudes
        self._errors: list[InnerLoss] = []
        self._further: list[InnerLoss] = []  # the calls behind the first one
        self.stretched: Stretched | None = None
        self._calls: list[InnerLoss] = []
        self._others = False

    def see(
        self, func: Any, name: str, args: Any, kwargs: Any, out: Any, reach: Callable[[Tensor], Interval]
    ) -> None:
        if name in _PAIRED and self._labels:
            self._see_pair(name, args, out)
        self._follow_difference(name, args, out)
        if name not in FUNCTIONS:
            return
        rest = dict(kwargs)
        first, second = (
            args[place] if len(args) > place else rest.pop(key, None) for place, key in enumerate(_NAMES)
        )
        usable = (
            isinstance(first, Tensor) and isinstance(second, Tensor) and is_plain(first) and is_plain(second)
        )
        if not usable or not 0 < first.numel() <= _MOST_VALUES or not self._is_data(second):
            self._others = True
            return
        self._others |= bool(self._calls)
        given, target = first.detach().clone(), second.detach().clone()
        further = args[2:]

        def again(outputs: Any, answer: Any) -> Tensor:
            value = func(outputs, answer, *further, **rest)
            return value if value.dim() == 0 else value.mean()

        if not self._calls:
            self._calls.append(InnerLoss(name, again, given, target, reach(first)))
        elif len(self._further) < _MOST_CALLS:
            self._further.append(InnerLoss(name, again, given, target, reach(first)))

    def found(self, loss: Tensor) -> InnerLoss | None:
        """None where there was none, or more than one: which of several is to blame for what is unknown.
        loss: what was minimized"""
        if self._others:
            return None
        return self._calls[0] if self._calls else self._error(float(loss.detach()))

    def each(self) -> list[InnerLoss]:
        """All of them, one by one: of a loss with several terms."""
        return [*self._calls, *self._further, *self._errors]

    def _follow_difference(self, name: str, args: Any, out: Any) -> None:
        """The mean or sum of the squares or magnitudes of a difference is an error, one of several terms or not."""
        first = args[0] if args else None
        if not isinstance(first, Tensor) or not isinstance(out, Tensor):
            return
        number = self._apart[first]
        if number is not None and out.shape == first.shape:
            second = args[1] if len(args) > 1 else None
            square = (
                name == "square" or (name == "pow" and second == 2) or (name == "mul" and second is first)
            )
            if square or name == "abs":
                self._powers[out] = number, "mse_loss" if square else "l1_loss"
        known = self._powers[first]
        if known is None or len(self._errors) >= _MOST_CALLS:
            return
        if name in ("mean", "sum"):
            given, target = self._differences[known[0]]
            if given.shape == target.shape:
                self._errors.append(InnerLoss(known[1], _ERRORS[known[1]], given, target))

    def _see_pair(self, name: str, args: Any, out: Any) -> None:
        """Targets in the batch's own shape that meet something computed: in another (t[:, None]) they meet all of it on
        purpose."""
        pair = args[:2]
        if len(pair) < 2 or not all(isinstance(t, Tensor) and is_plain(t) for t in pair):
            return
        ours = [(_address(t), t.shape) in self._labels for t in pair]
        if sum(ours) != 1:
            return
        target, given = pair if ours[0] else pair[::-1]
        if not given.is_floating_point() or target.numel() != given.numel() or given.numel() > _MOST_VALUES:
            return
        over = tuple(torch.broadcast_shapes(given.shape, target.shape))
        if math.prod(over) > given.numel() and self.stretched is None:
            self.stretched = Stretched(tuple(given.shape), tuple(target.shape), over)
        if "sub" in name:
            self._apart[out] = len(self._differences)
            self._differences.append((given.detach().clone(), target.detach().clone()))

    def _error(self, loss: float) -> InnerLoss | None:
        if len(self._differences) != 1:
            return None
        given, target = self._differences[0]
        with without_broadcast_warning(), torch.no_grad():
            for name, function in _ERRORS.items():
                value = float(function(given, target))
                if any(math.isclose(loss, part * value, rel_tol=1e-4) for part in (1.0, 0.5)):
                    return InnerLoss(name, function, given, target)
        return None

    def _is_data(self, target: Tensor) -> bool:
        """A view of the batch's, or a copy with its values; class numbers are never computed from weights."""
        if not target.is_floating_point() or _address(target) in self._held:
            return True
        with torch.no_grad():
            return any(
                t.numel() == target.numel() and torch.equal(t.reshape(-1).to(target), target.reshape(-1))
                for t in self._data
            )


def _address(t: Tensor) -> int:
    return t.untyped_storage().data_ptr()
