"""Where numbers go: Weights & Biases, TensorBoard, MLflow, Trackio, Lightning's loggers, a function.

A logger is recognized by what it can do, so that none of these packages has to be installed to use another.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from .._base import InputError, did_you_mean, not_installed
from ..rules import Finding

Row = tuple[str, str, "float | None"]
NAMED = ("wandb", "mlflow", "trackio")  # whose active run is meant where only the name is given
_LEVELS = {"warning": 2.0, "error": 3.0}


class Logger:
    """What all of them can do: numbers. The rest is left out where a library has no place for it."""

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        raise NotImplementedError

    def histogram(self, step: int, key: str, values: Sequence[float]) -> None:
        """One value for each layer."""

    def finding(self, step: int, finding: Finding) -> None:
        """A finding that has just appeared."""
        self.numbers(step, {f"ug/finding/{finding.code}": _LEVELS[finding.severity]})

    def gone(self, step: int, code: str) -> None:
        self.numbers(step, {f"ug/finding/{code}": 0.0})

    def table(self, step: int, rows: Sequence[Row]) -> None:
        """(what, where, value) of every layer, once at the end."""

    def close(self) -> None:
        """What waits is written; the logger itself is its owner's."""


def title_of(finding: Finding) -> str:
    return f"{finding.severity} {finding.code} {finding.name}" + (
        f" at {finding.site}" if finding.site else ""
    )


def text_of(finding: Finding) -> str:
    return f"{finding.message}. {finding.remedy}".strip()


class _Function(Logger):
    def __init__(self, function: Callable[[dict[str, float], int], Any]):
        self._function = function

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        self._function(dict(values), step)


class _TensorBoard(Logger):
    def __init__(self, writer: Any):
        self._writer = writer

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def histogram(self, step: int, key: str, values: Sequence[float]) -> None:
        import numpy as np

        self._writer.add_histogram(f"{key}_layers", np.asarray(values), step)

    def finding(self, step: int, finding: Finding) -> None:
        super().finding(step, finding)
        self._writer.add_text(
            f"ug/finding/{finding.code}", f"**{title_of(finding)}**\n\n{text_of(finding)}", step
        )

    def table(self, step: int, rows: Sequence[Row]) -> None:
        lines = [
            "| what | where | value |",
            "|---|---|---|",
            *(f"| {a} | {b} | {v:.4g} |" for a, b, v in rows),
        ]
        self._writer.add_text("ug/layers", "\n".join(lines), step)

    def close(self) -> None:
        self._writer.flush()


class _WandB(Logger):
    """Rows are left open (commit=False), so that they join the row that the caller logs next and the run's own step is
    never moved under his feet; a row that nobody closed since is closed before the next. The x axis is `ug/step`."""

    def __init__(self, run: Any):
        self._run, self._open_at = run, None
        run.define_metric("ug/step", hidden=True)
        run.define_metric("ug/*", step_metric="ug/step")

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        self._log(step, dict(values))

    def _log(self, step: int, values: dict[str, Any]) -> None:
        if self._open_at is not None and self._open_at[0] == self._run.step and self._open_at[1] != step:
            self._run.log({}, commit=True)
        self._run.log({**values, "ug/step": step}, commit=False)
        self._open_at = (self._run.step, step)

    def histogram(self, step: int, key: str, values: Sequence[float]) -> None:
        self._log(step, {f"{key}_layers": import_module("wandb").Histogram(list(values))})

    def finding(self, step: int, finding: Finding) -> None:
        super().finding(step, finding)
        level = getattr(import_module("wandb").AlertLevel, "ERROR" if finding.severity == "error" else "WARN")
        self._run.alert(title=f"unitgain: {title_of(finding)}"[:128], text=text_of(finding), level=level)

    def table(self, step: int, rows: Sequence[Row]) -> None:
        made = import_module("wandb").Table(columns=["what", "where", "value"], data=[list(r) for r in rows])
        self._log(step, {"ug/layers": made})

    def close(self) -> None:
        if self._open_at is not None and self._open_at[0] == self._run.step:
            self._run.log({}, commit=True)


