"""What advice is worth: networks with one planted defect on tasks that can be learnt, trained as they are, with what
`check(prove=True)` advises first, and after `fix`.

Tiny networks (MLPs, convolutional, residual, recurrent, attention, words: those of random_rates.py) x planted defects.
Each is trained for 200 steps on fresh batches that neither check nor fix has seen: as it is, with what is advised
first, and repaired by fix. Two losses differ if they do by more than two standard errors of their difference and half a
percent.

    python experiments/advice_pays.py [--networks 8] [--first 0] [--out FILE]
"""

from __future__ import annotations

import argparse
import copy
import platform
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import unitgain as ug
from unitgain._check import Change, Course, Plan, Trials, changes_for, compare
from unitgain.rules import Finding

sys.path.insert(0, str(Path(__file__).parent))
import random_rates

STEPS = 200


@dataclass
class Case:
    """A sick network, ready to be trained."""

    name: str
    model: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]
    make: Callable[[Any], torch.optim.Optimizer]
    given: list[tuple[Tensor, Tensor]]  # what check and fix see
    fresh: list[tuple[Tensor, Tensor]]  # what the long training sees

    def trials(self, steps: int = STEPS) -> Trials:
        plan = Plan(0, self.make, self.fresh[1:], prove=True)
        return Trials(self.model, self.fresh[0], self.loss, None, plan, steps)


def matrices(model: nn.Module) -> list[nn.Parameter]:
    return [p for n, p in model.named_parameters() if p.dim() > 1 and "embed" not in n and "places" not in n]


def scaled(factor: float, which: slice = slice(None)) -> Callable[[nn.Module], None]:
    def plant(model: nn.Module) -> None:
        for p in matrices(model)[which]:
            p.data.mul_(factor)

    return plant


def normal(std: float) -> Callable[[nn.Module], None]:
    def plant(model: nn.Module) -> None:
        for p in matrices(model):
            nn.init.normal_(p, std=std)

    return plant


def pushed_down(model: nn.Module) -> None:
    for name, p in model.named_parameters():
        if name.endswith("bias") and p.dim() == 1 and len(p) > 10:
            p.data[: int(0.7 * len(p))] -= 4


def copied(model: nn.Module) -> None:
    weight = matrices(model)[0].data
    weight[:] = weight[:1]


DEFECTS: dict[str, tuple[Callable[[nn.Module], None], float, float, float]] = {
    # what is planted, factor of the optimizer's rate, scale and shift of the inputs
    "head x 20": (scaled(20, slice(-1, None)), 1, 1, 0),
    "first layer x 8": (scaled(8, slice(0, 1)), 1, 1, 0),
    "all weights x 4": (scaled(4), 1, 1, 0),
    "all weights x 0.1": (scaled(0.1), 1, 1, 0),
    "all weights N(0, 1)": (normal(1.0), 1, 1, 0),
    "biases pushed down": (pushed_down, 1, 1, 0),
    "copied units": (copied, 1, 1, 0),
    "rate x 1000": (lambda _: None, 1e3, 1, 0),
    "rate x 100": (lambda _: None, 1e2, 1, 0),
    "rate / 10000": (lambda _: None, 1e-4, 1, 0),
    "inputs x 30": (lambda _: None, 1, 30, 0),
    "inputs + 10": (lambda _: None, 1, 1, 10),
}
RATES = {"SGD": 0.05, "momentum": 0.01, "Adam": 2e-3, "AdamW": 2e-3, "RMSprop": 1e-3}


