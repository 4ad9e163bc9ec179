"""Reading what other programs logged into a Record, so that the rules about loss curves can judge runs of the past.

Nothing here unpickles, and nothing needs the run's code. TensorBoard's files are read with that package's
own reader, wandb's with its schema.
"""

# the libraries are optional
# pyright: reportMissingImports=false
from __future__ import annotations

import csv
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from glob import escape, glob
from pathlib import Path

from .._base import InputError, not_installed
from ..record import Facts, LossFacts, Record, TargetFacts
from .wandb_file import history

# names of a training loss, most telling first; of the step likewise
LOSSES = ("loss", "train_loss", "train/loss", "training_loss", "training/loss", "loss/train", "loss/training",
          "train_loss_step", "train/loss_step", "loss_step", "batch_loss")  # fmt: skip
STEPS = ("step", "_step", "global_step", "trainer/global_step", "iteration", "iter", "it", "batch")

Point = tuple[int, str, float]


def read_log(
    path: str | os.PathLike[str],
    *,
    loss: str | None = None,
    step: str | None = None,
    classes: int | None = None,
) -> Record:
    """A Record of the numbers that another program logged.

    path     a .csv or .jsonl file, a TensorBoard event file or a folder with some, a .wandb file or the folder of an
             offline run, Trainer's trainer_state.json
    loss     the name of the training loss, where it is not called like one (loss, train_loss, train/loss, ...)
    step     of a table: the column with the step (step, global_step, iteration, ...); without one its rows are counted
    classes  of a classifier with cross entropy: how many there are. UG505 needs it

    Every series keeps its name; the training loss is "loss" as well. The record says nothing of layers, so only rules
    about loss curves can judge it: `ug.diagnose(read_log("metrics.csv"))`.

    Raises InputError for a file of another kind, one without a training loss, and a package that is not installed.
    """
    where = os.fspath(path)
    if not os.path.exists(where):
        raise InputError(f"log {where}: there is no such file")
    points = list(_points(where, step))
    names = list(dict.fromkeys(name for _, name, _ in points))
    chosen = _loss_among(where, names, loss)
    record = Record()
    record.add_metrics(points)
    record.add_metrics((at, "loss", value) for at, name, value in points if name == chosen)
    facts = Facts(mode="training")
    if classes is not None:
        if classes < 2:
            raise InputError(f"read_log(classes={classes}): a classifier has at least 2")
        facts = replace(
            facts, loss=LossFacts(kind="cross_entropy"), target=TargetFacts("class_index", classes)
        )
    record.set_facts(facts)
    record.set_meta("source", {"file": where, "loss": chosen})
    record.commit()
    return record


def is_log(path: str) -> bool:
    """Whether a path is one of these files or folders, by its name."""
    if os.path.isdir(path):
        return bool(_event_files(path) or _wandb_files(path))
    name = os.path.basename(path)
    return os.path.isfile(path) and (
        name.endswith((".csv", ".jsonl", ".wandb")) or "tfevents" in name or name == "trainer_state.json"
    )


def _points(path: str, step: str | None) -> Iterator[Point]:
    """(step, name, value) in the order of the file."""
    events, offline = _event_files(path), _wandb_files(path)
    name = os.path.basename(path)
    if events:
        return _from_tensorboard(path, events)
    if offline:
        return (point for file in offline for point in history(file))
    if name == "trainer_state.json":
        return _from_rows(path, _log_history(path), step)
    if name.endswith(".csv"):
        return _from_rows(path, _csv_rows(path), step)
    if name.endswith(".jsonl"):
        return _from_rows(path, _json_rows(path), step)
    raise InputError(
        f"log {path}: not a log that can be read; there are .csv, .jsonl, TensorBoard's event files, .wandb and "
        "trainer_state.json"
    )


def _event_files(path: str) -> list[str]:
    if os.path.isfile(path):
        return [path] if "tfevents" in os.path.basename(path) else []
    return sorted(glob(os.path.join(escape(path), "*tfevents*")))


