"""Theory carried through a pass, node by node: each tensor predicted from what was predicted of the tensors that it was
made from.

`Propagation` is a Listener. While a pass is followed it is told of every tensor with the call that made it; it asks the
laws of `moments/` for the Signal of that tensor, and measures the tensor beside. Theory begins with the batch, whose
mean, variance, correlation and distribution are measured. Where there is no law for a call, or where the batch shows
that an assumption of the law does not hold, nothing is claimed: the reason is kept, and prediction goes on from what is
measured there. The same is done behind a claim that turned out wrong, so that one error is one error.

The assumptions that are tested, on what goes in, never on what comes out:

- an activation, a maximum: that a channel's values have the distribution that is predicted (its mean magnitude over its
  standard deviation: 0.80 for normal values), to 5%;
- a sum: that what is added is uncorrelated, to 5% of the variances;
- any expectation: that the batch has enough independent values for its variance to be within 3% of it by chance (one
  standard deviation, from the predicted correlations).
"""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ..stats import is_plain
from . import modules
from .listener import Listener
from .moments import Known, Silent, Step, layout, mean_magnitude, measure, predict
from .node import Node
from .operations import Call
from .values import Value

TOLERANCE = (
    0.1  # a claim is right within this share of the variance, and of the second moment for the squared mean
)
_MAGNITUDE = 0.05
_CORRELATION = 0.05
CHANCE = 0.03


@dataclass(frozen=True)
class Claim:
    """What theory says of one tensor, and what is there. Moments are (average channel variance, average squared channel
    mean).

    node       the name of its node; "" for a tensor that is none
    predicted  None where theory is silent
    reason     why it is
    start      prediction begins anew behind it, from what is measured
    """

    node: str
    measured: tuple[float, float]
    predicted: tuple[float, float] | None = None
    reason: str = ""
    start: bool = False

    @property
    def off(self) -> float:
        """How far the predicted variance is from the measured one, relative; of the squared mean, relative to the
        second moment, if that is more. NaN without a prediction."""
        if self.predicted is None:
            return math.nan
        (var, square), (found_var, found_square) = self.predicted, self.measured
        second = found_var + found_square
        if found_var <= 1e-12 * max(second, 1e-30):
            return 0.0 if var <= 1e-6 * max(second, 1e-30) else math.inf
        return max(abs(var / found_var - 1), abs(square - found_square) / second)


@dataclass
class _Held:
    """A tensor that has been seen: what goes on from it, and how its values are distributed."""

    known: Known
    claim: Claim
    magnitude: float