def cases(networks: range) -> Iterator[Case]:
    for number in networks:
        name = list(RATES)[number % len(RATES)]
        for defect, (plant, faster, scale, shift) in DEFECTS.items():
            model, kind, classifies = random_rates.network(number)
            if kind == "words" and (scale != 1 or shift):
                continue
            plant(model)
            loss = torch.nn.functional.cross_entropy if classifies else torch.nn.functional.mse_loss

            def make(p: Any, name: str = name, rate: float = RATES[name] * faster) -> torch.optim.Optimizer:
                return random_rates.OPTIMIZERS[name](p, lr=rate)

            both = random_rates.batches_of(number, classifies, 3 * STEPS // 2)
            data = [(x * scale + shift, y) for x, y in both]
            yield Case(
                f"{number} {kind} {name}, {defect}", model, loss, make, data[: STEPS // 2], data[STEPS // 2 :]
            )


def advised(report: ug.Report, case: Case) -> tuple[Finding, Change] | None:
    """What the report advises first, as something to apply; None where it is a line of code or was not tried."""
    action = report.diagnosis.first_action
    for finding in report.findings:
        if finding.severity == "info" or finding.remedy != action or finding.proof is None:
            continue
        if finding.proof.outcome != "better":
            return None
        for change in changes_for(finding, case.trials(), may_redraw=True):
            if change.words == finding.proof.tried:
                return finding, change
        if finding.prescription is not None:
            return finding, Change(finding.proof.tried, prescription=finding.prescription)
    return None


def size(report: ug.Report) -> tuple[int, int]:
    severities = Counter(f.severity for f in report.findings)
    return severities["error"], severities["warning"]


@dataclass
class Row:
    name: str
    found: str
    first: str
    advice: str  # "better", "same", "worse", or "" where nothing was advised that can be applied
    fix: str  # likewise, of the training after fix; "" where it changed nothing
    cured: str  # "cured", "not cured", or "" where nothing was there to be fixed
    worse: bool  # whether findings after fix are more or more severe than before


def judge(case: Case) -> Row:
    plain = case.trials().run()
    optimizer, data = case.make, case.given
    report = ug.check(case.model, data[0], case.loss, optimizer=optimizer, data=data[1:], prove=True)
    found = advised(report, case)
    advice = first = ""
    if found is not None:
        advice, first = outcome(plain, case.trials().run(found[1])), found[1].words
    fixed = copy.deepcopy(case.model)
    result = ug.fix(fixed, data[0], case.loss, optimizer=case.make, data=data[1:])
    repaired, cured = "", ""
    if any(action.kept for action in result.actions):
        case.model = fixed
        for name, (mean, std) in result.inputs.items():
            assert len(case.given[0][0].shape) == 2, name  # one input, of rows of features
            shift, by = torch.tensor(mean), torch.tensor(std)
            case.fresh = [((x - shift) / by, y) for x, y in case.fresh]
        repaired = outcome(plain, case.trials().run())
    if any(f.severity != "info" and f.auto for f in report.findings):
        cured = (
            "not cured" if any(f.severity != "info" and f.auto for f in result.after.findings) else "cured"
        )
    codes = " ".join(f.code for f in report.findings if f.severity != "info")
    return Row(case.name, codes or report.diagnosis.status, first, advice, repaired, cured,
               size(result.after) > size(result.before))  # fmt: skip


def outcome(before: Course, after: Course) -> str:
    return compare(before, after).outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--networks", type=int, default=8)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    begin, rows = time.perf_counter(), []
    for case in cases(range(arguments.first, arguments.first + arguments.networks)):
        torch.manual_seed(0)
        rows.append(judge(case))
        r = rows[-1]
        print(
            f"{r.name}: {r.found} | {r.first} {r.advice} | fix {r.fix} {r.cured}{' WORSE' * r.worse}",
            flush=True,
        )
    lines = list(summary(rows))
    lines += ["", f"{time.perf_counter() - begin:.0f} s"]
    print("\n".join(lines))
    if arguments.out:
        head = [
            "# What advice is worth",
            "",
            f"{date.today()}; python {platform.python_version()}, torch {torch.__version__}, one thread; command: "
            f"python experiments/advice_pays.py --networks {arguments.networks} --first {arguments.first}",
            "",
        ]
        table = [
            "",
            "| case | found | advised first | training with it | after fix | cured |",
            "|---|---|---|---|---|---|",
        ]
        table += [f"| {r.name} | {r.found} | {r.first} | {r.advice} | {r.fix} | {r.cured} |" for r in rows]
        arguments.out.write_text("\n".join([*head, *lines, *table]) + "\n", encoding="utf-8")


def summary(rows: list[Row]) -> Iterator[str]:
    tried = [r for r in rows if r.advice]
    trained = [r for r in rows if r.fix]
    fixable = [r for r in rows if r.cured]
    better, worse = (sum(r.advice == what for r in tried) for what in ("better", "worse"))
    yield f"- advised first, and applied: {len(tried)} of {len(rows)} cases; lower loss in {better}, higher in {worse}"
    better, worse = (sum(r.fix == what for r in trained) for what in ("better", "worse"))
    yield f"- changed by fix: {len(trained)}; lower loss in {better}, higher in {worse}"
    cured = sum(r.cured == "cured" for r in fixable)
    yield f"- with a proven or untried finding that fix has remedies for: {len(fixable)}; cured {cured}"
    yield f"- findings after fix more or more severe than before: {sum(r.worse for r in rows)}"
    for r in rows:
        if (
            "worse" in (r.advice, r.fix)
            or r.worse
            or r.cured == "not cured"
            or (r.advice and r.advice != "better")
        ):
            yield f"    - {r.name}: {r.found}; {r.first} {r.advice}; fix {r.fix} {r.cured}"


if __name__ == "__main__":
    main()
