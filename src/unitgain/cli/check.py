"""unitgain check: a model and a batch in, a report out."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from .errors import FINDINGS, Debug
from .output import Console, busy, check_outputs, note

if TYPE_CHECKING:
    from ..diagnose.finding import Finding


class FailOn(str, Enum):
    error = "error"
    warning = "warning"
    never = "never"


class OptimizerName(str, Enum):
    sgd = "sgd"
    adam = "adam"
    adamw = "adamw"


def check(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="A built-in model (see unitgain models), package.module:callable, path/to/file.py:callable, "
            "timm:NAME or torchvision:NAME.",
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="One batch: .safetensors, .npz, or a directory of images."),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(metavar="NAME", help="A known data set: names or fashion-mnist.")
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(metavar="N,C,H,W", help="Random input of this shape; resizes a directory of images."),
    ] = None,
    tokens: Annotated[
        int | None, typer.Option(metavar="V", max=2**31, help="With --shape: token numbers from 0 to V-1.")
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=10**6, help="Examples to use. [default: 64; of a file, all]"),
    ] = None,
    normalize: Annotated[
        bool, typer.Option(help="Give image pixels mean 0 and standard deviation 1.", show_default=True)
    ] = True,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="An argument of the model's class or function."),
    ] = None,
    loss: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="auto, cross_entropy, mse, bce_with_logits, nll, l1 or smooth_l1. auto: cross entropy for "
            "integer targets, mean squared error for float ones.",
            show_default=True,
        ),
    ] = "auto",
    steps: Annotated[
        int, typer.Option(metavar="N", min=0, help="Rehearse N optimizer steps on a copy of the model.")
    ] = 0,
    optimizer: Annotated[
        OptimizerName | None, typer.Option(help="For --steps. [default: sgd]", show_choices=True)
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(metavar="RATE", help="Learning rate for --steps. [default: sgd 0.01, else 0.001]"),
    ] = None,
    select: Annotated[
        list[str] | None,
        typer.Option(metavar="CODES", help="Only these rules: UG101,UG3 (a prefix) or names."),
    ] = None,
    ignore: Annotated[list[str] | None, typer.Option(metavar="CODES", help="Not these rules.")] = None,
    fail_on: Annotated[
        FailOn, typer.Option(help="Exit with 1 for findings this severe.", show_default=True)
    ] = FailOn.error,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Accept the findings in this file; only new ones count."),
    ] = None,
    write_baseline: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the findings to such a file.")
    ] = None,
    html: Annotated[str | None, typer.Option(metavar="FILE", help="Write the interactive report.")] = None,
    json: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write the JSON report; - prints it instead of the text."),
    ] = None,
    record: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write what was measured as an SQLite file.")
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="D", help="cpu, cuda, cuda:1, mps, ...", show_default=True)
    ] = "cpu",
    seed: Annotated[
        int, typer.Option(min=0, max=2**63 - 1, help="Of new weights and random input.", show_default=True)
    ] = 0,
    debug: Debug = False,
) -> None:
    """Measure a model on one batch and say what is wrong with it, and why.

    \b
    Examples:
      unitgain check char_mlp_original --dataset names
      unitgain check my_model.py:make_model --data batch.npz --html report.html
      unitgain check timm:resnet50 --shape 4,3,160,160 --loss cross_entropy
      unitgain check my_gpt.py:GPT --shape 4,128 --tokens 50257 --steps 10 --optimizer adamw --lr 3e-4
    """
    from ..diagnose.baseline import load_baseline, new_findings, save_baseline

    inputs = [target.rpartition(":")[0], data, baseline]
    outputs = {"--html": html, "--json": json, "--record": record, "--write-baseline": write_baseline}
    check_outputs({option: path for option, path in outputs.items() if path is not None}, inputs)
    make_optimizer = _optimizer(optimizer, lr, steps)
    selected, ignored = _codes("--select", select), _codes("--ignore", ignore)
    accepted = load_baseline(baseline) if baseline is not None else None
    silent = contextlib.redirect_stdout(sys.stderr) if json == "-" else contextlib.nullcontext()
    with silent:  # a model that prints must not spoil the JSON
        import torch

        from ..checkup import LOSSES
        from ..checkup import check as run_check
        from ..targets import did_you_mean, load_batch, load_model, parse_settings

        if loss != "auto" and loss not in LOSSES:
            raise InputError(f"--loss {loss}: unknown{did_you_mean(loss, ['auto', *LOSSES])}")
        place = _device(device)
        with busy("checking"):
            torch.manual_seed(seed)
            model = load_model(target, parse_settings(settings or []))
            try:
                model.to(place)
            except (RuntimeError, NotImplementedError) as error:
                raise InputError(f"--device {device}: the model cannot be moved there: {error}") from error
            given = load_batch(
                model, data=data, dataset=dataset, shape=shape, tokens=tokens, count=batch, loss=loss,
                seed=seed, normalize=normalize,
            )  # fmt: skip
            if data is not None and os.path.isdir(data):
                note(f"--data {data}: {_images(given)}")
            report = run_check(
                model, given, loss, steps=steps, optimizer=make_optimizer,
                select=selected, ignore=ignored,
            )  # fmt: skip
    if json == "-":
        print(report.to_json())
    else:
        Console().print(report)
    for option, path in (("--html", html), ("--json", json)):
        if path is not None and path != "-":
            report.save(path)
            note(f"{option[2:]} report written: {path}")
    if record is not None:
        report.record.save(record)
        note(f"record written: {record}")
    if write_baseline is not None:
        save_baseline(write_baseline, report.findings)
        note(f"baseline written: {write_baseline}")
    counted = report.findings
    if accepted is not None:
        counted = new_findings(report.findings, accepted)
        known = len(report.findings) - len(counted)
        note(f"baseline {baseline}: {known} of {len(report.findings)} findings accepted, {len(counted)} new")
    if _severe(counted, fail_on):
        raise typer.Exit(FINDINGS)


def _images(batch: Any) -> str:
    """What a folder turned out to hold: "64 images (3, 32, 32) of 10 classes"."""
    images, labels = batch if isinstance(batch, tuple) else (batch, None)
    classes = "without class folders" if labels is None else f"of {len(labels.unique())} classes"
    return f"{len(images)} images {tuple(images.shape[1:])} {classes}"


def _device(name: str) -> Any:
    import torch

    known = "cpu, cuda, cuda:0 or mps"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"--device {name}: unknown; it is {known}, for example") from error
    try:
        torch.zeros(1, device=device).cpu()
    except Exception as error:
        raise InputError(f"--device {name}: not available here; --device cpu always is") from error
    return device


def _optimizer(name: OptimizerName | None, lr: float | None, steps: int) -> Callable[[Any], Any] | None:
    """A function from parameters to the optimizer, None if nothing was asked for."""
    if name is None and lr is None:
        return None
    if not steps:
        option = f"--lr {lr}" if name is None else f"--optimizer {name.value}"
        raise InputError(f"{option}: it matters only when steps are rehearsed; add --steps 10")
    name = name or OptimizerName.sgd
    rate = lr if lr is not None else 0.01 if name is OptimizerName.sgd else 0.001
    if not 0 < rate < float("inf"):
        raise InputError(f"--lr {rate}: a learning rate is a number above 0, like 0.01")
    from torch import optim

    kind = {"sgd": optim.SGD, "adam": optim.Adam, "adamw": optim.AdamW}[name.value]
    return lambda parameters: kind(parameters, lr=rate)


def _codes(option: str, values: list[str] | None) -> list[str] | None:
    """--select UG2,UG303 --select dead-units -> the codes of all of them; an unknown one is refused."""
    if not values:
        return None
    from ..diagnose.catalogue import resolve

    return sorted(resolve([word for value in values for word in value.split(",")], option))


def _severe(findings: Sequence[Finding], fail_on: FailOn) -> bool:
    levels = {"error": ("error",), "warning": ("error", "warning"), "never": ()}[fail_on.value]
    return any(finding.severity in levels for finding in findings)
