"""unitgain fix: a model and a batch in, weights that carry signals and a report out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from .._base import InputError, note
from . import options
from .errors import Debug

if TYPE_CHECKING:
    from ..report import FixReport


@options.with_shared_options
def fix(
    target: options.Target,
    subject: options.Subject,
    judging: options.Judging,
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
    prove: Annotated[
        bool, typer.Option(help="Keep only what also trains no worse for 40 steps.", show_default=True)
    ] = True,
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
        raise InputError(f"--out {out}: a dry run writes no weights; use one of --out and --dry-run")
    if judging.printed in (options.Format.sarif, options.Format.junit, options.Format.github):
        raise InputError(
            f"--format {judging.printed.value}: a repair has text, json and markdown; unitgain check has the rest"
        )
    judging.check_outputs({"--out": out}, subject.inputs(target), {"--out": (".safetensors",)})
    wanted = options.codes("--only", only)
    with judging.working("repairing"):
        from .._fix import fix as run_fix

        model, given = subject.load(target, judging.loss)
        prove = prove and subject.shape is None  # random input has nothing to learn
        report = run_fix(
            model, given, judging.loss, only=wanted, dry_run=dry_run, reinitialize=reinitialize, prove=prove,
            data=subject.further_batches(model, judging.loss) if prove else None,
        )  # fmt: skip
    judging.show(report)
    if out is not None:
        from ..targets import save_weights

        save_weights(model, out, _metadata(target, report))
        note(f"weights written: {out}" + ("" if report.fixed else " (unchanged: nothing was repaired)"))
    judging.exit(report.after.findings)


def _metadata(target: str, report: FixReport) -> dict[str, str]:
    """What belongs to the weights but is not in them."""
    notes = {"target": target, "unitgain": report.summary}
    if report.input_scale is not None:
        notes["input"] = json.dumps({"shift": report.input_shift, "scale": report.input_scale})
    return notes
