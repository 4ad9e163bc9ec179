"""What a model's output can be, whatever its weights and inputs are: interval arithmetic through its last functions.

A function mode follows every tensor of one forward pass. A sigmoid's output lies in 0..1 whatever goes in, and
`2 * torch.sigmoid(x) - 1` in -1..1; a linear layer's output can be anything, and so can the sum of an input and a
sigmoid. Also found: a softmax over an axis of one that a layer with a single unit made, so that it is one in every
batch (an axis that is one because there is one key, one time step or one pixel in this batch is legal). The same mode
sees which loss functions of torch are called, in the model or in the loss.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .._batch import find_logits, tensors_in
from ..record import FurtherFacts, LossCallFacts, OverflowFacts, ReachFacts, ReshapeFacts, TwiceFacts
from .axes import Axes
from .cosines import Cosines
from .crossed import Crossed
from .discarded import Discarded
from .doubled import Doubled
from .drops import Drops
from .encodings import Encodings
from .floored import FUNCTIONS
from .inner import InnerLosses
from .intervals import ANYTHING, INF, Interval, arithmetic, clamped, union
from .kept import Kept
from .latents import Latents
from .loss_calls import LOSS_FUNCTIONS, TAKES_SCORES, loss_call
from .masks import Masks
from .one_hot import OneHot
from .overflow import overflow
from .reshapes import moved_axis
from .scores import Scores
from .twice import LOSSES, squeezed_again
from .unit_axis import unit_axis
from .where import calling_line

# Functions whose outputs lie in an interval whatever goes in
_GIVES: Mapping[str, tuple[float, float]] = {
    "sigmoid": (0, 1), "expit": (0, 1), "hardsigmoid": (0, 1), "softmax": (0, 1), "softmin": (0, 1),
    "gumbel_softmax": (0, 1), "tanh": (-1, 1), "softsign": (-1, 1), "cosine_similarity": (-1, 1), "sin": (-1, 1),
    "cos": (-1, 1), "gru": (-1, 1), "rnn_tanh": (-1, 1), "relu6": (0, 6), "softplus": (0, INF), "rnn_relu": (0, INF),
    "log_softmax": (-INF, 0), "logsigmoid": (-INF, 0), "atan": (-math.pi / 2, math.pi / 2), "erf": (-1, 1),
    "cdist": (0, INF), "pairwise_distance": (0, INF),
}  # fmt: skip
# Functions that grow with what goes in: the ends of the interval are where they take its ends
_GROWING: Mapping[str, Callable[[float], float]] = {
    "relu": lambda v: max(v, 0.0),
    "exp": lambda v: math.exp(v) if v < 700 else INF,
    "sqrt": lambda v: math.sqrt(max(v, 0.0)),
    "log": lambda v: math.log(v) if v > 0 else -INF,
    "log1p": lambda v: math.log1p(v) if v > -1 else -INF,
}
_SAME_VALUES = {
    "view", "reshape", "flatten", "permute", "transpose", "squeeze", "unsqueeze", "contiguous", "t", "detach", "clone",
    "swapaxes", "movedim", "view_as", "reshape_as", "to", "type", "float", "double", "half", "bfloat16", "unflatten",
    "expand", "expand_as", "repeat", "getitem", "select", "narrow", "index_select", "gather", "chunk", "split",
    "unbind", "tensor_split", "roll", "flip", "get", "cat", "concat", "stack", "mean", "amax", "amin", "max_pool2d",
    "max_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool1d", "repeat_interleave", "masked_select", "pixel_shuffle",
    "where", "rearrange", "type_as", "cpu", "cuda",
}  # fmt: skip
_SOFTMAX = {"softmax", "log_softmax", "softmin", "gumbel_softmax"}
_FROM_SCORES = {"softmax", "log_softmax", "sigmoid", "expit", "logsigmoid"}
_DISTANCES = {"cdist", "pairwise_distance"}  # which no function has cut off
_SLOPED = _SOFTMAX | {"sigmoid", "expit"}  # no score below zero is lost where these are made wider again
_DROPOUT = {"dropout", "dropout1d", "dropout2d", "dropout3d"}
_NEW_SHAPES = {"view", "reshape", "flatten", "view_as", "reshape_as"}
_MOST_CALLS = 100  # of loss functions that are kept


def reach_facts(
    model: nn.Module,
    run: Callable[[], Any],
    judge: Callable[[Any], None],
    examples: int | None = None,
    slopes: bool = False,
    inputs: frozenset[int] = frozenset(),
    targets: Sequence[Tensor] = (),
    inner: InnerLosses | None = None,
    latents: Latents | None = None,
    masks: Masks | None = None,
) -> tuple[ReachFacts, tuple[LossCallFacts, ...] | None]:
    """Of what `run` gives, which runs the model once, and `judge` computes the loss from; the loss functions of torch
    that were called (None where the model does not run so). examples: of the batch, if known; slopes: whether `run`
    differentiates; inputs: addresses of the batch's tensors; targets: what the loss is given beside the
    outputs; inner: sees the losses that the model computes itself; latents: the codes that it draws; masks: the
    masks."""
    with (
        Reach(model, examples, inputs, targets, inner, latents, masks) as reach,
        reach.doubled.hooked(),
        torch.set_grad_enabled(slopes),
    ):
        try:
            out = run()
        except Exception:  # the caller's own code, which need not bear a function mode
            return ReachFacts(), None
        logits, over_one, reshapes = find_logits(out), tuple(reach.over_one), tuple(reach.reshapes)
        axes, doubled = reach.axes.finish(), tuple(reach.doubled.found)
        if latents is not None:
            latents.finish(out, lambda t: reach.of(t).low)
        found = ANYTHING if logits is None else reach.of(logits)
        drops, further = tuple(dict.fromkeys(reach.drops.found)), tuple(reach.further(out, logits))
        try:
            reach.judging, reach.outputs = logits, {id(t) for t in tensors_in(out)}
            judge(out)
        except Exception:  # the same
            reach.calls.clear()
    calls = tuple(reach.calls)
    facts = ReachFacts(
        reshapes=reshapes,
        axes=(*axes, *reach.one_hot.found),
        twice=tuple(dict.fromkeys(reach.twice)),
        doubled=doubled,
        drops=drops,
        scores=tuple(reach.scores.found),
        overflow=reach.overflow,
        crossed=tuple(reach.crossed.found),
        discarded=tuple(reach.discarded.found),
        encodings=reach.encodings.finish(),
    )
    if logits is None:
        return facts, calls
    rectified, behind = found.rectified or (None, None)
    facts = replace(
        facts,
        function=found.function,
        low=found.low,
        high=found.high,
        softmax_over_one=over_one,
        rectified=rectified,
        behind=behind,
        reshaped=reach.reshaped,
        further=further,
    )
    return facts, calls


class Reach(TorchFunctionMode):
    """Keeps an interval for each tensor (by weak reference) while it is active."""

    def __init__(
        self,
        model: nn.Module,
        examples: int | None = None,
        inputs: frozenset[int] = frozenset(),
        targets: Sequence[Tensor] = (),
        inner: InnerLosses | None = None,
        latents: Latents | None = None,
        masks: Masks | None = None,
    ):
        super().__init__()
        self._latents, self._masks = latents, masks
        self.inner_losses = inner
        self.drops = Drops(model, inputs)
        self.overflow: OverflowFacts | None = None
        self.over_one: list[tuple[int, ...]] = []
        self.calls: list[LossCallFacts] = []
        self.reshapes: list[ReshapeFacts] = []
        self._known: dict[int, tuple[weakref.ref[Tensor], Interval]] = {}
        self._cosines = Cosines(self._of_length_one)
        self._constants = {id(b) for b in model.buffers() if b.numel() == 1}
        self._weights = {id(p) for p in model.parameters()}
        self.axes, self.doubled = Axes(self._weights, examples), Doubled(self._weights)
        self.crossed, self.discarded = Crossed(self._weights), Discarded()
        self.encodings = Encodings(model, {id(p) for p in model.parameters() if p.requires_grad})
        self.scores, self.one_hot = Scores(self.axes), OneHot(targets)
        self.twice: list[TwiceFacts] = []
        self._of_outputs: Kept[bool] = Kept()  # what the loss makes of the outputs
        self.outputs: set[int] = set()
        self.judging: Tensor | None = None  # the outputs, while the loss is computed
        self.reshaped: str | None = None  # where the loss first changes their shape

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        first = args[0] if args else kwargs.get("input")
        before = (first, first._version) if isinstance(first, Tensor) and not first.is_inference() else None
        out = func(*args, **kwargs)
        name = getattr(func, "__name__", "").strip("_")
        self._look_at_squeezed(name, first)
        if (
            self.judging is not None
            and self.reshaped is None
            and name in _NEW_SHAPES
            and isinstance(first, Tensor)
        ):
            moved = first.is_floating_point() and first.numel() == self.judging.numel() and first.dim() > 1
            self.reshaped = calling_line() if moved and out.shape != first.shape else None
        if name in LOSS_FUNCTIONS and len(self.calls) < _MOST_CALLS:
            self._keep_call(name, args, kwargs)
        if name in ("view", "reshape") and args and isinstance(out, Tensor):
            self._look_at_places(name, args[0], out)
        with torch._C.DisableTorchFunction():
            self.axes.see(name, args, kwargs, out)
            if self.inner_losses is not None:
                self.inner_losses.see(func, name, args, kwargs, out, self.of)
            if self._latents is not None and self.judging is None:
                self._latents.see(name, func, args, kwargs, out)
            if self._masks is not None and self.judging is None:
                self._masks.see(name, args, kwargs, out)
            if self.judging is None:
                self.encodings.see(name, args, kwargs, out)
                self.drops.see(name, args, kwargs)
                self.scores.see(name, args, kwargs, out)
                self.overflow = self.overflow or overflow(name, args, out)
            else:
                self.one_hot.see(name, args, kwargs, out)
            self.doubled.see(name, before, args, out)
            self.crossed.see(name, args, kwargs, out)
            self.discarded.see(name, args, kwargs, out)
            if self.judging is not None:
                self._note_what_comes_of_outputs(args, kwargs, out)
        given = [self.of(a).unit_axis for a in args if isinstance(a, Tensor)]
        if name == "setitem" and args and isinstance(args[0], Tensor):
            self._known.pop(id(args[0]), None)
        try:
            found = self._follow(name, args, kwargs, out)
        except (ArithmeticError, IndexError, TypeError, ValueError):
            found = ANYTHING
        tensors = [t for t in (out if isinstance(out, (tuple, list)) else [out]) if isinstance(t, Tensor)]
        for number, tensor in enumerate(tensors):
            if number and name in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
                found = ANYTHING
            axis = unit_axis(name, args, kwargs, tensor, given, self._weights)
            self._put(tensor, replace(found, unit_axis=axis))
        return out

    def _note_what_comes_of_outputs(self, args: Any, kwargs: Any, out: Any) -> None:
        given = tensors_in((args, kwargs))
        if any(t is self.judging or id(t) in self.outputs or self._of_outputs[t] for t in given):
            for tensor in tensors_in(out):
                self._of_outputs[tensor] = True

    def _look_at_squeezed(self, name: str, x: Any) -> None:
        """In the loss every function, before it the loss functions that the model calls itself."""
        if (
            not isinstance(x, Tensor)
            or (self.judging is None and name not in LOSSES)
            or len(self.twice) >= _MOST_CALLS
        ):
            return
        known = self.of(x)
        found = squeezed_again(name, known.low, known.high, known.function)
        if found is not None:
            self.twice.append(found)

    def _look_at_places(self, name: str, before: Any, out: Tensor) -> None:
        if not isinstance(before, Tensor) or id(before) in self._weights or not out.is_floating_point():
            return
        size = moved_axis(before.shape, out.shape)
        if size is not None and len(self.reshapes) < _MOST_CALLS:
            shapes = tuple(map(int, before.shape)), tuple(map(int, out.shape))
            self.reshapes.append(ReshapeFacts(name, calling_line(), *shapes, size))

    def _keep_call(self, name: str, args: Any, kwargs: Any) -> None:
        with torch._C.DisableTorchFunction():
            call = loss_call(name, args, kwargs)
        if call is None:
            return
        target = args[1] if len(args) > 1 else kwargs.get("target")
        own = self.judging is None or self._of_outputs[target]
        if own and target.is_floating_point() and (target.dim() != 2 or target.shape[0] != target.shape[1]):
            call = replace(call, told=math.nan)  # of a network's own opinion, which is even at first
        x = self.of(args[0])
        rectified = (_sign_kept(x), "loss") if _sign_kept(x) and name in TAKES_SCORES else x.rectified
        if rectified is not None and name not in ("kl_div",):
            call = replace(call, rectified=rectified[0], behind=rectified[1])
        self.calls.append(call)

    def further(self, outputs: Any, compared: Tensor | None) -> Iterator[FurtherFacts]:
        """The outputs beside the one that is compared whose last function keeps them above zero."""
        for place, tensor in enumerate(tensors_in(outputs)):
            known = self.of(tensor)
            if tensor is not compared and known.function in FUNCTIONS and (known.low, known.high) == (0, INF):
                yield FurtherFacts(place, known.function)

    def of(self, value: Any) -> Interval:
        """A tensor's or a number's."""
        if isinstance(value, (bool, int, float)):
            return Interval(float(value), float(value))
        if not isinstance(value, Tensor):
            return ANYTHING
        if id(value) in self._constants:
            return Interval(float(value), float(value))
        entry = self._known.get(id(value))
        return entry[1] if entry is not None and entry[0]() is value else ANYTHING

    def _of_length_one(self, tensor: Tensor) -> str | None:
        """The function that made it, unless it has been scaled since."""
        known = self.of(tensor)
        return known.function if (known.low, known.high) == (-1, 1) else None

    def _put(self, tensor: Tensor, found: Interval) -> None:
        if found == ANYTHING:
            self._known.pop(id(tensor), None)
        else:
            self._known[id(tensor)] = weakref.ref(tensor), found

    def _follow(self, name: str, args: Any, kwargs: Any, out: Any) -> Interval:
        first = self.of(args[0]) if args else ANYTHING
        if (cosine := self._cosines.see(name, args, kwargs, out)) is not None:
            return Interval(-1, 1, cosine)
        if name == "normalize" and (power := kwargs.get("p", 2.0)) >= 1:
            return Interval(-1, 1, f"normalize(p={power:g})")
        if name in _SOFTMAX:
            self._look_at_axis(args, kwargs, first)
        if name == "lstm":  # a projection behind its tanh could be anything
            state, cell = args[1]
            return Interval(-1, 1, name) if state.shape == cell.shape else ANYTHING
        if name in _GIVES:
            sign = _sign_kept(first) if name in _FROM_SCORES else None
            return Interval(*_GIVES[name], name, rectified=(sign, name) if sign else None)
        if name in _GROWING:
            ends = _GROWING[name](first.low), _GROWING[name](first.high)
            grown = Interval(*ends, first.function or name, rectified=first.rectified)
            return grown if grown.limited else ANYTHING
        if name in _DROPOUT:
            return Interval(0, INF, first.function) if first.low >= 0 else ANYTHING
        if name in ("clamp", "clip", "hardtanh", "clamp_min", "clamp_max"):
            return clamped(name, first, args, kwargs)
        if name in _SAME_VALUES:
            return union(self._tensors(name, args))
        second = self.of(args[1]) if len(args) > 1 else kwargs.get("other", ANYTHING)
        return arithmetic(name, first, second, args) if isinstance(second, Interval) else ANYTHING

    def _tensors(self, name: str, args: Any) -> list[Interval]:
        if name in ("cat", "concat", "stack"):
            return [self.of(t) for t in args[0]]
        return [self.of(a) for a in args[1:3]] if name == "where" else [self.of(args[0])]

    def _look_at_axis(self, args: Any, kwargs: Any, given: Interval) -> None:
        x = args[0]
        axis = args[1] if len(args) > 1 and isinstance(args[1], int) else kwargs.get("dim")
        if axis is None:  # as torch.nn.functional chooses where none is given
            axis = 0 if x.dim() in (0, 1, 3) else 1
        if x.dim() and x.shape[axis] == 1 and given.unit_axis == axis % x.dim():
            self.over_one.append(tuple(x.shape))


def _sign_kept(x: Interval) -> str | None:
    """The function that keeps values at zero or more without an end above, so that scores are of one sign."""
    return x.function if x.low >= 0 and x.high > 1 and x.function not in _SLOPED | _DISTANCES else None
