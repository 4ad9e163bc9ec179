"""When the record of a run is judged while it grows, and what is new since the last time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from ..record import Record
from ..rules import SEVERITIES, Diagnosis, Finding, diagnose

_WARM = 10  # sampled steps before a warning is news: the first updates of Adam, or of a warm-up, say little of the rest
_SHARE = (
    0.01  # of the time since the beginning, that judging may take before it waits for twice as many samples
)


@dataclass(frozen=True)
class News:
    """What changed since the record was last judged: the worst finding of each rule that is new or worse than before,
    and the codes of those that are gone. (Of a rule that fires at many sites, one is enough to tell a person.)"""

    findings: tuple[Finding, ...]
    gone: tuple[str, ...]


class Judge:
    """Judges a growing record: at 1, 2, 4, 8, ... sampled steps in any case, and in between as long as all of it
    together takes at most a hundredth of the time.

    An error is news at once. A warning is when it stands in two judgements in a row, after some sampled steps; or at
    the end.
    """

    def __init__(
        self, record: Record, select: Sequence[str] | None = None, ignore: Sequence[str] | None = None
    ):
        self._record, self._select, self._ignore = record, select, ignore
        diagnose(Record(), select=select, ignore=ignore)  # refuses an unknown code now, not while training
        self.diagnosis: Diagnosis | None = None
        self._known: dict[str, int] = {}  # code -> severity, of what was news
        self._before: set[str] = set()  # codes of the last judgement
        self._next, self._began, self._spent = 1, time.monotonic(), 0.0

    def due(self, samples: int) -> bool:
        """samples: sampled steps so far."""
        if samples >= self._next:
            self._next = 2 * samples
            return True
        return self._spent < _SHARE * (time.monotonic() - self._began)

    def look(self, samples: int, *, last: bool = False) -> News:
        began = time.monotonic()
        self.diagnosis = diagnose(self._record, select=self._select, ignore=self._ignore)
        worst: dict[str, Finding] = {}
        for finding in self.diagnosis.findings:  # errors come first
            if finding.severity != "info":
                worst.setdefault(finding.code, finding)
        sure = {
            code: SEVERITIES.index(finding.severity)
            for code, finding in worst.items()
            if last or finding.severity == "error" or (samples >= _WARM and code in self._before)
        }
        new = tuple(worst[code] for code, rank in sure.items() if rank > self._known.get(code, -1))
        gone = tuple(code for code in self._known if code not in worst)
        self._known = {code: max(rank, self._known.get(code, -1)) for code, rank in sure.items()} | {
            code: rank for code, rank in self._known.items() if code in worst and code not in sure
        }
        self._before = set(worst)
        self._spent += time.monotonic() - began
        return News(new, gone)
