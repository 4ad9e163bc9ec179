"""unitgain check: a model and a batch in, a report out."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._base import InputError, console, note, table_of
from . import options
from .errors import Debug
from .graph import refuse_beside_graph, show_graph, traced
from .help import REPORT
from .output import check_folder
from .runs import is_other_log, is_run, refuse_folder, refuse_model_options, report_on_run

if TYPE_CHECKING:
    from ..report import Report
    from ..rules import Finding


class OptimizerName(str, Enum):
    sgd = "sgd"
    adam = "adam"
    adamw = "adamw"


@options.with_shared_options
def check(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help=f"{options.TARGET} Or a run: its folder or its record.",
        ),
    ],
    subject: options.Subject,
    judging: options.Judging,
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
    prove: Annotated[
        bool,
        typer.Option("--prove", help="Try what findings prescribe by short trainings; report what helps."),
    ] = False,
    select: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CODES",
            help="Only these rules: UG101,UG3 (a prefix) or names.",
        ),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(metavar="CODES", help="Not these rules."),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Accept the findings in this file; only new ones count."),
    ] = None,
    write_baseline: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the findings to such a file.")
    ] = None,
    not_judged: Annotated[
        bool,
        typer.Option(
            "--not-judged",
            help="Say for every rule that could not judge why, and what it needs.",
            rich_help_panel=REPORT,
        ),
    ] = False,
    graph: Annotated[
        bool,
        typer.Option(
            "--graph",
            help="Show what was understood of the model (layers, residual branches); check nothing.",
        ),
    ] = False,
    record: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write what was measured as an SQLite file.")
    ] = None,
    plots: Annotated[
        str | None, typer.Option(metavar="DIR", help="Write the pictures of what was measured, as PNG files.")
    ] = None,
    sarif: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the findings as SARIF, for code hosts.")
    ] = None,
    junit: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the findings as JUnit XML, for CI systems.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Measure a model on one batch and say what is wrong with it, and why.

    \b
    Examples:
      unitgain check char_mlp_original --dataset names
      unitgain check my_model.py:make_model --data batch.npz --html report.html
      unitgain check timm:resnet50 --shape 4,3,160,160 --loss cross_entropy
      unitgain check my_model.py:make_model --data batch.npz --optimizer adam --lr 3e-3 --prove
      unitgain check char_mlp_original --dataset names --steps 20 --plots pictures
      unitgain check runs/tanh                       the record of unitgain train --run
      unitgain check timm:resnet50 --shape 2,3,64,64 --graph        what runs after what; nothing is checked
      unitgain check my_gpt.py:GPT --shape 4,128 --tokens 50257 --steps 10 --optimizer adamw --lr 3e-4
    """
    from ..rules import accept, load_baseline, save_baseline

    judged = is_run(target)
    if judged:
        extra = {"--steps": steps, "--optimizer": optimizer, "--lr": lr, "--prove": prove, "--record": record,
                 "--graph": graph}  # fmt: skip
        chose_loss = judging.loss != "auto" and not is_other_log(target)  # of a log, --loss names the series
        refuse_model_options(target, {**subject.chosen(), **extra, "--loss": chose_loss})
    else:
        refuse_folder(target)
    judging.check_outputs(
        {"--record": record, "--write-baseline": write_baseline, "--sarif": sarif, "--junit": junit},
        [*subject.inputs(target), baseline],
    )
    if plots is not None:
        check_folder("--plots", plots)
    if graph:
        refuse_beside_graph(
            {
                "--steps": steps, "--optimizer": optimizer, "--lr": lr, "--prove": prove,
                "--select": select, "--ignore": ignore,
                "--baseline": baseline, "--write-baseline": write_baseline, "--html": judging.html,
                "--record": record, "--plots": plots, "--sarif": sarif, "--junit": junit,
            },
        )  # fmt: skip
        with judging.working("following one pass"):
            found = traced(*subject.load(target, judging.loss))
        show_graph(found, judging.json)
        return
    if prove and subject.shape is not None:
        raise InputError(
            "--prove: random input has nothing to learn, so no training can show what helps; give --data or --dataset"
        )
    make_optimizer = _optimizer(optimizer, lr, bool(steps) or prove)
    selected, ignored = options.codes("--select", select), options.codes("--ignore", ignore)
    accepted = load_baseline(baseline) if baseline is not None else None
    from ..report import Report

    with judging.working("checking"):
        if judged:
            report = report_on_run(
                target, selected, ignored, None if judging.loss == "auto" else judging.loss
            )
        else:
            from .._check import check as run_check

            model, given = subject.load(target, judging.loss)
            fresh = subject.further_batches(model, judging.loss) if steps or prove else None
            report = run_check(
                model, given, judging.loss, steps=steps, optimizer=make_optimizer, data=fresh, prove=prove,
                select=selected, ignore=ignored,
            )  # fmt: skip
    found = report.findings
    if accepted is not None:
        report = Report(report.record, accept(report.diagnosis, accepted))
    report.page, report.source = judging.html, options.source_of(target)
    judging.show(report)
    if not_judged:
        _show_not_judged(report)
    for option, path in (("sarif", sarif), ("junit", junit)):
        if path is not None:
            report.save(path)
            note(f"{option} report written: {path}")
    if record is not None:
        report.record.save(record)
        note(f"record written: {record}")
    if plots is not None:
        from ..report import draw_all

        note(f"{len(draw_all(report, plots))} pictures written: {plots}")
    if write_baseline is not None:
        save_baseline(write_baseline, found)
        note(f"baseline written: {write_baseline}")
    known = report.diagnosis.accepted
    counted = [finding for finding in report.findings if finding not in known]
    if accepted is not None:
        note(f"baseline {baseline}: {len(known)} of {len(found)} findings accepted, {len(counted)} new")
    if not judged:
        _point_to_fix(target, counted)
    judging.exit(counted)


def _show_not_judged(report: Report) -> None:
    from ..rules import CATALOGUE

    abstained = sorted(report.diagnosis.abstained.items())
    rows = [(code, CATALOGUE[code].name, reason) for code, reason in abstained]
    console().print("\nNot judged" if rows else "\nEvery rule could judge.")
    if rows:
        console().print(table_of(("code", "name", "why"), rows))


def _point_to_fix(target: str, findings: Sequence[Finding]) -> None:
    codes = sorted({f.code for f in findings if f.auto and f.severity in ("error", "warning")})
    if codes:
        command = f"`unitgain fix {shlex.quote(target)}` with the same options for model and batch"
        note(f"{', '.join(codes)}: {command} and --dry-run (or --out FILE) tries remedies and measures again")


def _optimizer(name: OptimizerName | None, lr: float | None, steps: bool) -> Callable[[Any], Any] | None:
    """A function from parameters to the optimizer, None if no option names one."""
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
