"""Where a step begins and ends, told by the optimizers.

A model's own forward does not tell: many loops never call it, or call it for an evaluation. So a step ends when its
optimizer has made one; of several optimizers, when each has. What that takes care of:

closures    LBFGS, and Lightning with any optimizer, run the passes inside of `optimizer.step(closure)`: gradients are
            complete after the first evaluation, and later ones (of a line search) are at other weights
wrappers    an optimizer that holds another one (SAM, Lookahead): the outer one's step is the step, wherever the inner
            one's is called; what the inner one is given is the gradient
several     of an optimizer that makes several steps while another makes one (a critic), the first is looked at. One
            that makes none for long is not waited for
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from .optimizer import held_by

PATIENCE = 100  # steps of one optimizer without any of another one


class Watcher(Protocol):
    """Who is told. optimizer: the outer one."""

    @property
    def sampled(self) -> bool: ...

    def before(self, optimizer: Optimizer) -> None:
        """Its first step of this round begins."""

    def gradients(self, optimizer: Optimizer) -> None:
        """Gradients are what it is given: at least once in each of its first steps, the last time counts."""

    def evaluated(self, optimizer: Optimizer) -> None:
        """A closure has run."""

    def after(self, optimizer: Optimizer) -> None:
        """Its first step of this round has been made."""

    def over(self) -> None:
        """The round is over."""


def named(optimizers: Sequence[Optimizer]) -> str:
    """ "SGD", "Adam and SGD" """
    return " and ".join(type(o).__name__ for o in optimizers)


class Rounds:
    """Watches the optimizers. held: the round does not end by itself, but when `end` is called."""

    def __init__(self, optimizers: Sequence[Optimizer], watcher: Watcher):
        self._optimizers, self._watcher = tuple(optimizers), watcher
        self.held = False
        self._running: list[Optimizer] = []  # of one outer one, those inside of it last
        self._made = dict.fromkeys(map(id, self._optimizers), 0)  # steps in this round
        self._late: set[int] = set()  # not waited for
        self._said = False

    @property
    def begun(self) -> bool:
        """Whether any has made a step in this round."""
        return any(self._made.values())

    @property
    def stepping(self) -> bool:
        """Whether a step is being made now."""
        return bool(self._running)

    def hook(self, guard: Callable[[Callable[..., Any]], Callable[..., Any]]) -> list[RemovableHandle]:
        handles = []
        for outer in self._optimizers:
            for one in (outer, *_inside(outer)):
                before = guard(functools.partial(self._before, outer, guard))
                after = guard(functools.partial(self._after, outer))
                # a compiled step would be compiled anew for each number of a step
                handles.append(one.register_step_pre_hook(_uncompiled(before)))
                handles.append(one.register_step_post_hook(_uncompiled(after)))
        return handles

    def end(self) -> None:
        """The round is over, whoever has made a step in it."""
        self.forget()
        self._watcher.over()

    def forget(self) -> None:
        self._made = dict.fromkeys(self._made, 0)

    def _before(self, outer: Optimizer, guard: Any, optimizer: Optimizer, args: Any, kwargs: Any) -> Any:
        inside = bool(self._running) and self._running[0] is outer and optimizer is not outer
        if not inside:
            self._running = []  # whatever raised in its step
        self._running.append(optimizer)
        watcher = self._watcher
        if not watcher.sampled or self._made[id(outer)]:
            return None
        if inside:
            watcher.gradients(outer)
            return None
        watcher.before(outer)
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if not callable(closure):
            watcher.gradients(outer)
            return None
        evaluated = guard(lambda: watcher.evaluated(outer))

        def watched(*given: Any, **named: Any) -> Any:
            loss = closure(*given, **named)
            evaluated()
            return loss

        if "closure" in kwargs:
            return args, {**kwargs, "closure": watched}
        return (args[0], watched, *args[2:]), kwargs

    def _after(self, outer: Optimizer, optimizer: Optimizer, *_: Any) -> None:
        if not self._running or self._running[-1] is not optimizer:
            return  # watching began in the midst of it
        self._running.pop()
        if self._running:
            return
        number = id(outer)
        if self._watcher.sampled and not self._made[number]:
            self._watcher.after(outer)
        self._made[number] += 1
        self._late.discard(number)
        if self.held:
            return
        missing = [o for o in self._optimizers if not self._made[id(o)] and id(o) not in self._late]
        if missing and self._made[number] > PATIENCE:
            self._late.update(map(id, missing))
            if not self._said:
                self._said = True
                warnings.warn(
                    f"unitgain's Probe: {named(missing)} made no step while {type(outer).__name__} made "
                    f"{self._made[number]}; steps are counted without it until it makes one. Where a step of your loop "
                    "is something else, put `with probe.step():` around it.",
                    stacklevel=3,
                )
            missing = []
        if not missing:
            self.end()


def _uncompiled(hook: Callable[..., Any]) -> Any:
    return torch.compiler.disable(hook)


def _inside(optimizer: Optimizer) -> list[Optimizer]:
    """Optimizers that it holds, of the same parameters."""
    own = held_by([optimizer])
    found: dict[int, Optimizer] = {}
    for held in vars(optimizer).values():
        for one in held if isinstance(held, (list, tuple)) else [held]:
            watched = isinstance(one, Optimizer) and hasattr(one, "_optimizer_step_pre_hooks")
            if watched and one is not optimizer and held_by([one]) & own:
                found[id(one)] = one
    return list(found.values())
