"""The one call of a module that a step makes, so that what is asked of a model can be asked there too.

A step of the caller's own runs the model in its own way: once, mostly, on a part of its batch. Where it calls a single
module, once (the model itself, or the network inside of it, as Lightning modules do), that call can be made again with
other examples.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from .._batch import Batch, map_tensors, tensors_in
from .._run import Run, random_states
from ..graph import walk
from ..stats import is_plain
from .job import Job


@dataclass(frozen=True)
class Called:
    """module: the model or one inside of it; batch: what it was given, with what the step
    keeps from it as its target"""

    module: nn.Module
    batch: Batch


@dataclass
class _Outermost:
    """Calls of modules that no other module makes."""

    depth: int = 0
    found: list[Called] = field(default_factory=list)

    @contextmanager
    def hooked(self, model: nn.Module) -> Iterator[None]:
        handles = []
        try:
            for _, module, _, _ in walk(model):
                if not isinstance(module, torch.jit.ScriptModule):
                    handles.append(module.register_forward_pre_hook(self._enter, with_kwargs=True))
                    handles.append(module.register_forward_hook(self._leave, always_call=True))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if not self.depth:
            copied = map_tensors((args, kwargs), lambda t: t.detach().clone())
            self.found.append(Called(module, Batch(args=copied[0], kwargs=copied[1])))
        self.depth += 1

    def _leave(self, _module: nn.Module, _args: Any, _output: Any) -> None:
        self.depth -= 1


def called_in_step(model: nn.Module, job: Job, run: Run) -> Called | None:
    """None where the step calls several modules, or one several times. Runs the step once and rewinds `run`."""
    assert job.step is not None
    outermost, given = _Outermost(), job.batch.clone()
    try:
        model.train()
        with outermost.hooked(model), random_states.kept(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            job.step(model, *given.args)
    except Exception:  # the caller's own code; the measured pass says what is wrong
        return None
    finally:
        run.rewind()
    if len(outermost.found) != 1 or not outermost.found[0].batch.inputs():
        return None
    (only,) = outermost.found
    return replace(only, batch=replace(only.batch, target=_labels(job.batch, only.batch)))


def _labels(batch: Batch, given: Batch) -> Tensor | None:
    """The step's only tensor that the module is not given."""
    inputs = list(given.inputs().values())
    rest = [t for t in tensors_in(batch.args) if is_plain(t) and not any(_same(t, x) for x in inputs)]
    return rest[0] if len(rest) == 1 else None


def _same(a: Tensor, b: Tensor) -> bool:
    return is_plain(b) and a.numel() == b.numel() and torch.equal(a.reshape(-1), b.reshape(-1).to(a))