class Propagation(Listener):
    """Predicts and measures every tensor of a followed pass.

    claims   {number of the tensor in the pass: Claim}
    by_node  {node: Claim}
    checks   whether assumptions are tested; without, everything that has a law is claimed
    """

    def __init__(self, *, checks: bool = True):
        self.claims: dict[int, Claim] = {}
        self.by_node: dict[str, Claim] = {}
        self.checks = checks
        self._held: dict[int, _Held] = {}
        self._by_tensor: dict[int, tuple[weakref.ref[Tensor], int]] = {}
        self._function: Any = None
        self._waiting: tuple[Value, Tensor, Call, Any] | None = None

    # ---- what the tracer tells -------------------------------------------------------------------------------

    def function(self, function: Any, args: Any, out: Any) -> None:
        self._function = function

    def value(self, value: Value, tensor: Tensor, call: Call) -> None:
        function, self._function = self._function, None
        self._waiting = None
        if not value.signal or not tensor.is_floating_point() or tensor.dim() < 2 or tensor.numel() < 2:
            return
        if not is_plain(tensor):
            return  # sparse or nested: not every index has a value
        if value.kind == "node":
            self._waiting = (value, tensor, call, function)  # what it is, `node` says
        else:
            self._see(value, tensor, call, function, None)

    def node(self, node: Node, tensor: Tensor, given: Any) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and waiting[1] is tensor:
            self._see(*waiting, node)

    # ---- one tensor ------------------------------------------------------------------------------------------

    def _see(self, value: Value, tensor: Tensor, call: Call, function: Any, node: Node | None) -> None:
        known_as = self._same_tensor(tensor)
        # the tensor of a function inside: a linear layer with a forward of its own, a block, a module that is no layer
        made_inside = node is not None and (node.kind == "block" or node.role in ("other", "linear"))
        if made_inside and known_as is not None:
            held = self._held[known_as]
            self._keep(value, tensor, replace(held, claim=replace(held.claim, node=value.node or "")))
            return
        shape, axis = tuple(tensor.shape), value.axis
        if axis is None or axis >= len(shape):
            axis = modules.channel_axis(None, shape)
        assert axis is not None
        x = layout(tensor, axis)
        moments, magnitude = _moments(x)
        name = value.node or ""
        if node is not None and node.kind == "input":
            self._begin(value, tensor, x, shape, axis, Claim(name, moments, start=True), magnitude)
            return
        parents = tuple(self._known(p) for p in value.parents)
        step = Step(
            _name_of(value, function, node), value, call, shape, axis, parents, self._look_up, function,
            None if node is None else node.module, node, self._start_of(tensor, call, axis),
        )  # fmt: skip
        self._predicting(step)
        try:
            signal = predict(step)
            if self.checks:
                self._check(step, tensor)
                if not signal.of_batch and (chance := signal.chance()) > CHANCE:
                    raise Silent(f"the batch has too few independent values: chance alone makes {chance:.0%}")
        except Silent as silent:
            claim = Claim(name, moments, reason=silent.reason, start=True)
            self._begin(value, tensor, x, shape, axis, claim, magnitude)
            return
        predicted = signal.moments
        claim = Claim(name, moments, predicted)
        if claim.off > TOLERANCE:
            claim = replace(claim, start=True)
            self._begin(value, tensor, x, shape, axis, claim, magnitude)
        else:
            self._keep(value, tensor, _Held(Known(signal, shape, axis), claim, magnitude))

    def _predicting(self, step: Step) -> None:
        """A call that is about to be predicted."""

    def _begin(
        self, value: Value, tensor: Tensor, x: Tensor, shape: tuple[int, ...], axis: int, claim: Claim,
        magnitude: float,
    ) -> None:  # fmt: skip
        """Prediction begins here, with what is measured."""
        self._keep(value, tensor, _Held(Known(measure(x), shape, axis), claim, magnitude))

    def _keep(self, value: Value, tensor: Tensor, held: _Held) -> None:
        self._held[value.number] = held
        self.claims[value.number] = held.claim
        self._by_tensor[id(tensor)] = (weakref.ref(tensor), value.number)
        if value.node:
            self.by_node[value.node] = held.claim

    def _same_tensor(self, tensor: Any) -> int | None:
        entry = self._by_tensor.get(id(tensor))
        return entry[1] if entry is not None and entry[0]() is tensor else None

    def _known(self, value: Value) -> Known | None:
        held = self._held.get(value.number)
        return None if held is None else held.known

    def _look_up(self, tensor: Any) -> Known | None:
        number = self._same_tensor(tensor)
        return None if number is None else self._held[number].known

    def _start_of(self, tensor: Tensor, call: Call, axis: int) -> int | None:
        """Of a part of channels, the first one, told by where it lies in memory."""
        whole = call.args[0] if call.args else None
        if (
            not isinstance(whole, Tensor)
            or not is_plain(whole)
            or whole.dim() != tensor.dim()
            or whole.stride() != tensor.stride()
        ):
            return None
        if whole.untyped_storage().data_ptr() != tensor.untyped_storage().data_ptr():
            return None
        return (tensor.storage_offset() - whole.storage_offset()) // max(whole.stride(axis), 1)

    # ---- assumptions -----------------------------------------------------------------------------------------

    def _check(self, step: Step, tensor: Tensor) -> None:
        """Raises Silent if what goes in does not bear what the law assumes."""
        role = step.node.role if step.node is not None else step.value.kind
        name = step.name.lower()
        if role == "activation" or (role == "pool" and "max" in name):
            held = self._held.get(step.value.parents[0].number)
            if held is not None and held.magnitude > 0:
                signal = held.known.signal
                expected = mean_magnitude(signal)
                if abs(held.magnitude / expected - 1) > _MAGNITUDE:
                    kind = "normal" if signal.marginal is None else "distributed as predicted"
                    raise Silent(
                        f"its input is not {kind} (mean magnitude {held.magnitude:.2f} of the standard deviation, "
                        f"not {expected:.2f})"
                    )
        if role == "sum" and len(step.parents) == 2:
            r = _correlation(step, tensor)
            if r is not None and abs(r) > _CORRELATION:
                raise Silent(f"what is added is correlated ({r:+.2f} of the variances)")


def _name_of(value: Value, function: Any, node: Node | None) -> str:
    if node is not None:
        return node.type
    return value.name or getattr(function, "__name__", "")


def _moments(x: Tensor) -> tuple[tuple[float, float], float]:
    """((average channel variance, average squared channel mean), mean magnitude over the standard deviation) of
    (N, C, *S); the last averaged over channels by their variance."""
    dims = [0, *range(2, x.dim())]
    mean = x.mean(dims, keepdim=True)
    centred = x - mean
    var = centred.square().mean(dims)
    std = var.sqrt()
    live = std > 1e-6 * std.max()
    ratio = centred.abs().mean(dims) / std.clamp_min(1e-30)
    share = (ratio * var * live).sum() / (var * live).sum().clamp_min(1e-30)
    return (float(var.double().mean()), float(mean.double().square().mean())), float(share)


def _correlation(step: Step, total: Tensor) -> float | None:
    """2 cov / (var + var) of two things that were added, channels averaged by variance; None if one of them is gone."""
    found = [step.call.get(0, "input"), step.call.get(1, "other")]
    factors = step.value.factors
    if step.value.name == "lerp" or not all(isinstance(t, Tensor) for t in found) or None in factors:
        return None
    a, b = found
    shape = total.shape
    if a is total or a.data_ptr() == total.data_ptr():  # in place: the first one is gone
        second = layout((factors[1] or 0) * b.expand(shape), step.axis)
        first = layout(total, step.axis) - second
    else:
        first = layout((factors[0] or 0) * a.expand(shape), step.axis)
        second = layout((factors[1] or 0) * b.expand(shape), step.axis)
    dims = [0, *range(2, first.dim())]
    first = first - first.mean(dims, keepdim=True)
    second = second - second.mean(dims, keepdim=True)
    power = float(first.square().mean() + second.square().mean())
    return 2 * float((first * second).mean()) / power if power > 0 else None
