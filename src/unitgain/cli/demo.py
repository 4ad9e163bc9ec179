"""unitgain demo: a network with a bad initialization, its report, and the repair."""

from __future__ import annotations

import os
import time
from typing import Annotated

import typer

from .._base import console
from .errors import Debug
from .output import HTML, check_outputs


def demo(
    out: Annotated[
        str, typer.Option(metavar="FILE", help="The report to write.", show_default=True)
    ] = "demo-report.html",
    steps: Annotated[
        int, typer.Option(min=1, help="Training steps of each network.", show_default=True)
    ] = 4000,
    debug: Debug = False,
) -> None:
    """Show a badly initialized network, what is wrong, the repair, and its effect on training (under a minute).

    \b
    Example:
      unitgain demo --out demo-report.html
    """
    check_outputs({"--out": out}, suffixes={"--out": HTML})
    from ..demo import run

    began = time.time()
    try:
        run(out, steps=steps, console=console())
    except KeyboardInterrupt:
        there = os.path.exists(out) and os.path.getmtime(out) >= began
        raise KeyboardInterrupt(
            f"interrupted; {'report written: ' + out if there else 'nothing was written'}"
        ) from None
