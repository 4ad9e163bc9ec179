"""unitgain train and unitgain lr-find: a recipe and its settings in, a run or a learning rate out."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._base import InputError, busy, console, is_quiet, note, say, table_of
from .errors import INTERRUPTED, WRONG_INPUT, Debug
from .help import OWN
from .output import FIGURE, check_outputs

if TYPE_CHECKING:
    from ..recipes import Recipe, RunFolder

RecipeName = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE",
        help="A recipe's name (unitgain recipes), or a model of your own: path/to/file.py:callable, "
        "package.module:callable, timm:NAME.",
    ),
]
RecipeSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A setting of the recipe, or preset=NAME; of your own model also an argument of its callable.",
    ),
]
Examples = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="FILE",
        help="Of your own model: .safetensors, .npz, or a directory of images.",
        rich_help_panel=OWN,
    ),
]
DataSet = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        metavar="NAME",
        help="Of your own model: names or fashion-mnist.",
        rich_help_panel=OWN,
    ),
]


def train(
    recipe: RecipeName,
    settings: RecipeSettings = None,
    data: Examples = None,
    dataset: DataSet = None,
    run: Annotated[
        str | None,
        typer.Option(
            "--run",
            "-r",
            metavar="DIR",
            help="Keep weights, metrics, and what the recipe records, in this folder.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --run; begin it if there is none.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Train a recipe, or a model of your own.

    Killed at any moment and resumed, a run ends with the same weights, bit for bit.

    \b
    Examples:
      unitgain train makemore
      unitgain train makemore --set variant=tanh --set steps=20000 --run runs/tanh
      unitgain train makemore --run runs/tanh --resume
      unitgain train makemore --set variant=deep --set gain=1 --set tanh=false --set steps=5000
      unitgain train my_model.py:make_model --data train.npz --set epochs=10 --set lr=3e-3 --run runs/mine
      torchrun --nproc_per_node=2 -m unitgain train fashion-mnist -r runs/two
    """
    rank = int(os.environ.get("RANK", "0"))
    try:
        if resume and run is None:
            raise InputError("--resume: which run? Name its folder with --run")
        from .. import recipes

        name, given = own_or_recipe(recipe, settings or [], data, dataset)
        chosen = recipes.get(name)
        config = configure(chosen, given, run if resume else None)
        folder = _folder(run, name, config, resume, rank)
        ended = folder.outcome() if resume and folder is not None else None
    except InputError:
        if rank == 0:
            raise
        raise typer.Exit(WRONG_INPUT) from None  # rank 0 says the same
    if ended is not None:
        if rank == 0:
            _print_outcome(ended)
            note(f"{run}: this run has ended; to train again, name another folder")
        return
    with contextlib.ExitStack() as stack:
        if rank:
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
        try:
            outcome = chosen.train(config, folder, resume=resume, say=_silent if is_quiet() else say)
            if folder is not None:
                with busy("drawing"):
                    folder.finish(outcome)
        except KeyboardInterrupt:
            if rank:
                raise typer.Exit(INTERRUPTED) from None
            raise KeyboardInterrupt(_what_is_saved(recipe, run, folder)) from None
        _leave_group()
        if outcome.record is not None:
            outcome.record.close()
        _print_outcome({**outcome.metrics, "seconds": outcome.seconds})
    if folder is not None and rank == 0:
        held = folder.contents()
        judges = f"; unitgain check {shlex.quote(str(run))} judges it" if "record" in held else ""
        note(f"run written: {run} ({', '.join(held)}{judges})")


