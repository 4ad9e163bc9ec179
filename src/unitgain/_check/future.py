"""Whether outputs depend on later steps of an input that the targets are shifted from. For rules UG802 and UG603.

Where the targets are an input shifted by one step, each step is to be predicted from those before it. A few examples go
through the model twice, in evaluation mode, with other values at the later steps the second time: outputs at earlier
steps must be the same. Where the model is given its own input as labels and returns a loss, the same is asked if that
loss compares each output with the next label.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from .._base import InputError
from .._batch import IGNORED_TARGET, TARGET_NAMES, Batch, Judged, find_logits
from .._run import Run
from ..record import FutureFacts
from ..rules import CATALOGUE
from ..stats import is_plain
from .watching import CannotTell, Watch

_ROWS = 2  # examples are enough, since all must be right
_LEAST_STEPS = 3
_EQUAL = 0.99  # of the steps: a corpus may be cut into rows that overlap badly at one place


def shifted_input(batch: Batch, target: Any = None) -> tuple[str, int] | None:
    """(the input, its axis of time) if the targets are that input shifted by one step along axis 1 or 0."""
    target = batch.target if target is None else target
    if not isinstance(target, Tensor) or not is_plain(target) or not target.numel():
        return None
    for name, x in batch.inputs().items():
        if not is_plain(x) or x.dim() < 2:
            continue
        for axis in (1, 0):
            if x.shape[axis] >= _LEAST_STEPS and _is_shifted(x, target, axis):
                return name, axis
    return None


def _is_shifted(x: Tensor, target: Tensor, axis: int) -> bool:
    if x.numel() != target.numel():
        classes = x.shape[-1]  # one-hot rows against class indices
        if x.dim() != 3 or classes * target.numel() != x.numel() or target.is_floating_point():
            return False
        if not bool(((x == 0) | (x == 1)).all()) or not bool((x.sum(-1) == 1).all()):
            return False
        x = x.argmax(-1)
    if x.is_floating_point() != target.is_floating_point():
        return False
    x, target = x.movedim(axis, 0), target.to(x.device).reshape(x.shape).movedim(axis, 0)
    if bool((x == x[:1]).all()):
        return False
    counted = target[:-1] != IGNORED_TARGET
    if float(counted.double().mean()) < 0.5:
        return False
    return float((target[:-1] == x[1:])[counted].double().mean()) >= _EQUAL


def _own_labels(batch: Batch, done: Judged) -> tuple[str, int] | None:
    """The input that stands among the labels as it is, where the model's own loss compares outputs with the next."""
    labels, logits = batch.labels, done.logits
    if done.function is not None or done.kind != "cross_entropy" or not isinstance(labels, Tensor):
        return None
    if logits is None or logits.dim() != 3 or labels.dim() != 2 or logits.shape[:2] != labels.shape:
        return None
    own = (logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    loss = torch.nn.functional.cross_entropy(own[0].detach().float(), own[1])
    if done.loss is None or not torch.isclose(loss, done.loss.detach().float(), rtol=1e-3):
        return None
    for name, x in batch.inputs().items():
        if is_target(name, batch) or x.is_floating_point() or x.shape != labels.shape:
            continue
        if float((x == labels.to(x.device)).double().mean()) >= 0.5:  # the rest is padding that is ignored
            return name, 1
    return None


def _among_inputs(batch: Batch) -> tuple[str, int] | None:
    """Of a call that is given inputs and targets by position."""
    inputs = [t for t in batch.inputs().values() if is_plain(t) and not t.is_floating_point()]
    found = (shifted_input(batch, target) for target in inputs)
    return next((one for one in found if one is not None), None)


def is_target(name: str, batch: Batch) -> bool:
    """Whether an input's name is that of the target, which a model that computes its own loss is given too."""
    return any(name.startswith(f"input[{one}{end}") for one in (batch.passed, *TARGET_NAMES) for end in ".]")


def future_facts(
    model: nn.Module, batch: Batch, done: Judged, run: Run, called: nn.Module | None = None
) -> FutureFacts:
    """done: the first pass. If the targets ask for it, two examples go through the model twice; `run` is rewound.
    called: the module that takes the batch, if that is not the model but one inside of it."""
    found = shifted_input(batch, batch.labels) or _own_labels(batch, done)
    if found is None and called is not None:
        found = shifted_input(batch, done.target) or _among_inputs(batch)
    if found is None:
        return FutureFacts()
    name, axis = found
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _Trial(model, batch, name, axis, run, called or model).facts()
    except (CannotTell, InputError) as reason:
        return FutureFacts(name, axis, reason=str(reason).removeprefix("batch: "))
    except Exception as error:  # a model that does not run on part of the batch, or not in eval mode
        return FutureFacts(
            name, axis, reason=f"with {_ROWS} examples or in eval mode it raised {type(error).__name__}"
        )


class _Trial:
    def __init__(self, model: nn.Module, batch: Batch, name: str, axis: int, run: Run, called: nn.Module):
        self.model, self.name, self.axis, self.run = model, name, axis, run
        self.called = called
        self.limit = CATALOGUE["UG802"].limit("relative")
        self.batch = batch if axis == 0 else batch.few(_ROWS)
        self.given = self.batch.inputs()[name]
        self.steps = int(self.given.shape[axis])
        self.split = self.steps // 2  # earlier steps are those before it

    def facts(self) -> FutureFacts:
        output, first = self._forward(self.batch)
        changed, second = self._forward(self._changed(), first.seen)
        change = _change(output, changed)
        if change <= self.limit:
            return FutureFacts(self.name, self.axis, change)
        if _change(output, self._forward(self.batch)[0]) > self.limit:
            raise CannotTell("the model gives another output each time for the same input")
        return FutureFacts(self.name, self.axis, change, second.first, second.first_module)

    def _changed(self) -> Batch:
        """Later steps are given those of other places, which differ and are valid."""
        x = self.given.clone()
        later = x.narrow(self.axis, self.split, self.steps - self.split)
        pool = self.given.movedim(self.axis, 0).flatten(0, 1) if x.dim() > 2 else self.given.flatten()
        new = later.clone().movedim(self.axis, 0)  # (later steps, examples, ...)
        for step in range(len(new)):
            for example in range(new.shape[1]):
                other = next((v for v in pool if not torch.equal(v, new[step, example])), None)
                if other is not None:
                    new[step, example] = other
        later.copy_(new.movedim(0, self.axis))
        return self.batch.with_inputs({self.name: x})

    def _forward(self, batch: Batch, reference: dict[str, Tensor] | None = None) -> tuple[Tensor, Watch]:
        """(the output at earlier steps, and that of every module)."""
        watch = Watch(self.model, self.earlier, self.limit, reference)
        given = batch.clone()
        try:
            self.model.eval()
            with watch.hooked():
                output = find_logits(self.called(*given.args, **given.kwargs))
            found = None if output is None else self.earlier(output)
            if found is None:
                raise CannotTell("which axis of the output is the time")
            return found.clone(), watch
        finally:
            self.run.rewind(quick=True)

    def earlier(self, tensor: Tensor) -> Tensor | None:
        """The part of a tensor that belongs to earlier steps; None where its axis of time is not known."""
        sizes, (time, other) = tuple(tensor.shape), (self.axis, 1 - self.axis)
        examples = int(self.given.shape[other])
        if len(sizes) > 1 and sizes[time] == self.steps and sizes[other] == examples:
            return tensor.narrow(time, 0, self.split)
        if len(sizes) > 2 and sizes[0] == examples and sizes[-1] == self.steps and self.axis == 1:
            return tensor.narrow(-1, 0, self.split)  # (examples, classes, time)
        if sizes and sizes[0] == examples * self.steps:
            shape = (self.steps, examples) if self.axis == 0 else (examples, self.steps)
            return tensor.reshape(*shape, *sizes[1:]).narrow(self.axis, 0, self.split)
        return None


def _change(a: Tensor, b: Tensor) -> float:
    """Largest difference, divided by the largest magnitude; half precision rounds a hundred times as coarsely. Beside
    values that overflowed, nothing else counts."""
    if a.shape != b.shape:
        return float("inf")
    coarse = 100.0 if a.dtype in (torch.float16, torch.bfloat16) else 1.0
    a, b = a.double().nan_to_num(), b.double().nan_to_num()
    scale = max(float(a.abs().max()), float(b.abs().max())) if a.numel() else 0.0
    return float((a - b).abs().max()) / scale / coarse if scale else 0.0
