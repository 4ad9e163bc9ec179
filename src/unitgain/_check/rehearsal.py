"""Rehearsed optimizer steps: on which batches, with which optimizer, clipping and schedule."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .._base import InputError, one_line
from .._batch import Batch, Judged, describe_tensor
from .._run import OptimizerLike, Run, optimizer_for
from ..optim import unwrapped
from ..record import ClipFacts
from .job import Job, is_lightning

Schedule = Any  # a scheduler of torch's, or a function from an optimizer to one


@dataclass(frozen=True)
class Plan:
    """How many steps to rehearse, and how: as the caller said it. Raises InputError, naming the argument."""

    steps: int = 0
    optimizer: OptimizerLike | None = None
    data: Iterable[Any] | None = None
    clip: float | None = None
    schedule: Schedule | None = None
    prove: bool = False

    def __post_init__(self) -> None:
        steps, optimizer, data = self.steps, self.optimizer, self.data
        if not isinstance(steps, int) or isinstance(steps, bool) or steps < 0:
            raise InputError(f"steps: expected a whole number of at least 0, got {steps!r}")
        if isinstance(optimizer, Optimizer) or hasattr(optimizer, "optimizer"):
            optimizer = unwrapped(optimizer, "optimizer")
            object.__setattr__(self, "optimizer", optimizer)
        if optimizer is not None and not isinstance(optimizer, Optimizer) and not callable(optimizer):
            raise InputError(
                "optimizer: expected a torch optimizer or a function from parameters to one, got "
                f"{type(optimizer).__name__}"
            )
        if not steps and not self.prove:
            for name in ("data", "clip", "schedule"):
                if getattr(self, name) is not None:
                    raise InputError(f"{name}: it matters only when steps are rehearsed; add steps=20")
        if data is not None and (isinstance(data, (Tensor, Mapping, str)) or not hasattr(data, "__iter__")):
            raise InputError(
                f"data: a {type(data).__name__} gives no batches; give a DataLoader, or a list of batches like the one "
                "that is checked"
            )
        clip = self.clip
        if clip is not None and not (isinstance(clip, (int, float)) and 0 < clip < math.inf):
            raise InputError(f"clip: expected the largest norm of the gradients, above 0, got {clip!r}")
        schedule = self.schedule
        if schedule is not None and not callable(schedule) and not _is_scheduler(schedule):
            raise InputError(
                "schedule: expected a learning-rate scheduler or a function from an optimizer to one, got "
                f"{type(schedule).__name__}"
            )
        if schedule is not None and _is_scheduler(schedule) and schedule.optimizer is not optimizer:
            raise InputError(
                "schedule: it is for another optimizer; give optimizer= the one that it was made for, or schedule= a "
                "function from an optimizer to a scheduler"
            )

    def batches(self, job: Job, model: nn.Module) -> Generator[Batch, None, None]:
        """The batch that is checked, then those of data, on the model's device; without data always the same."""
        yield job.batch
        if self.data is None:
            while True:
                yield job.batch
        device = next((p.device for p in model.parameters()), None)
        for number, given in enumerate(_over_and_over(self.data), start=1):
            try:
                batch = job.read(given)
            except InputError as error:
                raise InputError(f"data: batch {number}: {error}") from error
            if _form(batch) != _form(job.batch) and job.step is None:
                raise InputError(
                    f"data: batch {number} is {_describe(batch)}, the batch that is checked {_describe(job.batch)}; "
                    "give batches of one form"
                )
            yield batch if device is None else batch.to(device)


