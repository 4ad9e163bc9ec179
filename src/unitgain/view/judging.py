"""What the rules say of a run, again and again while it grows, in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from .._base import RecordError
from ..record import Record
from ..rules import Diagnosis, diagnose
from .run import Run

EVERY = 3.0  # seconds between two judgements of a run that grows
SHARE = 0.05  # of a core that judging may take
FIRST, LAST, BETWEEN = 40, 120, 160  # sampled steps that the rules are given of a long run


@dataclass
class Judgement:
    """What was said last. since: {(code, site): the step at which the finding was first seen, None for one that was
    there when the run was judged for the first time}."""

    diagnosis: Diagnosis | None = None
    step: int = 0
    since: dict[tuple[str, str | None], int | None] = field(default_factory=dict)
    trouble: str | None = None


class Judge:
    """Judges runs as they grow. `of(run)` is what is known now."""

    def __init__(self, runs: Sequence[Run]):
        self._runs = runs
        self._known = {id(run): Judgement() for run in runs}
        self._versions = {id(run): -1 for run in runs}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="unitgain-judge", daemon=True)

    def start(self) -> Judge:
        self._thread.start()
        return self

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def of(self, run: Run) -> Judgement:
        return self._known[id(run)]

    def judge(self) -> None:
        """Every run that has grown, once."""
        for run in self._runs:
            run.refresh()
            if run.version == self._versions[id(run)] or not run.path.exists():
                continue
            self._versions[id(run)] = run.version
            before = self._known[id(run)]
            try:
                with run.opened() as record, record.at_one_moment():
                    steps = record.steps()
                    diagnosis = diagnose(thinned(record, steps))
            except RecordError as error:
                before.trouble = str(error)
                continue
            except Exception as error:  # a defect of one rule must not end the page
                before.trouble = f"the rules could not judge this record: {type(error).__name__}"
                continue
            last = steps[-1] if steps else 0
            new = last if before.diagnosis is not None else None
            since = {(f.code, f.site): before.since.get((f.code, f.site), new) for f in diagnosis.findings}
            self._known[id(run)] = Judgement(diagnosis, last, since)

    def _loop(self) -> None:
        while not self._stop.is_set():
            began = time.thread_time()
            self.judge()
            self._stop.wait(max(EVERY, (time.thread_time() - began) / SHARE))


def thinned(record: Record, steps: Sequence[int]) -> Record:
    """The record itself, or of a long one a copy with its first and last sampled steps and some between: rules read
    everything, and of 10,000 steps of 300 sites that would be a gigabyte."""
    if len(steps) <= FIRST + BETWEEN + LAST:
        return record
    middle = steps[FIRST:-LAST]
    chosen = [*steps[:FIRST], *middle[:: -(-len(middle) // BETWEEN)], *steps[-LAST:]]
    copy = Record()
    for key, value in record.meta.items():
        copy.set_meta(key, value)
    ids = {}
    for site in record.sites():
        new = copy.add_site(
            site.kind, site.name, position=site.position, module=site.module, shape=site.shape,
            channel_axis=site.channel_axis, dtype=site.dtype, attributes=site.attributes,
        )  # fmt: skip
        ids[site.kind, site.name] = new.id
    for step in chosen:
        frame = record.frame(step=step)
        statistics = [
            name for name in frame.columns if name not in ("step", "site", "kind", "module", "position")
        ]
        keys = [ids[kind, name] for kind, name in zip(frame["kind"], frame["site"])]
        rows = zip(*(frame[name].tolist() for name in statistics))
        copy.add_table([step] * len(keys), keys, [[None if v != v else v for v in row] for row in rows])
    for name in record.metric_names():
        copy.add_metrics((int(s), name, float(v)) for s, v in zip(*record.metric(name)))
    return copy
