"""Clock: seconds inside `with`, added up over all entries and over interrupted runs."""

from __future__ import annotations

import time
from typing import Any


class Clock:
    """Runs inside `with`. Set `seconds` to another process's value to continue from it.

    >>> clock = Clock()
    >>> with clock:
    ...     pass
    >>> 0 < clock.seconds < 1
    True
    """

    def __init__(self) -> None:
        self._before = 0.0
        self._began: float | None = None
        self._depth = 0  # a fit inside a fit

    def __enter__(self) -> None:
        if not self._depth:
            self._began = time.perf_counter()
        self._depth += 1

    def __exit__(self, *_: Any) -> None:
        self._depth -= 1
        if not self._depth:
            self._before, self._began = self.seconds, None

    @property
    def seconds(self) -> float:
        return self._before + (0.0 if self._began is None else time.perf_counter() - self._began)

    @seconds.setter
    def seconds(self, seconds: float) -> None:
        self._before = seconds
        if self._began is not None:
            self._began = time.perf_counter()
