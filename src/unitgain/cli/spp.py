"""unitgain spp: a residual network and a batch in, its signal propagation plot out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._base import busy, console, note, table_of
from . import options
from .errors import Debug
from .output import FIGURE, check_outputs

if TYPE_CHECKING:
    from ..report import Curve

_SHOWN = 5  # steps at which the variance departs from one


@options.with_shared_options
def spp(
    target: options.Target,
    subject: options.Subject,
    against: Annotated[
        str | None, typer.Option(metavar="TARGET", help="A second network, drawn over the first.")
    ] = None,
    open_gains: Annotated[
        bool,
        typer.Option(
            "--open-gains", help="Measure as if gains initialized at zero, or below 0.01, were one."
        ),
    ] = False,
    backward: Annotated[
        bool, typer.Option("--backward", help="Also the gradient, from standard normal values at the output.")
    ] = False,
    out: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the plot: .png, .svg or .pdf.")
    ] = None,
    record: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write what was measured as an SQLite file.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Measure mean and variance at every residual block, or layer, beside what theory predicts.

    \b
    Examples:
      unitgain spp timm:resnet50 --shape 4,3,160,160 --open-gains --out spp.png
      unitgain spp timm:resnet50 --against timm:nf_resnet50 --shape 4,3,160,160 --open-gains --out spp.png
      unitgain spp my_model.py:Net --data photos/ --out spp.png
      unitgain spp torchvision:vgg11 --shape 8,3,64,64
    """
    outputs = {option: path for option, path in (("--out", out), ("--record", record)) if path is not None}
    check_outputs(outputs, subject.inputs(target, against), {"--out": FIGURE})
    from .._check import spp as measure
    from ..report import spp_curve

    records: list[Any] = []
    names = [target] if against is None else [target, against]
    for number, name in enumerate(names):
        first = number == 0
        with busy(f"measuring {name}"):
            model, given = subject.load(name, weights=first)
            path = record if first else None
            records.append(measure(model, given, open_gains=open_gains, backward=backward, to=path))
    for name, measured in zip(names, records):
        _print(name, spp_curve(measured), open_gains)
    if record is not None:
        note(f"record written: {record}")
    if out is not None:
        from ..report import plots, save_figure

        save_figure(plots.spp(records, labels=names), out)
        note(f"plot written: {out}")


def _print(name: str, curve: Curve, open_gains: bool) -> None:
    def cell(value: float) -> str:
        return "" if math.isnan(value) else f"{value:.3f}"

    rows = [
        (
            ("* " if p.transition else "  ") + p.name, cell(p.sq_channel_mean), cell(p.channel_var),
            cell(p.predicted.get("channel_var", math.nan)), cell(p.branch_var), cell(p.branch_to_stream),
        )
        for p in curve.points
    ]  # fmt: skip
    screen = console()
    screen.print(f"{name}: average over channels (* transition)")
    screen.print("branch: variance that a block's branch ends with; ratio: what it adds over the stream's")
    columns = ["  block", ">mean^2", ">variance", ">theory", ">branch", ">ratio"]
    if any(not math.isnan(p.gradient) for p in curve.points):
        columns += [">gradient^2", ">theory"]
        rows = [
            (
                *row,
                f"{p.gradient:.3g}",
                "" if "gradient" not in p.predicted else f"{p.predicted['gradient']:.3g}",
            )
            for row, p in zip(rows, curve.points)
        ]
    screen.print(table_of(columns, rows))
    for line in filter(None, (curve.deviation, curve.silence)):
        screen.print(line)
    if curve.why:
        screen.print("where the variance departs from one:")
        for line in curve.why[:_SHOWN]:
            screen.print(f"  {line}")
        if len(curve.why) > _SHOWN:
            screen.print(f"  and {len(curve.why) - _SHOWN} more steps, in the record's meta['spp']['why']")
    if curve.silent_branches and not open_gains:
        note(
            f"{name}: {curve.silent_branches} branches add exactly zero, as their gains are initialized at zero; "
            "--open-gains measures them as if the gains were one"
        )
