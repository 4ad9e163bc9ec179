"""A pass without training: its outputs, also averaged over changed copies of the inputs; and its metrics."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .._base import InputError
from .._batch import find_logits, is_loader
from .callback import Callback, CancelBatch
from .callbacks import EMA, Metrics
from .data import Data

if TYPE_CHECKING:
    from .learner import Learner

Transform = Callable[[Tensor], Tensor]


class _Collect(Callback):
    """Keeps the outputs of every batch, and leaves the loss out."""

    order = 1000  # after what changes outputs

    def __init__(self, transforms: Sequence[Transform], activation: Transform | None):
        self.transforms, self.activation = transforms, activation
        self._again = False
        self.outputs: list[Tensor] = []
        self.targets: list[Any] = []

    def after_predict(self, learn: Learner) -> None:
        if self._again:
            return
        found = [self._of(learn)]
        inputs = learn.inputs
        self._again = True
        try:
            for transform in self.transforms:
                learn.inputs = (transform(inputs[0]), *inputs[1:])
                learn._do(learn._events["predict"], learn._predict)  # in autocast, say
                found.append(self._of(learn))
        finally:
            self._again, learn.inputs = False, inputs
        self.outputs.append(found[0] if len(found) == 1 else torch.stack(found).mean(0))
        self.targets.append(learn.parsed.labels)
        raise CancelBatch

    def _of(self, learn: Learner) -> Tensor:
        logits = find_logits(learn.outputs)
        if logits is None:
            raise InputError(
                f"predict: the model returned a {type(learn.outputs).__name__} without logits, which cannot be joined; "
                "call the model itself on each batch"
            )
        logits = logits.detach()
        return (logits if self.activation is None else self.activation(logits)).cpu()


def predict(
    learn: Learner, data: Any, transforms: Sequence[Transform], activation: Transform | None
) -> tuple[Tensor, Any]:
    given = learn.data.valid if data is None else data
    if given is None:
        raise InputError("predict: there is no validation data; give data=, a loader or one batch")
    if transforms and not all(callable(t) for t in transforms):
        raise InputError("predict(transforms=...): expected functions of the input")
    loader = given if is_loader(given) or _is_list_of_batches(given) else [given]
    collect = _Collect(transforms, activation)
    with aside(learn, Data([], loader)):
        learn.fit(1, train=False, callbacks=[collect])
    targets = collect.targets
    joined: Any = None
    if targets and all(isinstance(t, Tensor) for t in targets):
        joined = torch.cat([t.cpu() for t in targets])
    return torch.cat(collect.outputs), joined


def validate(learn: Learner, data: Any, callbacks: Sequence[Callback]) -> dict[str, float]:
    given = learn.data.valid if data is None else data
    if given is None:
        raise InputError("validate: there is no validation data; give data=, a loader")
    with aside(learn, Data([], given)):
        learn.fit(1, train=False, callbacks=callbacks)
        return dict(learn.metrics)


@contextlib.contextmanager
def aside(learn: Learner, data: Data) -> Iterator[None]:
    """A pass that is no part of the training: the numbers of fits and epochs, the history and the modules' modes are
    afterwards what they were, and callbacks that only watch or write are left out."""
    kept = (
        learn.data,
        learn.fits,
        learn.epoch,
        learn.epochs,
        learn.batch_index,
        list(learn.history),
        learn.training,
    )
    pending, callbacks = learn._pending, learn.callbacks
    learn._pending, learn.callbacks = (
        None,
        [c for c in callbacks if c.essential or isinstance(c, (EMA, Metrics))],
    )
    modes = {module: module.training for module in learn.model.modules()}
    seconds, learn.data = learn.clock.seconds, data
    try:
        yield
    finally:
        (
            learn.data,
            learn.fits,
            learn.epoch,
            learn.epochs,
            learn.batch_index,
            learn.history,
            learn.training,
        ) = kept
        learn.clock.seconds, learn._pending, learn.callbacks = seconds, pending, callbacks
        learn._bind()
        for module, mode in modes.items():
            module.training = mode


def _is_list_of_batches(value: Any) -> bool:
    """A list of (inputs, target) pairs, as Learner takes it as data."""
    return isinstance(value, list) and bool(value) and all(isinstance(one, (tuple, dict)) for one in value)
