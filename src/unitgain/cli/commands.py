"""The commands put together, and main(), which runs one of them."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from .._base import InputError, quietly, say, say_to_program
from .._version import __version__
from .check import check
from .data import data_app
from .demo import demo
from .errors import Debug, exit_code_of
from .fix import fix
from .help import CHANGE, LOOK, MORE, TRAIN, Command, Group
from .ladder import ladder, list_recipes
from .landscape import landscape
from .lesson import lesson
from .lists import models, rules
from .mcp import mcp
from .normfree import normfree_app
from .options import Quiet, with_quiet
from .runs import plots, sample
from .spp import spp
from .tab import ASKING, answer, install, script, this_shell
from .train import lr_find, train
from .view import view
from .whatif import whatif

app = typer.Typer(
    name="unitgain",
    cls=Group,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; never raises, never prints a traceback without --debug."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if shell := os.environ.get(ASKING):  # Tab was pressed
        with contextlib.suppress(Exception):  # nothing that could be said would be seen
            say_to_program(answer(shell, arguments, typer.main.get_command(app)))
        return 0

    def run() -> None:
        with typer.main.get_command(app).make_context("unitgain", [*arguments], obj=arguments) as context:
            context.command.invoke(context)

    return exit_code_of(run, debug="--debug" in arguments)


def _version(wanted: bool) -> None:
    if wanted:
        say(f"unitgain {__version__}")
        raise typer.Exit


def _show(shell: str | None) -> None:
    if shell is not None:
        say_to_program(script(shell))
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    install_completion: Annotated[
        bool,
        typer.Option(
            "--install-completion",
            help="Make Tab complete, in bash, zsh or fish.",
        ),
    ] = False,
    show_completion: Annotated[
        str | None,
        typer.Option(
            metavar="SHELL",
            callback=_show,
            is_eager=True,
            help="Print the script for bash, zsh or fish that does.",
        ),
    ] = None,
    debug: Debug = False,
    quiet: Quiet = False,
) -> None:
    """Measures how signals flow through a PyTorch network, says what is wrong, and why.

    \b
    Start here:
      unitgain demo
      unitgain check my_model.py:make_model --data batch.npz
      unitgain whatif char_mlp_deep --dataset names --vary gain=0.5,1,5/3,3
    """
    if quiet:
        context.with_resource(quietly())
    if install_completion and context.invoked_subcommand is not None:
        raise InputError("--install-completion: stands by itself, without a command")
    if install_completion:
        install(this_shell())
    elif context.invoked_subcommand is None:
        say(context.get_help())


def _add(function: Callable[..., None], group: str, short_help: str, name: str | None = None) -> None:
    app.command(name, cls=Command, short_help=short_help, rich_help_panel=group)(with_quiet(function))


_add(check, LOOK, "Measure a model and say what is wrong with it.")
_add(whatif, LOOK, "Train one network in several settings, side by side.")
_add(view, LOOK, "Watch a run while it trains: a page, or --terminal.")
_add(spp, LOOK, "Draw the signal propagation plot of a residual network.")
_add(landscape, LOOK, "Draw the loss around a network's weights.")
_add(plots, LOOK, "Draw what a run recorded.")
_add(fix, CHANGE, "Repair a model, measure again, keep what helped.")
app.add_typer(normfree_app, name="normfree", cls=Group, rich_help_panel=CHANGE)
_add(train, TRAIN, "Train a recipe or your own model; resume a run.")
_add(lr_find, TRAIN, "Find a learning rate.", "lr-find")
_add(ladder, TRAIN, "Train a recipe's rungs, beside the published results.")
_add(sample, TRAIN, "Draw names from a trained model.")
_add(lesson, MORE, "Show what keeps a network from learning, chapter by chapter.")
_add(demo, MORE, "Show a network that cannot train well, the repair, and its effect.")
_add(rules, MORE, "List the rules, or explain one.")
_add(models, MORE, "List the built-in models and what they cost.")
_add(list_recipes, MORE, "List the recipes, or the settings of one.", "recipes")
app.add_typer(data_app, name="data", cls=Group, rich_help_panel=MORE)
_add(mcp, MORE, "Answer an agent by the Model Context Protocol.")
