"""The only way from unitgain to a terminal. A test looks for any other `print` or rich Console in the package.

Results go to the standard output (`say`, `console`), everything else to the standard error (`note`, `busy`). rich is
imported when it is first needed.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import IO, TYPE_CHECKING, Any

from .notebook import in_notebook
from .printable import MOST, one_line, printable

if TYPE_CHECKING:
    from .rich_parts import Console, Table


_quiet: ContextVar[bool] = ContextVar("quiet", default=False)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Inside, `note` and `busy` print nothing."""
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)


def is_quiet() -> bool:
    """Whether only results are to be printed."""
    return _quiet.get()


def say(text: object, *, file: IO[str] | None = None, most: int = MOST) -> None:
    """Prints text on the standard output, or in a file, made printable. Line breaks stay.

    Characters that the terminal's encoding does not have are spelled out.
    """
    stream = sys.stdout if file is None else file
    encoding = getattr(stream, "encoding", None) or "utf-8"
    line = printable(text, most, keep_lines=True)
    print(line.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)


def say_to_program(text: str) -> None:
    """Prints lines for another program, a shell that completes a word for example: tabs between columns stay."""
    for line in text.splitlines():
        print("\t".join(printable(part, sys.maxsize) for part in line.split("\t")), flush=True)


def note(text: object) -> None:
    """Prints one line on the standard error: what a program that reads the result should not see."""
    if _quiet.get():
        return
    say(one_line(text), file=sys.stderr)


def clear_line() -> None:
    """Empties the line of the standard error where the cursor is: of a ^C, or of what a progress bar left."""
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)


class Cell:
    """A place in the output of a notebook's cell that is written again and again. `Cell.here()` is None elsewhere."""

    def __init__(self, handle: Any):
        self._handle = handle

    @classmethod
    def here(cls) -> Cell | None:
        if not in_notebook():
            return None
        from IPython.display import display  # type: ignore[import-not-found]

        return cls(display({"text/plain": ""}, raw=True, display_id=True))

    def show(self, drawn: Any, width: int = 100) -> None:
        """What rich draws, or "" for nothing."""
        text = io.StringIO()
        plain_console(text, width).print(drawn)
        self._handle.update({"text/plain": text.getvalue().rstrip()}, raw=True)


def console(**options: Any) -> Console:
    """A rich Console that interprets no markup; options as rich's."""
    from .rich_parts import Console

    return Console(**options)


def plain_console(file: IO[str], width: int) -> Console:
    """A Console that writes text without colour codes to a file, in lines of at most `width` columns."""
    return console(file=file, width=width, color_system=None, force_terminal=False, legacy_windows=False)


def table_of(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A plain table; a column whose name begins with > is aligned to the right. Cells are made printable."""
    from .rich_parts import Table

    return Table.of(columns, rows)


def aligned(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Rows of cells as lines of text with aligned columns; the columns numbered in `right` to the right.

    >>> print(aligned([("name", "size"), ("a", "10")], right=[1]))
    name  size
    a       10
    """
    from rich.cells import cell_len

    cells = [[printable(cell, 200) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*cells)]
    lines = []
    for row in cells:
        padded = []
        for i, (cell, width) in enumerate(zip(row, widths)):
            room = " " * (width - cell_len(cell))
            padded.append(room + cell if i in right else cell + room)
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)
