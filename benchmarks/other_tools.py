"""What other tools say of the reported troubles and of their cured twins (tests/reports), beside unitgain.

    pip install --no-deps torchmortem torchtest2 jinja2
    python benchmarks/other_tools.py [--out FILE] [--say]

torchtest2's `check_model` gets model, batch, loss and optimizer, as `ug.check` does; torchmortem's Autopsy sees forty
training steps; both at their defaults. An alarm is a failed check or a warning of torchtest2, a finding of torchmortem
above "info", an error or warning of unitgain. An alarm on a sick program need not name the cause: --say prints the
texts, to be judged by hand. Only cases of the form "check" are run: a model, a batch and a loss.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import platform
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "reports"))

import registry

import unitgain as ug

STEPS = 40
BAD = ("fail", "failed", "warn", "warning", "error")  # of torchtest2's states


def torchtest2(model: Any, batch: Any, kwargs: dict[str, Any], optimizer: Any) -> list[str]:
    from torchtest2 import check_model

    *inputs, target = batch
    report = check_model(
        model, tuple(inputs), target, loss_fn=kwargs.get("loss"), optimizer=optimizer, overfit_target=None
    )
    rows = [r for r in report.results if str(getattr(r.status, "value", r.status)).lower() in BAD]
    return [f"{r.name}: {r.message}" for r in rows]


def torchmortem(model: Any, batch: Any, kwargs: dict[str, Any], optimizer: Any) -> list[str]:
    from torchmortem import Autopsy

    batches = list(kwargs.get("data") or [batch])
    autopsy = Autopsy(model, optimizer)
    with autopsy:
        for step in range(STEPS):
            *inputs, target = batches[step % len(batches)]
            optimizer.zero_grad()
            loss = kwargs["loss"](model(*inputs), target)
            if loss.requires_grad:
                loss.backward()
            optimizer.step()
            autopsy.step(loss=float(loss))
    report = autopsy.get_report()
    if report is None:
        with contextlib.redirect_stdout(io.StringIO()):
            autopsy.report("/dev/null")
        report = autopsy.get_report()
    return [f"{f.severity}: {f.title}" for f in report.findings if "info" not in str(f.severity).lower()]


def unitgain(model: Any, batch: Any, kwargs: dict[str, Any], optimizer: Any) -> list[str]:
    report = ug.check(model, batch, **kwargs)
    return [f"{f.code} {f.message}" for f in report.findings if f.severity != "info"]


TOOLS = {"unitgain": unitgain, "torchtest2": torchtest2, "torchmortem": torchmortem}


def said(tool: Any, case: registry.Case, cured: bool) -> list[str]:
    torch.manual_seed(0)
    model, batch, kwargs = registry.built(case, cured)[:3]
    make = kwargs.get("optimizer") or (lambda parameters: torch.optim.Adam(parameters, case.rate))
    optimizer = make(model.parameters())
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return tool(model, batch, copy.copy(kwargs), optimizer)
    except Exception as error:
        return [f"{type(error).__name__}: {error}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out")
    parser.add_argument("--say", action="store_true")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    cases = [c for c in registry.load("dev", "held_out") if c.form == "check" and c.kind != "healthy"]
    lines = ["| tool | version | sick: any alarm | cured: any alarm |", "|---|---|---|---|"]
    for name, tool in TOOLS.items():
        sick = cured = 0
        for case in cases:
            one, two = said(tool, case, False), said(tool, case, True)
            sick, cured = sick + bool(one), cured + bool(two)
            if given.say:
                print(f"{name} {case.name} [{case.cause[:80]}]\n    SICK {one}\n    CURED {two}", flush=True)
        lines.append(f"| {name} | {version(name)} | {sick} of {len(cases)} | {cured} of {len(cases)} |")
        print(lines[-1], flush=True)
    text = "\n".join([f"python {platform.python_version()}, torch {torch.__version__}", "", *lines, ""])
    print(text)
    if given.out:
        heading = "# Other tools\n\ncommand: python benchmarks/other_tools.py\n\n"
        Path(given.out).write_text(heading + text, encoding="utf-8")


if __name__ == "__main__":
    main()
