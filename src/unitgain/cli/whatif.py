"""unitgain whatif: one network in several settings, side by side."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._base import InputError, console, note, say
from . import options
from .errors import Debug
from .output import FIGURE, check_outputs, progress_bar, quiet_stdout

if TYPE_CHECKING:
    from ..report import WhatIf


@options.with_shared_options
def whatif(
    context: typer.Context,
    target: options.Target,
    vary: Annotated[
        list[str],
        typer.Option(
            "--vary",
            metavar="KNOB=A,B,...",
            help="gain, fan_in, activation, norm, lr, optimizer or batch, and its values. Several --vary: every "
            "combination.",
        ),
    ],
    subject: options.Subject,
    steps: Annotated[
        int, typer.Option(metavar="N", min=1, help="Steps of each training.", show_default=True)
    ] = 200,
    seeds: Annotated[
        int, typer.Option(metavar="N", min=1, help="Trainings of each setting.", show_default=True)
    ] = 3,
    optimizer: Annotated[
        str, typer.Option(metavar="NAME", help="sgd, momentum, adam, adamw or rmsprop.", show_default=True)
    ] = "adam",
    lr: options.Rate = None,
    clip: Annotated[
        float | None, typer.Option(metavar="NORM", help="Largest norm of all gradients together.")
    ] = None,
    loss: options.LossName = "auto",
    html: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the page with the pictures.")
    ] = None,
    plot: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the pictures as one: .png, .svg or .pdf.")
    ] = None,
    json: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write all numbers; - prints them instead of the table."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Train one network in several settings, side by side: activations, gradients, updates, loss and findings.

    Weights, batches and random numbers are the same in all settings; further seeds say what is noise.

    \b
    Examples:
      unitgain whatif char_mlp_deep --dataset names --vary gain=0.5,1,5/3,3 --optimizer sgd --html gain.html
      unitgain whatif my_model.py:make_model --data train.npz --vary norm=none,batch,layer,scaled-ws
      unitgain whatif my_model.py:make_model --data train.npz --vary lr=1e-4,1e-3,1e-2 --vary optimizer=adam,sgd
    """
    outputs = {"--html": html, "--plot": plot, "--json": json}
    check_outputs(
        {option: path for option, path in outputs.items() if path is not None},
        subject.inputs(target),
        {"--plot": FIGURE},
    )
    if subject.shape is not None:
        raise InputError(
            "--shape: random input has nothing to learn, so that no setting can do better; give --data or --dataset"
        )
    knobs = _knobs(vary)
    from .._check import combinations, optimizer_of
    from .._check import whatif as run_whatif

    combinations(knobs)  # a typing mistake is told before anything is loaded
    if lr is not None and not 0 < lr < float("inf"):
        raise InputError(f"--lr {lr}: a learning rate is a number above 0, like 0.01")
    optimizer_of(optimizer, lr)  # an unknown name is told too
    with quiet_stdout(json == "-"), progress_bar() as tell:
        model, source = subject.load_source(target, loss)
        result = run_whatif(
            model, source.batch, loss, vary=knobs, steps=steps, seeds=seeds, optimizer=optimizer, lr=lr, data=source,
            valid=source.valid, clip=clip, progress=tell,
        )  # fmt: skip
    result = result.of_command(shlex.join(["unitgain", *(context.find_root().obj or [])]))
    _show(result, html, plot, json)


def _show(result: WhatIf, html: str | None, plot: str | None, json: str | None) -> None:
    if json == "-":
        say(result.to_json(), most=sys.maxsize)
    else:
        console().print(result)
    if html is not None:
        result.save(html)
        note(f"page written: {html}")
    if plot is not None:
        from ..report import save_figure

        save_figure(result.plot(), plot, dpi=110)
        note(f"plot written: {plot}")
    if json is not None and json != "-":
        result.save(json)
        note(f"json written: {json}")


def _knobs(pairs: list[str]) -> dict[str, Any]:
    """{"gain": ["0.5", "1"]} of gain=0.5,1."""
    knobs: dict[str, Any] = {}
    for pair in pairs:
        knob, equals, values = pair.partition("=")
        knob = knob.strip().replace("-", "_")
        given = [value.strip() for value in values.split(",") if value.strip()]
        if not equals or not given:
            raise InputError(
                f"--vary {pair}: write it as knob=value,value, for example --vary gain=0.5,1,5/3"
            )
        if knob in knobs:
            raise InputError(
                f"--vary {pair}: {knob} is given twice; write its values behind one another, {knob}=a,b"
            )
        knobs[knob] = given
    return knobs
