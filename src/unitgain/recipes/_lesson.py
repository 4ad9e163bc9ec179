"""What the lessons have in common: networks that are trained once each, and chapters that set two side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from torch import nn

from .._base import InputError, say
from .._check import whatif
from ..report import Chapter, Lesson, Setting, WhatIf
from ..targets import Source


@dataclass(frozen=True)
class LessonOptions:
    """The options of a lesson.

    data    a file or folder of one's own; "" takes the lecturers' data
    seeds   trainings of each network
    steps   of each training; None: the lesson's own
    short   a few steps of everything, to see that it runs
    """

    data: str = ""
    seeds: int = 3
    steps: int | None = None
    short: bool = False


class RunLesson(Protocol):
    """Runs a lesson; `say` prints each chapter when it is done."""

    def __call__(self, options: LessonOptions, say: Callable[[str], None] = say, /) -> Lesson: ...


@dataclass(frozen=True)
class Network:
    """One network of a lesson.

    make    (its examples) -> the model
    lr      learning rate of SGD
    source  which examples: a key of the lesson's sources
    """

    make: Callable[[Source], nn.Module]
    lr: float
    source: str = ""


@dataclass(frozen=True)
class Plan:
    """A chapter that has not been run: see report.Chapter. before, after: names of networks."""

    title: str
    before: str
    after: str
    symptom: Callable[[Setting], str]
    look: str
    cure: str
    rows: tuple[str, ...]
    codes: tuple[str, ...] = ()


class Trainings:
    """Trains each network of a lesson once, when a chapter needs it."""

    def __init__(
        self, networks: Mapping[str, Network], sources: Mapping[str, Source], steps: int, seeds: int
    ):
        self.networks, self.sources, self.steps, self.seeds = networks, sources, steps, seeds
        self._done: dict[str, WhatIf] = {}

    def of(self, name: str) -> WhatIf:
        """The network in the only setting that it has."""
        if name not in self._done:
            network = self.networks[name]
            source = self.sources[network.source]
            model = network.make(source)
            self._done[name] = whatif(
                model, source.batch, vary={"lr": [network.lr]}, data=source, valid=source.valid, optimizer="sgd",
                steps=self.steps, seeds=self.seeds,
            )  # fmt: skip
        return self._done[name]

    def pair(self, before: str, after: str) -> WhatIf:
        """Two networks as the settings of one what-if."""
        both = [(name, self.of(name)) for name in (before, after)]
        settings = tuple(replace(found.settings[0], values={"": name}) for name, found in both)
        return replace(both[0][1], vary={"network": (before, after)}, settings=settings, optimizer="SGD")


def run(
    title: str, about: str, plans: Sequence[Plan], trainings: Trainings, say: Callable[[str], None]
) -> Lesson:
    """Every chapter in its order, told when it is done. Ctrl-C after the first one leaves out the rest."""
    began, chapters = time.perf_counter(), []
    for number, plan in enumerate(plans, start=1):
        try:
            result = trainings.pair(plan.before, plan.after)
        except KeyboardInterrupt:
            if not chapters:
                raise
            break
        symptom = plan.symptom(result.settings[0])
        chapter = Chapter(plan.title, symptom, plan.look, plan.cure, result, plan.rows, plan.codes)
        chapters.append(chapter)
        say(f"\n{number}. {chapter.title}")
        for label, text in told(chapter):
            say(f"   {label:8} {text}")
    left_out = len(plans) - len(chapters)
    return Lesson(title, about, tuple(chapters), time.perf_counter() - began, left_out=left_out)


def told(chapter: Chapter) -> list[tuple[str, str]]:
    """(symptom, picture, finding, cure or gained; a sentence) of a chapter, for a terminal."""
    found = [f"{f.code} {f.message}" for f in chapter.findings[:2]] or ["none: no rule is about this"]
    return [
        ("symptom", chapter.symptom),
        ("picture", chapter.look),
        *(("finding", line) for line in found),
        ("cure", chapter.cure),
        ("gained", chapter.gained),
    ]


def steps_of(options: LessonOptions, usual: int) -> tuple[int, int]:
    """(steps, seeds) of each training. Raises InputError for numbers that cannot be."""
    if options.steps is not None and options.steps < 1:
        raise InputError(f"--steps {options.steps}: at least 1 is needed")
    if options.short:
        return 20, 1
    return options.steps or usual, options.seeds


def layer(setting: Setting, which: int, key: str) -> float:
    """A statistic of an activation function: of the first (0), the last (-1)."""
    return float(setting.layers()[which][key])


def most(setting: Setting, key: str) -> float:
    """The largest share over the activation functions."""
    return max(float(row[key]) for row in setting.layers())


def get(name: str) -> RunLesson:
    """Raises InputError for an unknown lesson."""
    from importlib import import_module

    from .._base import did_you_mean

    if name not in names():
        raise InputError(f"lesson {name!r}: unknown{did_you_mean(name, names())}")
    module: Any = import_module(f"._lessons.{name.replace('-', '_')}", __package__)
    return module.run


def names() -> list[str]:
    """The lessons' names, by their files.

    >>> names()
    ['fashion-mnist', 'makemore']
    """
    from pathlib import Path
    from pkgutil import iter_modules

    files = (module.name for module in iter_modules([str(Path(__file__).with_name("_lessons"))]))
    return sorted(file.replace("_", "-") for file in files if not file.startswith("_"))
