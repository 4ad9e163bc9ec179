"""FixReport: what a repair changed, and what was measured before and after."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .._base import card, fold, paragraph, plain_console, printable
from .json_report import SCHEMA_VERSION, dumps, plain, report_data
from .report import Report, save_text

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

MAX_CHANGES = 8  # lines per action in a terminal


@dataclass(frozen=True)
class Action:
    """One remedy that was tried on the model.

    code, site   the finding that it was for
    remedy       what was done, in a few words
    changes      one line for each tensor that was changed, with what it was multiplied by or set to
    kept         True if it helped; what did not help was undone, bit for bit
    outcome      what the second measurement said: the reason why it was kept or undone
    problems     what the remedy could not do beside that, one line each
    """

    code: str
    site: str | None
    remedy: str
    changes: tuple[str, ...]
    kept: bool
    outcome: str
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Skipped:
    """One remedy that did not apply to the model, so that nothing was changed.

    code, site   the finding that it was for
    remedy       what it would have done, in a few words
    reason       why it did not apply
    """

    code: str
    site: str | None
    remedy: str
    reason: str


@dataclass(frozen=True)
class FixReport:
    """The outcome of `unitgain.fix`.

    before, after   the reports of the model as it came and as it is now (of a dry run: as it would be)
    actions         what was tried, in order
    advice          one line for each finding that is left, with what is yours to do
    inputs          {name: (shift, scale)} of the inputs of `after` that were normalized, (x - shift) / scale per
                    channel, if UG201 was fixed: do the same to the data in training. input_shift and input_scale are
                    those of the first, None if there is none
    dry_run         True if the model was left as it was
    skipped         remedies that did not apply, with the reason
    rehearsed       how the model trains afterwards beside before, one line; "" where nothing was changed or trained

    >>> from ..rules import Diagnosis
    >>> from ..record import Record
    >>> well = Report(Record(), Diagnosis((), "healthy: nothing to say", "healthy"))
    >>> print(FixReport(well, well).summary)
    nothing to fix
    """

    before: Report
    after: Report
    actions: tuple[Action, ...] = ()
    advice: tuple[str, ...] = ()
    inputs: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = field(default_factory=dict)
    dry_run: bool = False
    skipped: tuple[Skipped, ...] = ()
    rehearsed: str = ""

    @property
    def ok(self) -> bool:
        """True if no error and no warning is left."""
        return self.after.ok

    @property
    def input_shift(self) -> tuple[float, ...] | None:
        return next((shift for shift, _ in self.inputs.values()), None)

    @property
    def input_scale(self) -> tuple[float, ...] | None:
        return next((scale for _, scale in self.inputs.values()), None)

    @property
    def changed(self) -> bool:
        return any(action.kept for action in self.actions)

    @property
    def fixed(self) -> tuple[str, ...]:
        """Codes of the findings that were there before and are gone."""
        left = {finding.code for finding in self.after.findings}
        return tuple(dict.fromkeys(f.code for f in self.before.findings if f.code not in left))

    @property
    def summary(self) -> str:
        """One line."""
        judged = [f for f in self.before.findings if f.severity != "info"]
        if not judged and not self.actions:
            return "nothing to fix"
        would = "would be " if self.dry_run else ""
        gone = f"{would}fixed: {', '.join(self.fixed)}" if self.fixed else "nothing could be fixed"
        left = list(dict.fromkeys(f.code for f in self.after.findings if f.severity != "info"))
        return gone + (f"; left: {', '.join(left)}" if left else "")

    def lines(self) -> list[str]:
        """The summary, in a list of one."""
        return [self.summary]

    def to_text(self, width: int = 80) -> str:
        """Plain text without colour codes, no line wider than `width` (at least 60) columns."""
        stream = io.StringIO()
        plain_console(stream, max(60, width)).print(self)
        return stream.getvalue()

    def to_json(self, indent: int | None = 2) -> str:
        """Strict JSON: {"schema_version", "summary", "actions", "before", "after", ...}; see docs/reference."""
        body = {
            "schema_version": SCHEMA_VERSION,
            "summary": self.summary,
            "dry_run": self.dry_run,
            "fixed": self.fixed,
            "actions": [vars(action) for action in self.actions],
            "skipped": [vars(skipped) for skipped in self.skipped],
            "advice": self.advice,
            "rehearsed": self.rehearsed,
            "input": None
            if self.input_scale is None
            else {"shift": self.input_shift, "scale": self.input_scale},
            "inputs": {n: {"shift": shift, "scale": scale} for n, (shift, scale) in self.inputs.items()},
            "before": report_data(self.before.record, self.before.diagnosis),
            "after": report_data(self.after.record, self.after.diagnosis),
        }
        return dumps(plain(body), indent)

    def to_markdown(self) -> str:
        """What was changed and kept, one line each, then the report afterwards as Markdown."""
        lines = [f"# unitgain fix: {printable(self.summary)}", ""]
        for action in self.actions:
            done = "kept" if action.kept else "undone"
            lines.append(f"- {done}: {action.code} {printable(action.remedy)}: {printable(action.outcome)}")
            lines += [f"    - {printable(change)}" for change in action.changes if action.kept]
        lines += [f"- left: {printable(line)}" for line in self.advice]
        if self.rehearsed:
            lines += ["", f"Trained: {printable(self.rehearsed)}."]
        return "\n".join([*lines, "", self.after.to_markdown()])

    def to_html(self) -> str:
        """The page of the report afterwards, opened by what was changed, with charts of before and after."""
        from .html import to_html

        return to_html(self.after.record, self.after.diagnosis, repair=self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes .html, .json, .md or .txt by the suffix; raises InputError as Report.save does."""
        writers = {
            ".html": self.to_html,
            ".json": self.to_json,
            ".md": self.to_markdown,
            ".txt": self.to_text,
        }
        save_text(path, writers)

    def _repr_html_(self) -> str:
        """A notebook's card: what was done, what is left, and the report afterwards, which unfolds."""
        done = [
            fold(f"{'kept' if a.kept else 'undone'}: {a.code} {a.remedy}", [
                paragraph(a.outcome), *(paragraph(change) for change in a.changes), *(paragraph(p) for p in a.problems),
            ], status="healthy" if a.kept else "")
            for a in self.actions
        ]  # fmt: skip
        left = [paragraph(line, "Left:") for line in self.advice]
        trained = paragraph(self.rehearsed, "Trained:")
        after = fold(f"afterwards: {self.after.verdict}", [self.after._repr_html_()])
        status = self.after.diagnosis.status if self.actions or not self.ok else "healthy"
        return card(self.summary, status, [*done, *left, trained, after])

    def __str__(self) -> str:
        return self.to_text()

    def __repr__(self) -> str:
        return f"<FixReport {self.summary}>"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from _parts(self, options.max_width)


