"""Rehearsed optimizer steps: on which batches, with which optimizers, clipping and schedules."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .._base import InputError, one_line
from .._batch import Batch, Judged, describe_tensor
from .._run import OptimizerLike, Run, optimizers_for
from ..optim import unwrapped
from ..record import ClipFacts
from .job import Job, is_lightning

Schedule = Any  # a scheduler of torch's, a function from an optimizer to one, or a list of either
Clip = float | Callable[[list[nn.Parameter]], object]
_SHRUNK = 1 - 1e-6  # of the gradients' norm: a function that leaves less has clipped


@dataclass(frozen=True)
class Plan:
    """How many steps to rehearse, and how: as the caller said it. Raises InputError, naming the argument."""

    steps: int = 0
    optimizer: OptimizerLike | None = None
    data: Iterable[Any] | None = None
    clip: Clip | None = None
    schedule: Schedule | None = None
    prove: bool = False

    @property
    def given(self) -> tuple[Optimizer, ...]:
        """The optimizers that are there already, and not made for the rehearsal."""
        optimizer = self.optimizer
        if isinstance(optimizer, Optimizer):
            return (optimizer,)
        return optimizer if isinstance(optimizer, tuple) else ()

    @property
    def schedules(self) -> tuple[Any, ...]:
        """As given: schedulers, or functions to them."""
        if self.schedule is None:
            return ()
        return tuple(self.schedule) if isinstance(self.schedule, (list, tuple)) else (self.schedule,)

    def __post_init__(self) -> None:
        steps, data, clip = self.steps, self.data, self.clip
        if not isinstance(steps, int) or isinstance(steps, bool) or steps < 0:
            raise InputError(f"steps: expected a whole number of at least 0, got {steps!r}")
        object.__setattr__(self, "optimizer", _checked(self.optimizer))
        if not steps and not self.prove:
            for name in ("data", "clip", "schedule"):
                if getattr(self, name) is not None:
                    raise InputError(f"{name}: it matters only when steps are rehearsed; add steps=20")
        if data is not None and (isinstance(data, (Tensor, Mapping, str)) or not hasattr(data, "__iter__")):
            raise InputError(
                f"data: {type(data).__name__} gives no batches; give a DataLoader, or a list of batches like the one "
                "that is checked"
            )
        if not (clip is None or callable(clip) or (isinstance(clip, (int, float)) and 0 < clip < math.inf)):
            raise InputError(
                "clip: expected the largest norm of the gradients, above 0, or a function of the parameters that clips "
                f"their gradients, got {clip!r}"
            )
        for schedule in self.schedules:
            if not callable(schedule) and not _is_scheduler(schedule):
                raise InputError(
                    "schedule: expected a learning-rate scheduler or a function from an optimizer to one, got "
                    f"{type(schedule).__name__}"
                )
            if _is_scheduler(schedule) and not any(schedule.optimizer is one for one in self.given):
                raise InputError(
                    "schedule: it is for another optimizer; give optimizer= the one that it was made for, or schedule= "
                    "a function from an optimizer to a scheduler"
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
    """The optimizers' side of the steps, inside of a run, which puts everything back."""

    def __init__(self, plan: Plan, model: nn.Module, run: Run):
        self.plan, self.model = plan, model
        given, schedules = plan.optimizer, plan.schedules
        if given is None and is_lightning(model):
            given, schedules = _configured(model, schedules)
        self.optimizers = optimizers_for(model, given)
        for optimizer in self.optimizers:
            run.keep(optimizer, "optimizer")  # a function may have given one that was there before
        self.schedules = [s for given in schedules for s in _schedules_over(self.optimizers, given)]
        self._needs_closure = {id(o) for o in self.optimizers if _needs_closure(o)}
        for optimizer in self.optimizers:
            if callable(train := getattr(optimizer, "train", None)):
                train()  # schedule-free optimizers hold two sets of weights
        self.clipped = 0  # steps
        self._clips = False  # in this step

    def step(self, done: Judged, again: Callable[[], Judged]) -> None:
        """What follows backward in a training loop. again: makes the pass once more, for optimizers with a closure."""
        assert done.loss is not None
        if not all(id(o) in self._needs_closure for o in self.optimizers):
            self._clip()  # where there is a closure it clips
        for number, optimizer in enumerate(self.optimizers):
            try:
                self._step_of(optimizer, done.loss, again, first=number == 0)
            except InputError:
                raise
            except Exception as error:
                kind = type(optimizer).__name__
                raise InputError(
                    f"optimizer: {kind} raised {type(error).__name__} in its step: {one_line(error)}"
                ) from error
        self._zero_grad()
        self.clipped += self._clips
        self._clips = False
        for schedule in self.schedules:
            on_plateau = isinstance(schedule, torch.optim.lr_scheduler.ReduceLROnPlateau)
            schedule.step(float(done.loss.detach())) if on_plateau else schedule.step()

    def facts(self) -> ClipFacts:
        clip = self.plan.clip
        if clip is None:
            return ClipFacts()
        return ClipFacts(clipped=self.clipped) if callable(clip) else ClipFacts(float(clip), self.clipped)

    def hold(self, parameters: list[nn.Parameter]) -> None:
        """Trains these too."""
        self.optimizers[0].add_param_group({"params": parameters})

    def _step_of(
        self, optimizer: Optimizer, loss: Tensor, again: Callable[[], Judged], *, first: bool
    ) -> None:
        if id(optimizer) not in self._needs_closure:
            try:
                optimizer.step()
                return
            except Exception as error:  # a closure that has a default and is asked for all the same
                if "closure" not in str(error).lower():
                    raise
                self._needs_closure.add(id(optimizer))
        self._step_with_closure(optimizer, loss if first else None, again)

    def _clip(self) -> None:
        clip = self.plan.clip
        if clip is None:
            return
        parameters = list(self.model.parameters())
        if not callable(clip):
            self._clips |= bool(nn.utils.clip_grad_norm_(parameters, clip) > clip)
            return
        before = _norm(parameters)
        try:
            clip(parameters)
        except Exception as error:
            raise InputError(
                f"clip: the function raised {type(error).__name__}: {one_line(error)}"
            ) from error
        self._clips |= _norm(parameters) < _SHRUNK * before

    def _step_with_closure(
        self, optimizer: Optimizer, loss: Tensor | None, again: Callable[[], Judged]
    ) -> None:
        """The pass that has been made is what the closure's first call gives; of an optimizer that has moved the
        weights before it calls its closure (SAM), and of a second one, every call is a pass of its own."""
        waiting = [] if loss is None or _moves_first(optimizer) else [loss]
        if not waiting and loss is not None:
            self._clip()  # the gradients that it climbs along

        def closure() -> Tensor:
            if waiting:
                found = waiting.pop()
            else:
                self._zero_grad()
                judged = again().loss
                assert judged is not None
                found = judged
            self._clip()
            return found.detach()

        optimizer.step(closure)  # type: ignore[arg-type]

    def _zero_grad(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)


