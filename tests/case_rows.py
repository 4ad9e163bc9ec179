"""A registry of small cases, sick ones and healthy ones that look like them, half of them held out by chance."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Row(Generic[T]):
    """build: what is checked, or the diagnosis of a training; part: of what the rule is to find, where that was written
    in several parts."""

    rule: str
    name: str
    sick: bool
    build: Callable[[], T]
    part: str = ""


@dataclass
class Rows(Generic[T]):
    """`sick(rule)` and `healthy(rule)` decorate the functions that build cases; their names are the cases' names."""

    rows: list[Row[T]] = field(default_factory=list)

    def sick(self, rule: str, part: str = "") -> Callable[[Callable[[], T]], Callable[[], T]]:
        return self._register(rule, True, part)

    def healthy(self, rule: str, part: str = "") -> Callable[[Callable[[], T]], Callable[[], T]]:
        return self._register(rule, False, part)

    def _register(self, rule: str, is_sick: bool, part: str) -> Callable[[Callable[[], T]], Callable[[], T]]:
        def register(build: Callable[[], T]) -> Callable[[], T]:
            if all(row.name != build.__name__ for row in self.rows):  # a file may be imported under two names
                self.rows.append(Row(rule, build.__name__, is_sick, build, part))
            return build

        return register

    def held_out(self) -> frozenset[str]:
        """Half of the sick and half of the healthy rows of each rule, drawn by chance before the rule was written."""
        names: set[str] = set()
        for rule, part in sorted({(row.rule, row.part) for row in self.rows}):
            for is_sick in (True, False):
                group = [r.name for r in self.rows if (r.rule, r.part, r.sick) == (rule, part, is_sick)]
                seed = f"{rule} {is_sick}" + (f" {part}" if part else "")
                names.update(random.Random(seed).sample(group, len(group) // 2))
        return frozenset(names)
