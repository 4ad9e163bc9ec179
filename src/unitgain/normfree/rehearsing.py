"""A short training of what a conversion was given and of what it gave, beside the network stripped of its norms.

Every arm starts from its own weights with the same random numbers and sees the same batches, and is put back
afterwards. A network without BatchNorm wants another learning rate than one with it, so each arm is trained at three
and counts at the best. "stripped" has its norms taken away with nothing in exchange; it and the converted network are
trained with adaptive gradient clipping, the original without, as AGC hurts some networks that have BatchNorm. Its
factor and the rates tried with it are those of clipping.py for as many examples as a step here has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .._base import InputError
from .._batch import Loss
from .._check import Change, Course, Plan, Trials, compare
from .._run import Replayed
from ..optim import AGC
from ..remedies import Subject
from ..rules import Prescription
from .clipping import EXAMPLES, clipping_for, rates_for
from .edits import Edit, apply, paths_of
from .folding import parts_of
from .reading import is_converted

FACTORS = (0.2, 1.0, 5.0)  # of the optimizer's learning rate, each tried
HELD_EVERY = 4  # steps between two looks at the half that is held out

MakesOptimizer = Callable[[Iterable[Tensor]], torch.optim.Optimizer]


@dataclass(frozen=True)
class Arm:
    """How one network trained.

    name    original, stripped or converted
    rate    the learning rate of those tried that ended lowest
    level   its loss at the end: the mean over the last quarter of the steps; with a held-out half the lowest there
    losses  before each step; held: on the held-out half, before every fourth step
    tried   (rate, level) of each rate; NaN where it diverged
    agc     whether with adaptive gradient clipping
    error   what the network raised, where that ended it
    """

    name: str
    rate: float = math.nan
    level: float = math.nan
    losses: tuple[float, ...] = ()
    held: tuple[float, ...] = ()
    tried: tuple[tuple[float, float], ...] = ()
    agc: bool = False
    error: str = ""
    course: Course | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class ShortTraining:
    """Arms trained side by side. on: "fresh batches", "half of the batch" or "the one batch"; optimizer: its class;
    clipping: the factor of adaptive gradient clipping, in all arms but the original; see `clipping_for`."""

    steps: int
    on: str
    optimizer: str
    arms: tuple[Arm, ...]
    clipping: float

    def __getitem__(self, name: str) -> Arm:
        return next(arm for arm in self.arms if arm.name == name)

    @property
    def outcome(self) -> str:
        """ "better", "worse" or "same": the converted network beside the original, by more than the losses' noise."""
        return _beside(self["original"], self["converted"])

    @property
    def conditions(self) -> str:
        return (
            f"{self.steps} steps of {self.optimizer} on {self.on}, one seed, each at the best of {len(FACTORS)} rates; "
            f"all but the original with adaptive gradient clipping ({self.clipping:.2g})"
        )

    def summary(self) -> list[str]:
        """Sentences that judge it."""
        words = {"better": "trains better than", "worse": "trains worse than", "same": "trains as well as"}
        converted, found = self["converted"], []
        if converted.course is None:
            return [f"the converted network cannot be trained: {converted.error}"]
        for name in ("original", "stripped"):
            other = self[name]
            if other.course is None:
                found.append(f"the {name} network cannot be trained: {other.error}")
                continue
            outcome = words[_beside(other, converted)]
            found.append(
                f"the converted network {outcome} the {name} one: loss {_loss(converted)} against {_loss(other)}"
            )
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain data; what is not finite stays so."""
        return {
            "steps": self.steps, "on": self.on, "optimizer": self.optimizer, "clipping": self.clipping,
            "outcome": self.outcome,
            "conditions": self.conditions, "summary": self.summary(), "held_every": HELD_EVERY,
            "arms": [
                {
                    "name": a.name, "rate": a.rate, "level": a.level, "losses": list(a.losses), "held": list(a.held),
                    "tried": [list(pair) for pair in a.tried], "agc": a.agc, "error": a.error,
                }
                for a in self.arms
            ],
        }  # fmt: skip


class Rehearsals:
    """Trains the arms of one conversion; each leaves everything as it was. Raises InputError for what does not fit."""

    def __init__(
        self,
        mode: str,
        model: nn.Module,
        batch: Any,
        steps: int,
        loss: str | Loss | None,
        data: Any,
        optimizer: MakesOptimizer | None,
    ):
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 4:
            raise InputError(
                f"convert: steps is {steps!r}; expected 0, or at least 4 steps of a short training"
            )
        if isinstance(optimizer, torch.optim.Optimizer) or (
            optimizer is not None and not callable(optimizer)
        ):
            raise InputError(
                f"convert: optimizer is a {type(optimizer).__name__}; expected a function from parameters to an "
                "optimizer, as each arm has parameters of its own: lambda p: torch.optim.AdamW(p, lr=1e-3)"
            )
        self._batch, self._steps, self._loss = batch, steps, loss
        self._from_scratch = mode == "train"
        self._exclude: Any = () if self._from_scratch else "auto"  # such rates need the head clipped too
        self._examples = EXAMPLES  # of a step; the original's arm says how many
        self._data = Replayed(data) if hasattr(data, "__next__") else data
        self._make: MakesOptimizer = optimizer or _sgd
        self._seen = self._make([p for p in model.parameters() if p.requires_grad])

    def original(self, model: nn.Module) -> Arm:
        """To be trained first."""
        arm = self._arm("original", model, None)
        if arm.course is not None and arm.course.examples is not None:
            self._examples = arm.course.examples
        return arm

    def stripped(self, model: nn.Module, norms: Collection[str]) -> Arm:
        return self._arm("stripped", model, lambda subject: _strip(subject.model, norms))

    def converted(self, model: nn.Module) -> Arm:
        return self._arm("converted", model, None)

    def result(self, arms: Iterable[Arm]) -> ShortTraining:
        made = tuple(arms)
        steps = max((len(arm.losses) for arm in made), default=0)
        on = next((arm.course.on for arm in made if arm.course is not None), "")
        return ShortTraining(steps, on, type(self._seen).__name__, made, self._clipping)

    @property
    def _clipping(self) -> float:
        return clipping_for(self._examples)

    def _factors(self, agc: bool) -> tuple[float, ...]:
        """Of the learning rate."""
        return rates_for(self._examples) if agc and self._from_scratch else FACTORS

    def _arm(self, name: str, model: nn.Module, change: Callable[[Subject], None] | None) -> Arm:
        agc, rate = name != "original", float(self._seen.param_groups[0]["lr"])

        def make(parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
            made = self._make(parameters)
            if agc:
                AGC(made, model, clipping=self._clipping, exclude=self._exclude)
            return made

        plan = Plan(steps=self._steps, optimizer=make, data=self._data)
        trials = Trials(model, self._batch, self._loss, None, plan, self._steps)
        courses: dict[float, Course] = {}
        for factor in self._factors(agc):
            tuned = Change(name, change, Prescription(rate=factor))
            try:
                courses[factor * rate] = trials.run(tuned)
            except InputError as error:
                if name == "original":
                    raise
                return Arm(name, agc=agc, error=str(error))
        levels = {r: _level(course) for r, course in courses.items()}
        best = min(levels, key=lambda r: levels[r] if math.isfinite(levels[r]) else math.inf)
        chosen = courses[best]
        return Arm(
            name, best, levels[best], chosen.losses, chosen.held, tuple(levels.items()), agc, chosen.error, chosen
        )  # fmt: skip


def _sgd(parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True)


def _strip(model: nn.Module, norms: Collection[str]) -> None:
    for norm in [m for m in model.modules() if is_converted(m, norms)]:
        apply(model, Edit("identity", paths_of(model, norm), parts=parts_of(norm)))
    for (
        module
    ) in model.modules():  # an activation in place would now overwrite what the norm made a new tensor of
        if getattr(module, "inplace", False) is True:
            module.inplace = False  # type: ignore[assignment]


def _level(course: Course) -> float:
    if course.diverged:
        return math.nan
    return course.held_level if course.held else course.level


def _beside(other: Arm, converted: Arm) -> str:
    if other.course is None or converted.course is None:
        return "same" if other.course is converted.course else "worse" if other.course else "better"
    return compare(other.course, converted.course).outcome


def _loss(arm: Arm) -> str:
    return f"{arm.level:.3g} at rate {arm.rate:.3g}" if math.isfinite(arm.level) else "that diverges"