def _wandb_files(path: str) -> list[str]:
    if os.path.isfile(path):
        return [path] if path.endswith(".wandb") else []
    return sorted(glob(os.path.join(escape(path), "*.wandb")))


# ---- tables ------------------------------------------------------------------------------------------------


def _csv_rows(path: str) -> Iterator[Mapping[str, object]]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            yield from csv.DictReader(file)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"log {path}: cannot be read as a table with commas: {error}") from error


def _json_rows(path: str) -> Iterator[Mapping[str, object]]:
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise InputError(f"log {path}: line {number} is no object")
                    yield row
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"log {path}: not JSON, one object a line: {error}") from error


def _log_history(path: str) -> Iterator[Mapping[str, object]]:
    """Of Trainer: a row a logging, with the number of steps that were made by then."""
    try:
        rows = json.loads(Path(path).read_text(encoding="utf-8"))["log_history"]
        yield from [{**row, "step": int(row["step"]) - 1} for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"log {path}: not a trainer_state.json with a log_history: {error}") from error


def _from_rows(path: str, rows: Iterator[Mapping[str, object]], step: str | None) -> Iterator[Point]:
    counted = -1
    for number, row in enumerate(rows):
        keys = {key.strip().lower(): key for key in row if isinstance(key, str)}
        if step is not None and step not in row:
            raise InputError(f"log {path}: no column {step!r}; there are {', '.join(map(str, row))}")
        column = step or next((keys[name] for name in STEPS if name in keys), None)
        if column is None:
            at = number
        else:
            value = _number(row[column])
            at = (
                counted if math.isnan(value) else int(value)
            )  # an empty cell: the row belongs to the one before
        counted = max(at, 0)
        for name, cell in row.items():
            if isinstance(name, str) and name != column and cell not in (None, ""):
                value = _number(cell)
                if not math.isnan(value) or _says_nan(cell):
                    yield counted, name.strip(), value


def _number(cell: object) -> float:
    """NaN for what is no number."""
    try:
        return float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.nan


def _says_nan(cell: object) -> bool:
    return isinstance(cell, float) or (isinstance(cell, str) and cell.strip().lower() in ("nan", "-nan"))


# ---- TensorBoard ---------------------------------------------------------------------------------


def _from_tensorboard(path: str, files: list[str]) -> Iterator[Point]:
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        from tensorboard.util import tensor_util
    except ImportError as error:
        raise not_installed(f"log {path}", "tensorboard", "tensorboard") from error
    for file in files:
        try:
            events = EventAccumulator(file, size_guidance={"scalars": 0, "tensors": 0}).Reload()
            tags = events.Tags()
        except Exception as error:
            raise InputError(f"log {file}: cannot be read as TensorBoard's: {error}") from error
        for tag in tags["scalars"]:
            yield from ((event.step, tag, float(event.value)) for event in events.Scalars(tag))
        for tag in tags["tensors"]:  # TensorFlow 2 writes scalars as tensors
            for event in events.Tensors(tag):
                value = tensor_util.make_ndarray(event.tensor_proto)
                if value.ndim == 0 and value.dtype.kind == "f":
                    yield event.step, tag, float(value)


def _loss_among(path: str, names: list[str], asked: str | None) -> str:
    if asked is not None and names:
        if asked in names:
            return asked
        raise InputError(f"log {path}: nothing is called {asked!r}; there are {_listed(names)}")
    if not names:
        raise InputError(f"log {path}: it holds no numbers")
    plain = {re.sub(r"[\s\-]+", "_", name.strip().lower()): name for name in reversed(names)}
    found = next((plain[name] for name in LOSSES if name in plain), None)
    if found is None:
        raise InputError(
            f"log {path}: no series is called like a training loss; name it with loss= (on the command line --loss); "
            f"there are {_listed(names)}"
        )
    return found


def _listed(names: list[str]) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
