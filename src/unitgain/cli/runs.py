"""What is done with the folder of a run: unitgain sample, unitgain plots, and unitgain check of a run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from glob import escape, glob
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._base import InputError, busy, say
from .errors import Debug

if TYPE_CHECKING:
    from ..record import Record
    from ..report import Report

Run = Annotated[str, typer.Argument(metavar="RUN", help="The folder of a run (unitgain train --run).")]


def sample(
    run: Run,
    n: Annotated[int, typer.Option("-n", metavar="N", min=1, help="How many.", show_default=True)] = 20,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of what is drawn.", show_default=True)] = 0,
    debug: Debug = False,
) -> None:
    """Draw from a trained model: names, for makemore. The same seed gives the same ones.

    \b
    Example:
      unitgain sample runs/tanh -n 20 --seed 1
    """
    from .. import recipes
    from ..recipes import from_json, read_config

    stored = read_config(run)
    recipe = recipes.get(stored["recipe"])
    if recipe.sample is None:
        able = [name for name in recipes.names() if recipes.get(name).sample is not None]
        raise InputError(
            f"{run}: a run of {recipe.name}, whose model gives nothing to draw from; runs of {', '.join(able)} do"
        )
    weights = _weights(run, recipe.name)
    config = from_json(type(recipe.config), stored["settings"])
    try:
        drawn = recipe.sample(config, weights, n, seed)
    except (RuntimeError, KeyError) as error:
        raise InputError(f"{run}: its weights are not those of its settings: {error}") from error
    for one in drawn:
        say(one)


def plots(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The folder of a run, or a record (.sqlite).")],
    out: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Where they go. [default: RUN/plots]", show_default=False),
    ] = None,
    debug: Debug = False,
) -> None:
    """Draw what a run recorded: loss, updates, activations, ... Also while it is still training.

    \b
    Example:
      unitgain plots runs/tanh
    """
    from ..report import draw_all

    record = open_record(run)
    folder = (
        out if out is not None else os.path.join(run if os.path.isdir(run) else os.path.dirname(run), "plots")
    )
    try:
        with busy("drawing"):
            written = draw_all(record, folder)
    except OSError as error:
        raise InputError(f"--out {folder}: cannot be written: {error.strerror or error}") from error
    if not written:
        raise InputError(f"{run}: nothing that could be drawn was recorded")
    for path in written:
        say(path)


def is_run(target: str) -> bool:
    """Whether a target of `unitgain check` is a run's folder, a record or another program's log, and not a model."""
    if os.path.isfile(os.path.join(target, "config.json")) or _is_record(target):
        return True
    return os.path.exists(target) and _is_log(target)


def _is_record(target: str) -> bool:
    return target.endswith((".sqlite", ".db")) and os.path.isfile(target)


def _is_log(target: str) -> bool:
    from ..integrations import is_log  # torch comes with it: not for a record's sake

    return is_log(target)


def refuse_folder(target: str) -> None:
    """A folder without a run, given to `unitgain check`, most likely holds runs or was to be one."""
    from ..models import names

    if not os.path.isdir(target) or target in names():
        return
    inside = [path for path in sorted(glob(os.path.join(escape(target), "*"))) if is_run(path)]
    hint = f"did you mean {' or '.join(inside[:3])}?" if inside else "was it written by unitgain train --run?"
    raise InputError(f"{target}: neither a run (no config.json in this folder) nor a model; {hint}")


def is_other_log(run: str) -> bool:
    """Whether another program has logged it."""
    return not _is_record(run) and not os.path.isfile(os.path.join(run, "config.json")) and _is_log(run)


def open_record(run: str, loss: str | None = None) -> Record:
    """The record of a run's folder, the record file itself, or one made of another program's log, where `loss` names
    the training loss if it is called unlike one."""
    from ..record import Record

    if is_other_log(run):
        from ..integrations import read_log

        return read_log(run, loss=loss)
    if not os.path.isdir(run):
        return Record.load(run)
    path = os.path.join(run, "record.sqlite")
    if not os.path.isfile(path):
        from ..recipes import read_config

        try:
            hint = f"{read_config(run)['recipe']} writes none, or has not begun"
        except InputError:
            hint = "was it written by unitgain train --run?"
        raise InputError(f"{run}: no record in this folder (record.sqlite); {hint}")
    return Record.load(path)


def report_on_run(
    run: str, select: list[str] | None, ignore: list[str] | None, loss: str | None = None
) -> Report:
    from ..report import Report
    from ..rules import diagnose

    record = open_record(run, loss)
    return Report(record, diagnose(record, select=select, ignore=ignore))


def refuse_model_options(target: str, given: Mapping[str, Any]) -> None:
    """A run was measured while it trained; what a model is checked with has no place there."""
    extra = next((option for option, value in given.items() if value), None)
    if extra is not None:
        raise InputError(f"{extra}: {target} is a run, which is judged by its record; omit {extra}")


def _weights(run: str, recipe: str) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = os.path.join(run, "weights.safetensors")
    if not os.path.isfile(path):
        raise InputError(
            f"{run}: the run has not ended, so there are no weights; unitgain train {recipe} --run {run} --resume"
        )
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: damaged, or not a safetensors file: {error}") from error
