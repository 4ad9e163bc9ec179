"""Callback: what can happen around each part of training, and how a part is ended early."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .._base import InputError, did_you_mean

if TYPE_CHECKING:
    from .learner import Learner

EVENTS = ("fit", "epoch", "pass", "batch", "predict", "loss", "backward", "step")
ACTIONS = ("predict", "loss", "backward", "step", "zero_grad")
_MOMENTS = ("before", "after", "cleanup")


class Cancel(Exception):
    """Raised in a callback to end the part of training that it names; the after_ methods of that part are skipped, its
    cleanup_ methods are not."""


class CancelFit(Cancel):
    """Ends the training."""


class CancelEpoch(Cancel):
    """Continues with the next epoch; a validation that has not begun is skipped."""


class CancelPass(Cancel):
    """Ends this pass over the training or the validation data."""


class CancelBatch(Cancel):
    """Continues with the next batch."""


class CancelStep(Cancel):
    """Skips the optimizer's step and keeps the gradients."""


CANCELS: dict[str, type[Cancel]] = {
    "fit": CancelFit, "epoch": CancelEpoch, "pass": CancelPass, "batch": CancelBatch, "step": CancelStep,
}  # fmt: skip


class Callback:
    """Base of all callbacks. Define the methods that you need; each takes the Learner.

    before_X, after_X  around X, one of fit, epoch (a training pass and a validation pass), pass, batch, predict,
                       loss, backward, step. In a validation pass there is no backward and no step
    cleanup_X          runs after X in any case: when it was cancelled, and when an exception passes through
    predict, loss, backward, step, zero_grad   replace what the Learner does; only one callback may replace each

    wrap_loss(learn, loss)   gives a loss in place of the one it is given, both functions (outputs, targets) ->
                       scalar; of several callbacks each gets what the one before made

    order      callbacks run in ascending order, those of equal order as they were given
    trains     True for those that have nothing to do where nothing is trained (schedules); `fit(train=False)` leaves
               them out
    essential  False for those that only read or write; `lr_find` runs without them

    A callback with a state returns it from `state_dict` (numbers, strings, lists, dicts and tensors) and takes it
    in `load_state_dict`, so that a run can be resumed.

    >>> class Count(Callback):
    ...     batches = 0
    ...     def after_batch(self, learn):
    ...         self.batches += 1
    """

    order: int = 0
    essential: bool = True
    trains: bool = False

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes what state_dict returned."""


class Event:
    """The methods of all callbacks that belong to one part of training, found once instead of at every batch."""

    __slots__ = ("after", "before", "cancel", "cleanup")

    def __init__(self, name: str, callbacks: Sequence[Callback]):
        for moment in _MOMENTS:
            found = [getattr(c, f"{moment}_{name}") for c in callbacks if hasattr(c, f"{moment}_{name}")]
            setattr(self, moment, tuple(found))
        self.cancel: tuple[type[Cancel], ...] = (CANCELS[name],) if name in CANCELS else ()

    before: tuple[Any, ...]
    after: tuple[Any, ...]
    cleanup: tuple[Any, ...]


def check_callbacks(callbacks: Sequence[Any]) -> None:
    """Raises InputError for what is no callback, for a misspelt event, and for two that replace the same action."""
    known = [f"{moment}_{event}" for moment in _MOMENTS for event in EVENTS]
    for callback in callbacks:
        if isinstance(callback, type) or not isinstance(callback, Callback):
            what = f"the class {callback.__name__}; write {callback.__name__}()" if isinstance(
                callback, type) else f"{type(callback).__name__}; derive it from ug.train.Callback"  # fmt: skip
            raise InputError(f"callbacks: expected a Callback, got {what}")
        for name in dir(callback):
            if name.startswith(("before_", "after_", "cleanup_")) and name not in known:
                hint = did_you_mean(name, known, most=0) or f"; there are {', '.join(EVENTS)}"
                raise InputError(f"callbacks: {type(callback).__name__}.{name} belongs to no event{hint}")
    for action in ACTIONS:
        both = [type(c).__name__ for c in callbacks if replaces(c, action)]
        if len(both) > 1:
            raise InputError(f"callbacks: {' and '.join(both)} both replace {action}; only one of them can")


def replaces(callback: Callback, action: str) -> bool:
    """Whether its class defines the action as a method; an attribute of that name on the object does not count."""
    return callable(getattr(type(callback), action, None))


def clean_up(methods: Sequence[Any], learn: Learner) -> None:
    """Calls all of them, also when one raises; the first error is raised at the end."""
    first: BaseException | None = None
    for method in methods:
        try:
            method(learn)
        except BaseException as error:
            first = first or error
    if first is not None:
        raise first
