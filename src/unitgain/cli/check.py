"""unitgain check: a model and a batch in, a report out."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Callable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._base import InputError
from . import options
from .errors import FINDINGS, Debug
from .graph import refuse_beside_graph, show_graph, traced
from .output import Console, busy, check_outputs, note
from .runs import is_run, refuse_folder, refuse_model_options, report_on_run

if TYPE_CHECKING:
    from ..rules import Finding


class OptimizerName(str, Enum):
    sgd = "sgd"
    adam = "adam"
    adamw = "adamw"


def check(
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help=f"{options.TARGET} Or a run: its folder or its record.")
    ],
    data: options.Data = None,
    dataset: options.Dataset = None,
    shape: options.Shape = None,
    tokens: options.Tokens = None,
    batch: options.BatchSize = None,
    normalize: options.Normalize = True,
    settings: options.Settings = None,
    weights: options.Weights = None,
    loss: options.Loss = "auto",
    steps: Annotated[
        int, typer.Option(metavar="N", min=0, help="Rehearse N optimizer steps and take them back.")
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
    fail_on: options.FailOnOption = options.FailOn.error,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Accept the findings in this file; only new ones count."),
    ] = None,
    write_baseline: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the findings to such a file.")
    ] = None,
    graph: Annotated[
        bool,
        typer.Option(
            "--graph",
            help="Show what was understood of the model (layers, residual branches); check nothing.",
        ),
    ] = False,
    html: options.Html = None,
    json: options.Json = None,
    record: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write what was measured as an SQLite file.")
    ] = None,
    device: options.Device = "cpu",
    seed: options.Seed = 0,
    debug: Debug = False,
) -> None:
    """Measure a model on one batch and say what is wrong with it, and why.

    \b
    Examples:
      unitgain check char_mlp_original --dataset names
      unitgain check my_model.py:make_model --data batch.npz --html report.html
      unitgain check timm:resnet50 --shape 4,3,160,160 --loss cross_entropy
      unitgain check runs/tanh                       the record of unitgain train --run
      unitgain check timm:resnet50 --shape 2,3,64,64 --graph        what runs after what; nothing is checked
      unitgain check my_gpt.py:GPT --shape 4,128 --tokens 50257 --steps 10 --optimizer adamw --lr 3e-4
    """
    from ..rules import load_baseline, new_findings, save_baseline

    judged = is_run(target)
    if judged:
        refuse_model_options(
            target,
            {
                "--data": data, "--dataset": dataset, "--shape": shape, "--tokens": tokens, "--batch": batch,
                "--set": settings, "--weights": weights, "--steps": steps, "--optimizer": optimizer, "--lr": lr,
                "--record": record, "--no-normalize": not normalize, "--loss": loss != "auto", "--graph": graph,
            },
        )  # fmt: skip
    else:
        refuse_folder(target)
    inputs = [options.file_of(target), data, baseline, weights]
    outputs = {"--html": html, "--json": json, "--record": record, "--write-baseline": write_baseline}
    check_outputs({option: path for option, path in outputs.items() if path is not None}, inputs)

    def load() -> tuple[Any, Any]:
        return options.model_and_batch(
            target, settings, weights=weights, data=data, dataset=dataset, shape=shape, tokens=tokens, count=batch,
            loss=loss, device=device, seed=seed, normalize=normalize,
        )  # fmt: skip

    silent = contextlib.redirect_stdout(sys.stderr) if json == "-" else contextlib.nullcontext()
    if graph:
        refuse_beside_graph(
            {
                "--steps": steps, "--optimizer": optimizer, "--lr": lr, "--select": select, "--ignore": ignore,
                "--baseline": baseline, "--write-baseline": write_baseline, "--html": html, "--record": record,
            },
        )  # fmt: skip
        with silent, busy("following one pass"):
            found = traced(*load())
        show_graph(found, json)
        return
    make_optimizer = _optimizer(optimizer, lr, steps)
    selected, ignored = options.codes("--select", select), options.codes("--ignore", ignore)
    accepted = load_baseline(baseline) if baseline is not None else None
    with silent, busy("checking"):  # a model that prints must not spoil the JSON
        if judged:
            report = report_on_run(target, selected, ignored)
        else:
            from .._check import check as run_check

            model, given = load()
            report = run_check(
                model, given, loss, steps=steps, optimizer=make_optimizer,
                select=selected, ignore=ignored,
            )  # fmt: skip
    if json == "-":
        print(report.to_json())
    else:
        report.page = html  # written next
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
    if not judged:
        _point_to_fix(target, counted)
    if options.severe(counted, fail_on):
        raise typer.Exit(FINDINGS)


def _point_to_fix(target: str, findings: Sequence[Finding]) -> None:
    codes = sorted({f.code for f in findings if f.auto and f.severity in ("error", "warning")})
    if codes:
        command = f"`unitgain fix {shlex.quote(target)}` with the same options for model and batch"
        note(f"{', '.join(codes)}: {command} tries remedies and measures again")


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
