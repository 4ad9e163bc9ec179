"""unitgain data: the data sets that are here, and fetching one."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .._base import console, say, table_of
from .errors import Debug
from .help import Command
from .options import with_quiet

data_app = typer.Typer(rich_markup_mode=None)


@data_app.callback(invoke_without_command=True)
def _data(context: typer.Context, debug: Debug = False) -> None:
    """List the data sets that are here, or fetch one.

    \b
    Example:
      unitgain data
    """
    if context.invoked_subcommand is not None:
        return
    from ..data import sources

    rows = []
    for source in sources():
        size = f"{source.size / 1e6:,.1f} MB"
        where = f"{source.source}: {source.path}" if source.path else f"unitgain data fetch {source.name}"
        rows.append((source.name, source.status, size, source.description, where))
    console().print(table_of(("name", "status", ">size", "description", "from"), rows))


@data_app.command(cls=Command)
@with_quiet
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="names or fashion-mnist.")],
    debug: Debug = False,
) -> None:
    """Download a data set into your cache; every file's SHA-256 is checked.

    \b
    Example:
      unitgain data fetch fashion-mnist
    """
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    from ..data import fetch as fetch_data

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    screen = console(stderr=True)
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress:
        tasks: dict[str, Any] = {}

        def show(file: str, done: int, total: int | None) -> None:
            if file not in tasks:
                tasks[file] = progress.add_task(file, total=total)
            progress.update(tasks[file], completed=done, total=total)

        path = fetch_data(name, progress=show)
    say(path)
