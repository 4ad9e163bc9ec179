"""The SQLite file: its tables, how it is opened, and how values become JSON and SQL."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

import numpy as np

from .._base import FileLock, InputError, RecordError, UnitgainError
from .site import STATISTICS

SCHEMA_VERSION = 2
"""Of the file's layout; a file with a higher one is refused. Version 1 had "linear" histograms, of magnitudes, in place
of the signed ones."""
APPLICATION_ID = 0x75676E31
""" "ugn1", stored in the SQLite header so that a foreign file is recognised."""

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

# SELECT DISTINCT step would read every row; this takes one look into the primary key (step, site) per step
STEPS = """
WITH RECURSIVE sampled(step) AS (
    SELECT min(step) FROM scalar
    UNION ALL
    SELECT (SELECT min(step) FROM scalar WHERE scalar.step > sampled.step)
    FROM sampled WHERE sampled.step IS NOT NULL)
SELECT step FROM sampled WHERE step IS NOT NULL
"""
STEPS_AFTER = STEPS.replace(
    "SELECT min(step) FROM scalar\n", "SELECT min(step) FROM scalar WHERE step > ?\n", 1
)


def lock(path: str) -> FileLock:
    """The right to write a record file, which one process at a time has; readers need none.

    Raises InputError if another process writes the record, or the folder cannot be written.
    """
    folder, name = os.path.split(os.path.realpath(path))
    try:
        return FileLock(os.path.join(folder, f".{name}.lock"), f"record {path}")
    except OSError as error:
        if not os.path.isdir(folder):
            raise InputError(f"record {path}: the folder {folder} does not exist; make it first") from error
        raise InputError(f"record {path}: cannot be written: {error.strerror or error}") from error


def make_room(path: str, overwrite: bool) -> None:
    """Refuses a path at which there is a file. With overwrite a record is deleted, but never a file of another kind."""
    if not os.path.exists(path) or (os.path.isfile(path) and not os.path.getsize(path)):
        return
    if os.path.isdir(path):
        raise InputError(
            f"record {path}: that is a folder; give the path of a file in it, like {os.path.join(path, 'run.sqlite')}"
        )
    if not _is_record(path):
        raise InputError(f"record {path}: it exists and is no unitgain record; choose a new name")
    if not overwrite:
        raise InputError(
            f"record {path}: the file exists; choose a new name, or pass overwrite=True to replace the record in it "
            f"(to a Learner: record=ug.Record({path!r}, overwrite=True))"
        )
    try:
        for part in (path + "-wal", path + "-shm", path):
            if os.path.exists(part):
                os.remove(part)
    except OSError as error:
        raise InputError(f"record {path}: cannot be replaced: {error.strerror or error}") from error


def _is_record(path: str) -> bool:
    """By the first bytes alone, so that a damaged record is one too."""
    try:
        with open(path, "rb") as file:
            header = file.read(72)
    except OSError:
        return False
    return header.startswith(b"SQLite format 3\0") and header[68:72] == APPLICATION_ID.to_bytes(4, "big")


def open_new(path: str | None) -> sqlite3.Connection:
    connection = None
    try:
        # "" is SQLite's private temporary database: in memory while small, then on disk, gone when closed
        connection = sqlite3.connect(path or "", check_same_thread=False)
        # before the log is used: the file itself must say what it is, also after a kill -9
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        if path is not None:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
        connection.executescript(_SCHEMA)
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        raise InputError(f"record {path}: cannot be written: {error}") from error
    return connection


_Method = TypeVar("_Method", bound=Callable[..., Any])


def reading(method: _Method) -> _Method:
    """For methods of Record: an error while the content of the file is decoded means that the file is damaged."""

    @functools.wraps(method)
    def guarded(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except UnitgainError:
            raise
        except (ValueError, TypeError, IndexError, OverflowError) as error:
            raise RecordError(
                f"record {self.path}: cannot be read, because it is damaged: {error}"
            ) from error

    return guarded  # type: ignore[return-value]


@contextlib.contextmanager
def writing(path: str | None) -> Iterator[None]:
    """Errors of SQLite while a record is written, with the record's name."""
    try:
        yield
    except sqlite3.Error as error:
        raise RecordError(f"record {path or '(temporary)'}: cannot be written: {error}") from error


def _is_truncated(path: str) -> bool:
    """Whether the file is shorter than its header says. Beside a write-ahead log that is normal."""
    if os.path.exists(os.path.realpath(path) + "-wal"):
        return False
    with open(path, "rb") as file:
        header = file.read(32)
    page_size = int.from_bytes(header[16:18], "big")
    pages = int.from_bytes(header[28:32], "big")
    return os.path.getsize(path) < pages * (65_536 if page_size == 1 else page_size)


def open_existing(path: str) -> sqlite3.Connection:
    if not os.path.isfile(path):
        raise RecordError(f"record {path}: there is no such file")
    real = os.path.realpath(path)  # SQLite keeps its log there
    # without a log beside it nobody is writing: immutable reads leave no files behind, and work in read-only folders
    written = os.path.exists(real + "-wal") or os.path.exists(real + "-journal")
    uri = f"file:{quote(real)}?mode=ro{'' if written else '&immutable=1'}"
    connection = None
    try:
        connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.DatabaseError as error:
        if connection is not None:
            connection.close()
        raise RecordError(f"record {path}: not a unitgain record ({error})") from error
    if application == APPLICATION_ID and _is_truncated(path):
        connection.close()
        raise RecordError(f"record {path}: cannot be read, because its end is missing; copy it again")
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


def sql_float(value: float) -> float | None:
    """SQLite stores NaN as NULL; infinities it keeps."""
    value = float(value)
    return None if math.isnan(value) else value


def dump(value: Any) -> str:
    return json.dumps(_encode(value), allow_nan=False)


def load(text: str) -> Any:
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