class Rehearsal:
    """The optimizer's side of the steps, inside of a run, which puts everything back."""

    def __init__(self, plan: Plan, model: nn.Module, run: Run):
        self.plan, self.model = plan, model
        given, schedule = plan.optimizer, plan.schedule
        if given is None and is_lightning(model):
            given, schedule = _configured(model, schedule)
        self.optimizer = optimizer_for(model, given)
        run.keep(self.optimizer, "optimizer")  # a function may have given one that was there before
        self.schedule = _schedule_over(self.optimizer, schedule)
        self.needs_closure = _needs_closure(self.optimizer)
        if callable(
            getattr(self.optimizer, "train", None)
        ):  # schedule-free optimizers hold two sets of weights
            self.optimizer.train()  # type: ignore[attr-defined]
        self.clipped = 0  # steps

    def step(self, done: Judged, again: Callable[[], Judged]) -> None:
        """What follows backward in a training loop. again: makes the pass once more, for optimizers with a closure."""
        assert done.loss is not None
        try:
            if self.needs_closure:
                self._step_with_closure(done.loss, again)
            else:
                self._clip()
                self.optimizer.step()
        except InputError:
            raise
        except Exception as error:
            kind = type(self.optimizer).__name__
            raise InputError(
                f"optimizer: {kind} raised {type(error).__name__} in its step: {one_line(error)}"
            ) from error
        self.optimizer.zero_grad(set_to_none=True)
        if self.schedule is not None:
            self._advance(done.loss)

    def facts(self) -> ClipFacts:
        return ClipFacts() if self.plan.clip is None else ClipFacts(float(self.plan.clip), self.clipped)

    def _clip(self) -> None:
        if self.plan.clip is not None:
            norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.plan.clip)
            self.clipped += bool(norm > self.plan.clip)

    def _step_with_closure(self, loss: Tensor, again: Callable[[], Judged]) -> None:
        """The pass that has been made is what the closure's first call gives; of an optimizer that has moved the
        weights before it calls its closure (SAM), every call is a pass of its own."""
        waiting = [] if _moves_first(self.optimizer) else [loss]

        def closure() -> Tensor:
            if waiting:
                found = waiting.pop()
            else:
                self.optimizer.zero_grad(set_to_none=True)
                judged = again().loss
                assert judged is not None
                found = judged
            self._clip()
            return found.detach()

        self.optimizer.step(closure)  # type: ignore[arg-type]

    def _advance(self, loss: Tensor) -> None:
        if isinstance(self.schedule, torch.optim.lr_scheduler.ReduceLROnPlateau):
            self.schedule.step(float(loss.detach()))
        else:
            self.schedule.step()


def _is_scheduler(schedule: Any) -> bool:
    return not isinstance(schedule, type) and hasattr(schedule, "step") and hasattr(schedule, "optimizer")


def _schedule_over(optimizer: Optimizer, schedule: Schedule | None) -> Any:
    if schedule is None or _is_scheduler(schedule):
        return schedule
    made = schedule(optimizer)
    if not _is_scheduler(made):
        raise InputError(f"schedule: the function gave {type(made).__name__}, not a learning-rate scheduler")
    return made


def _needs_closure(optimizer: Optimizer) -> bool:
    """Whether its step must be given a function that computes the loss, as LBFGS's."""
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    return closure is not None and (closure.default is inspect.Parameter.empty or _moves_first(optimizer))


def _moves_first(optimizer: Optimizer) -> bool:
    """Whether it climbs before it descends, as sharpness-aware minimization does, from gradients that are there."""
    return callable(getattr(optimizer, "first_step", None))


def _configured(model: Any, schedule: Schedule | None) -> tuple[OptimizerLike, Schedule | None]:
    """What a LightningModule's configure_optimizers gives: its one optimizer, and a schedule if it moves at every
    step."""
    try:
        found = model.configure_optimizers()
    except Exception as error:
        text = one_line(error)
        raise InputError(
            f"model: its configure_optimizers raised {type(error).__name__}: {text}; give optimizer="
        ) from error
    pair = isinstance(found, (tuple, list)) and len(found) == 2 and isinstance(found[0], (tuple, list))
    optimizers, schedulers = found if pair else (found, None)
    if isinstance(found, Mapping):
        optimizers, schedulers = found.get("optimizer"), found.get("lr_scheduler")
    one, scheduler = (
        (value[0] if len(value) == 1 else None) if isinstance(value, (tuple, list)) else value
        for value in (optimizers, schedulers)
    )
    if not isinstance(one, Optimizer):
        raise InputError("model: its configure_optimizers gives no single optimizer; give optimizer=")
    every_step = isinstance(scheduler, Mapping) and scheduler.get("interval") == "step"
    if schedule is None and every_step:
        schedule = scheduler["scheduler"]  # type: ignore[index]
    return (lambda _: one), schedule


def _over_and_over(data: Iterable[Any]) -> Iterator[Any]:
    while True:
        batch = None
        for batch in data:
            yield batch
        if batch is None:
            raise InputError("data: it gave no batch; is it empty?")
        if hasattr(data, "__next__"):
            raise InputError(
                f"data: this {type(data).__name__} ended before all steps were rehearsed; give something that starts "
                "anew, like a DataLoader, or fewer steps"
            )


def _form(batch: Batch) -> tuple[Any, ...]:
    return len(batch.args), tuple(sorted(batch.kwargs)), batch.target is not None


def _describe(batch: Batch) -> str:
    target = batch.target
    if target is None or batch.passed is not None:
        return batch.describe()
    what = describe_tensor(target) if isinstance(target, Tensor) else f"a {type(target).__name__}"
    return f"{batch.describe()} with target {what}"
