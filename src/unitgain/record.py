"""Record: what was measured, in one SQLite file that any SQL tool can read while it is written.

A `Site` is a place where a tensor is measured. A `Record` holds, for every sampled step and site, one row of
statistics and up to two histograms; beside them named metrics (the loss, the learning rate), facts about
the model, the batch and the loss, and findings. Nothing here knows torch: a Record can be read where there is
no model and no training code.

File layout (schema version 1), documented in docs/reference/record.md:

    meta(key, value)                              JSON values
    site(id, kind, name, position, module, shape, channel_axis, dtype, attributes)
    scalar(step, site, count, mean, std, ...)     one column per name in STATISTICS, NULL where undefined
    histogram(step, site, scale, low, high, counts)
    metric(step, name, value)
    finding(code, severity, site, body)

Without a path the database is a private temporary one of SQLite's, which spills to disk: memory stays
flat however long the run is.
"""

from __future__ import annotations

import base64
import functools
import json
import math
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from .errors import InputError, RecordError, UnitgainError

SCHEMA_VERSION = 1
APPLICATION_ID = 0x75676E31  # "ugn1", stored in the SQLite header so that a foreign file is recognised

KINDS = ("input", "activation", "gradient", "parameter", "parameter_gradient", "update")

STATISTICS = (
    "count",  # values measured
    "mean",
    "std",  # biased: the mean squared deviation's root
    "rms",
    "min",
    "max",
    "absmax",  # largest magnitude
    "zero",  # fraction exactly zero
    "saturated",  # fraction in the flat tails of a bounded activation
    "nonfinite",  # fraction NaN or infinite; the moments above leave these values out
    "sq_channel_mean",  # average over channels of the squared channel mean
    "channel_var",  # average over channels of the channel variance (biased)
    "units",  # channels (or features) that can be dead
    "dead",  # of these, never active for any example seen so far
    "cosine",  # mean cosine similarity between different examples
    "spread",  # rms over examples of the deviation from the mean example, divided by rms
    "ratio",  # log10 std(gradient)/std(data), or log10 std(update)/std(data)
    "underflow",  # fraction of the non-zero magnitudes below the dtype's smallest normal number
)

HISTOGRAM_BINS = 64
LOG2_LOW, LOG2_HIGH = -48, 16  # the log2 histogram has one bin per power of two

_COLUMNS = ", ".join(f'"{name}" REAL' for name in STATISTICS)
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS site (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, position INTEGER NOT NULL,
    module TEXT NOT NULL, shape TEXT NOT NULL, channel_axis INTEGER, dtype TEXT NOT NULL,
    attributes TEXT NOT NULL, UNIQUE (kind, name));
