"""Which forward passes belong to a step.

A pass belongs to it if a gradient comes back through it: one that only looks (an evaluation that forgot torch.no_grad)
does not. And it must be at the weights that the step began with: the second pass of SAM and what a line search tries
are at other ones. Passes at these weights are merged: accumulation, several views of one example.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from torch import Tensor

from .step import Step

MOST_WAITING = 8  # passes before the first backward: views of a contrastive loss, say


class Passes:
    """Keeps what passes measured apart until it is known whether they belong to the step."""

    def __init__(self) -> None:
        self._waiting: deque[Step] = deque(maxlen=MOST_WAITING)
        self._confirmed = False
        self._versions: int | None = None

    @property
    def any(self) -> bool:
        return bool(self._waiting)

    def clear(self) -> None:
        """A step begins."""
        self._waiting.clear()
        self._confirmed, self._versions = False, None

    def begin(self, step: Step) -> Step:
        """A pass begins; what it measures goes into what is returned."""
        self._waiting.append(Step(step.number, step.turn))
        return self._waiting[-1]

    def confirm(self, measured: Step, step: Step) -> None:
        """A gradient comes back through a pass."""
        if any(waiting is measured for waiting in self._waiting):
            self._waiting = deque((w for w in self._waiting if w is not measured), MOST_WAITING)
            self._confirmed = True
            step.absorb(measured)

    def settle(self, step: Step) -> None:
        """The step is over. Where no gradient came back to any pass that could be seen, all of them count."""
        if not self._confirmed:
            for measured in self._waiting:
                step.absorb(measured)
        self._waiting.clear()

    def stepped(self) -> None:
        """An optimizer has moved the weights; passes at the new ones belong to the step of the next one."""
        self._versions = None

    def moved(self, weights: Iterable[Tensor]) -> bool:
        """Whether something else than the optimizer's step has written to the weights since the step's first pass."""
        now = sum(w._version for w in weights)
        if self._versions is None:
            self._versions = now
        return now != self._versions
