"""Troubles that people reported in public, and healthy trainings, as small programs: what a case consists of.

A case is a function `build(cured)`: build(False) is what was reported, build(True) the same with the cure that the
accepted answer, the maintainer or the fixing commit gave. Cases are our own programs: other networks, sizes and data
than in the report, with the same mistake. Each has one of two forms.

    form="check"   build -> model, batch, arguments of ug.check, score
    form="probe"   build -> model, optimizer, loop, batch, arguments of ug.check. `loop(probe, steps)` trains, logs the
                   loss on the probe where there is one, and returns the score. batch is None where the training
                   cannot be said as one model, one batch and one loss (GANs, reinforcement learning)

A score is a number of which less is better and that means the same in both variants: an error rate, a distance from
the truth, or the loss where the trouble does not change what the loss means.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
HALVES = ("dev", "held_out", *(f"unseen_{letter}" for letter in "abcdefij"))
VARIANTS = (
    "variants_g",
    "variants_h",
)  # known kinds in other idioms: both in the folder "variants", see variant()


@dataclass(frozen=True)
class Case:
    """One reported trouble, or (kind "healthy") one training in which nothing is wrong.

    must      codes of which one has to be found at warning or above: the rule that names the cause
    may       codes of direct symptoms: no false alarms, and no credit for the cause
    no_rule   the cause in words, where no rule for it existed when the case was written
    says      regular expression: a finding at warning or above whose text matches names the cause, whatever its
              code. For causes without a rule
    action    regular expression: the first action is the cure if it matches
    boundary  whether the trouble lies outside of what a tool that only measures can know
    source    where it was reported: repository and issue, or thread
    cause     what the accepted answer, the maintainer or the fixing commit found
    steps, rate   of the training that shows the trouble (form "check" without an optimizer of its own: Adam)
    few       after how many steps the two variants have come apart
    """

    name: str
    build: Callable[..., Any]
    kind: str
    half: str = ""
    must: frozenset[str] = frozenset()
    may: frozenset[str] = frozenset()
    no_rule: str = ""
    says: str = ""
    area: str = ""
    action: str = ""
    boundary: bool = False
    source: str = ""
    cause: str = ""
    form: str = "check"
    steps: int = 250
    rate: float = 2e-3
    few: int = 12


CASES: dict[str, Case] = {}


def report(kind: str, must: str = "", may: str = "", form: str = "check", **fields: Any) -> Callable:
    """Registers a reported trouble under its function's name. Its half is the folder of its file."""

    def register(build: Callable) -> Callable:
        name, file = build.__name__, build.__code__.co_filename
        assert name not in CASES or CASES[name].build.__code__.co_filename == file, (
            f"two cases are called {name}"
        )
        half = Path(file).parent.name
        CASES[name] = Case(
            name, build, kind, half, frozenset(must.split()), frozenset(may.split()), form=form, **fields
        )
        return build

    return register


def healthy(area: str, form: str = "check", **fields: Any) -> Callable:
    """Registers a training in which nothing is wrong: build() takes no argument."""
    return report("healthy", form=form, area=area, **fields)


def variant(kind: str, must: str = "", may: str = "", form: str = "check", **fields: Any) -> Callable:
    """Registers a case of a known kind in another idiom. The cases of a file go to the two VARIANTS in turn."""

    def register(build: Callable) -> Callable:
        known = CASES.get(build.__name__)  # pytest imports the file once more when it looks for doctests
        before = sum(case.build.__code__.co_filename == build.__code__.co_filename for case in CASES.values())
        half = VARIANTS[before % 2] if known is None else known.half
        report(kind, must, may, form, **fields)(build)
        CASES[build.__name__] = replace(CASES[build.__name__], half=half)
        return build

    return register


def load(*halves: str) -> list[Case]:
    """The cases of these HALVES or VARIANTS, healthy trainings included, in the order of their files."""
    if str(HERE) not in sys.path:
        sys.path.insert(0, str(HERE))
    if set(halves) & set(VARIANTS):
        sys.path.insert(0, str(HERE / "variants"))
    for folder in dict.fromkeys("variants" if half in VARIANTS else half for half in halves):
        for path in sorted([*(HERE / folder).glob("*.py"), *(HERE / "healthy" / folder).glob("*.py")]):
            module = f"reports_{path.parent.name}_{path.parent.parent.name}_{path.stem}"
            if path.stem in ("draw", "parts") or module in sys.modules:
                continue
            spec = importlib.util.spec_from_file_location(module, path)
            assert spec is not None
            assert spec.loader is not None
            sys.modules[module] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules[module])
    return [case for case in CASES.values() if case.half in halves]


def from_dicts(reports: dict[str, dict[str, Any]]) -> Iterable[Case]:
    """Cases of another registry that keeps the same fields in dictionaries."""
    known = set(Case.__dataclass_fields__) - {"name"}
    for name, fields in reports.items():
        kept = {key: value for key, value in fields.items() if key in known and value is not None}
        yield Case(name, **{**kept, "must": frozenset(kept["must"]), "may": frozenset(kept["may"])})


def built(case: Case, cured: bool) -> tuple[Any, ...]:
    """What the case's function gives. Healthy trainings have one variant."""
    return case.build() if case.kind == "healthy" else case.build(cured)
