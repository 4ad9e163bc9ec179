"""How far ahead a language model is asked to predict: the shifts of data, loss and model together. For rule UG116.

Where integer targets are the tokens of an input, shifted by 0 to 2 steps, three things are measured. Which output is
compared with which target: one label is exchanged, and the gradient of the loss changes at the outputs that it is
compared with. What an output has read: one token is exchanged, and the first output that changes has read it. The sum
is one for a model that is asked for the next token.
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import torch
from torch import Tensor, nn

from .._base import InputError
from .._batch import IGNORED_TARGET, Batch, Judged, find_logits
from .._run import Run
from ..record import ShiftFacts
from ..stats import is_plain
from .steps import Slope, by_time, given
from .watching import CannotTell

_ROWS = 2
_LEAST_STEPS = 5
_FARTHEST = 2
# of the steps, at this shift and at any other: a text repeats itself here and there
_EQUAL, _OTHERWISE = 0.99, 0.9
# of the largest value: less is rounding, in networks whose outputs hardly depend on their input
_CHANGED = 1e-5
_FIRST = 1e-3  # of the largest change: rounding beside it


def shift_facts(model: nn.Module, batch: Batch, done: Judged, run: Run) -> ShiftFacts:
    """Two forward passes of two examples, and two with the loss, where targets are tokens of an input; `run` is
    rewound."""
    labels = batch.labels
    if (
        not isinstance(labels, Tensor)
        or not is_plain(labels)
        or labels.is_floating_point()
        or done.loss is None
    ):
        return ShiftFacts()
    if labels.dtype == torch.bool:
        return ShiftFacts()
    for name, x in given(batch).items():
        if not is_plain(x) or x.dim() != 2 or x.is_floating_point() or x.dtype == torch.bool:
            continue
        for axis in (1, 0):
            shift = _shift(x, labels, axis)
            if shift is None:
                continue
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    found = _Trial(model, batch, done, run, name, axis, shift).facts()
            except (CannotTell, InputError) as reason:
                return ShiftFacts(name, axis, shift, reason=str(reason).removeprefix("batch: "))
            except Exception as error:  # a model that does not run on part of the batch, or not in eval mode
                return ShiftFacts(name, axis, shift, reason=f"in eval mode it raised {type(error).__name__}")
            if found is not None:
                return found
    return ShiftFacts()


def _shift(x: Tensor, labels: Tensor, axis: int) -> int | None:
    """By how many steps along the axis the labels are shifted against this input, if they are."""
    if labels.numel() == x.numel():
        labels = labels.reshape(x.shape)
    if labels.dim() != 2 or labels.shape[1 - axis] != x.shape[1 - axis]:
        return None
    x, labels = x.movedim(axis, 0), labels.to(x.device).movedim(axis, 0)
    if len(x) < _LEAST_STEPS or abs(len(x) - len(labels)) > _FARTHEST:
        return None
    shares = []
    for shift in range(_FARTHEST + 1):
        steps = min(len(labels), len(x) - shift)
        counted = labels[:steps] != IGNORED_TARGET
        if float(counted.double().mean()) < 0.2:
            return None
        shares.append(float((labels[:steps] == x[shift : shift + steps])[counted].double().mean()))
    best = max(range(len(shares)), key=shares.__getitem__)
    others = [share for shift, share in enumerate(shares) if shift != best]
    return best if shares[best] >= _EQUAL and max(others) < _OTHERWISE else None


class _Trial:
    def __init__(
        self, model: nn.Module, batch: Batch, done: Judged, run: Run, name: str, axis: int, shift: int
    ):
        self.model, self.run, self.name, self.axis, self.shift = model, run, name, axis, shift
        self.batch = batch if axis == 0 else batch.few(_ROWS)
        self.x = self.batch.inputs()[name]
        self.steps, self.examples = int(self.x.shape[axis]), int(self.x.shape[1 - axis])
        self.slope = Slope(model, done, run)

    def facts(self) -> ShiftFacts | None:
        """None where this axis is not that of time: no output depends on what was read before."""
        if self.axis == 1 and self._is_turned():
            return ShiftFacts(self.name, self.axis, self.shift, turned=True)
        read = self._lag()
        if read is None:
            return None
        lag, uses_the_past = read
        if not uses_the_past:
            return None
        found = [self.shift + loss + lag for loss in self._compared()]
        ahead = 1 if 1 in found else min(found)  # some models predict several tokens at once
        return ShiftFacts(self.name, self.axis, self.shift, ahead - self.shift - lag, lag, ahead)

    def _is_turned(self) -> bool:
        """Whether outputs in one long row, time first, meet labels in one long row, example first: the output that a
        label of the first example is compared with depends on another example."""
        whole = self._raw(self.batch)
        if whole is None or len(whole) != self.examples * self.steps or self.examples < 2:
            return False
        other = self.x.clone()
        other[1] = other[1].roll(1) if bool((other[1] != other[1].roll(1)).any()) else other[0]
        changed = self._raw(self.batch.with_inputs({self.name: other}))
        rows = [] if changed is None or changed.shape != whole.shape else _changed(whole, changed)
        time_first = bool(rows) and all(row % self.examples == 1 for row in rows) and min(rows) < self.steps
        if not time_first or len(rows) < 2:
            return False
        labels = self.batch.labels
        place = next((row for row in rows if row < self.steps), None)
        if place is None or labels.numel() != self.x.numel():
            return False
        new = labels.clone()
        pool = labels[(labels != IGNORED_TARGET) & (labels != labels.reshape(-1)[place])]
        if not len(pool):
            return False
        new.view(-1)[place] = pool[0]
        one, two = self.slope(self.batch), self.slope(_with_labels(self.batch, new))
        if one is None or two is None or len(one) != len(whole):
            return False
        return place in _changed(one, two)  # a label of the first example, and an output of the second

    def _raw(self, batch: Batch) -> Tensor | None:
        """The outputs as they come, in evaluation mode."""
        fresh = batch.clone()
        try:
            self.model.eval()
            with torch.no_grad():
                logits = find_logits(self.model(*fresh.args, **fresh.kwargs))
            return None if logits is None or not logits.dim() or self.run.drew else logits.clone()
        finally:
            self.run.rewind(quick=True)

    def _lag(self) -> tuple[int, bool] | None:
        """(how many steps after a token the first output changes with it, whether later ones do too); None where
        outputs before it change."""
        place = self.steps // 2
        other = self.x.clone().movedim(self.axis, 0)
        pool = self.x.flatten()
        for example in range(self.examples):
            differs = pool[pool != other[place, example]]
            other[place, example] = differs[0] if len(differs) else other[place, example]
        changed = self.batch.with_inputs({self.name: other.movedim(0, self.axis)})
        one, two = self._outputs(self.batch), self._outputs(changed)
        if one.shape != two.shape:
            raise CannotTell("outputs of different shapes")
        steps = _changed(one, two)
        if not steps:
            return None
        if steps[0] < place:
            return None
        return steps[0] - place, len(steps) > 1

    def _outputs(self, batch: Batch) -> Tensor:
        fresh = batch.clone()
        try:
            self.model.eval()
            with torch.no_grad():
                logits = find_logits(self.model(*fresh.args, **fresh.kwargs))
            if self.run.drew:
                raise CannotTell("the model draws random numbers in evaluation mode")
            found = None if logits is None else self._by_time(logits)
            if found is None:
                raise CannotTell("which axis of the output is the time")
            return found.clone()
        finally:
            self.run.rewind(quick=True)

    def _by_time(self, tensor: Tensor) -> Tensor | None:
        return by_time(tensor, self.axis, self.steps, self.examples, self.steps - _FARTHEST)

    def _compared(self) -> list[int]:
        """By how many steps a label lies behind the outputs that it is compared with."""
        labels = self.batch.labels
        shaped = labels.reshape(self.x.shape) if labels.numel() == self.x.numel() else labels
        along = shaped.movedim(self.axis, 0)
        real = (along[:, 0] != IGNORED_TARGET).nonzero().flatten().tolist()
        place = next((s for s in reversed(real) if _FARTHEST < s < self.steps - _FARTHEST), None)
        if place is None:
            raise CannotTell("no label in the middle counts")
        new = labels.clone()
        other = along[along != IGNORED_TARGET]
        other = other[other != along[place, 0]]
        if not len(other):
            raise CannotTell("all labels are the same")
        view = new.view(self.x.shape) if new.numel() == self.x.numel() else new
        view.movedim(self.axis, 0)[place, 0] = other[0]
        one, two = self.slope(self.batch), self.slope(_with_labels(self.batch, new))
        if one is None or two is None:
            raise CannotTell("which output the loss compares with which target")
        one, two = self._by_time(one), self._by_time(two)
        steps = [] if one is None or two is None else _changed(one[:, :1], two[:, :1])
        if not steps or len(steps) > len(along) // 2:
            raise CannotTell("which output the loss compares with which target")
        return [place - step for step in steps]


def _with_labels(batch: Batch, labels: Tensor) -> Batch:
    inputs, old = given(batch), batch.labels  # the same tensor may be both
    names = {name: labels for name, x in batch.inputs().items() if x is old and name not in inputs}
    new = batch.with_inputs(names) if names else batch
    return replace(new, target=labels) if batch.target is not None else new


def _changed(one: Tensor, two: Tensor) -> list[int]:
    """Steps (the first axis) at which two tensors differ; none where all that differs is rounding."""
    difference = (one.double() - two.double()).nan_to_num().abs().flatten(1).amax(1)
    size = max(float(one.double().nan_to_num().abs().max()), 1e-30)
    coarse = 1e3 if one.dtype in (torch.float16, torch.bfloat16) else 1.0
    most = float(difference.max())
    if most <= coarse * _CHANGED * size:
        return []
    return (difference > _FIRST * most).nonzero().flatten().tolist()
