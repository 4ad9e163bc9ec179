"""What a check is to run: the model on a batch with a loss, or a step of the caller's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from .._base import InputError
from .._batch import Batch, Loss, Objective, Reader, check_devices

Step = Callable[[nn.Module, Any], Any]


@dataclass(frozen=True)
class Job:
    """Of `step` the batch's only argument is the batch in the caller's own form."""

    batch: Batch
    objective: Objective
    step: Step | None
    reader: Reader

    @classmethod
    def of(cls, model: nn.Module, batch: Any, loss: str | Loss | None, step: Step | None) -> Job:
        """Raises InputError, naming the argument, for what does not fit."""
        objective = Objective(loss)
        if step is not None and not callable(step):
            raise InputError(
                f"step: expected a function (model, batch) -> loss, got {type(step).__name__}; steps= is how many"
            )
        if step is not None and loss != "auto":
            raise InputError("loss: step= returns the loss itself; leave one of the two out")
        if step is None and loss == "auto" and not isinstance(batch, Batch):
            step = training_step_of(model)
        reader = Reader(model, objective.pass_target)
        if step is not None:
            return cls(Batch(args=(batch,)), objective, step, reader)
        job = cls(reader(batch), objective, None, reader)
        check_devices(job.batch, model)
        return job

    def read(self, batch: Any) -> Batch:
        """A further batch, as the first one was read."""
        return Batch(args=(batch,)) if self.step is not None else self.reader(batch)

    @property
    def step_name(self) -> str:
        return getattr(self.step, "__name__", "step")


def is_lightning(model: nn.Module) -> bool:
    """Whether it trains as a LightningModule does: found by its methods, so that no such library is needed."""
    return all(callable(getattr(model, name, None)) for name in ("training_step", "configure_optimizers"))


def training_step_of(model: nn.Module) -> Step | None:
    """The step of a LightningModule, None of other models. Raises InputError where it optimizes by itself."""
    if not is_lightning(model):
        return None
    if getattr(model, "automatic_optimization", True) is False:
        raise InputError(
            "model: its training_step optimizes by itself (automatic_optimization=False); give step=, a function "
            "(model, batch) -> loss"
        )

    def training_step(model: nn.Module, batch: Any) -> Any:
        function: Any = model.training_step
        taken = inspect.signature(function).parameters.values()
        numbers = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in taken) - 1
        return function(batch, *[0] * max(0, numbers))  # batch_idx, and dataloader_idx

    return training_step
