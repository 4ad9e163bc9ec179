"""Running the caller's own model and putting everything back.

A copy is not the model: closures over layers, scripted parts, weights shared with an object outside and hooks point
at the original. So the model itself runs, and what it was is put back when the run ends, however it ends.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_pre_hook

from .._base import InputError, UnitgainError, eagerly
from . import random_states, settings
from .snapshot import Snapshot, interrupts_deferred

_running: dict[int, list[Run]] = {}  # by the number of each module that runs keep, the innermost last
_change = threading.Lock()


class NotPutBackError(UnitgainError, RuntimeError):
    """Something could not be put back after a run; the message says what, and why."""


@contextmanager
def in_place(
    model: nn.Module, *, optimizer: Any = None, batch: Any = None, loss: Any = None, extra: Iterable[Any] = ()
) -> Iterator[Run]:
    """Inside, the model may run, be trained and be changed; afterwards everything is what it was, bit for bit.

    optimizer, batch, loss, extra   what else could be changed: an optimizer, the batch with its containers, a loss or
                                    step function with what it closes over, schedules and other objects

    Put back, also after an exception or Ctrl-C: what `Snapshot` follows from these (values, identities, gradients,
    hooks, flags, attributes, registrations), random states, torch's global settings, the same of every module outside
    that runs meanwhile (a discriminator in the loss) and every optimizer that makes a step, and the gradient of every
    other leaf that `Run.backward` reaches. When it begins, no leaf has a gradient. What cannot be rewound is in
    `Run.not_rewound`. Compiled parts run as they were written.

    If something cannot be put back, all the rest is, and then NotPutBackError is raised, or, where another exception
    ends the run, a warning given and that exception goes on. Raises InputError for a model with lazy parameters, and in
    the place of a SystemExit.

    >>> model, x = nn.BatchNorm1d(3), torch.randn(8, 3)
    >>> with in_place(model) as run:
    ...     run.backward(model(x).square().sum())
    ...     float(model.weight.grad.abs().sum()) > 0
    True
    >>> model.weight.grad, int(model.num_batches_tracked)
    (None, 0)
    """
    if any(nn.parameter.is_lazy(p) for p in model.parameters()):
        raise InputError("model: it has lazy parameters without a shape yet; run it once on a batch first")
    with torch.inference_mode(False), eagerly():
        run = Run()
        try:
            given = (("model", model), ("optimizer", optimizer), ("batch", batch), ("loss", loss))
            for name, root in (*given, *(("extra", one) for one in extra)):
                if root is not None:
                    run.keep(root, name)
            run._begin()
            yield run
        except BaseException as error:
            _mention(error, run._end())
            if isinstance(error, SystemExit):  # of the model's own code: no reason to end in silence
                raise InputError(
                    f"the model, its loss or a hook ended the program (SystemExit({error.code!r})); it must return"
                ) from error
            raise
        else:
            problems = run._end()
            if problems:
                raise NotPutBackError(problems)


class Run:
    """What goes on inside `in_place`."""

    def __init__(self) -> None:
        self._snapshot = Snapshot()
        self._random, self._settings = random_states.take(), settings.take()
        self._thread = threading.get_ident()
        self._listed: list[nn.Module] = []  # modules that are listed in _running
        self._handles: list[Any] = []

    @property
    def not_rewound(self) -> list[str]:
        """Paths of what was found that cannot be put back: "model.loader (list_iterator)"."""
        return self._snapshot.not_rewound

    @property
    def bytes(self) -> int:
        """Memory of the copied values."""
        return self._snapshot.bytes

    @property
    def drew(self) -> bool:
        """Whether random numbers of torch's were drawn since the run began or was last rewound."""
        now = random_states.take_torch()
        return any(
            not torch.equal(a, b) for a, b in zip(random_states.of_torch(self._random), now, strict=False)
        )

    def keep(self, thing: Any, name: str) -> None:
        """Puts one more object back at the end, as it is now; its leaves' gradients are set aside."""
        states = self._snapshot.add(thing, name)
        self._snapshot.set_gradients_aside(states)
        with _change:
            for module in self._snapshot.modules()[len(self._listed) :]:
                _running.setdefault(id(module), []).append(self)
                self._listed.append(module)

    def rewind(self, *, quick: bool = False) -> None:
        """Everything is as it was when the run began, random states too, and the run goes on, without gradients.

        quick  for between forward passes: of values only those are looked at that version counters say were written to,
               so that what a model changes through `tensor.data` waits for the end
        """
        problems = self._snapshot.put_back(gradients=False, quick=quick)
        random_states.put(self._random)
        settings.put(self._settings)
        if problems:
            raise NotPutBackError(_text(problems))

    def accept(self, tensors: Iterable[Tensor]) -> None:
        """The values that these tensors have now are meant to stay."""
        self._snapshot.accept(tensors)

    def backward(self, start: Tensor, gradient: Tensor | None = None) -> None:
        """start.backward(gradient), which leaves no gradient behind anywhere once the run has ended.

        Not by backward(inputs=...): that loses gradients under reentrant checkpointing and behind frozen layers.
        """
        unknown = [leaf for leaf in leaves_of(start) if not self._snapshot.has_tensor(leaf)]
        self._snapshot.set_gradients_aside(
            [self._snapshot.add_gradient(x, "a leaf outside") for x in unknown]
        )
        start.backward(gradient)

    # ---- beginning and end ---------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._handles.append(register_optimizer_step_pre_hook(lambda optimizer, *_: self._sees(optimizer)))
        # the compiler would trace into a hook on all modules; outside modules are then known by the loss alone
        if not any(map(_is_compiled, self._listed)):
            self._handles.append(register_module_forward_pre_hook(lambda module, _: self._sees(module)))

    def _sees(self, home: nn.Module | torch.optim.Optimizer) -> None:
        """A module is about to run, or an optimizer to make a step."""
        if threading.get_ident() == self._thread and not self._snapshot.has(home):
            with torch.inference_mode(False):
                self.keep(home, type(home).__name__)

    def _end(self) -> str:
        """Puts everything back; what could not be, in words."""
        with interrupts_deferred():
            for handle in self._handles:
                handle.remove()
            with _change:
                for module in self._listed:
                    runs = _running[id(module)]
                    runs.remove(self)
                    if not runs:
                        del _running[id(module)]
            problems = self._snapshot.put_back()
            for name, put in (
                ("random states", lambda: random_states.put(self._random)),
                ("torch's settings", lambda: settings.put(self._settings)),
            ):
                try:
                    put()
                except Exception as error:
                    problems.append((name, error))
        return _text(problems)


