"""Theory carried through a pass, node by node: each tensor predicted from what was predicted of the tensors that it was
made from.

`Propagation` is a Listener. While a pass is followed it is told of every tensor with the call that made it; it asks the
laws of `moments/` for the Signal of that tensor, and measures the tensor beside. Theory begins with the batch, whose
mean, variance, correlation and distribution are measured. Where there is no law for a call, or where the batch shows
that an assumption of the law does not hold, nothing is claimed: the reason is kept, and prediction goes on from what is
measured there. The same is done behind a claim that turned out wrong, so that one error is one error.

Where signals meet each other (attention, a softmax, products), random values stand in for them: drawn where theory
knows the moments, taken through the calls of the pass up to there (stand_in.py), measured. So are the values between,
whose channels are rearranged (heads, windows): they are *bound* to each other, until a layer makes channels of them.

The assumptions that are tested, on what goes in, never on what comes out:

- an activation, a maximum: that a channel's values have the distribution that is predicted (its mean magnitude over its
  standard deviation: 0.80 for normal values), to 5%;
- attention, a product: that the means over tokens vary as those of what stands in for them do, to 12%;
- a sum: that what is added is uncorrelated, to 5% of the variances;
- any expectation: that the batch has enough independent values for its variance to be within 3% of it by chance (one
  standard deviation, from the predicted correlations).
"""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .._batch import tensors_in
from ..stats import is_plain
from . import modules
from .listener import Listener
from .moments import Known, Signal, Silent, Step, layout, mean_magnitude, measure, predict
from .node import Node
from .operations import Call
from .stand_in import Made, StandIns, made_by
from .values import Value

