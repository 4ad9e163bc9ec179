"""A run's folder, which holds all results of a training: settings, measurements, weights, plots.

config.json            recipe, settings, versions, machine
metrics.json           the final metrics
weights.safetensors    the trained model; of nf-vs-bn, the one trained last

of recipes that record their training, all but nf-vs-bn:

record.sqlite          losses, learning rates, metrics, statistics of every measured step
checkpoints/           for --resume
plots/                 loss.png, updates.png, ...

of nf-vs-bn, which compares many trainings:

trainings.json         those that are finished; --resume skips them
"""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .._base import FileLock, InputError, is_leftover, remove_leftovers, write_atomically
from .._version import __version__
from ..record import Record

LOCK = ".lock"


@dataclass(frozen=True)
class Outcome:
    """What a recipe returns. metrics: {name: number}; seconds: of training; record: None if nothing was recorded."""

    recipe: str
    config: Any
    model: torch.nn.Module
    metrics: dict[str, float]
    seconds: float
    record: Record | None = None


class RunFolder:
    """The folder of a run. In a data-parallel run only rank 0 writes.

    Raises InputError for a folder that holds a run already, unless it is resumed, for a resumed run of another
    recipe or with other settings, and for a place that cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        recipe: str,
        settings: Mapping[str, Any],
        resume: bool = False,
        rank: int = 0,
    ):
        self.path, self.rank = Path(path), rank
        self._lock: FileLock | None = None
        if rank:
            return
        if self.path.is_dir() and not (self.path / "config.json").is_file() and self._holds_something_else():
            raise InputError(f"--run {path}: the folder holds something else; name a new one")
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"--run {path}: this is a file; name a folder")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.path / LOCK, f"--run {path}")
            remove_leftovers(self.path)
            begun = (self.path / "config.json").is_file()
            if not begun or (
                not resume and not self.contents()
            ):  # what was refused or killed at once is no run
                self.write_json("config.json", {"recipe": recipe, "settings": dict(settings), **conditions()})
                return
        except OSError as error:
            raise InputError(f"--run {path}: cannot be written: {error.strerror or error}") from error
        try:
            if not resume:
                raise InputError(
                    f"--run {path}: it holds a run already; add --resume to continue it, or name a new folder"
                )
            self._check_same(read_config(self.path), recipe, settings)
        except InputError:
            self._lock.release()
            raise

    def _holds_something_else(self) -> bool:
        """Whether the folder holds other files than those of a run that was killed at its start."""
        return any(entry.name != LOCK and not is_leftover(entry.name) for entry in self.path.iterdir())

    def _check_same(self, known: Mapping[str, Any], recipe: str, settings: Mapping[str, Any]) -> None:
        if known["recipe"] != recipe:
            raise InputError(f"--run {self.path}: it is a run of {known['recipe']}, not of {recipe}")
        before = known["settings"]
        now = json.loads(json.dumps(dict(settings)))
        # settings that are newer than the run have their defaults
        changed = next((key for key in now if key in before and before[key] != now[key]), None)
        if changed is not None:
            raise InputError(
                f"--set {changed}={now[changed]}: the run in {self.path} has {before[changed]}; a run continues with "
                "the settings that it began with"
            )

    @property
    def record(self) -> Path:
        return self.path / "record.sqlite"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def weights(self) -> Path:
        return self.path / "weights.safetensors"

    @property
    def trainings(self) -> Path:
        return self.path / "trainings.json"

    def contents(self) -> list[str]:
        """The names of what the folder has beside config.json: "record", "weights", "plots" ..."""
        paths = {
            "record": self.record, "checkpoints": self.checkpoints, "trainings": self.trainings,
            "weights": self.weights, "metrics": self.path / "metrics.json", "plots": self.path / "plots",
        }  # fmt: skip
        return [
            name for name, path in paths.items() if path.is_file() or (path.is_dir() and any(path.iterdir()))
        ]

    def saved(self) -> str:
        """Where a run that was interrupted will continue, as a clause of a sentence."""
        from ..train import checkpoint

        if self.trainings.is_file():
            done = len(json.loads(self.trainings.read_text(encoding="utf-8"))["scores"])
            return f"{done} training{'s are' if done != 1 else ' is'} finished"
        last = next(reversed(checkpoint.list_folder(self.checkpoints)), None)
        if last is None:
            return "no checkpoint yet"
        return f"the last checkpoint is of step {checkpoint.steps_of(last)}"

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Whole or not at all: a process may be killed at any moment."""
        write_atomically(self.path / name, json.dumps(value, indent=2) + "\n")

    def write_weights(self, model: torch.nn.Module, name: str) -> None:
        """Parameters and buffers as safetensors, on the CPU, whole or not at all."""
        from safetensors.torch import save

        state = {n: t.detach().cpu().contiguous().clone() for n, t in model.state_dict().items()}
        write_atomically(self.path / name, save(state))

    def finish(self, outcome: Outcome) -> None:
        """The outcome's metrics, weights and plots; other processes may use the folder afterwards."""
        if self.rank:
            return
        self.write_weights(outcome.model, self.weights.name)
        if outcome.record is not None:
            outcome.record.commit()
            from ..report import draw_all

            draw_all(outcome.record, self.path / "plots")
        numbers = {**outcome.metrics, "seconds": outcome.seconds}
        # JSON has no NaN
        finite = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        self.write_json("metrics.json", finite)  # last: it says that the run has ended
        if self._lock is not None:
            self._lock.release()

    def outcome(self) -> dict[str, float] | None:
        """metrics.json: the metrics of a run that has ended; None for one that has not."""
        try:
            found = json.loads((self.path / "metrics.json").read_text(encoding="utf-8"))
            return {name: math.nan if value is None else float(value) for name, value in found.items()}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise InputError(f"{self.path / 'metrics.json'}: cannot be read: {error}") from error


def read_config(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """config.json of a run. Raises InputError if there is none or it cannot be read."""
    path = Path(folder) / "config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{folder}: not the folder of a run (no config.json in it)") from error
    except ValueError as error:
        raise InputError(f"{path}: damaged: {error}") from error
    if not isinstance(found, dict) or not isinstance(found.get("settings"), dict) or "recipe" not in found:
        raise InputError(f"{path}: not written by unitgain: recipe and settings are missing")
    return found


def conditions() -> dict[str, Any]:
    """What a result depends on, apart from its settings."""
    return {"unitgain": __version__, "torch": str(torch.__version__), "python": platform.python_version(),
            "machine": processor(), "threads": torch.get_num_threads()}  # fmt: skip


def processor() -> str:
    """The processor's name, where the system says it, and the number of cores."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        pass
    return f"{name}, {os.cpu_count()} cores"
