"""unitgain normfree: audit, convert and fold a network with BatchNorm."""

from __future__ import annotations

import os
from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from .._base import InputError, busy, note, say
from . import options
from .errors import Debug
from .help import Command
from .output import check_outputs, write_text

if TYPE_CHECKING:
    from ..normfree import ConversionReport

normfree_app = typer.Typer(
    help="What BatchNorm does and costs in a network, and the network without it.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Out = Annotated[
    str | None,
    typer.Option(
        metavar="DIR", help="A new folder for weights.safetensors, report.json, report.txt and model.py."
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
    debug: Debug = False,
) -> None:
    """Measure the time, memory, noise and dependence between examples that BatchNorm brings.

    \b
    Examples:
      unitgain normfree audit torchvision:resnet18 --shape 16,3,64,64
      unitgain normfree audit my_model.py:Net --data photos/ --batches 4,32
    """
    check_outputs({} if json is None else {"--json": json}, subject.inputs(target))
    sizes = _sizes(batches)
    from ..normfree import audit as measure

    with busy("measuring"):
        model, given = subject.load(target)
        report = measure(model, given, batches=sizes)
    if json == "-":
        say(report.to_json(), most=10**9)
        return
    say(str(report), most=10**9)
    if json is not None:
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
    out: Out = None,
    debug: Debug = False,
) -> None:
    """Take BatchNorm out of a network and report what became of each norm.

    \b
    Examples:
      unitgain normfree convert torchvision:resnet18 --data photos/ --out resnet18-nf
      unitgain normfree convert net.py:Net --weights trained.safetensors --data batch.npz --mode preserve --out tuned
    """
    _run(target, subject, mode.value, out, [name.strip() for name in norms.split(",") if name.strip()])


@normfree_app.command(cls=Command, short_help="Work BatchNorm and all else into plain layers, for inference.")
@options.with_quiet
@options.with_shared_options
def fold(target: options.Target, subject: options.Subject, out: Out = None, debug: Debug = False) -> None:
    """Work norms, standardized weights and skip gains into plain layers of torch, verified in float64.

    \b
    Examples:
      unitgain normfree fold torchvision:resnet18 --weights trained.safetensors --shape 4,3,64,64 --out plain
    """
    _run(target, subject, "fold", out)


def _run(
    target: str, subject: options.Subject, mode: str, out: str | None, norms: Sequence[str] = ()
) -> None:
    if out is not None and os.path.exists(out) and (not os.path.isdir(out) or os.listdir(out)):
        raise InputError(f"--out {out}: it exists and is not an empty folder; choose a new name")
    parent = os.path.dirname(os.path.abspath(out)) if out is not None else "."
    if not os.path.isdir(parent):
        raise InputError(f"--out {out}: there is no folder {parent}; create it first")
    from ..normfree import convert as work

    with busy("converting"):
        model, given = subject.load(target)
        report = work(model, given, mode, timed=True, norms=norms)
    say(str(report), most=10**9)
    if out is not None:
        _write(target, subject, report, out)


def _write(target: str, subject: options.Subject, report: ConversionReport, out: str) -> None:
    from ..targets import save_weights

    try:
        os.makedirs(out, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out}: cannot be created: {error.strerror or error}") from error
    save_weights(
        report.model, os.path.join(out, "weights.safetensors"), {"target": target, "mode": report.mode}
    )
    write_text("--out", os.path.join(out, "report.json"), report.to_json())
    write_text("--out", os.path.join(out, "report.txt"), f"{report}\n")
    write_text(
        "--out",
        os.path.join(out, "model.py"),
        _PROGRAM.format(target=target, settings=subject.settings or []),
    )
    note(f"written: weights.safetensors, report.json, report.txt and model.py in {out}")


_PROGRAM = '''"""{target} as `unitgain normfree` made it: check it with `unitgain check model.py:make_model`."""

import json
from pathlib import Path

from unitgain.normfree import rebuild
from unitgain.targets import load_model, load_weights, parse_settings

HERE = Path(__file__).parent
TARGET = {target!r}  # a path in it is as it was typed: run this from the same folder
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
