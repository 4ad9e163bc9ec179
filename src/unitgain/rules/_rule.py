"""What a rule is made of. One file per rule, ug101_confident_at_init.py say, holds:

    the docstring   where the rule comes from, and how it differs from its source
    ABOUT           what is written about it: an `About`
    thresholds      every number that it compares with: module constants of type `Threshold`
    Evidence        a frozen dataclass: what was measured (or a union of several, one for each kind of finding)
    judge           (view) -> what was found; raises CannotJudge where it lacks what it needs
    EXPLAINED_BY    which findings of other rules explain this one, and when: `Cause` after `Cause`
    doubt           optional: (view) -> why a record in which nothing was found is not healthy for all that, or None
    BAD, GOOD       two small programs that end with `report = ...`: in the first exactly this rule fires, in the
                    second none does. They stand on the rule's page, and a test runs them

Nothing else lists it: _registry.py finds the file, and the list of rules, plans of `fix`, documentation
pages and the zoo's codes follow from it. docs/contributing/add-a-rule.md goes through it step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from ._finding import SEVERITIES, Finding, Prescription

if TYPE_CHECKING:
    from ._view import View

PRELUDE = """\
import torch
import torch.nn.functional as F
from torch import nn

import unitgain as ug

torch.manual_seed(0)
"""
"""What stands before every example, on its page and in its test."""

Needs = Literal["batch", "steps", "run"]
NEEDS: Mapping[Needs, str] = {
    "batch": "one batch (`ug.check(model, batch)`)",
    "steps": "optimizer steps (`ug.check(model, batch, steps=20)`, or training with a `ug.Probe`)",
    "run": "a training run (with a `ug.Probe` or a `ug.train.Learner`)",
}


class CannotJudge(Exception):
    """Raised by a rule that lacks what it needs; the reason is shown in Diagnosis.abstained.

    lacks  what is therefore not judged ("dead units"), where the caller could have given more and a healthy verdict has
           to say so; "" where the rule does not apply to this model
    """

    def __init__(self, reason: str, *, lacks: str = ""):
        super().__init__(reason)
        self.lacks = lacks


class Threshold(float):
    """A number that a rule compares with, and why it is that number. It is used as the number that it is.

    >>> WARNING = Threshold(1.2, "times ln(C): logits of standard deviation 1 cost half a nat")
    >>> 2.5 > WARNING * 2, WARNING.why[:11]
    (True, 'times ln(C)')
    """

    why: str

    def __new__(cls, value: float, why: str) -> Threshold:
        self = super().__new__(cls, value)
        self.why = why
        return self

    def __getnewargs__(self) -> tuple[float, str]:
        return float(self), self.why


@dataclass(frozen=True)
class BaseEvidence:
    """What a rule measured. Findings hold it as a plain dictionary; other rules' conditions see it as it is.

    A field without a default is always there; one whose default is None is left out where it is None.
    """

    @property
    def size(self) -> float | None:
        """How far this is from healthy, in decades or as a share: larger is worse, and comparable within one rule. None
        where it is or is not."""
        return None

    def to_dict(self) -> dict[str, Any]:
        """Dictionaries, lists, texts and numbers only."""
        return _plain(self)


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        given = [(f, getattr(value, f.name)) for f in fields(value)]
        return {f.name: _plain(item) for f, item in given if item is not None or f.default is not None}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return float(value) if isinstance(value, Threshold) else value


E = TypeVar("E", bound=BaseEvidence, covariant=True)


@dataclass(frozen=True)
class Found(Generic[E]):
    """What a rule found, before it is known what explains what."""

    about: About
    severity: str
    site: str | None
    message: str
    evidence: E
    cause: str
    remedy: str
    prescription: Prescription | None = None

    @property
    def code(self) -> str:
        return self.about.code

    def finding(self, severity: str, consequences: tuple[str, ...]) -> Finding:
        """As people and programs get it; severity: its own, or the worst of what it explains."""
        about = self.about
        return Finding(
            code=about.code,
            name=about.name,
            severity=severity,
            site=self.site,
            message=self.message,
            evidence=self.evidence.to_dict(),
            cause=self.cause,
            remedy=self.remedy,
            effect=about.effect,
            verify=about.verify,
            auto=about.auto,
            consequences=consequences,
            prescription=self.prescription,
            size=self.evidence.size,
        )


@dataclass(frozen=True)
class About:
    """What is written about one rule.

    code, name  stable ("UG101", "confident-at-init"); the file is called ug101_confident_at_init.py
    rank        of two findings of equal severity the one with the smaller rank comes first
    seen        what is seen when it fires
    matters     why it matters
    source      where that is shown
    measured    how the numbers come about, and what is left out on purpose
    action      what to do
    effect      what to expect then
    verify      how to see that it worked
    needs       the least that it can be judged on: one batch, optimizer steps, or a training run
    remedies    names of the remedies that `unitgain fix` tries, the one with the best expected effect first; they are
                registered in unitgain/remedies/registry.py
    silent      healthy things that look like it and keep the rule silent
    wrecks      whether training with it leads to what other rules then find in the network: as an error it explains all
                that one batch shows at the end of a run and did not show at its first sampled step
    exact       whether it is a comparison that holds or does not, whatever a short training shows: check(prove=True)
                does not withdraw it
    judges      what no other rule judges, where a healthy verdict must say that it was left out; the same words in
                several rules: what only these judge
    """

    code: str
    name: str
    rank: int
    seen: str
    matters: str
    source: str
    measured: str
    action: str
    effect: str
    verify: str
    needs: Needs = "batch"
    remedies: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    wrecks: bool = False
    exact: bool = False
    judges: str = ""

    @property
    def auto(self) -> bool:
        """Whether `unitgain fix` has a remedy for it."""
        return bool(self.remedies)

    def found(
        self,
        severity: str,
        site: str | None,
        message: str,
        *,
        cause: str,
        evidence: E,
        remedy: str = "",
        prescription: Prescription | None = None,
    ) -> Found[E]:
        """One finding of this rule; the remedy is `action` where the numbers say nothing better.

        message  one line with the measured numbers: what a person reads first
        cause    why it is so, one or two sentences
        prescription  the remedy's numbers, where it has some: check(prove=True) tries them
        """
        assert severity in SEVERITIES, severity
        return Found(self, severity, site, message, evidence, cause, remedy or self.action, prescription)


Condition = Callable[[Found[Any], Found[Any], "View"], bool]


def always(cause: Found[BaseEvidence], effect: Found[BaseEvidence], view: View) -> bool:
    return True


@dataclass(frozen=True)
class Cause:
    """Findings of rule `code` explain a finding when the condition (cause, effect, view) holds."""

    code: str
    when: Condition = always


_WRECKS = (
    "What one batch shows at the end of a run, and did not show at its first sampled step, is named here as a "
    "consequence."
)


@dataclass(frozen=True, kw_only=True)
class Rule(About):
    """A rule as the registry puts it together from its file."""

    provenance: str = field(repr=False)
    thresholds: Mapping[str, Threshold] = field(repr=False)
    judge: Callable[[View], Iterator[Found[Any]]] = field(repr=False)
    evidence: tuple[type[BaseEvidence], ...] = field(repr=False)
    explained_by: tuple[Cause, ...] = field(repr=False)
    doubt: Callable[[View], str | None] | None = field(repr=False, default=None)
    bad: str = field(repr=False)
    good: str = field(repr=False)

    def limit(self, threshold: str) -> float:
        """The value of one threshold."""
        return float(self.thresholds[threshold])

    def to_dict(self) -> dict[str, Any]:
        """What is written about the rule, its thresholds with their reasons, the rules that explain its findings, and
        its examples."""
        return {
            **{f.name: _plain(getattr(self, f.name)) for f in fields(About)},
            "auto": self.auto,
            "thresholds": {name: {"value": float(t), "why": t.why} for name, t in self.thresholds.items()},
            "explained_by": sorted({cause.code for cause in self.explained_by}),
            "examples": {"bad": self.bad.strip(), "good": self.good.strip()},
        }

    def page(self) -> str:
        """Markdown: one page of docs/reference/rules, and what `unitgain rules CODE` prints."""
        parts = [f"# {self.code} {self.name}", self.seen, "## Why it matters", self.matters]
        parts += [f"Source: {self.source}", "## How it is measured", self.measured]
        parts += [f"It is judged on {NEEDS[self.needs]}."]
        if self.thresholds:
            rows = [f"| {name} | {value:g} | {value.why} |" for name, value in self.thresholds.items()]
            parts += ["## Thresholds", "\n".join(["| name | value | why |", "|---|---|---|", *rows])]
        if self.silent:
            parts += ["## Stays silent on", "\n".join(f"- {trap}" for trap in self.silent)]
        if self.wrecks:
            parts += [_WRECKS]
        if self.explained_by:
            codes = ", ".join(sorted({cause.code for cause in self.explained_by}))
            parts += [f"Where a finding of {codes} explains it, it is named there as a consequence."]
        parts += ["## What to do", self.action]
        if self.remedies:
            parts += ["`unitgain fix` tries: " + ", ".join(self.remedies) + "."]
        parts += ["## What to expect", self.effect, "## How to verify", self.verify]
        for title, example in (("## Example", self.bad), ("## Better", self.good)):
            gap = "\n\n" if example.lstrip().startswith(("class ", "def ")) else "\n"  # as ruff formats it
            parts += [title, f"```python\n{PRELUDE}{gap}{example.strip()}\n```"]
        return "\n\n".join(parts) + "\n"
