"""A Finding: one named problem with its evidence, cause and prescription."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from .._base import card, paragraph

SEVERITIES = ("info", "warning", "error")


@dataclass(frozen=True)
class Prescription:
    """The numbers of a remedy, so that it can be tried.

    rate     factor of every learning rate
    options  what every group of the optimizer is to hold: {"weight_decay": 0.01}
    scale    {parameter: factor}
    shift    {parameter: what to add to it}
    """

    rate: float = 1.0
    options: Mapping[str, float] = field(default_factory=dict)
    scale: Mapping[str, float] = field(default_factory=dict)
    shift: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Proof:
    """What came of trying a remedy: two trainings from the same state on the same batches.

    tried    what was changed, in words
    steps    how many steps either training made
    on       "fresh batches", "the one batch", "half of the batch", or "half of the batch, judged by the other half"
    without, with_it   mean loss over the last quarter of the steps, or the lowest on the half that was held out; NaN
             where it did not stay finite
    noise    standard error of the difference
    outcome  "better", "worse" or "same" (a difference below the noise, or too small to matter); "open" where the trial
             says nothing of the finding: an exact comparison, or neither training learnt anything
    others   what else was tried and did not help, one line each
    passing  whether the outcome is "same" because the lead of one training had more than halved towards the end
    """

    tried: str
    steps: int
    on: str
    without: float
    with_it: float
    noise: float
    outcome: str
    others: tuple[str, ...] = ()
    passing: bool = False

    def __str__(self) -> str:
        """
        >>> print(Proof("multiply the learning rate by 0.1", 100, "the one batch", 2.4, 2.1, 0.01, "better"))
        Multiply the learning rate by 0.1: loss 2.1 after 100 steps on the one batch, instead of 2.4 (noise 0.01)
        """
        return f"{self.order}: {self.result}"

    @property
    def order(self) -> str:
        """What was changed, as the beginning of a sentence."""
        return self.tried[:1].upper() + self.tried[1:]

    @property
    def result(self) -> str:
        """What came of it."""
        now = f"loss {self.with_it:.4g}" if math.isfinite(self.with_it) else "a loss that is not finite"
        old = f"{self.without:.4g}" if math.isfinite(self.without) else "one that is not finite"
        noise = f" (noise {self.noise:.1g})" if self.noise > 0 else ""
        passing = ", a difference that was more than twice as large shortly before" if self.passing else ""
        return f"{now} after {self.steps} steps on {self.on}, instead of {old}{noise}{passing}"


@dataclass(frozen=True)
class Finding:
    """One named problem.

    code, name    stable ("UG101", "confident-at-init")
    severity      "error": training fails or is badly hurt; "warning": accuracy or speed is lost; "info"
    site          the name of the site it is about, or None for the whole model
    message       one line with the measured numbers: what a person reads first
    evidence      the numbers, by name
    cause         why it is so, one or two sentences
    remedy        what to do, concretely
    effect        what to expect after doing it
    verify        how to see that it worked
    auto          True if the remedy is a change to the model that can be made mechanically
    consequences  other symptoms that this finding explains, one line each
    prescription  the remedy's numbers, where it has some
    proof         what came of trying the remedy; None: it was not tried
    where         file and line of the class that holds the site, where they are known
    size          how far it is from healthy, in decades or as a share: larger is worse, among findings of one code
    """

    code: str
    name: str
    severity: str
    site: str | None
    message: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    cause: str = ""
    remedy: str = ""
    effect: str = ""
    verify: str = ""
    auto: bool = False
    consequences: tuple[str, ...] = ()
    prescription: Prescription | None = None
    proof: Proof | None = None
    where: str | None = None
    size: float | None = None

    def __str__(self) -> str:
        """Two lines: what was measured, and what to do."""
        at = f" at {self.site}" if self.site else ""
        do = f"\n  Do: {self.remedy}" if self.remedy else ""
        return f"{self.severity} {self.code} {self.name}{at}: {self.message}{do}"

    def _repr_html_(self) -> str:
        """A notebook's card: what a report says about it."""
        at = f" at {self.site}" if self.site else ""
        return card(f"{self.severity}: {self.code} {self.name}{at}", self.severity, self.card_parts())

    def card_parts(self) -> list[str]:
        """The lines of its card below the title, as HTML."""
        lines = [
            ("", self.message), ("Cause", self.cause), ("Do", self.remedy), ("Where", self.where or ""),
            ("Tried", str(self.proof) if self.proof is not None else ""), ("Expect", self.effect),
            ("Verify", self.verify),
        ]  # fmt: skip
        return [paragraph(text, label) for label, text in lines] + [
            paragraph(line, "Explains") for line in self.consequences
        ]

    def to_dict(self) -> dict[str, Any]:
        """Of the last four only those that are known."""
        body = {**asdict(self), "evidence": dict(self.evidence), "consequences": list(self.consequences)}
        for name in ("prescription", "proof", "where", "size"):
            if body[name] is None:
                del body[name]
        return body

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> Finding:
        known = {f.name for f in fields(cls)}
        values = {k: v for k, v in body.items() if k in known}
        values["consequences"] = tuple(values.get("consequences", ()))
        for name, kind in (("prescription", Prescription), ("proof", Proof)):
            given = values.get(name)
            values[name] = _read(kind, given) if isinstance(given, Mapping) else None
        return cls(**values)


def _read(kind: type, body: Mapping[str, Any]) -> Any:
    """What can be read of a part; None where something that it must have is missing."""
    known = {f.name for f in fields(kind)}
    try:
        return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in body.items() if k in known})
    except TypeError:
        return None