def run_of(module: nn.Module) -> Run | None:
    """The innermost run that a module is in now: a Probe measures in the run in which it was started, in no other."""
    runs = _running.get(id(module))
    return runs[-1] if runs else None


def leaves_of(tensor: Tensor) -> list[Tensor]:
    """The leaves of its graph that backward would give a gradient."""
    if tensor.grad_fn is None:
        return [tensor] if tensor.requires_grad else []
    found: list[Tensor] = []
    waiting, seen = [tensor.grad_fn], {tensor.grad_fn}
    while waiting:
        node = waiting.pop()
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            found.append(leaf)
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                waiting.append(following)
    return found


def _is_compiled(module: nn.Module) -> bool:
    return getattr(module, "_compiled_call_impl", None) is not None or hasattr(module, "_orig_mod")


def _text(problems: list[tuple[str, Exception]]) -> str:
    if not problems:
        return ""
    some = "; ".join(f"{where}: {type(error).__name__}: {error}" for where, error in problems[:5])
    more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
    return f"after the run not everything could be put back: {some}{more}"


def _mention(error: BaseException, problems: str) -> None:
    if problems:
        warnings.warn(f"unitgain: {problems}", RuntimeWarning, stacklevel=4)
        if hasattr(error, "add_note"):
            error.add_note(problems)  # type: ignore[attr-defined]
