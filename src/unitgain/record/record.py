"""Record: sites, statistics, histograms, metrics, facts and findings in one SQLite file."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sqlite3
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .._base import FileLock, InputError, RecordError, card, did_you_mean, paragraph, printable, table
from .database import (
    SCHEMA_VERSION,
    STEPS,
    STEPS_AFTER,
    dump,
    load,
    lock,
    make_room,
    open_existing,
    open_new,
    reading,
    sql_float,
    writing,
)
from .facts import Break, Facts
from .frame import Frame
from .histogram import Histogram, unpack_histogram
from .site import KINDS, STATISTICS, Site, check_kind, check_statistic


class Record:
    """Sites, statistics, histograms, metrics, facts and findings of one model.

    Record()              a private temporary one
    Record("run.sqlite")  writes a new file (an existing one is refused; overwrite=True replaces it if it is a record)
    Record.load(path)     opens an existing file for reading

    Raises InputError for a path that cannot be written and when a loaded record is written to, RecordError for a
    file that is not a record, is damaged, or was written by a newer version, and when SQLite cannot write (the disk is
    full, another process has locked the file).

    >>> record = Record()
    >>> site = record.add_site("activation", "fc1", module="Linear", shape=(32, 100), channel_axis=1)
    >>> record.add_scalars(step=0, rows={site.id: {"mean": 0.0, "std": 1.5}})
    >>> record.value("activation", "fc1", "std")
    1.5
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, *, overwrite: bool = False):
        self._start(None if path is None else os.fspath(path))
        if self.path is not None:
            self._lock = lock(self.path)
        try:
            if self.path is not None:
                make_room(self.path, overwrite)
            self._connect(open_new(self.path))
        except BaseException:
            self._release()
            raise
        self.set_meta("schema_version", SCHEMA_VERSION)
        self.set_meta("created", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
        self.commit()

    def _start(self, path: str | None, read_only: bool = False) -> None:
        self.path, self._read_only, self._closed = path, read_only, False
        self._process = os.getpid()
        self._lock: FileLock | None = None
        self._sites: dict[int, Site] = {}
        self._by_name: dict[tuple[str, str], Site] = {}
        self._last_commit = time.monotonic()

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Record:
        """Opens a record file for reading, also while another process writes it."""
        record = cls.__new__(cls)
        record._start(os.fspath(path), read_only=True)
        record._connect(open_existing(os.fspath(path)))
        record._read_sites()
        return record

    @classmethod
    def reopen(cls, path: str | os.PathLike[str], *, before: int) -> Record:
        """Opens a record to continue it, as if it had been written up to the step `before`: what was measured
        from there on is deleted. Raises RecordError as `load` does."""
        open_existing(os.fspath(path)).close()
        record = cls.__new__(cls)
        record._start(os.fspath(path))
        record._lock = lock(os.fspath(path))
        try:
            record._connect(open_new(record.path))
            with writing(record.path):
                for table in ("scalar", "histogram", "metric"):
                    record._connection.execute(f"DELETE FROM {table} WHERE step >= ?", (before,))
            record._read_sites()
            record.set_meta("schema_version", SCHEMA_VERSION)
            record.commit()
        except BaseException:
            record._release()
            raise
        return record

    def _connect(self, connection: sqlite3.Connection) -> None:
        """Takes a connection, which is closed when nobody has the record any more. What was not committed is not kept.
        (No __del__: in a cycle of references the connection would go first, and warns of it from Python 3.13 on.)"""
        self._connection = connection
        weakref.finalize(self, connection.close)

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()

    def refresh(self) -> None:
        """Reads the sites that another process has added since."""
        if self._read_only:  # there may have been no writer when it was opened
            self._connection.close()
            self._connect(open_existing(self.path or ""))
        self._read_sites()

    @contextlib.contextmanager
    def at_one_moment(self) -> Iterator[None]:
        """Inside, everything that is read is of one moment, whatever another process writes meanwhile."""
        if not self._read_only or self._connection.in_transaction:
            yield
            return
        self._connection.execute("BEGIN")
        try:
            self._read_sites()  # the first read fixes the moment
            yield
        finally:
            self._connection.rollback()

    @reading
    def _read_sites(self) -> None:
        for number, kind, name, position, module, shape, channel_axis, dtype, attributes in self._query(
            "SELECT id, kind, name, position, module, shape, channel_axis, dtype, attributes FROM site"
        ):
            self._remember(Site(
                number, kind, name, position, module, tuple(load(shape)), channel_axis, dtype, load(attributes)
            ))  # fmt: skip

    # ---- writing -------------------------------------------------------------------------------------------

    def add_site(
        self,
        kind: str,
        name: str,
        *,
        position: int | None = None,
        module: str = "",
        shape: Sequence[int] = (),
        channel_axis: int | None = None,
        dtype: str = "float32",
        attributes: Mapping[str, Any] | None = None,
    ) -> Site:
        """The site of this kind and name, made if it is new."""
        known = self._by_name.get((kind, name))
        if known is not None:
            return known
        check_kind(kind)
        number = len(self._sites) + 1
        site = Site(
            id=number,
            kind=kind,
            name=name,
            position=number if position is None else position,
            module=module,
            shape=tuple(int(n) for n in shape),
            channel_axis=channel_axis,
            dtype=dtype,
            attributes=dict(attributes or {}),
        )
        row = (number, kind, name, site.position, module, json.dumps(site.shape), channel_axis, dtype,
               dump(site.attributes))  # fmt: skip
        self._write("INSERT INTO site VALUES (?,?,?,?,?,?,?,?,?)", [row])
        self._remember(site)
        return site

    def _remember(self, site: Site) -> None:
        self._sites[site.id] = site
        self._by_name[site.kind, site.name] = site

    def add_scalars(self, step: int, rows: Mapping[int, Mapping[str, float | None]]) -> None:
        """One row of statistics per site id; names not in the row, and NaN, become NULL."""
        table = [[row.get(s) for s in STATISTICS] for row in rows.values()]
        self.add_table([step] * len(rows), list(rows), table)

    def add_table(
        self, steps: Sequence[int], site_ids: Sequence[int], table: Iterable[Sequence[float | None]]
    ) -> None:
        """Faster than add_scalars: for each step and site id a row with a value per name in STATISTICS, in that
        order. NaN becomes NULL."""
        marks = ",".join("?" * (2 + len(STATISTICS)))
        # one row at a time: thousands of tuples at once would set off Python's garbage collector
        self._write(
            f"INSERT OR REPLACE INTO scalar VALUES ({marks})",
            ((step, site, *row) for step, site, row in zip(steps, site_ids, table)),
        )

    def add_histograms(self, rows: Iterable[tuple[int, int, str, float, float, np.ndarray]]) -> None:
        """Rows of (step, site id, scale, low, high, counts); see `Histogram`.

        The 128 counts of a "signed" one are followed by those of its three atoms.
        """
        self._write(
            "INSERT OR REPLACE INTO histogram VALUES (?,?,?,?,?,?)",
            (
                (step, site, scale, low, high, counts.astype("<u4", copy=False).tobytes())
                for step, site, scale, low, high, counts in rows
            ),
        )

    def log(self, step: int, **metrics: float) -> None:
        """Named numbers that belong to a step: `record.log(step, loss=2.3, lr=0.1)`."""
        self._write(
            "INSERT OR REPLACE INTO metric VALUES (?,?,?)",
            [(step, name, sql_float(value)) for name, value in metrics.items()],
        )

    def add_metrics(self, rows: Iterable[tuple[int, str, float]]) -> None:
        """Many (step, name, value) at once."""
        self._write(
            "INSERT OR REPLACE INTO metric VALUES (?,?,?)", [(s, n, sql_float(v)) for s, n, v in rows]
        )

    def set_meta(self, key: str, value: Any) -> None:
        """Stores any JSON value under a key. NaN and infinities are kept as the strings "nan", "inf", "-inf"."""
        self._write("INSERT OR REPLACE INTO meta VALUES (?,?)", [(key, dump(value))])

    def set_facts(self, facts: Facts) -> None:
        """Stores what is known beyond the sites, in the place of what was known before."""
        self.set_meta("facts", facts.to_json())

    def add_finding(self, code: str, severity: str, site: str | None, body: Mapping[str, Any]) -> None:
        self._write("INSERT INTO finding VALUES (?,?,?,?)", [(code, severity, site, dump(body))])

    def _write(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        if self._closed:
            raise InputError(f"record {self.path or '(temporary)'}: it is closed; nothing more can be added")
        if self._read_only:
            raise InputError(
                f"record {self.path}: it was opened for reading; copy it with save(path), or write to a new Record"
            )
        self._check_process()
        with writing(self.path):
            self._connection.executemany(sql, rows)

    def _check_process(self) -> None:
        """A connection of SQLite must not be carried over a fork: two processes would write over one another."""
        if self._process != os.getpid():
            raise RecordError(
                f"record {self.path or '(temporary)'}: it was opened in the process that this one was forked from, "
                "which alone can write to it; open another one here"
            )

    def commit(self, every: float = 0.0) -> None:
        """Makes what was added visible to other processes and safe from a crash of this one.

        With every=0.5 it does so only if half a second has passed since the last time.
        """
        now = time.monotonic()
        if now - self._last_commit >= every:
            self._check_process()
            with writing(self.path):
                self._connection.commit()
            self._last_commit = now

    def close(self) -> None:
        """Commits and closes; the record cannot be used afterwards. Closing twice is fine."""
        if self._closed:
            return
        self._closed = True
        try:
            if not self._read_only and self._process == os.getpid():
                with writing(self.path):
                    self._connection.commit()
        finally:
            self._connection.close()
            self._release()

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Copies the record into a new file at path; overwrite=True replaces a record that is there."""
        if not self._read_only:
            self.commit()
        if overwrite and self.path is not None and os.path.exists(path) and os.path.samefile(path, self.path):
            raise InputError(f"record {self.path}: it cannot be saved over itself")
        with lock(os.fspath(path)):
            make_room(os.fspath(path), overwrite)
            target = open_new(os.fspath(path))
            try:
                with writing(os.fspath(path)):
                    self._connection.backup(target)
            finally:
                target.close()

    # ---- reading -------------------------------------------------------------------------------------------

    @property
    @reading
    def meta(self) -> dict[str, Any]:
        return {key: load(value) for key, value in self._query("SELECT key, value FROM meta")}

    @property
    def facts(self) -> Facts:
        """What is known beyond the sites: the loss, the targets, the output. Schema in docs/reference/record.md."""
        return Facts.from_json(self._meta("facts"))

    @property
    def breaks(self) -> tuple[Break, ...]:
        """Functions between modules that made NaN or infinity out of finite tensors."""
        return Break.from_json(self._meta("breaks"))

    @reading
    def _meta(self, key: str) -> Any:
        rows = list(self._query("SELECT value FROM meta WHERE key = ?", [key]))
        return load(rows[0][0]) if rows else None

    def sites(self, kind: str | None = None) -> list[Site]:
        """All sites, or those of one kind, in execution order."""
        if kind is not None:
            check_kind(kind)
        chosen = (s for s in self._sites.values() if kind is None or s.kind == kind)
        return sorted(chosen, key=lambda s: (s.position, s.id))

    def site(self, kind: str, name: str) -> Site | None:
        """The site of this name, None if there is none. Raises InputError for an unknown kind."""
        check_kind(kind)
        return self._by_name.get((kind, name))

    @reading
    def steps(self, after: int | None = None) -> list[int]:
        """The sampled steps, ascending; after: only those that come later than this one."""
        if after is None:
            return [row[0] for row in self._query(STEPS)]
        return [row[0] for row in self._query(STEPS_AFTER, [after])]

    @reading
    def frame(self, kind: str | None = None, step: int | None = None) -> Frame:
        """Tidy columns: step, site, kind, module, position, then every statistic (NaN where undefined).

        Rows are ordered by step, then by execution order.
        """
        if kind is not None:
            check_kind(kind)
        clauses, arguments = [], []
        for column, value in (("site.kind", kind), ("scalar.step", step)):
            if value is not None:
                clauses.append(f"{column} = ?")
                arguments.append(value)
        where = f"WHERE {' AND '.join(clauses)}" if clauses else ""
        statistics = ", ".join(f'scalar."{s}"' for s in STATISTICS)
        rows = list(
            self._query(
                f"SELECT scalar.step, site.name, site.kind, site.module, site.position, {statistics} "
                f"FROM scalar JOIN site ON site.id = scalar.site {where} "
                "ORDER BY scalar.step, site.position, site.id",
                arguments,
            )
        )
        columns = list(zip(*rows)) if rows else [()] * (5 + len(STATISTICS))
        named: dict[str, np.ndarray] = {
            "step": np.array(columns[0], dtype=np.int64),
            "site": np.array(columns[1], dtype=object),
            "kind": np.array(columns[2], dtype=object),
            "module": np.array(columns[3], dtype=object),
            "position": np.array(columns[4], dtype=np.int64),
        }
        for name, values in zip(STATISTICS, columns[5:]):
            named[name] = np.array(values, dtype=np.float64)
        return Frame(named)

    def values(self, kind: str, step: int | None = None) -> dict[str, dict[str, float]]:
        """{site name: {statistic: value}} of one step (the first if none is given), in execution order.

        Statistics that are undefined for a site are omitted.
        """
        if step is None:
            step = next(iter(self.steps()), 0)
        frame = self.frame(kind, step)
        result: dict[str, dict[str, float]] = {}
        for row, name in enumerate(frame["site"]):
            cells = {s: float(frame[s][row]) for s in STATISTICS}
            result[name] = {s: v for s, v in cells.items() if not math.isnan(v)}
        return result

    def _site_if_measured(self, kind: str, name: str) -> Site | None:
        """The site; None where the record has no such kind of it (no gradient of a layer, say). Raises InputError for a
        name that is not there at all, unless nothing is there yet."""
        site = self.site(kind, name)
        if site is None and self._sites and not any((other, name) in self._by_name for other in KINDS):
            names = [s.name for s in self.sites(kind)]
            hint = did_you_mean(name, names) or f"; record.sites({kind!r}) lists those that there are"
            raise InputError(f"record: no site is called {name!r}{hint}")
        return site

    @reading
    def value(self, kind: str, name: str, statistic: str, step: int | None = None) -> float:
        """One number (of the first step if none is given), NaN where it was not measured.

        Raises InputError for an unknown kind or statistic, and for a name that no site of any kind has.
        """
        check_kind(kind)
        check_statistic(statistic)
        site = self._site_if_measured(kind, name)
        if site is None:
            return math.nan
        at = "(SELECT min(step) FROM scalar)" if step is None else "?"
        one = f'SELECT "{statistic}" FROM scalar WHERE step = {at} AND site = ?'
        rows = list(self._query(one, [site.id] if step is None else [step, site.id]))
        if not rows and step is None:  # a site that came later
            rows = self._rows_of(site, statistic)[:1]
        return math.nan if not rows or rows[0][-1] is None else float(rows[0][-1])

    @reading
    def series(self, kind: str, name: str, statistic: str) -> tuple[np.ndarray, np.ndarray]:
        """(steps, values) of one statistic of one site, empty where it was not measured. Raises as `value` does."""
        check_kind(kind)
        check_statistic(statistic)
        site = self._site_if_measured(kind, name)
        rows = [] if site is None else self._rows_of(site, statistic)
        return (
            np.array([r[0] for r in rows], dtype=np.int64),
            np.array([r[1] for r in rows], dtype=np.float64),
        )

    def _rows_of(self, site: Site, statistic: str) -> list[tuple[Any, ...]]:
        """(step, value) of one site, ascending. The key begins with the step, so that each step is looked up:
        a condition on the site alone would read every row of the table."""
        return list(self._query(
            f'SELECT at.step, scalar."{statistic}" FROM ({STEPS}) AS at '
            "CROSS JOIN scalar ON scalar.step = at.step AND scalar.site = ? ORDER BY at.step",
            [site.id],
        ))  # fmt: skip

    @reading
    def histograms(
        self, kind: str, name: str | None = None, scale: str = "signed", step: int | None = None
    ) -> list[Histogram]:
        """Histograms of one kind, of one site and step if given, by step and execution order.

        scale: "signed" or "log2". What schema version 1 wrote are histograms of magnitudes, "linear"; they come where
        signed ones are asked for. Raises InputError for an unknown kind or scale.
        """
        check_kind(kind)
        if scale not in ("signed", "log2"):
            raise InputError(f'histograms: scale {scale!r} is unknown; there are "signed" and "log2"')
        if name is not None:
            self._site_if_measured(kind, name)
        query = (
            "SELECT h.step, site.name, h.scale, h.low, h.high, h.counts FROM histogram h "
            "JOIN site ON site.id = h.site WHERE site.kind = ? AND h.scale IN (?, ?)"
        )
        arguments: list[Any] = [kind, scale, "linear" if scale == "signed" else scale]
        for column, value in (("site.name", name), ("h.step", step)):
            if value is not None:
                query += f" AND {column} = ?"
                arguments.append(value)
        rows = self._query(query + " ORDER BY h.step, site.position, site.id", arguments)
        return [unpack_histogram(*row) for row in rows]

    @reading
    def metric(
        self, name: str, after: int | None = None, *, optional: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """(steps, values) of one metric; after: only of the steps that come later than this one.

        optional: nothing is said where there is no such metric. Otherwise raises InputError for a name that is not
        there while others are.
        """
        later, arguments = ("", [name]) if after is None else (" AND step > ?", [name, after])
        rows = list(
            self._query(f"SELECT step, value FROM metric WHERE name = ?{later} ORDER BY step", arguments)
        )
        if not rows and not optional:
            names = self.metric_names()
            if names and name not in names:
                raise InputError(f"record: no metric is called {name!r}{did_you_mean(name, names)}")
        return np.array([r[0] for r in rows], dtype=np.int64), np.array(
            [r[1] for r in rows], dtype=np.float64
        )

    @reading
    def metric_names(self) -> list[str]:
        return [row[0] for row in self._query("SELECT DISTINCT name FROM metric ORDER BY name")]

    @reading
    def findings(self) -> list[dict[str, Any]]:
        """The stored findings' bodies, in the order in which they were added."""
        return [load(row[0]) for row in self._query("SELECT body FROM finding ORDER BY rowid")]

    def _query(self, sql: str, arguments: Sequence[Any] = ()) -> Iterable[tuple[Any, ...]]:
        try:
            return self._connection.execute(sql, arguments).fetchall()
        except sqlite3.DatabaseError as error:
            raise RecordError(f"record {self.path}: cannot be read: {error}") from error

    def _repr_html_(self) -> str:
        """A notebook's card: how many sites of each kind, which steps, which metrics."""
        steps = self.steps()
        kinds = [(kind, len(self.sites(kind))) for kind in KINDS if self.sites(kind)]
        span = f"sampled steps: {len(steps)}, from {steps[0]} to {steps[-1]}" if steps else "no sampled step"
        metrics = ", ".join(self.metric_names())
        parts = [
            paragraph(span),
            paragraph(metrics, "Metrics:"),
            table(("kind", "sites"), kinds) if kinds else "",
        ]
        return card(f"Record {self.path or '(temporary)'}", "", parts)

    def __repr__(self) -> str:
        path = printable(self.path or "temporary")
        return f"Record({path}, {len(self._sites)} sites, {len(self.steps())} sampled steps)"
