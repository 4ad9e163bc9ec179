"""Ladders: trainings whose results stand beside published ones. Their tables, for a terminal and as Markdown."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from .._base import say
from ._runs import conditions


@dataclass(frozen=True)
class LadderOptions:
    """What a person may ask of a ladder.

    settings  "key=value" texts that hold for every rung, as those of `unitgain train --set`
    seeds     so many seeds per rung; None: as many as the ladder takes by itself
    short     a few steps of everything, to see that it runs; its figures mean nothing
    """

    settings: tuple[str, ...] = ()
    seeds: int | None = None
    short: bool = False


@dataclass(frozen=True)
class Table:
    """columns: their titles, those with a > in front are aligned to the right. notes: sentences below the table."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def markdown(self) -> str:
        """
        >>> print(Table("Losses", ["rung", ">val"], [["tanh", "2.10"]], ["One seed."]).markdown())
        ## Losses
        <BLANKLINE>
        | rung | val |
        |---|---:|
        | tanh | 2.10 |
        <BLANKLINE>
        One seed.
        <BLANKLINE>
        """
        head = [c.lstrip(">") for c in self.columns]
        rule = ["---:" if c.startswith(">") else "---" for c in self.columns]
        lines = [f"## {self.title}", "", f"| {' | '.join(head)} |", f"|{'|'.join(rule)}|"]
        lines += [f"| {' | '.join(row)} |" for row in self.rows]
        for note in self.notes:
            lines += ["", note]
        return "\n".join([*lines, ""])


@dataclass(frozen=True)
class LadderResult:
    """What a ladder found.

    missed  one sentence for each figure that is not what it should be
    judged  False where the published figures do not apply: other settings, other data, a short ladder
    """

    title: str
    tables: Sequence[Table]
    missed: Sequence[str] = ()
    judged: bool = True

    @property
    def good(self) -> str:
        """What is said when nothing was missed."""
        return (
            "Every figure is where it should be." if self.judged else "Not the published ladder's settings."
        )

    def markdown(self, command: str) -> str:
        """A page with the conditions under which it was measured."""
        on = conditions()
        how = (
            f"`{command}`, {time.strftime('%Y-%m-%d')}: unitgain {on['unitgain']}, torch {on['torch']}, Python "
            f"{on['python']}, {on['machine']}, {on['threads']} thread{'s' if on['threads'] > 1 else ''}."
        )
        parts = [f"# {self.title}", "", how, "", *([f"- {line}" for line in self.missed] or [self.good]), ""]
        return "\n".join(parts) + "\n" + "\n".join(table.markdown() for table in self.tables)


class RunLadder(Protocol):
    """Runs a ladder; `say` is told what has been done."""

    def __call__(self, options: LadderOptions, say: Callable[[str], None] = say, /) -> LadderResult: ...
