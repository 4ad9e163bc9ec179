"""What a long call is doing just now: below a notebook's cell, or beside the spinner of a command.

The call says it with `tell` and need not know who looks; where nobody does, that costs nothing.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

from .printable import printable
from .terminal import Cell, console, is_quiet

_Function = TypeVar("_Function", bound=Callable[..., Any])
_PATIENCE = 1.0  # seconds before anything is shown: a short call leaves nothing in the notebook
_EVERY = 0.4  # seconds between two pictures

_listener: ContextVar[Callable[[str], None] | None] = ContextVar("listener", default=None)
_heading: ContextVar[str] = ContextVar("heading", default="")


def tell(done: int, total: int, what: str) -> None:
    """Says how far the call is, as "step 3 of 20"; has the form of a `progress` callback."""
    listener = _listener.get()
    if listener is not None and what:
        listener(f"{_heading.get()}{what} {min(done + 1, total)} of {total}")


@contextlib.contextmanager
def headed(text: str) -> Iterator[None]:
    """Inside, what is told begins with this: "UG101, gain 5/3: step 3 of 20"."""
    token = _heading.set(f"{text}: ")
    try:
        yield
    finally:
        _heading.reset(token)


@contextlib.contextmanager
def told_to(listener: Callable[[str], None]) -> Iterator[None]:
    """Inside, the listener gets what is told, one line each time."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextlib.contextmanager
def busy(text: str) -> Iterator[None]:
    """A spinner on the standard error, where that is a terminal, while the block runs; beside it what is told."""
    if is_quiet() or not sys.stderr.isatty():
        yield
        return
    from rich.text import Text

    status = console(stderr=True).status(Text(printable(text, 200)))
    with status, told_to(lambda line: status.update(Text(printable(line, 200)))):
        yield


def told_in_cell(function: _Function) -> _Function:
    """The function, which shows what it is doing below the notebook's cell that calls it, and clears it in the end."""

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        if "IPython" not in sys.modules or _listener.get() is not None:
            return function(*args, **kwargs)
        line = _CellLine()
        with told_to(line.show):
            try:
                return function(*args, **kwargs)
            finally:
                line.end()

    return called  # type: ignore[return-value]


class _CellLine:
    """A line below a cell that is written anew from time to time."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _PATIENCE
        self._cell: Cell | None = None

    def show(self, text: str) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _EVERY
        self._cell = self._cell or Cell.here()
        if self._cell is not None:
            self._cell.show(printable(text, 200))

    def end(self) -> None:
        if self._cell is not None:
            self._cell.show("")
