"""Results go to stdout; everything else, such as a note or a spinner, to stderr."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import rich.console
from rich.cells import cell_len
from rich.table import Table

from .._base import InputError

_HTML = (".html", ".htm")
_SUFFIXES = {"--html": _HTML, "--json": (".json",)}


def check_outputs(
    outputs: dict[str, str], inputs: Sequence[str | None], out: tuple[str, ...] = _HTML
) -> None:
    """Refuses an output that cannot be written, or would overwrite something, before the work is done.

    out: the suffixes that --out may have.
    """
    read = {os.path.realpath(path) for path in inputs if path}
    written: dict[str, str] = {}
    for option, path in outputs.items():
        if option == "--json" and path == "-":
            continue
        if not path or path.startswith("-"):
            raise InputError(f"{option} {path!r}: a file name is expected after {option}")
        suffixes = out if option == "--out" else _SUFFIXES.get(option)
        if suffixes and not path.lower().endswith(suffixes):
            raise InputError(f"{option} {path}: the name must end in {_either(suffixes)}")
        folder, real = os.path.dirname(path) or ".", os.path.realpath(path)
        if os.path.isdir(path):
            raise InputError(f"{option} {path}: this is a folder; give the name of a file in it")
        if not os.path.isdir(folder):
            raise InputError(f"{option} {path}: there is no folder {folder}; create it first")
        if not os.access(folder, os.W_OK | os.X_OK) or (
            os.path.exists(path) and not os.access(path, os.W_OK)
        ):
            raise InputError(f"{option} {path}: no permission to write there; choose another place")
        if option == "--record" and os.path.exists(path):
            raise InputError(f"{option} {path}: the file exists; choose a new name or delete it first")
        if real in read:
            raise InputError(f"{option} {path}: this is an input of the command; choose another name")
        if real in written:
            raise InputError(f"{option} {path}: {written[real]} writes the same file; choose another name")
        written[real] = option


def _either(words: Sequence[str]) -> str:
    """.png, .svg or .pdf"""
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


class Console(rich.console.Console):
    """Writes no spaces at the ends of lines where the output is a file or a pipe."""

    def print(self, *objects: Any, **how: Any) -> None:
        if self.is_terminal:
            super().print(*objects, **how)
            return
        with self.capture() as captured:
            super().print(*objects, **how)
        self.file.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # errors.py knows what to do


@contextlib.contextmanager
def busy(text: str) -> Iterator[None]:
    """A spinner on stderr where a person looks at it."""
    console = Console(stderr=True)
    with console.status(text) if console.is_terminal else contextlib.nullcontext():
        yield


def note(text: str) -> None:
    print(text, file=sys.stderr)


def _longest(texts: Sequence[str]) -> int:
    return max(map(cell_len, texts), default=0)


class _Table(Table):
    """Cuts a word in two only where there is no room for the longest word of every column; rich by itself would
    rather keep other columns wide.

    natural  the widths of the columns' longest texts
    least    widths to which they may shrink: those of their longest words, but at first numbers, which are aligned
             to the right, stay on one line
    """

    natural: list[int]
    least: list[list[int]]

    def __rich_console__(
        self, console: rich.console.Console, options: rich.console.ConsoleOptions
    ) -> rich.console.RenderResult:
        room = options.max_width - 2 * (len(self.columns) - 1)
        least = next((widths for widths in self.least if sum(widths) <= room), None)
        if sum(self.natural) > room and least is not None:
            spare = room - sum(least)
            wishes = sorted((n - m, i) for i, (n, m) in enumerate(zip(self.natural, least)))
            for served, (wish, i) in enumerate(wishes):  # what the modest leave is for the others
                more = min(wish, spare // (len(wishes) - served))
                self.columns[i].width = least[i] + more
                spare -= more
        yield from super().__rich_console__(console, options)


def table_of(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A plain table; a column whose name begins with > is aligned to the right."""
    from rich.markup import escape

    table = _Table(box=None, pad_edge=False)
    texts = [[columns[i].lstrip(">"), *(row[i] for row in rows)] for i in range(len(columns))]
    table.natural = [_longest(column) for column in texts]
    words = [_longest(" ".join(column).split()) for column in texts]
    words[:1] = table.natural[:1]  # which is not wrapped
    numbers = [_longest(column[1:]) if c.startswith(">") else 0 for c, column in zip(columns, texts)]
    table.least = [list(map(max, words, numbers)), words]
    for index, column in enumerate(columns):
        right = column.startswith(">")
        table.add_column(
            column.lstrip(">"), justify="right" if right else "left", no_wrap=index == 0, overflow="fold"
        )
    for row in rows:
        table.add_row(*map(escape, row))
    return table