TOLERANCE = (
    0.1  # a claim is right within this share of the variance, and of the second moment for the squared mean
)
_MAGNITUDE = 0.05
_CORRELATION = 0.05
_SHARED = 0.12
CHANCE = 0.05
_DRAWS = 6  # so many tell how much they differ
_MEET = ("attention", "softmax", "product")  # where signals meet each other
_THROUGH = (
    "view", "part", "scale", "shift", "other", "linear", "norm", "activation", "dropout", "reshape", *_MEET,
)  # fmt: skip
_THROUGH_IF_BOUND = ("sum", "concat", "stack", "pool", "mix")


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
        self._returned: tuple[Any, Any] = (
            None,
            None,
        )  # the last function, and several tensors that it returned
        self._made: dict[int, Made] = {}
        self._joined: dict[int, Made] = {}  # what nothing stands in through: concatenations
        self._bound: set[int] = set()
        self._drawn: set[int] = set()
        self._stand_ins = StandIns(self._made, self._known_as)
        self._waiting: tuple[Value, Tensor, Call, Any] | None = None

    # ---- what the tracer tells -------------------------------------------------------------------------------

    def function(self, function: Any, args: Any, out: Any) -> None:
        self._function = function
        self._returned = (function, out) if isinstance(out, (tuple, list)) else (None, None)

    def value(self, value: Value, tensor: Tensor, call: Call) -> None:
        function, self._function = self._function, None
        if function is None and any(t is tensor for t in self._returned[1] or ()):
            function = self._returned[0]  # a further one of several tensors
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
            if known_as in self._made:
                self._made[value.number] = self._made[known_as]
            for kind in (self._bound, self._drawn):
                if known_as in kind:
                    kind.add(value.number)
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
        self._remember(step, tensor, function)
        self._predicting(step)
        try:
            signal = self._predicted(step, tensor)
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
            if (
                signal.lags is None and x.dim() > 2 and not signal.pads
            ):  # for which there is no law: as they are
                found = measure(x)
                signal = replace(signal, lags=found.lags, common=found.common)
            self._keep(value, tensor, _Held(Known(signal, shape, axis), claim, magnitude))

    def _predicted(self, step: Step, tensor: Tensor) -> Signal:
        """By the call's own law, or, behind and where signals meet, by what stands in for them. Raises Silent."""
        number, role = step.value.number, _role(step)
        bound = any(p.number in self._bound for p in step.value.parents)
        try:
            signal = predict(step)
            if (bound and role not in ("linear", *_THROUGH_IF_BOUND)) or self._all_bound(step):
                self._bound.add(number)
            chance = signal.chance()
            if self.checks:
                self._check(step, tensor)
        except Silent:
            if role in (*_MEET, "view", "part", "reshape") or (bound and role not in _THROUGH_IF_BOUND):
                self._bound.add(number)
            if self._all_bound(step):
                self._bound.add(number)
            wanted = role in _MEET or (bound and step.node is not None)
            if not wanted and not any(p.number in self._drawn for p in step.value.parents):
                raise
            if number not in self._made:
                raise
            signal, chance = self._of_stand_ins(step)
            if self.checks and role in _MEET:
                self._check_stand_ins(step)
        if self.checks and not signal.of_batch and chance > CHANCE:
            raise Silent(f"the batch has too few independent values: chance alone makes {chance:.0%}")
        return signal

    def _of_stand_ins(self, step: Step) -> tuple[Signal, float]:
        """(signal, chance)."""
        number = step.value.number
        x = self._stand_ins.again(number)
        draws = len(x) / step.shape[0]
        chance = _chance(layout(x, step.axis), round(draws))
        signal = replace(
            measure(layout(x, step.axis), shape=step.node is not None),
            examples=_examples(step),
            of_batch=False,
            lags_of_batch=False,
        )
        if not bool(torch.isfinite(signal.var).all()):
            raise Silent("some of its values are not finite")
        lost = signal.repeats() * (1 - 1 / draws)  # the mean of few examples is further from 0
        mean = torch.where(signal.mean < 0, -1.0, 1.0) * (signal.mean.square() + lost * signal.var).sqrt()
        self._drawn.add(number)
        return replace(signal, mean=mean, var=(1 - lost) * signal.var), chance

    def _check_stand_ins(self, step: Step) -> None:
        """Raises Silent if what goes in is correlated otherwise than what stands in for it."""
        for tensor in tensors_in((step.call.args, step.call.kwargs)):
            number = self._same_tensor(tensor)
            if number is None or number == step.value.number:
                continue
            there, said = _shared(tensor), _shared(self._stand_ins.again(number))
            for real, drawn in zip(there, said):
                if abs(real - drawn) > _SHARED * max(real, 1e-3):
                    raise Silent(
                        f"its positions are correlated otherwise than predicted (their mean keeps {real:.3g} of the "
                        f"variance, not {drawn:.3g})"
                    )

    def _remember(self, step: Step, tensor: Tensor, function: Any) -> None:
        """How the tensor was made, where what stands in for it may go through that call."""
        value, role = step.value, _role(step)
        through = role in _THROUGH or (role in _THROUGH_IF_BOUND and self._all_bound(step))
        if not through and role != "concat":
            return
        outputs = self._returned[1] if function is not None and function is self._returned[0] else None
        module = None if function is not None else step.module
        made = made_by(step.call, function, module, tensor, outputs, self._same_tensor)
        if made is not None:
            (self._made if through else self._joined)[value.number] = made

    def _all_bound(self, step: Step) -> bool:
        """Whether all that it was made from is bound: the parts of a rotation, not a stream and what is added to it."""
        parents = [p.number for p in step.value.parents if p.signal]
        return bool(parents) and all(n in self._bound for n in parents)

    def _known_as(self, number: int) -> Known | None:
        held = self._held.get(number)
        return None if held is None else held.known

    def _predicting(self, step: Step) -> None:
        """A call that is about to be predicted."""

    def _begin(
        self, value: Value, tensor: Tensor, x: Tensor, shape: tuple[int, ...], axis: int, claim: Claim,
        magnitude: float,
    ) -> None:  # fmt: skip
        """Prediction begins here, with what is measured."""
        whole = value.number not in self._bound or bool(claim.node)
        self._keep(value, tensor, _Held(Known(measure(x, shape=whole), shape, axis), claim, magnitude))

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


def _role(step: Step) -> str:
    """Of a node, or the kind of a call that makes none."""
    if step.node is None:
        return step.value.kind
    return step.node.role if step.node.kind not in ("block", "input", "opaque") else step.node.kind


def _examples(step: Step) -> int:
    """Of its input: windows of one example are none of their own."""
    found = [p.signal.examples for p in step.parents if p is not None]
    return min(found, default=step.shape[0])


def _shared(tensor: Tensor) -> list[float]:
    """What a mean over each axis but the first leaves of the variance."""
    x = tensor.detach().float()
    x = x - x.mean()
    power = float(x.square().mean())
    if power <= 0 or not math.isfinite(power):
        return []
    return [float(x.mean(i).square().mean()) / power for i in range(1, x.dim())]


def _chance(x: Tensor, draws: int) -> float:
    """How far the variance of a batch is from that of so many draws by chance, relative: one standard deviation, from
    how much draws differ; of few draws, from how much examples do."""
    mean = x.mean([0, *range(2, x.dim())], keepdim=True)
    power = (x - mean).square().flatten(1).mean(1).double()  # of each example
    each = power.view(draws, -1).mean(1) if draws >= _DRAWS else power
    if len(each) < 2:
        return math.inf
    varies = float(each.var() / each.mean().square().clamp_min(1e-300)) * draws / len(each)
    return math.sqrt(varies * (1 + 1 / draws))


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
