"""Short trainings from one state of a model, each with something changed, and what two of them say.

A trial changes the model in place, trains it, and puts everything back, so that the next one begins where this one did:
with the same weights, the same random numbers and the same batches. Losses of two trials can therefore be compared
step by step.

Where there is only one batch, half of its examples train and the loss on the other half is what counts: one batch is
memorized fastest at rates and with weights at which training fails. (Measured: a head of standard deviation 1 on
64 features brings the loss of its 128 examples from 3.5 to 0.04 in 200 steps of Adam, a scaled-down one to 0.19; on
examples that were held out, the first comes down to 2.52, the second to 1.74.)
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import nn

from .._base import InputError, tell
from .._batch import Batch, Loss
from .._run import Replayed, in_place, loaders_kept, random_states
from ..remedies import Subject
from ..rules import Prescription
from .job import Job, Step, is_lightning
from .passes import Passes
from .rehearsal import Plan, Rehearsal

STEPS = 100  # of one trial
FRESH, HALF, ONE = "fresh batches", "half of the batch", "the one batch"
_HELD_OUT = 32  # examples at least that a batch has, before half of them judge what the other half trains
_HELD_EVERY = 4  # steps between two looks at the half that is held out
_FEW = 40  # batches: a training of fewer steps says too little
_NEIGHBOURS = 3  # losses on what was held out, whose mean is compared: one of few examples is noisy
_END = 4  # losses are compared over the last of so many equal parts of the steps
_LASTS = 0.5  # of a lead in the last quarter but one: one that shrinks more is made up for in the steps that follow
_LEAST = 0.005  # of the first loss: a smaller difference after so few steps says nothing about a training
_ERRORS = 2  # standard errors
_FAR = 9  # times the first loss, by which one that has diverged lies above it
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
    """How a model trained in a trial.

    losses   one before each step; the last one is NaN or infinite where the trial ended early
    on       "fresh batches", "the one batch", or "half of the batch"
    held     in that last case the loss on the other half, before every fourth step; else empty
    error    what the model raised, where that ended the trial
    examples of a step; None where that is not known. Of batches of different size the most
    """

    losses: tuple[float, ...]
    on: str
    held: tuple[float, ...] = ()
    error: str = ""
    examples: int | None = None

    @property
    def fresh(self) -> bool:
        return self.on == FRESH

    @property
    def finite(self) -> bool:
        return not self.error and all(map(math.isfinite, (*self.losses, *self.held)))

    @property
    def diverged(self) -> bool:
        """Whether it ends far above its first loss, or its losses did not stay finite."""
        return not self.finite or self.level > self.losses[0] + _FAR * abs(self.losses[0])

    @property
    def level(self) -> float:
        """Mean loss over the last quarter of the steps; NaN where the losses did not stay finite."""
        return float(_end(self.losses).mean()) if self.finite else math.nan

    @property
    def held_level(self) -> float:
        """The lowest loss on what was held out, as a mean over three."""
        return float(_smooth(self.held).min())

    @property
    def learns(self) -> bool:
        """Whether it gets better at what it is not trained on; where nothing was held out, at all."""
        return self.learns_below(math.inf)

    def learns_below(self, first: float) -> bool:
        """The same, measured from this loss where its own first one is higher: a change may raise the first loss, and
        what comes down from there to a guess has learnt nothing."""
        if not self.finite:
            return False
        begins, ends = (self.held[0], self.held_level) if self.held else (self.losses[0], self.level)
        begins = min(begins, first)
        return ends < begins - _FALLS * abs(begins)

    @property
    def doubt(self) -> str:
        """Why this is no training that works, "" if it may be one."""
        steps, first = len(self.losses), self.losses[0]
        if self.error:
            return f"a training of {steps} steps was tried and ended with an error: {self.error}"
        if not self.finite:
            return f"a training was tried, and its loss was not finite after {steps - 1} steps"
        rose = self.level > first + 2 * _error_of(_end(self.losses)) and self.level > first + _LEAST * abs(
            first
        )
        if rose:
            return f"a training of {steps} steps was tried, and its loss rose from {first:.4g} to {self.level:.4g}"
        return ""


@dataclass(frozen=True)
class Difference:
    """What one trial says beside another: "better", "worse" or "same", by the losses without and with a change, and the
    standard error of their difference. held: whether these are the losses on what was held out; first: the loss that
    they began with, the smaller of two; passing: whether it is "same" because the lead of one goes, see `_passes`."""

    outcome: str
    without: float
    with_it: float
    noise: float
    held: bool = False
    first: float = 0.0
    passing: bool = False


def compare(before: Course, after: Course) -> Difference:
    """Whether `after` is lower than `before`: by more than the noise of their difference, step by step, by more
    than half a per cent of the loss that they began with, and for longer than it takes the other to come down as far.
    Of two that end above where they began neither is better.

    Where a half of the batch was held out, the loss on it decides; the other half may be memorized, which large
    weights and large rates do fastest. Where it shows no difference, or neither has learnt anything (labels that
    nothing predicts), a change that lowers the loss of the training half is better still, and none is worse.
    """
    if before.diverged or after.diverged:  # the noise of an exploded loss hides any difference
        outcome = "same" if before.diverged == after.diverged else "worse" if after.diverged else "better"
        return Difference(outcome, before.level, after.level, 0.0)
    trained = _difference(before.losses, after.losses)
    if not before.held or not after.held:
        return trained
    gap = _smooth(after.held) - _smooth(before.held)
    noise, lows = _error_of(gap), (before.held_level, after.held_level)
    first = min(abs(before.held[0]), abs(after.held[0]))
    held = _outcome(lows[1] - lows[0], noise, first)
    if held == "worse" and not (before.learns_below(first) or after.learns_below(first)):
        held = "same"  # two guesses, on few examples
    if held == "same" and trained.outcome == "better":
        return trained
    return Difference(held, *lows, noise, held=True, first=first)


def _difference(before: tuple[float, ...], after: tuple[float, ...]) -> Difference:
    firsts, ends = (before[0], after[0]), (_end(before), _end(after))
    levels, noise = (float(ends[0].mean()), float(ends[1].mean())), _error_of(ends[1] - ends[0])
    first = min(map(abs, firsts))
    outcome = _outcome(levels[1] - levels[0], noise, first)
    if all(level > begin for level, begin in zip(levels, firsts)):
        outcome = "same"  # both get worse
    passing = outcome != "same" and _passes(before, after)
    return Difference("same" if passing else outcome, *levels, noise, first=first, passing=passing)


def _passes(before: tuple[float, ...], after: tuple[float, ...]) -> bool:
    """Whether the gap between two trainings more than halves from the last quarter but one to the last.

    A change that only lets a training begin earlier is far ahead after a hundred steps. (Measured on 222 pairs of
    trainings, advice_pays.py's networks with seeds 21 and 22: of 103 that were better after 100 steps nine were not
    after 200. In seven of these nine the gap had shrunk so, and in one of the other 94.)
    """
    part = max(1, len(before) // _END)
    if min(len(before), len(after)) < 2 * part:
        return False
    earlier, last = (
        float(np.mean(before[place]) - np.mean(after[place]))
        for place in (slice(-2 * part, -part), slice(-part, None))
    )
    return earlier * last > 0 and abs(last) < _LASTS * abs(earlier)


def _outcome(gap: float, noise: float, first: float) -> str:
    least = max(_ERRORS * noise, _LEAST * first)
    return "better" if gap < -least else "worse" if gap > least else "same"


def _end(losses: tuple[float, ...]) -> np.ndarray:
    return np.array(losses[-max(1, len(losses) // _END) :])


def _smooth(losses: tuple[float, ...]) -> np.ndarray:
    """Means over three neighbours."""
    values = np.array(losses)
    return (
        values
        if len(values) < _NEIGHBOURS
        else np.convolve(values, np.ones(_NEIGHBOURS) / _NEIGHBOURS, "valid")
    )


def _error_of(values: np.ndarray) -> float:
    """Standard error of a mean. From differences between neighbours, so that a trend is no noise."""
    if len(values) < 2:
        return 0.0
    return float(np.sqrt(np.square(np.diff(values)).mean() / 2 / len(values)))


def without_repeats(plan: Plan, steps: int) -> int:
    """So many steps, or as many as there are different batches: in a second round over few of them what is measured is
    how fast they are memorized. Where there are very few, that cannot be helped."""
    count = _batches(plan)
    return steps if count is None or count + 1 < _FEW else min(steps, count + 1)


def _batches(plan: Plan) -> int | None:
    """How many data give in one round, where that is known."""
    try:
        return len(plan.data)  # type: ignore[arg-type]
    except TypeError:
        return None


def both(first: Difference, second: Difference) -> Difference:
    """What two comparisons say together, the second of them on other examples: what was chosen among several looks
    better on the examples that it was chosen by than it is."""
    ends = (first.without, first.with_it, second.without, second.with_it)
    if not all(map(math.isfinite, ends)):
        order = ("worse", "same", "better")
        return min(first, second, key=lambda d: order.index(d.outcome))
    if first.held != second.held:  # losses of different examples have no mean
        against = {first.outcome, second.outcome} == {"better", "worse"}
        return replace(first, outcome="same") if against else first
    without, with_it = (first.without + second.without) / 2, (first.with_it + second.with_it) / 2
    noise, scale = math.hypot(first.noise, second.noise) / 2, (first.first + second.first) / 2
    outcome, passing = _outcome(with_it - without, noise, scale), first.passing or second.passing
    if passing or (outcome == "better" and second.outcome == "worse"):
        outcome = "same"
    return Difference(outcome, without, with_it, noise, first.held, scale, passing)


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
        self.plan = replace(plan, steps=without_repeats(plan, steps))
        self._known = list(model.parameters())  # held, so that no new one gets the number of an old one

    @property
    def optimizer_name(self) -> str:
        made = self.plan.optimizer
        if self.plan.given:
            return " and ".join(dict.fromkeys(type(one).__name__ for one in self.plan.given))
        return "Adam" if made is _adam else "SGD" if made is None else "the optimizer"

    @property
    def has_second(self) -> bool:
        """Whether a trial can be made on other examples: not with an iterator, which may end, nor one small batch."""
        if self.plan.data is not None:
            return not isinstance(self.plan.data, Replayed)
        return self.step is None and halves(Job.of(self.model, self.batch, self.loss, None))[1] is not None

    def run(self, change: Change | None = None, *, second: bool = False) -> Course:
        """second: on other examples, the batches that follow or the halves exchanged.

        Raises InputError where the change does not apply, and where there is no loss to train on."""
        plan, step = self.plan, self.step
        skip = self._skip() if second and plan.data is not None else 0
        given = plan.given
        extra = [*given[1:], *plan.schedules, *(one for one in (step, plan.clip) if callable(one))]
        with (
            loaders_kept(*([] if plan.data is None else [plan.data])),
            in_place(
                self.model, optimizer=next(iter(given), None), batch=self.batch, loss=self.loss, extra=extra
            ) as run,
        ):
            subject = Subject(self.model, self.batch, self.loss, optimizers=given)
            random = random_states.take()
            if change is not None:
                _apply(change, subject)
            random_states.put(random)
            job = Job.of(self.model, subject.batch, self.loss, step)
            rehearsal = Rehearsal(plan, self.model, run)
            _hold_new_parameters(self.model, {id(p) for p in self._known}, rehearsal)
            if change is not None:
                _tune(change.prescription, rehearsal)
            passes = Passes(self.model, job, run)
            passes.train()
            trains, judges = halves(job) if plan.data is None else (job.batch, None)
            if second and judges is not None:
                trains, judges = judges, trains
            on = FRESH if plan.data is not None else ONE if judges is None else HALF
            losses: list[float] = []
            held: list[float] = []
            examples: int | None = None
            with contextlib.closing(plan.batches(job, self.model)) as batches:
                try:
                    for number, batch in enumerate(islice(batches, skip, skip + plan.steps)):
                        tell(number, plan.steps, "training step")
                        if judges is not None and number % _HELD_EVERY == 0:
                            held.append(_loss(passes, judges, backward=False))
                        if plan.data is None:
                            batch = trains
                        elif (number or skip) and step is None:
                            batch = subject.as_input(batch)
                        examples = max(examples or 0, batch.examples or 0) or None
                        done = passes.run(batch)
                        if done.loss is None:
                            raise InputError("there is no loss to train on")
                        losses.append(float(done.loss.detach()))
                        if not math.isfinite(losses[-1]):
                            break
                        rehearsal.step(done, lambda batch=batch: passes.run(batch))
                except InputError as error:
                    if not losses:
                        raise
                    return Course(tuple(losses), on, tuple(held), str(error), examples)
            return Course(tuple(losses), on, tuple(held), "", examples)

    def _skip(self) -> int:
        """Batches before those of a second trial; where there are too few for other ones, at least another order."""
        count = _batches(self.plan) or 2 * self.plan.steps
        return self.plan.steps if count >= 2 * self.plan.steps else max(1, count // 2)


def _loss(passes: Passes, batch: Batch, *, backward: bool) -> float:
    with random_states.kept():
        done = passes.run(batch, backward=backward)
    if done.loss is None:
        raise InputError("there is no loss to train on")
    return float(done.loss.detach())


def halves(job: Job) -> tuple[Batch, Batch | None]:
    """Every second example, and the others; the whole and None where the batch is small or cannot be divided."""
    batch, examples = job.batch, job.batch.examples
    if job.step is not None or examples is None or examples < _HELD_OUT:
        return batch, None
    try:
        parts = batch.select(range(0, examples, 2)), batch.select(range(1, examples, 2))
    except InputError:  # a graph, whose examples are related to one another
        return batch, None
    wanted = (examples + 1) // 2, examples // 2
    divided = batch.target is None or all(
        getattr(part.target, "shape", (0,))[:1] == (count,) for part, count in zip(parts, wanted)
    )
    return parts if divided else (batch, None)


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


def _hold_new_parameters(model: nn.Module, known: set[int], rehearsal: Rehearsal) -> None:
    """What a remedy has added is trained too."""
    held = {id(p) for o in rehearsal.optimizers for group in o.param_groups for p in group["params"]}
    new = [p for p in model.parameters() if p.requires_grad and id(p) not in known and id(p) not in held]
    if new:
        rehearsal.hold(new)


def _tune(prescription: Prescription, rehearsal: Rehearsal) -> None:
    """Learning rates and other settings of the optimizer, and the rates that its schedule began with."""
    for optimizer in rehearsal.optimizers:
        for group in optimizer.param_groups:
            for key in ("lr", "initial_lr", "max_lr", "min_lr"):
                if key in group and prescription.rate != 1:
                    group[key] = group[key] * prescription.rate
            for key, value in prescription.options.items():
                if key not in group:
                    raise InputError(f"optimizer: {type(optimizer).__name__} has no {key}")
                group[key] = value
    for schedule in rehearsal.schedules:
        bases = getattr(schedule, "base_lrs", None)
        if bases is not None and prescription.rate != 1:
            schedule.base_lrs = [rate * prescription.rate for rate in bases]
