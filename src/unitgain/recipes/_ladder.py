"""Ladders: trainings compared with published results. Their tables, for a terminal and as Markdown."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from .._base import say
from ._runs import conditions


@dataclass(frozen=True)
class LadderOptions:
    """The options of a ladder.

    settings  "key=value" texts that hold for every rung, as those of `unitgain train --set`
    seeds     number of seeds per rung; None: the ladder's own
    short     a few steps of everything, to test that it runs; the figures have no meaning
    """

    settings: tuple[str, ...] = ()
    seeds: int | None = None
    short: bool = False


@dataclass(frozen=True)
class Table:
    """columns: their titles, those that begin with > are aligned to the right. notes: sentences below the table."""

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
    """The result of a ladder.

    missed      one sentence for each figure that differs too much from the published one
    comparable  False where the published figures do not apply: other settings, other data, a short ladder
    """

    title: str
    tables: Sequence[Table]
    missed: Sequence[str] = ()
    comparable: bool = True

    @property
    def good(self) -> str:
        """The sentence when nothing was missed."""
        return (
            "Every figure agrees with the published one."
            if self.comparable
            else "Not the published ladder's settings."
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
    """Runs a ladder; `say` prints progress."""

    def __call__(self, options: LadderOptions, say: Callable[[str], None] = say, /) -> LadderResult: ...
