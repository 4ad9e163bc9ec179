"""unitgain view: a run watched while it trains."""

from __future__ import annotations

from typing import Annotated

import typer

from .._base import InputError, note, say
from .errors import INTERRUPTED, Debug


def view(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...", help="Folders of runs (unitgain train --run), or records (.sqlite)."
        ),
    ],
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Where to serve; beyond 127.0.0.1 a token is asked for.",
            show_default=True,
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option("--port", "-p", metavar="N", min=0, max=65535, help="0: a free one.", show_default=True),
    ] = 0,
    token: Annotated[
        bool, typer.Option("--token", help="Ask for a token on this machine too, where other people use it.")
    ] = False,
    terminal: Annotated[
        bool,
        typer.Option(
            "--terminal", "-t", help="Show the run in this terminal, over ssh say, and serve nothing."
        ),
    ] = False,
    debug: Debug = False,
) -> None:
    """Watch runs while they train: loss, update ratios, layers over time, findings as they appear, runs compared.

    Nothing is changed: the page is made from the record that a Probe or a Learner writes (Probe(to="run.sqlite"),
    unitgain train --run), also after the run has ended.

    \b
    Examples:
      unitgain view runs/tanh
      unitgain view runs/tanh runs/relu --port 8642
      unitgain view runs/tanh --terminal
    """
    from ..view import find_run, serve, show

    found = [find_run(target) for target in runs]
    if terminal:
        if host != "127.0.0.1" or port or token:
            raise InputError(
                "--terminal: nothing is served, so --host, --port and --token have no place beside it"
            )
        show(found)
        return
    try:
        serve(found, host=host, port=port, token=token, ready=_tell)
    except KeyboardInterrupt:  # how it is meant to end
        raise typer.Exit(INTERRUPTED) from None


def _tell(address: str) -> None:
    say(address)
    note("open this address in a browser; Ctrl-C ends it")
