"""unitgain lesson: what goes wrong in a training, chapter by chapter, on the lecturers' data or on one's own."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Annotated

import typer

from .._base import console, note, say, table_of
from .errors import Debug
from .output import check_outputs


def lesson(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(metavar="LESSON", help="makemore or fashion-mnist."),
    ],
    data: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Data of your own: names, one a line; or images with labels (.npz, .safetensors, a directory).",
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option(metavar="N", min=1, help="Trainings of each network.", show_default=True)
    ] = 3,
    steps: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Steps of each training. [default: the lesson's own]"),
    ] = None,
    short: Annotated[
        bool, typer.Option("--short", help="A few steps of everything, to see that it runs.")
    ] = False,
    html: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the lesson as a page with its pictures.")
    ] = None,
    json: Annotated[str | None, typer.Option(metavar="FILE", help="Write all numbers.")] = None,
    debug: Debug = False,
) -> None:
    """Show what keeps a network from learning: symptom, picture, finding, cure, and what the cure gained.

    \b
    Examples:
      unitgain lesson makemore --html makemore.html
      unitgain lesson makemore --data my_words.txt
      unitgain lesson fashion-mnist --seeds 5 --html images.html
    """
    outputs = {"--html": html, "--json": json}
    check_outputs({option: path for option, path in outputs.items() if path is not None}, [data])
    from ..recipes import LessonOptions
    from ..recipes import lesson as find

    found = find(name)(LessonOptions(data or "", seeds, steps, short), say)
    found = replace(found, command=shlex.join(["unitgain", *(context.find_root().obj or [])]))
    say("")
    rows = [(f"{number}. {row[0]}", *row[1:]) for number, row in enumerate(found.rows(), start=1)]
    console().print(table_of(("", "findings", ">loss before", ">loss after"), rows))
    for option, path in (("page", html), ("json", json)):
        if path is not None:
            found.save(path)
            note(f"{option} written: {path}")
    if found.left_out:
        ready = ", ".join(path for path in (html, json) if path is not None)
        what = f"{len(found.chapters)} of {len(found.chapters) + found.left_out} chapters are done"
        raise KeyboardInterrupt(f"interrupted; {what}" + (f" and in {ready}" if ready else ""))
    if html is None:
        note("--html FILE writes the pictures too")
