"""Report: what was measured and what the rules said, for people and for programs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from .._base import InputError, card, fold, paragraph, write_atomically
from ..record import Record
from ..rules import Diagnosis, Finding

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult


class Report:
    """A Record with its Diagnosis.

    print(report)               plain text, 80 columns (in colour: rich.print(report))
    report.ok                   True if there is no error and no warning (but those that a baseline accepts)
    report.source               the file that the model came from, for formats that point to lines; None: not known
    report.findings             most important first
    report.save("report.html")  one interactive page; .json, .md, .txt, .sarif and .xml (JUnit) by the same call
    report.to_markdown()        short evidence to act on, for a person or a language model
    report.to_sarif(), to_junit(), to_github()   for code hosts and CI systems; .sarif and .xml by save
    report.to_json()            JSON text, schema in docs/reference/report.schema.json
    report.page                 where the .html report is, or None: the text points to it

    >>> report = Report(Record(), Diagnosis((), "healthy: nothing to say", "healthy", ""))
    >>> report.ok, report
    (True, <Report healthy: 0 findings, 0 sites>)
    """

    def __init__(self, record: Record, diagnosis: Diagnosis):
        self.record = record
        self.diagnosis = diagnosis
        self.page: str | None = None
        self.source: str | None = None

    @property
    def findings(self) -> tuple[Finding, ...]:
        return self.diagnosis.findings

    @property
    def ok(self) -> bool:
        return self.diagnosis.ok

    @property
    def verdict(self) -> str:
        return self.diagnosis.verdict

    def to_text(self, width: int = 80) -> str:
        """Plain text without colour codes, no line wider than `width` (at least 60) columns."""
        from .terminal import plain_text

        return plain_text(self.record, self.diagnosis, max(60, width), self.page)

    def lines(self) -> list[str]:
        """A line for each finding, most important first: "error UG303 tanh: 97% of its values ..."."""
        return [f"{f.severity} {f.code}{f' {f.site}' if f.site else ''}: {f.message}" for f in self.findings]

    def to_json(self, indent: int | None = 2) -> str:
        """Strict JSON: {"schema_version", "meta", "findings", "sites"}; what is not finite is null."""
        from .json_report import to_json

        return to_json(self.record, self.diagnosis, indent)

    def to_markdown(self) -> str:
        """Short evidence to act on: what was measured, what to change and where, what was tried and what ruled out."""
        from .markdown import to_markdown

        return to_markdown(self.record, self.diagnosis)

    def to_sarif(self) -> str:
        """A SARIF 2.1.0 log: what code hosts show beside the lines that findings are about."""
        from .sarif import to_sarif

        return to_sarif(self.diagnosis, self.source)

    def to_junit(self) -> str:
        """JUnit XML: a test case for each finding, skipped ones for what a baseline accepts or no rule could judge."""
        from .junit import to_junit

        return to_junit(self.record, self.diagnosis, self.source)

    def to_github(self) -> str:
        """GitHub's workflow commands: an annotation for each finding."""
        from .github import to_github

        return to_github(self.diagnosis, self.source)

    def to_html(self) -> str:
        """One self-contained page: it needs no network and no library, and has 100 to 400 KB up to 300 layers."""
        from .html import to_html

        return to_html(self.record, self.diagnosis)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes .html, .json, .md, .txt, .sarif or .xml by the suffix: either the whole file or, on an error, nothing.

        Raises InputError for another suffix, and for a folder that does not exist or cannot be written.
        """
        writers: dict[str, Callable[[], str]] = {
            ".html": self.to_html, ".htm": self.to_html, ".json": self.to_json, ".md": self.to_markdown,
            ".txt": self.to_text, ".sarif": self.to_sarif, ".xml": self.to_junit,
        }  # fmt: skip
        save_text(path, writers)
        if os.fspath(path).lower().endswith((".html", ".htm")):
            self.page = os.fspath(path)

    def __str__(self) -> str:
        return self.to_text()

    def __repr__(self) -> str:
        count = len(self.findings)
        findings = f"{count} finding" + ("" if count == 1 else "s")
        return f"<Report {self.diagnosis.status}: {findings}, {len(self.record.sites())} sites>"

    def _repr_html_(self) -> str:
        """A notebook's card: the verdict, what to do first, and the findings, which unfold."""
        from .terminal import heading_parts

        opened = next((f for f in self.findings if f.severity != "info"), None)
        parts = [paragraph(", ".join(heading_parts(self.record)))]
        if self.diagnosis.first_action:
            parts.append(paragraph(self.diagnosis.first_action, "Do this first:"))
        for finding in self.findings:
            at = f" at {finding.site}" if finding.site else ""
            title = f"{finding.severity}: {finding.code} {finding.name}{at}"
            parts.append(fold(title, finding.card_parts(), finding is opened, finding.severity))
        return card(self.verdict, self.diagnosis.status, parts)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        from .terminal import ascii_text, render

        if options.ascii_only:
            yield Text(ascii_text(self.record, self.diagnosis, options.max_width, self.page))
        else:
            yield render(self.record, self.diagnosis, options.max_width, self.page)


def save_text(path: str | os.PathLike[str], writers: Mapping[str, Callable[[], str]]) -> None:
    """Writes what the writer for the path's suffix gives: the whole file or, on an error, nothing.

    Raises InputError for another suffix, and for a folder that does not exist or cannot be written.
    """
    path = os.fspath(path)
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in writers:
        *most, last = [name for name in writers if name != ".htm"]
        raise InputError(f"report {path}: the name must end in {', '.join(most)} or {last}")
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise InputError(f"report {path}: there is no folder {folder}; create it first")
    if os.path.isdir(path):
        raise InputError(f"report {path}: this is a folder; give the name of a file")
    try:
        write_atomically(path, writers[suffix]())
    except OSError as error:
        raise InputError(f"report {path}: cannot be written: {error.strerror or error}") from error
