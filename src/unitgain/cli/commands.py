"""The commands put together, and main(), which runs one of them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from .._base import say
from .._version import __version__
from .check import check
from .data import data_app
from .demo import demo
from .errors import Debug, exit_code_of
from .fix import fix
from .ladder import ladder, list_recipes
from .lists import models, rules
from .mcp import mcp
from .normfree import normfree_app
from .runs import plots, sample
from .spp import spp
from .train import lr_find, train
from .whatif import whatif

app = typer.Typer(
    name="unitgain",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; never raises, never prints a traceback without --debug."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)

    def run() -> None:
        with typer.main.get_command(app).make_context("unitgain", [*arguments], obj=arguments) as context:
            context.command.invoke(context)

    return exit_code_of(run, debug="--debug" in arguments)


def _version(wanted: bool) -> None:
    if wanted:
        say(f"unitgain {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Measures how signals flow through a PyTorch network, says what is wrong, and why.

    \b
    Start here:
      unitgain demo
      unitgain check my_model.py:make_model --data batch.npz
    """
    if context.invoked_subcommand is None:
        say(context.get_help())


app.command(short_help="Measure a model and say what is wrong with it.")(check)
app.command(short_help="Repair a model, measure again, keep what helped.")(fix)
app.command(short_help="Train one network in several settings, side by side.")(whatif)
app.command(short_help="Draw the signal propagation plot of a residual network.")(spp)
app.command(short_help="Train a recipe; resume a run that was interrupted.")(train)
app.command("lr-find", short_help="Find a learning rate for a recipe.")(lr_find)
app.command(short_help="Draw names from a trained model.")(sample)
app.command(short_help="Draw what a run recorded.")(plots)
app.command(short_help="Train a recipe's rungs, beside the published results.")(ladder)
app.command("recipes", short_help="List the recipes, or the settings of one.")(list_recipes)
app.command()(rules)
app.command()(models)
app.command(short_help="Show a network that cannot train well, the repair, and its effect.")(demo)
app.command(short_help="Answer an agent by the Model Context Protocol.")(mcp)
app.add_typer(data_app, name="data")
app.add_typer(normfree_app, name="normfree")
