"""unitgain normfree: audit, convert and fold a network with BatchNorm."""

from __future__ import annotations

import os
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._base import InputError, busy, note, say
from . import options
from .errors import Debug
from .help import Command
from .output import check_outputs, write_text

if TYPE_CHECKING:
    from ..normfree import AuditReport, ConversionReport

normfree_app = typer.Typer(
    help="What BatchNorm does and costs in a network, and the network without it.",
    rich_markup_mode=None,
)


@normfree_app.callback(invoke_without_command=True)
def _normfree(context: typer.Context) -> None:
    """What BatchNorm does and costs in a network, and the network without it."""
    if context.invoked_subcommand is None:
        say(context.get_help())


Witness = Annotated[
    bool,
    typer.Option(
        "--second-witness",
        help="Also ask torch.export, and refuse norms on which it does not agree. Up to half a minute.",
    ),
]
Out = Annotated[
    str | None,
    typer.Option(
        metavar="DIR",
        help="A new folder for weights.safetensors, model.py, and report.html, report.json and report.txt.",
    ),
]


class Mode(str, Enum):
    train = "train"
    preserve = "preserve"


@normfree_app.command(cls=Command, short_help="Measure what BatchNorm does and costs.")
@options.with_quiet
@options.with_shared_options
def audit(
    target: options.Target,
    subject: options.Subject,
    batches: Annotated[
        str | None, typer.Option(metavar="N,N,...", help="Batch sizes to measure as well: 4,32,256.")
    ] = None,
    json: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write the JSON report; - prints it instead of the text."),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="A new folder for report.html, report.json and report.txt."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Measure the time, memory, noise and dependence between examples that BatchNorm brings.

    \b
    Examples:
      unitgain normfree audit torchvision:resnet18 --shape 16,3,64,64
      unitgain normfree audit my_model.py:Net --data photos/ --batches 4,32
    """
    check_outputs({} if json is None else {"--json": json}, subject.inputs(target))
    _check_new(out)
    sizes = _sizes(batches)
    from ..normfree import audit as measure

    with busy("measuring"):
        model, given = subject.load(target)
        report = measure(model, given, batches=sizes)
    say(report.to_json() if json == "-" else str(report), most=10**9)
    if out is not None:
        note(f"written: {', '.join(_write_reports(report, out))} in {out}")
    if json is not None and json != "-":
        write_text("--json", json, report.to_json())
        note(f"json report written: {json}")


@normfree_app.command(cls=Command, short_help="Take BatchNorm out, to train from scratch or to fine-tune.")
@options.with_quiet
@options.with_shared_options
def convert(
    target: options.Target,
    subject: options.Subject,
    mode: Annotated[
        Mode,
        typer.Option(
            help="train: from scratch; preserve: the same function, to fine-tune.", show_default=True
        ),
    ] = Mode.train,
    norms: Annotated[
        str,
        typer.Option(
            help="Take these norms out too: group, instance, or group,instance.", show_default=False
        ),
    ] = "",
    steps: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="Train N steps as it was, converted, and stripped of its norms, and take them back.",
        ),
    ] = 0,
    loss: Annotated[str, typer.Option(metavar="NAME", help="For --steps.", show_default=True)] = "auto",
    second_witness: Witness = False,
    out: Out = None,
    debug: Debug = False,
) -> None:
    """Take BatchNorm out of a network and report what became of each norm.

    \b
    Examples:
      unitgain normfree convert torchvision:resnet18 --data photos/ --out resnet18-nf
      unitgain normfree convert resnet_tiny --dataset fashion-mnist --set in_channels=1 --steps 50 --out tiny-nf
      unitgain normfree convert net.py:Net --weights trained.safetensors --data batch.npz --mode preserve --out tuned
    """
    chosen = [name.strip() for name in norms.split(",") if name.strip()]
    if not steps and loss != "auto":
        raise InputError(f"--loss {loss}: it matters only in a short training; add --steps 50")
    _run(
        target, subject, mode.value, out, norms=chosen, steps=steps, loss=loss, second_witness=second_witness
    )


@normfree_app.command(cls=Command, short_help="Work BatchNorm and all else into plain layers, for inference.")
@options.with_quiet
@options.with_shared_options
def fold(
    target: options.Target,
    subject: options.Subject,
    second_witness: Witness = False,
    out: Out = None,
    debug: Debug = False,
) -> None:
    """Work norms, standardized weights and skip gains into plain layers of torch, verified in float64.

    \b
    Examples:
      unitgain normfree fold torchvision:resnet18 --weights trained.safetensors --shape 4,3,64,64 --out plain
    """
    _run(target, subject, "fold", out, second_witness=second_witness)


def _run(target: str, subject: options.Subject, mode: str, out: str | None, **how: Any) -> None:
    """how: further arguments of ug.normfree.convert."""
    _check_new(out)
    from ..normfree import convert as work

    loss = how.get("loss", "auto")
    with busy("converting"):
        model, given = subject.load(target, loss)
        further = subject.further_batches(model, loss) if how.get("steps") else None
        report = work(model, given, mode, timed=True, data=further, **how)
    say(str(report), most=10**9)
    if out is not None:
        _write(target, subject, report, out)


def _check_new(out: str | None) -> None:
    """Refuses an --out that is not a new folder or an empty one."""
    if out is None:
        return
    if os.path.exists(out) and (not os.path.isdir(out) or os.listdir(out)):
        raise InputError(f"--out {out}: it exists and is not an empty folder; choose a new name")
    parent = os.path.dirname(os.path.abspath(out))
    if not os.path.isdir(parent):
        raise InputError(f"--out {out}: there is no folder {parent}; create it first")


def _write(target: str, subject: options.Subject, report: ConversionReport, out: str) -> None:
    from ..targets import save_weights

    written = _write_reports(report, out)
    save_weights(
        report.model, os.path.join(out, "weights.safetensors"), {"target": target, "mode": report.mode}
    )
    program = _PROGRAM.format(target=target, place=_place(target, out), settings=subject.settings or [])
    write_text("--out", os.path.join(out, "model.py"), program)
    note(f"written: weights.safetensors, model.py, {', '.join(written)} in {out}")


def _place(target: str, out: str) -> str:
    """The expression for a target in a file of the folder out: a path in it is relative to that file."""
    path, colon, name = target.rpartition(":")
    if not colon or not os.path.isfile(path):
        return repr(target)
    try:
        path = os.path.relpath(path, out)
    except ValueError:  # on another drive
        path = os.path.abspath(path)
    return f"str(HERE / {path.replace(os.sep, '/')!r}) + {':' + name!r}"


def _write_reports(report: AuditReport | ConversionReport, out: str) -> list[str]:
    try:
        os.makedirs(out, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out}: cannot be created: {error.strerror or error}") from error
    names = ["report.html", "report.json", "report.txt"]
    for name in names:
        report.save(os.path.join(out, name))
    return names


_PROGRAM = '''"""{target} as `unitgain normfree` made it: check it with `unitgain check model.py:make_model`."""

import json
from pathlib import Path

from unitgain.normfree import rebuild
from unitgain.targets import load_model, load_weights, parse_settings

HERE = Path(__file__).resolve().parent
TARGET = {place}
SETTINGS = {settings!r}


def make_model():
    """The network with its weights."""
    model = load_model(TARGET, parse_settings(SETTINGS))
    rebuild(model, json.loads((HERE / "report.json").read_text())["edits"])
    load_weights(model, str(HERE / "weights.safetensors"))
    return model
'''


def _sizes(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError as error:
        raise InputError(
            f"--batches {text}: expected batch sizes with commas between them: 4,32,256"
        ) from error
