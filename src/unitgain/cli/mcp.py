"""unitgain mcp: a server for agents."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from .._base import note
from .errors import Debug


def mcp(
    write: Annotated[
        bool,
        typer.Option(
            "--write", help="Let the tool fix write repaired weights. Otherwise nothing is written."
        ),
    ] = False,
    timeout: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=1, help="The longest that one call may take.", show_default=True),
    ] = 600.0,
    debug: Debug = False,
) -> None:
    """Answer an agent by the Model Context Protocol, on the standard input and output of this process.

    \b
    Tools: check, explain, fix (a dry run), read_run. Checking a model runs its code, as importing it does. In an
    agent's settings:
      {"command": "unitgain", "args": ["mcp"]}
    """
    from ..integrations import serve

    if sys.stdin.isatty():
        note("unitgain mcp: waiting for an agent, which starts this command by itself; Ctrl-C ends it")
    serve(write=write, timeout=timeout)