def _checked(optimizer: Any) -> OptimizerLike | None:
    """Optimizers without what wraps them, several as a tuple."""
    if isinstance(optimizer, (list, tuple)):
        if not optimizer:
            raise InputError("optimizer: the list is empty")
        several = tuple(unwrapped(one, "optimizer") for one in optimizer)
        return tuple({id(one): one for one in several}.values())
    if isinstance(optimizer, Optimizer) or hasattr(optimizer, "optimizer"):
        return unwrapped(optimizer, "optimizer")
    if optimizer is None or callable(optimizer):
        return optimizer  # type: ignore[return-value]
    raise InputError(
        "optimizer: expected a torch optimizer, several, or a function from parameters to one, got "
        f"{type(optimizer).__name__}"
    )


def _is_scheduler(schedule: Any) -> bool:
    return not isinstance(schedule, type) and hasattr(schedule, "step") and hasattr(schedule, "optimizer")


def _schedules_over(optimizers: Sequence[Optimizer], schedule: Schedule) -> list[Any]:
    if _is_scheduler(schedule):
        return [schedule]
    found = [schedule(optimizer) for optimizer in optimizers]
    for made in found:
        if not _is_scheduler(made):
            raise InputError(
                f"schedule: the function gave {type(made).__name__}, not a learning-rate scheduler"
            )
    return found


def _needs_closure(optimizer: Optimizer) -> bool:
    """Whether its step must be given a function that computes the loss, as LBFGS's."""
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    return closure is not None and (closure.default is inspect.Parameter.empty or _moves_first(optimizer))


def _moves_first(optimizer: Optimizer) -> bool:
    """Whether it climbs before it descends, as sharpness-aware minimization does, from gradients that are there."""
    return callable(getattr(optimizer, "first_step", None))


def _norm(parameters: Iterable[nn.Parameter]) -> float:
    gradients = (p.grad.detach() for p in parameters if p.grad is not None)
    values = (g.coalesce().values() if g.is_sparse else g for g in gradients)
    return math.sqrt(sum(float(v.double().square().sum()) for v in values))


def _configured(model: Any, schedules: tuple[Any, ...]) -> tuple[OptimizerLike, tuple[Any, ...]]:
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
    if not schedules and every_step:
        schedules = (scheduler["scheduler"],)  # type: ignore[index]
    return (lambda _: one), schedules


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
