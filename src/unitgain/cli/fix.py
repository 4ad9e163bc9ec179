"""unitgain fix: a model and a batch in, weights that carry signals and a report out."""

from __future__ import annotations

import contextlib
import json as json_module
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from .._base import InputError, busy, console, note, say
from . import options
from .errors import FINDINGS, Debug
from .output import check_outputs

if TYPE_CHECKING:
    from ..report import FixReport


def fix(
    target: options.Target,
    out: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the repaired weights: FILE.safetensors.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Try it and report it; write no weights.")
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="CODES", help="Repair only these findings: UG101,UG3 (a prefix) or names."),
    ] = None,
    reinitialize: Annotated[
        bool | None,
        typer.Option(
            help="Allow or forbid new or rescaled weights. [default: allowed if the model looks untrained]",
            show_default=False,
        ),
    ] = None,
    data: options.Data = None,
    dataset: options.Dataset = None,
    shape: options.Shape = None,
    tokens: options.Tokens = None,
    batch: options.BatchSize = None,
    normalize: options.Normalize = True,
    settings: options.Settings = None,
    weights: options.Weights = None,
    loss: options.Loss = "auto",
    fail_on: options.FailOnOption = options.FailOn.error,
    html: options.Html = None,
    json: options.Json = None,
    device: options.Device = "cpu",
    seed: options.Seed = 0,
    debug: Debug = False,
) -> None:
    """Repair what can be repaired, measure again, and keep only what helped.

    \b
    Examples:
      unitgain fix char_mlp_original --dataset names --out repaired.safetensors --html repair.html
      unitgain fix my_model.py:make_model --data batch.npz --dry-run
      unitgain fix my_model.py:make_model --data batch.npz --only UG101 --out repaired.safetensors
      unitgain check my_model.py:make_model --data batch.npz --weights repaired.safetensors
    """
    if out is None and not dry_run:
        raise InputError(
            "--out is missing: say where the weights go (--out weights.safetensors), or --dry-run"
        )
    if out is not None and dry_run:
        raise InputError(f"--out {out}: a dry run writes no weights; leave out one of --out and --dry-run")
    outputs = {"--out": out, "--html": html, "--json": json}
    inputs = [options.file_of(target), data, weights]
    given_outputs = {option: path for option, path in outputs.items() if path is not None}
    check_outputs(given_outputs, inputs, out=(".safetensors",))
    wanted = options.codes("--only", only)
    silent = contextlib.redirect_stdout(sys.stderr) if json == "-" else contextlib.nullcontext()
    with silent:
        from .._fix import fix as run_fix

        with busy("repairing"):
            model, given = options.model_and_batch(
                target, settings, weights=weights, data=data, dataset=dataset, shape=shape, tokens=tokens,
                count=batch, loss=loss, device=device, seed=seed, normalize=normalize,
            )  # fmt: skip
            report = run_fix(model, given, loss, only=wanted, dry_run=dry_run, reinitialize=reinitialize)
    if json == "-":
        say(report.to_json(), most=sys.maxsize)
    else:
        console().print(report)
    for option, path in (("--html", html), ("--json", json)):
        if path is not None and path != "-":
            report.save(path)
            note(f"{option[2:]} report written: {path}")
    if out is not None:
        from ..targets import save_weights

        save_weights(model, out, _metadata(target, report))
        note(f"weights written: {out}" + ("" if report.fixed else " (as they came: nothing was repaired)"))
    if options.severe(report.after.findings, fail_on):
        raise typer.Exit(FINDINGS)


def _metadata(target: str, report: FixReport) -> dict[str, str]:
    """What belongs to the weights but is not in them."""
    notes = {"target": target, "unitgain": report.summary}
    if report.input_scale is not None:
        notes["input"] = json_module.dumps({"shift": report.input_shift, "scale": report.input_scale})
    return notes
