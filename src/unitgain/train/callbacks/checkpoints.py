"""Checkpoint: writes, at regular intervals, all that a resumed run needs, and keeps the last ones and the best."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..._base import FileLock, InputError, did_you_mean, remove_leftovers
from .. import resume
from ..callback import Callback
from ..checkpoint import list_folder, name_of, steps_of

if TYPE_CHECKING:
    from ..learner import Learner


class Checkpoint(Callback):
    """Writes FOLDER/checkpoint-STEPS.safetensors at the end of every epoch.

    folder  made if it is missing
    every   also after each every-th optimizer step
    keep    number of the last ones that are kept
    best    the metric whose best epoch is kept too, or None
    mode    "min" if a small value of it is better, "max" if a large one is

    After Ctrl-C in a single process the current optimizer step (or validation pass) is completed, a checkpoint is
    written, and KeyboardInterrupt is raised. A second Ctrl-C raises it at once. This needs Python's own signal handler;
    where another one is installed, that one stays.

    `learn.resume(folder)` continues from the last one; `best_path` is the best one's.
    """

    order = 100  # after all others, so that the checkpoint is complete
    essential = False

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        every: int | None = None,
        keep: int = 2,
        best: str | None = None,
        mode: str = "min",
    ):
        if every is not None and (not isinstance(every, int) or every < 1):
            raise InputError(f"Checkpoint(every={every!r}): expected a whole number of at least 1, or None")
        if not isinstance(keep, int) or keep < 1:
            raise InputError(f"Checkpoint(keep={keep!r}): expected a whole number of at least 1")
        if mode not in ("min", "max"):
            raise InputError(f"Checkpoint(mode={mode!r}): expected 'min' or 'max'")
        self.folder, self.every, self.keep, self.best, self.mode = Path(folder), every, keep, best, mode
        self.best_value: float | None = None
        self.best_steps: int | None = None
        self._interrupted = self._listening = False
        self._lock: FileLock | None = None

    @property
    def best_path(self) -> Path | None:
        return None if self.best_steps is None else self.folder / name_of(self.best_steps)

    def before_fit(self, learn: Learner) -> None:
        if learn.rank == 0:
            self._lock_folder()
            remove_leftovers(self.folder)
            there = list_folder(self.folder)
            if there and not learn.resuming and learn.steps == 0:
                raise InputError(
                    f"Checkpoint({str(self.folder)!r}): the folder holds checkpoints of another run; "
                    "continue that run with learn.resume(folder), or choose another folder"
                )
        self._interrupted = False
        in_main_thread = threading.current_thread() is threading.main_thread()
        if (
            learn.world == 1
            and in_main_thread
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        ):
            self._listening = True
            signal.signal(signal.SIGINT, self._interrupt)

    def _lock_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.folder / ".lock", f"Checkpoint({str(self.folder)!r})")
        except OSError as error:
            raise InputError(
                f"Checkpoint({str(self.folder)!r}): cannot be written: {error.strerror or error}"
            ) from error

    def after_batch(self, learn: Learner) -> None:
        if self._interrupted and learn.training and learn.stepped:
            self._save(learn)
            raise KeyboardInterrupt
        if self.every and learn.training and learn.stepped and learn.steps % self.every == 0:
            self._save(learn)

    def after_epoch(self, learn: Learner) -> None:
        if self.best is not None:
            if self.best not in learn.metrics:
                raise InputError(
                    f"Checkpoint(best={self.best!r}): not among the metrics, which Metrics "
                    f"fills{did_you_mean(self.best, learn.metrics)}"
                )
            value = learn.metrics[self.best]
            sign = 1 if self.mode == "min" else -1
            if not math.isnan(value) and (self.best_value is None or sign * value < sign * self.best_value):
                self.best_value, self.best_steps = value, learn.steps
        self._save(learn)
        if self._interrupted:
            raise KeyboardInterrupt

    def cleanup_fit(self, learn: Learner) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        if self._listening:
            self._listening = False
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if self._interrupted:  # also if the fit ended before the signal was handled
            self._interrupted = False
            raise KeyboardInterrupt

    def _interrupt(self, number: int, frame: Any) -> None:
        if self._interrupted:
            raise KeyboardInterrupt
        self._interrupted = True

    def _save(self, learn: Learner) -> None:
        resume.save(learn, self.folder / name_of(learn.steps))
        if learn.rank:
            return
        earlier = [p for p in list_folder(self.folder) if steps_of(p) <= learn.steps]
        for path in earlier[: -self.keep]:
            if path != self.best_path:
                with contextlib.suppress(OSError):
                    path.unlink()

    def state_dict(self) -> dict[str, Any]:
        return {"best_value": self.best_value, "best_steps": self.best_steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best_value, self.best_steps = state["best_value"], state["best_steps"]
