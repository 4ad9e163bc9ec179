"""What a model and the like were at one moment, and the way back there."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from .tensors import Memory, TensorState, untracked
from .walk import Place, Walk


class Snapshot:
    """A model as it was: modules, parameters, buffers, gradients, flags, hooks, attributes and what these hold.

    restore() puts all of it back, bit for bit: values into the very same tensors (so that optimizers and tied weights
    still hold them), removed or replaced modules and parameters into their places; what was added is gone. It may be
    called more than once. Optimizers, schedules and other objects can be given too. What is followed, and what cannot
    be rewound, is said in `walk.py`.

    Costs one copy of the values. Gradients are kept by reference: a run that is not to add to them sets them aside.

    >>> import torch
    >>> model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    >>> before, weight = Snapshot(model), model[0].weight.detach().clone()
    >>> _ = nn.init.zeros_(model[0].weight)
    >>> model[0].bias = None
    >>> before.restore()
    >>> torch.equal(model[0].weight, weight), model[0].bias is not None
    (True, True)
    """

    def __init__(self, *roots: Any, names: Iterable[str] = ("model",)):
        self._walk, self._memory = Walk(), Memory()
        named = [*names]
        for number, root in enumerate(roots):
            self.add(root, named[number] if number < len(named) else type(root).__name__)

    @property
    def bytes(self) -> int:
        """How much memory the copies of values take."""
        return self._memory.bytes

    @property
    def not_rewound(self) -> list[str]:
        """What was found that restore() cannot put back, by its path, and attributes of classes that have changed."""
        return [*self._walk.not_rewound, *self._walk.classes.changed()]

    def has(self, home: nn.Module | torch.optim.Optimizer) -> bool:
        """Whether a module or an optimizer is kept, with the values of its tensors."""
        return self._walk.knows(home) and id(home) not in self._walk.outside

    def has_tensor(self, tensor: Tensor) -> bool:
        return id(tensor) in self._walk.tensors

    def modules(self) -> list[nn.Module]:
        return list(self._walk.modules.values())

    def add(self, root: Any, name: str) -> list[TensorState]:
        """Keeps one more object as it is now; returns its tensors that were not known."""
        found, values = self._walk.follow(root, name)
        with untracked():
            self._memory.keep(values)
        return found

    def add_gradient(self, leaf: Tensor, name: str) -> TensorState:
        """Keeps the gradient of a leaf, and not its values."""
        return self._walk.gradient_only(leaf, name)

    def accept(self, tensors: Iterable[Tensor]) -> None:
        """What these tensors hold now stays: their values are no longer put back."""
        chosen = list(tensors)
        with untracked():
            self._memory.forget(chosen)
            for tensor in chosen:
                if id(tensor) in self._walk.tensors:
                    self._walk.tensors[id(tensor)][1].accept()

    def set_gradients_aside(self, states: Iterable[TensorState] | None = None) -> None:
        """No leaf has a gradient then; restore() gives each its own back."""
        every = (state for _, state in self._walk.tensors.values())
        with untracked():
            for state in every if states is None else states:
                state.set_gradient_aside()

    def restore(self) -> None:
        """Raises the first error that putting something back raised, after all else has been put back."""
        problems = self.put_back()
        if problems:
            raise problems[0][1]

    def put_back(self, *, gradients: bool = True, quick: bool = False) -> list[tuple[str, Exception]]:
        """restore(), which goes on after an error: (what was not put back, why).

        gradients  whether leaves get their gradients; else they have none, as in a run
        quick      values are compared only where version counters say that they were written to
        """
        problems: list[tuple[str, Exception]] = []
        states = list(self._walk.tensors.values())

        def every(items: Iterable[tuple[Place, Any]], work: Callable[[Any], None]) -> None:
            for place, item in items:
                try:
                    work(item)
                except Exception as error:
                    problems.append((str(place), error))

        with interrupts_deferred(), untracked():
            every(self._walk.kept, lambda kept: kept.put_back())
            every(states, TensorState.put_back)
            every([(Place(None, "values"), self._memory)], lambda memory: memory.put_back(quick=quick))
            every(states, TensorState.put_gradient_back if gradients else TensorState.set_gradient_aside)
            every(states, TensorState.put_version_back)
        return problems


@contextlib.contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Ctrl-C waits until what is inside is done. (Signals reach the main thread only.)"""
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    came: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if came:
            signal.raise_signal(signal.SIGINT)
