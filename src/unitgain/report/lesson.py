"""Lesson: chapters of symptom, picture, finding, cure and what the cure gained; in a terminal and as one page."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .._base import escape, printable
from ..rules import Finding
from .json_report import dumps, plain
from .report import save_text
from .whatif import Setting, WhatIf, alike
from .whatif_page import STYLE, finding_box, numbers, picture_rows


@dataclass(frozen=True)
class Chapter:
    """One step of a lesson: a network with a fault, and the same without it.

    title     what it is about
    symptom   what is wrong, in a sentence, with the measured numbers
    look      what to look at in the pictures
    cure      what was done
    result    both networks, sick and cured, in this order
    rows      which of a what-if's pictures are shown
    codes     the findings that belong to it
    """

    title: str
    symptom: str
    look: str
    cure: str
    result: WhatIf
    rows: tuple[str, ...]
    codes: tuple[str, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What the rules say of the sick network, that which the chapter is about first."""
        found = self.result.settings[0].findings
        chosen = [f for f in found if f.code in self.codes]
        others = [f for f in found if f.code not in self.codes and f.severity != "info"]
        return (*chosen, *others)

    @property
    def gained(self) -> str:
        """What the cure gained, from the numbers alone."""
        sick, cured = self.result.settings
        after = f"after {self.result.steps:,} steps"
        finite = math.isfinite(sick.loss)
        told = f"{_loss(sick)} -> {_loss(cured)} {after}" if finite else f"{_loss(cured)} {after}"
        if finite and sick.accuracy and cured.accuracy:
            told += f", accuracy {_share(sick)} -> {_share(cured)}"
        elif cured.accuracy:
            told += f", accuracy {_share(cured)}"
        if not finite:
            told += f"; without it the loss became NaN or infinite at step {sick.stopped}"
        elif alike(cured, sick) if cured.loss < sick.loss else alike(sick, cured):
            told += "; the seeds do not tell these losses apart"
        return f"loss {told}"

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data."""
        return {
            "title": self.title, "symptom": self.symptom, "look": self.look, "cure": self.cure, "gained": self.gained,
            "findings": [f.to_dict() for f in self.findings], "result": self.result.to_dict(),
        }  # fmt: skip


@dataclass(frozen=True)
class Lesson:
    """The outcome of `unitgain lesson`.

    title, about   what it teaches, and on which data
    chapters       in their order
    seconds        how long all took
    command        the command that gives it again
    left_out       how many chapters are missing because it was interrupted
    """

    title: str
    about: str
    chapters: tuple[Chapter, ...]
    seconds: float
    command: str = ""
    left_out: int = 0

    def rows(self) -> list[tuple[str, str, str, str]]:
        """(chapter, findings, loss before the cure, loss after it)."""
        found = []
        for chapter in self.chapters:
            sick, cured = chapter.result.settings
            codes = ", ".join(dict.fromkeys(f.code for f in chapter.findings)) or "none"
            found.append((chapter.title, codes, _loss(sick), _loss(cured)))
        return found

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data."""
        return {
            "title": self.title, "about": self.about, "seconds": self.seconds, "command": self.command,
            "left_out": self.left_out, "chapters": [chapter.to_dict() for chapter in self.chapters],
        }  # fmt: skip

    def to_json(self, indent: int | None = 2) -> str:
        """`to_dict` as strict JSON."""
        return dumps(plain(self.to_dict()), indent)

    def to_html(self) -> str:
        """One page without scripts."""
        body = "\n".join(self._body())
        return (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(self.title)}</title>\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>\n'
            f"<body>\n{body}\n</body></html>\n"
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes .html or .json by the suffix: the whole file or, on an error, nothing."""
        save_text(path, {".html": self.to_html, ".htm": self.to_html, ".json": self.to_json})

    def _body(self) -> Iterator[str]:
        yield f"<h1>{escape(self.title)}</h1>"
        yield f'<div class="soft">{escape(self.about)}</div>'
        if self.command:
            yield f"<p><code>{escape(self.command)}</code></p>"
        if self.left_out:
            yield f"<p>It was interrupted: the last {self.left_out} chapters are missing.</p>"
        head = "".join(
            f"<th>{title}</th>" for title in ("", "findings", "loss before the cure", "loss after it")
        )
        rows = "".join(
            f"<tr><th>{n}. {escape(row[0])}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in row[1:])}</tr>"
            for n, row in enumerate(self.rows(), start=1)
        )
        yield f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
        if self.chapters:
            seeds = self.chapters[0].result.seeds
            spread = f", mean and standard deviation of {seeds} seeds" if seeds > 1 else ""
            yield f'<div class="soft">Losses and accuracies on held-out examples{spread}.</div>'
        for number, chapter in enumerate(self.chapters, start=1):
            yield f'<h2 class="chapter">{number}. {escape(chapter.title)}</h2>'
            yield f"<p><b>Symptom.</b> {escape(chapter.symptom)}</p>"
            yield f"<p><b>Picture.</b> {escape(chapter.look)}</p>"
            yield from picture_rows(chapter.result, chapter.rows, "h3")
            boxes = "".join(map(finding_box, chapter.findings))
            yield (
                f"<p><b>Finding.</b></p>{boxes}"
                if boxes
                else "<p><b>Finding.</b> None: no rule is about this.</p>"
            )
            yield f"<p><b>Cure.</b> {escape(chapter.cure)}</p>"
            yield f'<p class="lead">What it gained: {escape(chapter.gained).replace("-&gt;", "→")}.</p>'
            yield numbers(chapter.result)
        last = self.chapters[-1].result if self.chapters else None
        if last is not None:
            versions = ", ".join(f"{name} {version}" for name, version in last.versions.items())
            yield f'<p class="soft">{escape(last.conditions_line())}. {self.seconds:.0f} s; {escape(versions)}.</p>'

    def __repr__(self) -> str:
        return f"<Lesson {printable(self.title)}: {len(self.chapters)} chapters>"


def _loss(setting: Setting) -> str:
    if not math.isfinite(setting.loss):
        return "not finite"
    return f"{setting.loss:.3f}" + (f" ± {setting.noise:.3f}" if math.isfinite(setting.noise) else "")


def _share(setting: Setting) -> str:
    return f"{100 * sum(setting.accuracy) / len(setting.accuracy):.1f}%"