CREATE TABLE IF NOT EXISTS scalar (
    step INTEGER NOT NULL, site INTEGER NOT NULL REFERENCES site(id), {_COLUMNS},
    PRIMARY KEY (step, site)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS histogram (
    step INTEGER NOT NULL, site INTEGER NOT NULL REFERENCES site(id), scale TEXT NOT NULL,
    low REAL NOT NULL, high REAL NOT NULL, counts BLOB NOT NULL,
    PRIMARY KEY (step, site, scale)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS metric (
    step INTEGER NOT NULL, name TEXT NOT NULL, value REAL, PRIMARY KEY (name, step)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS finding (
    code TEXT NOT NULL, severity TEXT NOT NULL, site TEXT, body TEXT NOT NULL);
"""


@dataclass(frozen=True)
class Site:
    """A place where a tensor is measured.

    kind          one of KINDS
    name          activations and their gradients: the module's path ("layers.0.conv"), "#2" for its second
                  call in one pass, ":tanh" for a function called inside it ("block:tanh"), "[1]" or "[key]"
                  for further outputs. Parameters, their gradients and updates: the parameter's name.
                  Inputs: "input", "input[1]" or "input[key]".
    position      execution order: activations and gradients share the position of the forward call;
                  parameters take that of the module call that uses them
    module        type name of the module ("Conv2d") or function ("tanh")
    shape         of the first tensor seen
    channel_axis  non-negative axis of the channels, or None if there is none
    attributes    what rules and plots need beyond numbers; keys in docs/reference/record.md
    """

    id: int
    kind: str
    name: str
    position: int
    module: str
    shape: tuple[int, ...]
    channel_axis: int | None
    dtype: str
    attributes: Mapping[str, Any] = field(default_factory=dict, hash=False, compare=False)


@dataclass(frozen=True)
class Histogram:
    """64 counts of a sample of one tensor's magnitudes.

    scale "linear": bins of equal width from low to high, the last one open to larger values.
    scale "log2": bin i holds magnitudes in [2**(low+i), 2**(low+i+1)); smaller ones (but not zero) fall into
    the first bin, larger ones into the last.
    """

    step: int
    site: str
    scale: str
    low: float
    high: float
    counts: np.ndarray

    @property
    def edges(self) -> np.ndarray:
        """The 65 bin edges, as magnitudes."""
        edges = np.linspace(self.low, self.high, len(self.counts) + 1)
        return 2.0**edges if self.scale == "log2" else edges


class Frame(Mapping[str, np.ndarray]):
    """Tidy columns of equal length: `frame["std"]` is an array, `frame.to_pandas()` a DataFrame.

    >>> frame = Frame({"step": np.array([0, 1]), "std": np.array([0.5, 0.25])})
    >>> len(frame), frame.columns, float(frame["std"][1])
    (2, ('step', 'std'), 0.25)
    """

    def __init__(self, columns: Mapping[str, np.ndarray]):
        self._columns = dict(columns)

    def __getitem__(self, column: str) -> np.ndarray:
        try:
            return self._columns[column]
        except KeyError:
            raise KeyError(f"no column {column!r}; there are {', '.join(self._columns)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        """Number of rows."""
        return len(next(iter(self._columns.values()), ()))

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self._columns)

    def where(self, **equal: Any) -> Frame:
        """The rows in which every named column equals the given value: `frame.where(site="fc1")`."""
        keep = np.ones(len(self), dtype=bool)
        for column, value in equal.items():
            keep &= self[column] == value
        return Frame({name: values[keep] for name, values in self._columns.items()})

    def to_pandas(self) -> Any:
        """A pandas DataFrame; pandas must be installed."""
        import pandas  # type: ignore[import-not-found]

        return pandas.DataFrame(self._columns)

    def __repr__(self) -> str:
        head = [f"Frame: {len(self)} rows", "  ".join(self._columns)]
        for row in range(min(len(self), 8)):
            cells = (values[row] for values in self._columns.values())
            head.append("  ".join(f"{c:.4g}" if isinstance(c, float) else str(c) for c in cells))
        return "\n".join(head + (["..."] if len(self) > 8 else []))


_Method = TypeVar("_Method", bound=Callable[..., Any])


def _reads(method: _Method) -> _Method:
    """Whatever goes wrong while decoding what the file holds means that the file is damaged."""

    @functools.wraps(method)
    def reading(self: Record, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except UnitgainError:
            raise
        except (ValueError, TypeError, IndexError, OverflowError) as error:
            raise RecordError(f"record {self.path}: cannot be read, it is damaged: {error}") from error

    return reading  # type: ignore[return-value]


class Record:
    """Sites, statistics, histograms, metrics, facts and findings of one model.

    Record()              a private temporary one
    Record("run.sqlite")  writes a new file (an existing file is refused)
    Record.load(path)     opens an existing file for reading

    Raises InputError for a path that cannot be written, RecordError for a file that is not a record, is
    damaged, or was written by a newer version.

    >>> record = Record()
    >>> site = record.add_site("activation", "fc1", module="Linear", shape=(32, 100), channel_axis=1)
    >>> record.add_scalars(step=0, rows={site.id: {"mean": 0.0, "std": 1.5}})
    >>> record.value("activation", "fc1", "std")
    1.5
    """

    def __init__(self, path: str | os.PathLike[str] | None = None):
        self.path = None if path is None else os.fspath(path)
        self._closed = False
        if self.path is not None and os.path.exists(self.path) and os.path.getsize(self.path):
            raise InputError(f"record {self.path}: the file exists; choose a new name or delete it first")
        self._connection = _open_new(self.path)
        self._read_only = False
        self._sites: dict[int, Site] = {}
        self._by_name: dict[tuple[str, str], Site] = {}
        self._last_commit = time.monotonic()
        self.set_meta("schema_version", SCHEMA_VERSION)
        self.set_meta("created", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
        self.commit()

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Record:
        """Opens a record file for reading, also while another process writes it."""
        record = cls.__new__(cls)
        record.path = os.fspath(path)
        record._connection = _open_existing(record.path)
        record._read_only, record._closed = True, False
        record._last_commit = time.monotonic()
        record._sites, record._by_name = {}, {}
        record.refresh()
        return record

    @_reads
    def refresh(self) -> None:
        """Reads the sites that another process has added since."""
        for row in self._query(
            "SELECT id, kind, name, position, module, shape, channel_axis, dtype, attributes FROM site"
        ):
            shape, attributes = tuple(json.loads(row[5])), json.loads(row[8])
            self._remember(Site(*row[:5], shape, row[6], row[7], attributes))

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
        if kind not in KINDS:
            raise InputError(f"site kind {kind!r} is unknown; kinds are {', '.join(KINDS)}")
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
        self._connection.execute(
            "INSERT INTO site VALUES (?,?,?,?,?,?,?,?,?)",
            (number, kind, name, site.position, module, json.dumps(site.shape), channel_axis, dtype,
             _dump(site.attributes)),
        )  # fmt: skip
        self._remember(site)
        return site

    def _remember(self, site: Site) -> None:
        self._sites[site.id] = site
        self._by_name[site.kind, site.name] = site

    def add_scalars(self, step: int, rows: Mapping[int, Mapping[str, float | None]]) -> None:
        """One row of statistics per site id; names not in the row, and NaN, become NULL."""
        self.add_table(step, list(rows), [[row.get(s) for s in STATISTICS] for row in rows.values()])

    def add_table(self, step: int, site_ids: Sequence[int], table: Iterable[Sequence[float | None]]) -> None:
        """The fast way in: one row per site id with a value per name in STATISTICS, in that order."""
        marks = ",".join("?" * (2 + len(STATISTICS)))
        self._connection.executemany(
            f"INSERT OR REPLACE INTO scalar VALUES ({marks})",
            [(step, site, *row) for site, row in zip(site_ids, table)],
        )

    def add_histograms(self, step: int, rows: Iterable[tuple[int, str, float, float, np.ndarray]]) -> None:
        """Rows of (site id, "linear" or "log2", low, high, counts)."""
        self._connection.executemany(
            "INSERT OR REPLACE INTO histogram VALUES (?,?,?,?,?,?)",
            [
                (step, i, scale, low, high, counts.astype("<u4").tobytes())
                for i, scale, low, high, counts in rows
            ],
        )

    def log(self, step: int, **metrics: float) -> None:
        """Named numbers that belong to a step: `record.log(step, loss=2.3, lr=0.1)`."""
        self._connection.executemany(
            "INSERT OR REPLACE INTO metric VALUES (?,?,?)",
            [(step, name, _sql_float(value)) for name, value in metrics.items()],
        )

    def set_meta(self, key: str, value: Any) -> None:
        """Stores any JSON value under a key. NaN and infinities are kept as the strings "nan", "inf", "-inf"."""
        self._connection.execute("INSERT OR REPLACE INTO meta VALUES (?,?)", (key, _dump(value)))

    def add_finding(self, code: str, severity: str, site: str | None, body: Mapping[str, Any]) -> None:
        self._connection.execute("INSERT INTO finding VALUES (?,?,?,?)", (code, severity, site, _dump(body)))

    def commit(self, every: float = 0.0) -> None:
        """Makes what was added visible to other processes and safe from a crash of this one.

        With every=0.5 it does so only if half a second has passed since the last time.
        """
        now = time.monotonic()
        if now - self._last_commit >= every:
            self._connection.commit()
            self._last_commit = now

    def close(self) -> None:
        """Commits and closes; the record cannot be used afterwards. Closing twice is fine."""
        if self._closed:
            return
        self._closed = True
        if not self._read_only:
            self._connection.commit()
        self._connection.close()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Copies the record into a new file at path."""
        if not self._read_only:
            self._connection.commit()
        if os.path.exists(path) and os.path.getsize(path):
            raise InputError(
                f"record {os.fspath(path)}: the file exists; choose a new name or delete it first"
            )
        target = _open_new(os.fspath(path))
        try:
            self._connection.backup(target)
        finally:
            target.close()

    # ---- reading -------------------------------------------------------------------------------------------

    @property
    @_reads
    def meta(self) -> dict[str, Any]:
        return {key: _load(value) for key, value in self._query("SELECT key, value FROM meta")}

    @property
    def facts(self) -> dict[str, Any]:
        """What is known beyond the sites: the loss, the targets, the output. Keys in docs/reference/record.md."""
        return self.meta.get("facts", {})

    def sites(self, kind: str | None = None) -> list[Site]:
        """All sites, or those of one kind, in execution order."""
        chosen = (s for s in self._sites.values() if kind is None or s.kind == kind)
        return sorted(chosen, key=lambda s: (s.position, s.id))

    def site(self, kind: str, name: str) -> Site | None:
        return self._by_name.get((kind, name))

    @_reads
    def steps(self) -> list[int]:
        """The sampled steps, ascending."""
        return [row[0] for row in self._query("SELECT DISTINCT step FROM scalar ORDER BY step")]

    @_reads
    def frame(self, kind: str | None = None, step: int | None = None) -> Frame:
        """Tidy columns: step, site, kind, module, position, then every statistic (NaN where undefined).

        Rows are ordered by step, then by execution order.
        """
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

        Statistics that are undefined for a site are left out.
        """
        if step is None:
            step = next(iter(self.steps()), 0)
        frame = self.frame(kind, step)
        result: dict[str, dict[str, float]] = {}
        for row, name in enumerate(frame["site"]):
            cells = {s: float(frame[s][row]) for s in STATISTICS}
            result[name] = {s: v for s, v in cells.items() if not math.isnan(v)}
        return result

    @_reads
    def value(self, kind: str, name: str, statistic: str, step: int | None = None) -> float:
        """One number (of the first step if none is given), NaN where it was not measured."""
        _check_statistic(statistic)
        site = self.site(kind, name)
        if site is None:
            return math.nan
        condition, arguments = ("AND step = ?", [site.id, step]) if step is not None else ("", [site.id])
        row = next(
            iter(self._query(
                f'SELECT "{statistic}" FROM scalar WHERE site = ? {condition} ORDER BY step LIMIT 1', arguments
            )),
            (None,),
        )  # fmt: skip
        return math.nan if row[0] is None else float(row[0])

    @_reads
    def series(self, kind: str, name: str, statistic: str) -> tuple[np.ndarray, np.ndarray]:
        """(steps, values) of one statistic of one site."""
        _check_statistic(statistic)
        site = self.site(kind, name)
        rows = list(
            self._query(
                f'SELECT step, "{statistic}" FROM scalar WHERE site = ? ORDER BY step',
                [site.id if site else -1],
            )
        )
        return (
            np.array([r[0] for r in rows], dtype=np.int64),
            np.array([r[1] for r in rows], dtype=np.float64),
        )

    @_reads
    def histograms(
        self, kind: str, name: str | None = None, scale: str = "linear", step: int | None = None
    ) -> list[Histogram]:
        """Histograms of one kind, of one site and step if given, by step and execution order."""
        query = (
            "SELECT h.step, site.name, h.scale, h.low, h.high, h.counts FROM histogram h "
            "JOIN site ON site.id = h.site WHERE site.kind = ? AND h.scale = ?"
        )
        arguments: list[Any] = [kind, scale]
        for column, value in (("site.name", name), ("h.step", step)):
            if value is not None:
                query += f" AND {column} = ?"
                arguments.append(value)
        rows = self._query(query + " ORDER BY h.step, site.position, site.id", arguments)
        return [Histogram(*row[:5], np.frombuffer(row[5], dtype="<u4")) for row in rows]

    @_reads
    def metric(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """(steps, values) of one metric."""
        rows = list(self._query("SELECT step, value FROM metric WHERE name = ? ORDER BY step", [name]))
        return np.array([r[0] for r in rows], dtype=np.int64), np.array(
            [r[1] for r in rows], dtype=np.float64
        )

    @_reads
    def metric_names(self) -> list[str]:
        return [row[0] for row in self._query("SELECT DISTINCT name FROM metric ORDER BY name")]

    @_reads
    def findings(self) -> list[dict[str, Any]]:
        """The stored findings' bodies, in the order in which they were added."""
        return [_load(row[0]) for row in self._query("SELECT body FROM finding ORDER BY rowid")]

    def _query(self, sql: str, arguments: Sequence[Any] = ()) -> Iterable[tuple[Any, ...]]:
        try:
            return self._connection.execute(sql, arguments).fetchall()
        except sqlite3.DatabaseError as error:
            raise RecordError(f"record {self.path}: cannot be read: {error}") from error

    def __repr__(self) -> str:
        return (
            f"Record({self.path or 'temporary'}, {len(self._sites)} sites, {len(self.steps())} sampled steps)"
        )


def pack_map(flags: np.ndarray) -> dict[str, Any]:
    """A matrix of booleans (rows, columns) as JSON, one bit each: {"rows", "cols", "bits"}.

    >>> unpack_map(pack_map(np.array([[True, False], [False, True]])))
    array([[ True, False],
           [False,  True]])
    """
    flags = np.asarray(flags, dtype=bool)
    if flags.ndim != 2:
        raise InputError(f"map: a matrix (examples, units) is needed, not shape {flags.shape}")
    bits = base64.b64encode(np.packbits(flags).tobytes()).decode("ascii")
    return {"rows": flags.shape[0], "cols": flags.shape[1], "bits": bits}


def unpack_map(packed: Mapping[str, Any]) -> np.ndarray:
    """The matrix of booleans (rows, columns) that pack_map packed."""
    rows, cols = int(packed["rows"]), int(packed["cols"])
    bits = np.frombuffer(base64.b64decode(packed["bits"]), dtype=np.uint8)
    if len(bits) * 8 < rows * cols:
        raise RecordError(
            f"map: {len(bits)} bytes are too few for {rows} x {cols} bits; the record is damaged"
        )
    return np.unpackbits(bits, count=rows * cols).reshape(rows, cols).astype(bool)


def _open_new(path: str | None) -> sqlite3.Connection:
    try:
        # "" is SQLite's private temporary database: in memory while small, then on disk, gone when closed
        connection = sqlite3.connect(path or "", check_same_thread=False)
        if path is not None:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        connection.executescript(_SCHEMA)
    except sqlite3.Error as error:
        raise InputError(f"record {path}: cannot be written: {error}") from error
    return connection


def _open_existing(path: str) -> sqlite3.Connection:
    if not os.path.isfile(path):
        raise RecordError(f"record {path}: there is no such file")
    try:
        connection = sqlite3.connect(f"file:{_uri(path)}?mode=ro", uri=True, check_same_thread=False)
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.DatabaseError as error:
        raise RecordError(f"record {path}: not a unitgain record ({error})") from error
    if application == APPLICATION_ID and _is_truncated(path):
        connection.close()
        raise RecordError(f"record {path}: cannot be read, its end is missing; copy it again")
    if application != APPLICATION_ID:
        connection.close()
        raise RecordError(f"record {path}: an SQLite file, but not a unitgain record")
    if version > SCHEMA_VERSION:
        connection.close()
        raise RecordError(
            f"record {path}: written by a newer unitgain (schema {version}, this one reads up to "
            f"{SCHEMA_VERSION}); upgrade unitgain to read it"
        )
    return connection


def _is_truncated(path: str) -> bool:
    """Whether the file is shorter than its header says. Beside a write-ahead log it may be, rightly."""
    if os.path.exists(path + "-wal"):
        return False
    with open(path, "rb") as file:
        header = file.read(32)
    page_size = int.from_bytes(header[16:18], "big")
    pages = int.from_bytes(header[28:32], "big")
    return os.path.getsize(path) < pages * (65_536 if page_size == 1 else page_size)


def _uri(path: str) -> str:
    from urllib.parse import quote

    return quote(os.path.abspath(path))


def _check_statistic(statistic: str) -> None:
    if statistic not in STATISTICS:
        raise InputError(f"statistic {statistic!r} is unknown; there are {', '.join(STATISTICS)}")


def _sql_float(value: float) -> float | None:
    """SQLite stores NaN as NULL; infinities it keeps."""
    value = float(value)
    return None if math.isnan(value) else value


def _dump(value: Any) -> str:
    return json.dumps(_encode(value), allow_nan=False)


def _load(text: str) -> Any:
    return json.loads(text)


def _encode(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _encode(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encode(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value
