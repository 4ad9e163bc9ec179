"""One run: its record, read again and again while another process writes it, replaces it or dies.

Nothing here writes: the record is opened for reading, and only for as long as it is read.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from .._base import InputError, RecordError, printable
from ..record import Record, Site

FRESH = 2.0  # seconds for which what was read is not read again
MOST_ROWS = 6_000  # (kind, step) rows that are kept in memory: 300 sites need some 10 KB each
QUIET = 60.0  # seconds without a change after which a writer of whom nothing is known counts as gone


class Run:
    """A run by its folder or its record file.

    name   what it is called on the page: as short as tells it from the others
    path   of the record, which may not be there yet, may be replaced, and may grow

    All methods may be called from several threads. What cannot be read at the moment leaves what was read before, and
    `trouble` says why.
    """

    def __init__(self, path: str | os.PathLike[str], name: str | None = None):
        self.path = Path(path)
        self.name = name or printable(str(path), 80)
        self.trouble: str | None = None
        self.version = 0  # rises with everything that is new
        self._lock = threading.RLock()
        self._looked = -FRESH
        self._forget()

    def _forget(self) -> None:
        self._identity: tuple[int, int] | None = None
        self._signature: tuple[float, ...] = ()
        self._sites: dict[str, list[Site]] = {}
        self._steps: list[int] = []
        self._metrics: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._rows: OrderedDict[tuple[str, int], Mapping[str, np.ndarray]] = OrderedDict()
        self._meta: Mapping[str, object] = {}

    # ---- reading -------------------------------------------------------------------------------------------

    def refresh(self, force: bool = False) -> None:
        """Reads what is new, at most every two seconds."""
        with self._lock:
            if not force and time.monotonic() - self._looked < FRESH:
                return
            self._looked = time.monotonic()
            try:
                found = self._identity_now()
            except FileNotFoundError:
                self.trouble = "there is no record yet" if self._identity is None else "the record is gone"
                return
            if found != self._identity:  # another file of that name: a run that began anew
                self._forget()
                self._identity = found
            signature = self._signature_now()
            if signature == self._signature and self.trouble is None:
                return
            try:
                with self.opened() as record, record.at_one_moment():
                    self._read(record)
                self._signature, self.trouble = signature, None
                self.version += 1
            except RecordError as error:
                self.trouble = str(error)

    @contextlib.contextmanager
    def opened(self):
        """The record, open for reading for as long as the block runs."""
        record = Record.load(self.path)
        try:
            yield record
        finally:
            record.close()

    def _read(self, record: Record) -> None:
        if self._began_anew(record):
            identity = self._identity
            self._forget()
            self._identity = identity
        if self._steps:
            self._drop_rows(self._steps[-1])  # rows of one step may be written in parts
            self._steps = self._steps + record.steps(after=self._steps[-1])
        else:
            self._steps = record.steps()
        self._sites = {kind: record.sites(kind) for kind in ("input", "activation", "parameter")}
        self._meta = record.meta
        known, self._metrics = self._metrics, {}
        for name in record.metric_names():
            steps, values = known.get(name, (np.array([], np.int64), np.array([])))
            more = record.metric(name, after=int(steps[-1]) if len(steps) else None)
            self._metrics[name] = (np.concatenate([steps, more[0]]), np.concatenate([values, more[1]]))

    def _began_anew(self, record: Record) -> bool:
        """Whether steps that were there are gone: a run that was resumed measures what came after them again."""
        last = self._steps[-1] if self._steps else None
        if last is not None and last not in record.steps(after=last - 1)[:1]:
            return True
        for name, (steps, _) in self._metrics.items():
            if len(steps) and not len(record.metric(name, int(steps[-1]) - 1, optional=True)[0]):
                return True
        return False

    def _drop_rows(self, step: int) -> None:
        for key in [key for key in self._rows if key[1] == step]:
            del self._rows[key]

    def _identity_now(self) -> tuple[int, int]:
        found = self.path.stat()
        return found.st_dev, found.st_ino

    def _signature_now(self) -> tuple[float, ...]:
        """Changes when the record does: times and sizes of the file and of its write-ahead log."""
        parts: list[float] = []
        for path in (self.path, Path(f"{self.path}-wal")):
            with contextlib.suppress(OSError):
                found = path.stat()
                parts += [found.st_mtime_ns, found.st_size]
        return tuple(parts)

    # ---- what is known -------------------------------------------------------------------------------------

    @property
    def steps(self) -> list[int]:
        """The sampled steps."""
        self.refresh()
        return self._steps

    @property
    def metrics(self) -> Mapping[str, tuple[np.ndarray, np.ndarray]]:
        """{name: (steps, values)}."""
        self.refresh()
        return self._metrics

    @property
    def model(self) -> str:
        self.refresh()
        return printable(self._meta.get("model") or "", 80)

    def sites(self, kind: str) -> list[Site]:
        """Inputs, activations or parameters in execution order; gradients and updates have the sites of those."""
        self.refresh()
        return self._sites.get(kind, [])

    def state(self) -> str:
        """ "waiting" for a record, "running", "ended", or "stopped": its writer is gone without having ended it."""
        if not self.path.exists():
            return "waiting"
        if (self.path.parent / "metrics.json").exists() and self.path.name == "record.sqlite":
            return "ended"
        writer = self._writer_lives()
        if writer is None:  # of another machine, or of an older version
            return "running" if time.time() - self.changed() < QUIET else "stopped"
        return "running" if writer else "stopped" if self._lock_path().exists() else "ended"

    def changed(self) -> float:
        """When the record was last written, in seconds since 1970; 0 where it is not there."""
        times = [0.0]
        for path in (self.path, Path(f"{self.path}-wal")):
            with contextlib.suppress(OSError):
                times.append(path.stat().st_mtime)
        return max(times)

    def _lock_path(self) -> Path:
        real = Path(os.path.realpath(self.path))
        return real.with_name(f".{real.name}.lock")

    def _writer_lives(self) -> bool | None:
        """Whether the process that holds the record's lock is there; None where that cannot be told."""
        import socket

        try:
            held = json.loads(self._lock_path().read_text(encoding="utf-8"))
            process, host = int(held["process"]), held["host"]
        except FileNotFoundError:
            return False
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if os.name == "nt" or host != socket.gethostname():
            return None
        try:
            os.kill(process, 0)  # signal 0 only asks
        except ProcessLookupError:
            return False
        except OSError:
            return True  # another user's
        return True

    def table(self, kind: str, names: Sequence[str], statistic: str, steps: Sequence[int]) -> np.ndarray:
        """(names, steps) of one statistic; NaN where it was not measured."""
        with self._lock:
            missing = [step for step in steps if (kind, step) not in self._rows]
            if missing:
                try:
                    with self.opened() as record:
                        for step in missing:
                            self._keep(record, kind, step)
                except RecordError as error:
                    self.trouble = str(error)
            place = {name: i for i, name in enumerate(names)}
            table = np.full((len(names), len(steps)), np.nan)
            for column, step in enumerate(steps):
                row = self._rows.get((kind, step))
                if row is not None and len(row["site"]):
                    at = [place.get(name, -1) for name in row["site"]]
                    known = [i for i, k in enumerate(at) if k >= 0]
                    table[[at[i] for i in known], column] = row[statistic][known]
            return table

    def _keep(self, record: Record, kind: str, step: int) -> None:
        frame = record.frame(kind, step)
        self._rows[kind, step] = {name: frame[name] for name in ("site", *KEPT)}
        while len(self._rows) > MOST_ROWS:
            self._rows.popitem(last=False)