class _Trackio(Logger):
    """Histograms, tables and levels of alerts where this version of Trackio has them."""

    def __init__(self, run: Any):
        self._run, self._module = run, run if isinstance(run, type(sys)) else import_module("trackio")

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def histogram(self, step: int, key: str, values: Sequence[float]) -> None:
        make = getattr(self._module, "Histogram", None)
        if make is not None:
            self._run.log({f"{key}_layers": make(list(values))}, step=step)

    def finding(self, step: int, finding: Finding) -> None:
        super().finding(step, finding)
        alert, levels = getattr(self._run, "alert", None), getattr(self._module, "AlertLevel", None)
        if alert is not None:
            level = (
                {}
                if levels is None
                else {"level": levels("error" if finding.severity == "error" else "warn")}
            )
            alert(title=f"unitgain: {title_of(finding)}", text=text_of(finding), **level)

    def table(self, step: int, rows: Sequence[Row]) -> None:
        make = getattr(self._module, "Table", None)
        if make is not None:
            made = make(columns=["what", "where", "value"], data=[list(row) for row in rows])
            self._run.log({"ug/layers": made}, step=step)


class _Metrics(Logger):
    """What has `log_metrics(values, step=...)`: mlflow, Lightning's loggers, Comet."""

    def __init__(self, target: Any):
        self._target = target
        self._mlflow = hasattr(target, "log_text") and hasattr(target, "set_tag")

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        named = {_for_mlflow(k) if self._mlflow else k: v for k, v in values.items()}
        self._target.log_metrics(named, step=step)

    def finding(self, step: int, finding: Finding) -> None:
        super().finding(step, finding)
        if self._mlflow:
            self._target.set_tag(
                f"ug.finding.{finding.code}", f"step {step}: {title_of(finding)}: {finding.message}"
            )
        elif callable(
            alert := getattr(getattr(self._target, "experiment", None), "alert", None)
        ):  # a W&B run
            alert(title=f"unitgain: {title_of(finding)}"[:128], text=text_of(finding))

    def table(self, step: int, rows: Sequence[Row]) -> None:
        if self._mlflow:
            text = io.StringIO()
            csv.writer(text).writerows([("what", "where", "value"), *rows])
            self._target.log_text(text.getvalue(), "unitgain/layers.csv")


def _for_mlflow(key: str) -> str:
    """MLflow takes letters, digits, and _ - . : / and spaces."""
    return re.sub(r"[^\w\-. :/]", "_", key)


def loggers_for(to: Any) -> list[Logger]:
    """The logger that an argument `to` means; a list means several.

    Raises InputError for something that takes no numbers, for a library by name without an active run, and for one that
    is not installed.
    """
    if to is None:
        return []
    if isinstance(to, (list, tuple)):
        return [logger for one in to for logger in loggers_for(one)]
    return [_logger_for(_active(to) if isinstance(to, str) else to)]


def _logger_for(to: Any) -> Logger:
    home = (getattr(to, "__name__", "") if isinstance(to, type(sys)) else type(to).__module__).partition(".")[
        0
    ]
    if isinstance(to, Logger):
        return to
    if isinstance(to, type):
        raise InputError(
            f"watch(to=...): got the class {to.__name__}; make a logger of it: {to.__name__}(...)"
        )
    if home == "wandb":
        return _WandB(_active("wandb") if isinstance(to, type(sys)) else to)
    if home == "trackio":
        return _Trackio(to)
    if callable(getattr(to, "add_scalar", None)):
        return _TensorBoard(to)
    if callable(getattr(to, "log_metrics", None)):
        return _Metrics(to)
    if callable(to):
        return _Function(to)
    raise InputError(
        f"watch(to=...): {type(to).__name__} takes no numbers; give a run of wandb, a SummaryWriter, mlflow, "
        "trackio, or a function (values, step)"
    )


def check_name(to: Any) -> None:
    """Raises InputError for a name that is no logger's; whatever else `to` is may become one until training begins."""
    if not isinstance(to, str) or to in NAMED:
        return
    if to == "tensorboard":
        hint = '; give a SummaryWriter, to=SummaryWriter("runs")'
    elif "/" in to or "." in to:
        hint = f"; the path of a record goes to record={to!r}"
    else:
        hint = did_you_mean(to, NAMED)
    raise InputError(f"to={to!r}: no logger is called so; by name there are {', '.join(NAMED)}{hint}")


def _active(name: str) -> Any:
    """The active run of wandb, or the module of the others, which have one at a time."""
    check_name(name)
    try:
        module = import_module(name)
    except ImportError as error:
        raise not_installed(f"watch(to={name!r})", name, name) from error
    if name == "wandb" and module.run is None:
        raise InputError("watch(to='wandb'): there is no active run; call wandb.init first")
    return module.run if name == "wandb" else module
