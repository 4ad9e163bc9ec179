"""Step: one tensor that is to be predicted, with everything that a law may ask of the call that made it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..node import Node
from ..operations import Call
from ..values import Value
from .signal import Signal
from .silent import Silent


@dataclass(frozen=True)
class Known:
    """What is known of a tensor: its moments, its shape and the axis of its channels."""

    signal: Signal
    shape: tuple[int, ...]
    axis: int


@dataclass(frozen=True)
class Step:
    """A tensor and the call that made it.

    name      of the function ("conv2d"), or of the module's class
    function  the torch function that ran; None for a module
    shape, axis   of the tensor
    parents   what is known of the signals that it was computed from, in order; None: nothing
    look_up   the same for one of the call's tensors
    start     of a part: the first channel that is taken
    evenness  of a norm over channels: mean of q times mean of 1/q, q the variance of its input at each place, as
              measured; 1 where all are alike. None: not asked for
    zeros     of an activation, backwards: the share of its inputs that are exactly 0, as a ReLU before makes them
    """

    name: str
    value: Value
    call: Call
    shape: tuple[int, ...]
    axis: int
    parents: tuple[Known | None, ...]
    look_up: Callable[[Any], Known | None]
    function: Any = None
    module: nn.Module | None = None
    node: Node | None = None
    start: int | None = None
    evenness: float | None = None
    zeros: float = 0.0

    def only(self) -> Known:
        """What went in. Raises Silent if that is not known, or carries zeros around it that wait for a convolution."""
        found = self.only_with_pads()
        if found.signal.pads:
            raise Silent("zeros were put around its input")
        return found

    def only_with_pads(self) -> Known:
        """What went in, zeros around it and all. Raises Silent if that is not known."""
        found = self.parents[0] if self.parents else None
        if found is None:
            raise Silent("its input has no channels")
        return found

    def argument(self, place: int, name: str, default: Any = None) -> Any:
        """Of a function's call, or the module's attribute."""
        if self.module is not None:
            return getattr(self.module, name, default)
        return self.call.get(place, name, default)

    @property
    def positions(self) -> tuple[int, ...]:
        """Sizes of the tensor's axes without examples and channels."""
        return positions_of(self.shape, self.axis)


def positions_of(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    rest = [n for i, n in enumerate(shape) if i != axis]
    return tuple(rest[1:])


def given_tensor(call: Call) -> Tensor | None:
    """The first tensor among the arguments."""
    for item in (*call.args, *call.kwargs.values()):
        if isinstance(item, Tensor):
            return item
        if isinstance(item, (list, tuple)) and item and isinstance(item[0], Tensor):
            return item[0]
    return None
