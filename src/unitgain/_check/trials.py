"""Short trainings from one state of a model, each with something changed, and what two of them say.

A trial changes the model in place, trains it, and puts everything back, so that the next one begins where this one did:
with the same weights, the same random numbers and the same batches. Losses of two trials can therefore be compared
batch by batch.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import nn

from .._base import InputError
from .._batch import Loss
from .._run import in_place, loaders_kept, random_states
from ..remedies import Subject
from ..rules import Prescription
from .job import Job, Step, is_lightning
from .passes import Passes
from .rehearsal import Plan, Rehearsal

STEPS = 100
_END = 4  # losses are compared over the last of so many equal parts of the steps
_LEAST = 0.005  # of the first loss: a smaller difference after so few steps says nothing about a training
_ERRORS = 2  # standard errors
_FALLS = 0.05  # of the first loss: a training that works brings it down by that much at least


@dataclass(frozen=True)
class Change:
    """Something that is different in a trial.

    words         what, for people
    apply         changes the subject before the training begins; raises InputError where it cannot
    prescription  numbers for the optimizer and for parameters
    """

    words: str
    apply: Callable[[Subject], object] | None = None
    prescription: Prescription = Prescription()  # noqa: RUF009 (it is frozen)


@dataclass(frozen=True)
class Course:
    """The losses of a trial, one before each step; the last one is NaN or infinite where the trial ended early.

    fresh  whether its batches differed
    error  what the model raised, where that ended the trial
    """

    losses: tuple[float, ...]
    fresh: bool
    error: str = ""

    @property
    def finite(self) -> bool:
        return not self.error and all(map(math.isfinite, self.losses))

    @property
    def end(self) -> np.ndarray:
        """The losses of the last quarter."""
        return np.array(self.losses[-max(1, len(self.losses) // _END) :])

    @property
    def level(self) -> float:
        """Mean loss over the last quarter; NaN where the losses did not stay finite."""
        return float(self.end.mean()) if self.finite else math.nan

    @property
    def falls(self) -> bool:
        first = self.losses[0]
        return self.finite and self.level < first - _FALLS * abs(first)

    @property
    def doubt(self) -> str:
        """Why this is no training that works, "" if it may be one."""
        steps, first = len(self.losses), self.losses[0]
        if self.error:
            return f"a training of {steps} steps was tried and ended with an error: {self.error}"
        if not self.finite:
            return f"a training was tried, and its loss was not finite after {steps - 1} steps"
        if self.level > first + 2 * _error_of(self.end) and self.level > 1.02 * first:
            return f"a training of {steps} steps was tried, and its loss rose from {first:.4g} to {self.level:.4g}"
        return ""


@dataclass(frozen=True)
class Difference:
    """What one trial says beside another: "better", "worse" or "same", and the standard error of the difference."""

    outcome: str
    noise: float


def compare(before: Course, after: Course) -> Difference:
    """Whether `after` ends lower than `before`: by more than the noise of their difference, batch by batch, and by
    more than half a per cent of the loss that they began with."""
    if not before.finite or not after.finite:
        outcome = "same" if before.finite == after.finite else "better" if after.finite else "worse"
        return Difference(outcome, 0.0)
    gap = after.end - before.end
    noise = _error_of(gap)
    least = max(_ERRORS * noise, _LEAST * min(abs(before.losses[0]), abs(after.losses[0])))
    mean = float(gap.mean())
    return Difference("better" if mean < -least else "worse" if mean > least else "same", noise)


def _error_of(values: np.ndarray) -> float:
    """Standard error of a mean. From differences between neighbours, so that a trend is no noise."""
    if len(values) < 2:
        return 0.0
    return float(np.sqrt(np.square(np.diff(values)).mean() / 2 / len(values)))


class Trials:
    """Trains a model for some steps and takes them back, as often as asked.

    plan   optimizer, data, clipping and schedule. Without an optimizer: the rehearsal's (SGD with learning rate 0.01)
           where steps are rehearsed, else Adam with learning rate 0.001, which depends least on the gradient's scale
    """

    def __init__(
        self, model: nn.Module, batch: Any, loss: str | Loss | None, step: Step | None, plan: Plan, steps: int
    ):
        self.model, self.batch, self.loss, self.step = model, batch, loss, step
        if plan.optimizer is None and not plan.steps and not is_lightning(model):
            plan = replace(plan, optimizer=_adam, prove=True)
        self.plan = replace(plan, steps=steps)

    @property
    def optimizer_name(self) -> str:
        made = self.plan.optimizer
        if isinstance(made, torch.optim.Optimizer):
            return type(made).__name__
        return "Adam" if made is _adam else "SGD" if made is None else "the optimizer"

    def run(self, change: Change | None = None) -> Course:
        """Raises InputError where the change does not apply, and where there is no loss to train on."""
        plan, step = self.plan, self.step
        given = plan.optimizer if isinstance(plan.optimizer, torch.optim.Optimizer) else None
        extra = [one for one in (step, plan.schedule) if one is not None]
        with (
            loaders_kept(*([] if plan.data is None else [plan.data])),
            in_place(self.model, optimizer=given, batch=self.batch, loss=self.loss, extra=extra) as run,
        ):
            known = {id(p) for p in self.model.parameters()}
            subject = Subject(self.model, self.batch, self.loss)
            random = random_states.take()
            if change is not None:
                _apply(change, subject)
            random_states.put(random)
            job = Job.of(self.model, subject.batch, self.loss, step)
            rehearsal = Rehearsal(plan, self.model, run)
            _hold_new_parameters(self.model, known, rehearsal.optimizer)
            if change is not None:
                _tune(change.prescription, rehearsal)
            passes = Passes(self.model, job, run)
            passes.train()
            losses: list[float] = []
            with contextlib.closing(plan.batches(job, self.model)) as batches:
                try:
                    for loss in self._losses(passes, rehearsal, subject, batches):
                        losses.append(loss)
                        if not math.isfinite(loss):
                            break
                except InputError as error:
                    if not losses:
                        raise
                    return Course(tuple(losses), plan.data is not None, str(error))
            return Course(tuple(losses), plan.data is not None)

    def _losses(
        self, passes: Passes, rehearsal: Rehearsal, subject: Subject, batches: Iterator[Any]
    ) -> Iterator[float]:
        for number, batch in enumerate(islice(batches, self.plan.steps)):
            fresh = batch if number == 0 or self.step is not None else subject.as_input(batch)
            fresh = passes.job.batch if self.plan.data is None else fresh
            done = passes.run(fresh)
            if done.loss is None:
                raise InputError("there is no loss to train on")
            yield float(done.loss.detach())
            rehearsal.step(done, lambda fresh=fresh: passes.run(fresh))


def _adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=1e-3)


def _apply(change: Change, subject: Subject) -> None:
    if change.apply is not None:
        change.apply(subject)
    named = dict(subject.model.named_parameters())
    with torch.no_grad():
        for name, factor in change.prescription.scale.items():
            _parameter(named, name).mul_(factor)
        for name, amount in change.prescription.shift.items():
            _parameter(named, name).add_(amount)


def _parameter(named: dict[str, nn.Parameter], name: str) -> nn.Parameter:
    if name not in named:
        raise InputError(f"model: it has no parameter {name}")
    return named[name]


def _hold_new_parameters(model: nn.Module, known: set[int], optimizer: torch.optim.Optimizer) -> None:
    """What a remedy has added is trained too."""
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    new = [p for p in model.parameters() if p.requires_grad and id(p) not in known and id(p) not in held]
    if new:
        optimizer.add_param_group({"params": new})


def _tune(prescription: Prescription, rehearsal: Rehearsal) -> None:
    """Learning rates and other settings of the optimizer, and the rates that its schedule began with."""
    for group in rehearsal.optimizer.param_groups:
        for key in ("lr", "initial_lr", "max_lr", "min_lr"):
            if key in group and prescription.rate != 1:
                group[key] = group[key] * prescription.rate
        for key, value in prescription.options.items():
            if key not in group:
                raise InputError(f"optimizer: {type(rehearsal.optimizer).__name__} has no {key}")
            group[key] = value
    bases = getattr(rehearsal.schedule, "base_lrs", None)
    if bases is not None and prescription.rate != 1:
        rehearsal.schedule.base_lrs = [rate * prescription.rate for rate in bases]