def _parts(report: FixReport, width: int) -> Iterator[RenderableType]:
    from rich.text import Text

    from .terminal import STATUS, compared, hanging, heading_parts

    model, *facts = heading_parts(report.before.record)
    title = "unitgain fix" + (", dry run" if report.dry_run else "")
    yield Text.assemble(
        (title, "bold"), "  ", (model, "bold cyan"), (f" · {facts[0]}" if facts else "", "dim")
    )
    yield Text()
    for name, one in (("before", report.before), ("after", report.after)):
        sign, color = STATUS.get(one.diagnosis.status, STATUS["unknown"])
        loss = [part for part in heading_parts(one.record) if part.startswith("loss ")]
        line = Text.assemble((f"{sign} {printable(one.verdict)}", f"bold {color}"))
        line.append("".join(f"  · {part}" for part in loss), style="dim")
        yield hanging(Text(name, style="dim"), line, 8)
    if report.rehearsed:
        yield hanging(Text("trained", style="dim"), Text(printable(report.rehearsed)), 8)
    for place, action in enumerate(report.actions, start=1):
        yield Text()
        done = "kept" if action.kept else "undone"
        head = Text.assemble(
            (f"{'✓' if action.kept else '↶'} {done}", "bold green" if action.kept else "bold yellow"),
            "  ",
            (printable(action.code), "bold"),
            f"  {printable(action.remedy)}",
        )
        yield hanging(Text(f"{place}.", style="dim"), head, 4)
        shown = action.changes if len(action.changes) <= MAX_CHANGES else action.changes[: MAX_CHANGES - 1]
        for change in shown:
            yield hanging(Text(), Text(printable(change), style="dim"), 4)
        if len(shown) < len(action.changes):
            rest = len(action.changes) - len(shown)
            yield hanging(Text(), Text(f"and {rest} more (--html and --json have all)", style="dim"), 4)
        for problem in action.problems[:MAX_CHANGES]:
            yield hanging(Text(), Text(f"not done: {printable(problem)}", style="dim"), 4)
        yield hanging(Text(), Text(printable(action.outcome)), 4)
    if report.skipped:
        yield Text()
        yield Text("Did not apply", style="bold")
        for reason, remedies in _by_reason(report.skipped).items():
            yield hanging(
                Text("·"), Text(f"{printable('; '.join(remedies))}: {printable(reason)}", style="dim"), 2
            )
    for name, (shift, scale) in report.inputs.items():
        yield Text()
        which = "the data" if len(report.inputs) == 1 else printable(name)
        yield Text(
            f"Normalize {which} as `after` did: (x - shift) / scale, with shift {_numbers(shift)} and scale "
            f"{_numbers(scale)}."
        )
    if report.advice:
        yield Text()
        yield Text("Left for you", style="bold")
        for line in report.advice:
            yield hanging(Text("·"), Text(printable(line)), 2)
    if report.changed:
        yield Text()
        yield from compared(report.before.record, report.after.record, width)


def _by_reason(skipped: tuple[Skipped, ...]) -> dict[str, list[str]]:
    """{reason: the remedies that did not apply for it}."""
    found: dict[str, list[str]] = {}
    for one in skipped:
        found.setdefault(one.reason, []).append(f"{one.code} {one.remedy}")
    return found


def _numbers(values: tuple[float, ...]) -> str:
    return f"{values[0]:.4g}" if len(values) == 1 else "(" + ", ".join(f"{v:.4g}" for v in values) + ")"
