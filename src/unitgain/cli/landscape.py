"""unitgain landscape: the loss around a network's weights, beside that of another network."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._base import InputError, note, say
from . import options
from .errors import Debug
from .output import FIGURE, check_outputs, progress_bar, quiet_stdout, write_text

if TYPE_CHECKING:
    from ..report import Landscape


@options.with_shared_options
def landscape(
    target: options.Target,
    subject: options.Subject,
    against: Annotated[
        str | None, typer.Option(metavar="TARGET", help="A second network, drawn beside the first.")
    ] = None,
    dims: Annotated[
        int, typer.Option(min=1, max=2, metavar="1|2", help="A line or a plane.", show_default=True)
    ] = 2,
    span: Annotated[
        float, typer.Option(metavar="R", help="How far to go, in norms of each filter.", show_default=True)
    ] = 1.0,
    points: Annotated[
        int | None,
        typer.Option(metavar="N", help="In each direction, an odd number. [default: 25; on a line 51]"),
    ] = None,
    steps: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, help="Train so many steps first; put back at the end.", show_default=True
        ),
    ] = 0,
    optimizer: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Of --steps: sgd, momentum, adam, adamw or rmsprop.", show_default=True
        ),
    ] = "adam",
    lr: options.Rate = None,
    loss: options.LossName = "auto",
    out: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the picture: .png, .svg or .pdf.")
    ] = None,
    json: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write all numbers; - prints them instead of text.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Measure the loss on a plane of random directions through the weights, each filter's step as long as the filter.

    \b
    Examples:
      unitgain landscape my_model.py:Net --data batch.npz --weights trained.safetensors --out hills.png
      unitgain landscape plain.py:make --against residual.py:make --dataset fashion-mnist --steps 300 --out both.png
      unitgain landscape char_mlp_deep --dataset names --dims 1 --span 2 --out line.png
    """
    outputs = {"--out": out, "--json": json}
    check_outputs(
        {option: path for option, path in outputs.items() if path is not None},
        subject.inputs(target, against),
        {"--out": FIGURE},
    )
    if not steps and lr is not None:
        raise InputError("--lr: it matters only when steps are made first; add --steps 200")
    if lr is not None and not 0 < lr < float("inf"):
        raise InputError(f"--lr {lr}: a learning rate is a number above 0, like 0.01")
    if steps and subject.shape is not None:
        raise InputError("--steps: random input has nothing to learn; give --data or --dataset")
    from .._check import landscape as measure
    from .._check import optimizer_of

    trained_by = (
        optimizer_of(optimizer, lr) if steps else None
    )  # an unknown name is told before anything is loaded
    names = [target] if against is None else [target, against]
    with quiet_stdout(json == "-"):  # both, before minutes are spent on the first
        loaded = [_load(subject, n, loss, weights=i == 0, trains=steps > 0) for i, n in enumerate(names)]
    results: list[Landscape] = []
    for name, (model, batch, data) in zip(names, loaded):
        with quiet_stdout(json == "-"), progress_bar() as tell:
            found = measure(
                model, batch, loss, dims=dims, span=span, points=points, seed=subject.seed, steps=steps,
                optimizer=trained_by, data=data, progress=tell,
            )  # fmt: skip
        results.append(replace(found, model=name))
    _show(results, out, json)


def _load(
    subject: options.Subject, target: str, loss: str, *, weights: bool, trains: bool
) -> tuple[Any, Any, Any]:
    """(model, the batch whose loss is drawn, batches to train on)."""
    if not trains:
        model, batch = subject.load(target, loss, weights=weights)
        return model, batch, None
    model, source = subject.load_source(target, loss, weights=weights)
    return model, source.batch, source


def _show(results: list[Landscape], out: str | None, json: str | None) -> None:
    numbers = f'{{"landscapes": [{", ".join(result.to_json() for result in results)}]}}'
    if json == "-":
        say(numbers, most=sys.maxsize)
    else:
        for result in results:
            say(f"{result.model}: {result.summary}")
        say(results[0].conditions())
    if out is not None:
        from ..report import plots, save_figure

        save_figure(plots.landscape(results), out)
        note(f"plot written: {out}")
    if json is not None and json != "-":
        write_text("--json", json, numbers)
        note(f"json written: {json}")