KEPT = ("mean", "std", "rms", "zero", "saturated", "nonfinite", "dead", "units", "ratio")
"""The statistics that the page shows."""


def find_run(target: str) -> Run:
    """The run of a folder (`unitgain train --run`) or of a record file.

    A folder whose record is not there yet is waited for. Raises InputError for what is neither.

    >>> find_run("no/such/run")
    Traceback (most recent call last):
    unitgain._base.errors.InputError: no/such/run: there is no such folder or record; name a run's folder or a .sqlite
    """
    if os.path.isdir(target):
        return Run(os.path.join(target, "record.sqlite"), os.path.normpath(target))
    if not os.path.isfile(target):
        raise InputError(f"{target}: there is no such folder or record; name a run's folder or a .sqlite")
    Record.load(target).close()  # says at once what is wrong with a file that is no record
    return Run(target)


def name_apart(runs: Sequence[Run]) -> None:
    """Names as short as tell the runs apart: the last parts of their paths."""
    paths = [Path(run.name).parts or (run.name,) for run in runs]
    for length in range(1, max(map(len, paths), default=1) + 1):
        names = ["/".join(parts[-length:]) for parts in paths]
        if len(set(names)) == len(names):
            for run, name in zip(runs, names):
                run.name = printable(name, 80)
            return
    for number, run in enumerate(runs, start=1):  # one run named twice
        run.name = f"{run.name} ({number})"