def lr_find(
    recipe: RecipeName,
    settings: RecipeSettings = None,
    data: Examples = None,
    dataset: DataSet = None,
    out: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the plot: .png, .svg or .pdf.")
    ] = None,
    start: Annotated[float, typer.Option(metavar="RATE", help="Lowest rate.", show_default=True)] = 1e-6,
    end: Annotated[float, typer.Option(metavar="RATE", help="Highest rate.", show_default=True)] = 10.0,
    steps: Annotated[
        int, typer.Option(metavar="N", min=10, help="Steps of the sweep.", show_default=True)
    ] = 400,
    linear: Annotated[
        bool, typer.Option("--linear", help="Raise the rate by the same amount at every step.")
    ] = False,
    valid: Annotated[
        bool, typer.Option("--valid", help="Read the loss off the validation data, at every step.")
    ] = False,
    trials: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="Short trainings in which the rate has to survive; 0: none.",
            show_default=True,
        ),
    ] = 3,
    no_check: Annotated[
        bool, typer.Option("--no-check", help="Suggest a rate for a sick network too.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Sweep the learning rate over the untrained model of a recipe, or of your own, read a good one off and try it out.

    \b
    Examples:
      unitgain lr-find makemore --set variant=kaiming --out rates.png
      unitgain lr-find my_model.py:make_model --data train.npz --out rates.png
    """
    if out is not None:
        check_outputs({"--out": out}, suffixes={"--out": FIGURE})
    from .. import recipes

    name, given = own_or_recipe(recipe, settings or [], data, dataset)
    chosen = recipes.get(name)
    config = configure(chosen, given)
    with busy("sweeping"):
        found = chosen.learner(config).lr_find(
            start,
            end,
            steps,
            step_mode="linear" if linear else "exp",
            valid=valid,
            trials=trials,
            check=not no_check,
        )
    say(found)
    if found.range is not None:
        say(f"worth a training: {found.range[0]:.1e} to {found.range[1]:.1e}")
    if out is not None:
        from ..report import save_figure

        save_figure(found.plot(), out, dpi=110)
        note(f"plot written: {out}")


def own_or_recipe(
    given: str, settings: list[str], data: str | None, dataset: str | None
) -> tuple[str, list[str]]:
    """(recipe, settings): of a model of one's own the recipe `own`, its target, its examples and its arguments."""
    from .. import recipes
    from ..models import names

    own = ":" in given or (given in names() and given not in recipes.names())
    if not own:
        for option, value in (("--data", data), ("--dataset", dataset)):
            if value is not None and given != "own":
                raise InputError(
                    f"{option} {value}: it goes with a model of your own (unitgain train file.py:callable --data "
                    "FILE); a recipe has its data by a setting (unitgain recipes)"
                )
        if not data and not dataset:
            return given, settings
    known = {f.name for f in dataclasses.fields(recipes.get("own").config)}
    keys = [pair.partition("=")[0].strip() for pair in settings]
    arguments = [pair for key, pair in zip(keys, settings) if key not in known and key != "preset"]
    kept = [pair for key, pair in zip(keys, settings) if key in known or key == "preset"]
    named = {"target": given if own else None, "data": data, "dataset": dataset}
    kept += [f"{key}={value}" for key, value in named.items() if value is not None]
    return "own", [*kept, *([f"arguments={arguments!r}"] if arguments else [])]


def _silent(text: str) -> None:
    """In the place of `say` where only the outcome is to be printed."""


def configure(recipe: Recipe[Any], settings: list[str], run: str | None = None) -> Any:
    """The recipe's settings with those of the command line; those of a run's folder are read from it."""
    from ..recipes import from_json, from_text, read_config

    base = recipe.config
    if run is not None and os.path.isfile(os.path.join(run, "config.json")):
        stored = read_config(run)
        if stored["recipe"] == recipe.name:
            base = from_json(type(base), stored["settings"])
    return from_text(base, settings, recipe.presets)


def _folder(run: str | None, recipe: str, config: Any, resume: bool, rank: int) -> RunFolder | None:
    from ..recipes import RunFolder, as_json

    return None if run is None else RunFolder(run, recipe, as_json(config), resume, rank)


def _what_is_saved(recipe: str, run: str | None, folder: RunFolder | None) -> str:
    if folder is None:
        return "interrupted; nothing was saved, as no folder was given (--run DIR)"
    again = shlex.join(["unitgain", "train", recipe, "--run", str(run), "--resume"])
    return f"interrupted; {run}: {folder.saved()}; continue it with: {again}"


def _leave_group() -> None:
    """A process group that is left open at the end is a warning of torch's on every rank."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _print_outcome(metrics: Mapping[str, float]) -> None:
    rows = [
        (name.replace("_", " "), f"{value:.1f}" if name == "seconds" else _number(value))
        for name, value in metrics.items()
    ]
    table = table_of(("", ">"), rows)
    table.show_header = False
    if not is_quiet():
        say("")
    console().print(table, soft_wrap=True)


def _number(value: float) -> str:
    """Whole numbers and large ones without decimals, others with four."""
    if not math.isfinite(value):
        return str(value)
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.4f}"
