"""What we change about rich: no markup, no spaces at line ends in a pipe, and tables that do not cut words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import rich.console
import rich.table
from rich.cells import cell_len
from rich.text import Text

from .notebook import in_notebook
from .printable import printable

_GAP = 2  # columns of the terminal between two of the table


class Console(rich.console.Console):
    """Text given as a string is made printable; "[red]" is text. Where the output is a file or a pipe, lines end
    without spaces. In a notebook it is text too: rich's own way puts an empty box below the cell with every line."""

    def __init__(self, **options: Any):
        text = {"force_jupyter": False, "force_terminal": False} if in_notebook() else {}
        super().__init__(**{**text, "markup": False, "highlight": False, "emoji": False, **options})

    def print(self, *objects: Any, **how: Any) -> None:
        objects = tuple(printable(o, keep_lines=True) if isinstance(o, str) else o for o in objects)
        if self.is_terminal:
            super().print(*objects, **how)
            return
        with self.capture() as captured:
            super().print(*objects, **how)
        self.file.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # the command line ends with the exit code for that


class Table(rich.table.Table):
    """A table without lines, which cuts a word in two only where there is no room for the longest word of every column;
    rich by itself would rather keep other columns wide.

    natural  the widths of the columns' longest texts
    least    widths to which they may shrink: those of their longest words, but at first numbers, which are aligned
             to the right, stay on one line
    """

    natural: list[int]
    least: list[list[int]]

    @classmethod
    def of(cls, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
        """See terminal.table_of."""
        titles = [printable(column.lstrip(">")) for column in columns]
        cells = [[printable(cell) for cell in row] for row in rows]
        table = cls(box=None, pad_edge=False)
        texts = [[title, *(row[i] for row in cells)] for i, title in enumerate(titles)]
        table.natural = [_longest(column) for column in texts]
        words = [_longest(" ".join(column).split()) for column in texts]
        words[:1] = table.natural[:1]  # the first column is not wrapped
        numbers = [_longest(column[1:]) if c.startswith(">") else 0 for c, column in zip(columns, texts)]
        table.least = [list(map(max, words, numbers)), words]
        for i, title in enumerate(titles):
            justify = "right" if columns[i].startswith(">") else "left"
            table.add_column(Text(title), justify=justify, no_wrap=i == 0, overflow="fold")
        for row in cells:
            table.add_row(*map(Text, row))
        return table

    def __rich_console__(
        self, console: rich.console.Console, options: rich.console.ConsoleOptions
    ) -> rich.console.RenderResult:
        room = options.max_width - _GAP * (len(self.columns) - 1)
        least = next((widths for widths in self.least if sum(widths) <= room), None)
        if sum(self.natural) > room and least is not None:
            free = room - sum(least)
            wider = sorted((n - m, i) for i, (n, m) in enumerate(zip(self.natural, least)))
            for served, (more_wanted, i) in enumerate(
                wider
            ):  # narrow columns leave their share to the others
                more = min(more_wanted, free // (len(wider) - served))
                self.columns[i].width = least[i] + more
                free -= more
        yield from super().__rich_console__(console, options)


def _longest(texts: Sequence[str]) -> int:
    return max(map(cell_len, texts), default=0)
