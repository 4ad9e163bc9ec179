"""What advice is worth: networks with one planted defect on tasks that can be learnt, trained as they are, with what
`check(prove=True)` advises first, and after `fix`.

Fifteen networks (MLPs, convolutional, residual, transformers, recurrent, autoencoders, regression) x twenty defects:
sick_networks.py. --seed draws weights and batches. Each is trained for 200 steps on fresh batches that neither check
nor fix has seen: as it is, with what is advised first, and repaired by fix. Two losses differ if they do by more than
two standard errors of their difference and half a percent of the first loss.

Every case is kept as a line of a file, so that an interrupted run goes on where it was; --part 0/2 and 1/2 share it.

    python experiments/advice_pays.py --to FILE.jsonl [--seed 0] [--networks 0-14] [--part 0/1]
    python experiments/advice_pays.py --to FILE.jsonl --table [--out FILE.md]
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import unitgain as ug
from unitgain._check import Change, Course, Plan, Trials, changes_for, compare
from unitgain.rules import Finding

sys.path.insert(0, str(Path(__file__).parent))
from sick_networks import DEFECTS, NETWORKS, Network, Plant, Sick

STEPS = 200
GIVEN = 100  # batches that check and fix see


@dataclass
class Case:
    """A sick network, ready to be trained."""

    name: str
    model: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]
    make: Callable[[Any], torch.optim.Optimizer]
    stray: int
    given: list[tuple[Tensor, Tensor]]
    fresh: list[tuple[Tensor, Tensor]]  # what the long training sees

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return self.make([*model.parameters()][self.stray :])

    def trials(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> Trials:
        plan = Plan(0, optimizer, self.fresh[1:], prove=True)
        return Trials(model, self.fresh[0], self.loss, None, plan, STEPS)


def case_of(network: Network, defect: str, plant: Plant, seed: int) -> Case | None:
    """None where the network has nothing to plant it in."""
    torch.manual_seed(1000 * seed + NETWORKS.index(network))
    sick = Sick(network.model(), network.loss)
    if plant(sick) is False:
        return None
    g = torch.Generator().manual_seed(1000 * seed + 500 + NETWORKS.index(network))
    data = [sick.data(network.data(g)) for _ in range(GIVEN + STEPS)]

    def make(p: Any) -> torch.optim.Optimizer:
        made = network.optimizer(p, lr=network.rate * sick.rate)
        for group in made.param_groups:
            group.update(sick.options)
        return made

    return Case(
        f"{network.name}, {defect}", sick.model, sick.loss, make, sick.stray, data[:GIVEN], data[GIVEN:]
    )


def advised(report: ug.Report, trials: Trials) -> tuple[Finding, Change] | None:
    """What the report advises first, as something to apply; None where it is a line of code or was not tried."""
    action = report.diagnosis.first_action
    for finding in report.findings:
        if finding.severity == "info" or finding.remedy != action or finding.proof is None:
            continue
        if finding.proof.outcome != "better":
            return None
        for change in changes_for(finding, trials, may_redraw=True):
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
    """found: errors and warnings; first: what is advised first, and its kind: "tried", "a line", "" (nothing is);
    advice, fix: "better", "same", "worse", or "" where nothing was advised that can be applied, or nothing changed;
    cured: "cured", "not cured", or "" where fix has no remedy for what was found; worse: whether findings after fix are
    more severe or more than before; kept: what fix did"""

    name: str
    seed: int
    found: str
    first: str
    advice: str
    fix: str
    cured: str
    worse: bool
    kept: str
    seconds: float
    losses: dict[str, float]


def judge(case: Case, seed: int) -> Row:
    begin = time.process_time()
    plain = case.trials(case.model, case.optimizer(case.model)).run()
    optimizer, data = case.optimizer(case.model), case.given
    report = ug.check(case.model, data[0], case.loss, optimizer=optimizer, data=data[1:], prove=True)
    losses = {"plain": plain.level}
    trials = case.trials(case.model, optimizer)
    found = advised(report, trials)
    advice, first = "", report.diagnosis.first_action[:80]
    if found is not None:
        course = trials.run(found[1])
        advice, first = compare(plain, course).outcome, found[1].words
        losses["advised"] = course.level
    fixed = copy.deepcopy(case.model)
    its = case.optimizer(fixed)
    result = ug.fix(fixed, data[0], case.loss, optimizer=its, data=data[1:])
    kept = [a for a in result.actions if a.kept]
    repaired, cured = "", ""
    if kept:
        for shift, by in result.inputs.values():  # one input
            mean, std = torch.tensor(shift), torch.tensor(by)
            if case.given[0][0].dim() > 2:
                mean, std = (v.view(-1, *[1] * (case.given[0][0].dim() - 2)) for v in (mean, std))
            case.fresh = [((x - mean) / std, y) for x, y in case.fresh]
        if any(a.remedy.startswith("mean-shift: standardize") for a in kept):
            its = case.optimizer(fixed)
        course = case.trials(fixed, its).run()
        repaired = compare(plain, course).outcome
        losses["fixed"] = course.level
        if any("log_softmax" in a.remedy for a in kept):  # the loss was no measure before
            repaired = "better" if course.learns else "worse"
    fixable = [f for f in report.findings if f.severity != "info" and f.auto]  # proven, or not to be tried
    if fixable:
        left = {f.code for f in result.after.findings if f.severity != "info"} & {f.code for f in fixable}
        cured = "not cured" if left else "cured"
    codes = " ".join(f.code for f in report.findings if f.severity != "info")
    return Row(case.name, seed, codes or report.diagnosis.status, first, advice, repaired, cured,
               size(result.after) > size(result.before), "; ".join(a.remedy for a in kept),
               round(time.process_time() - begin, 1), losses)  # fmt: skip


def healthy_learns(network: Network, seed: int) -> bool:
    """Whether it learns with nothing planted: the loss comes down by a fifth."""
    case = case_of(network, "nothing", lambda sick: None, seed)
    assert case is not None
    course: Course = case.trials(case.model, case.optimizer(case.model)).run()
    return course.finite and course.level < 0.8 * course.losses[0]


def rows_of(file: Path) -> dict[tuple[str, int], Row]:
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return {(row.name, row.seed): row for row in (Row(**json.loads(line)) for line in lines)}


def run(file: Path, seed: int, networks: range, part: tuple[int, int], only: list[str]) -> None:
    known, number = rows_of(file), 0
    for network in (NETWORKS[i] for i in networks):
        if not healthy_learns(network, seed):
            print(f"{network.name}, seed {seed}: does not learn with nothing planted", flush=True)
            continue
        for defect in ("nothing planted", *DEFECTS):
            number += 1
            if number % part[1] != part[0] or (only and defect not in only):
                continue
            if (f"{network.name}, {defect}", seed) in known:
                continue
            case = case_of(network, defect, DEFECTS.get(defect, lambda sick: None), seed)
            if case is None:
                continue
            torch.manual_seed(0)
            row = judge(case, seed)
            with file.open("a", encoding="utf-8") as out:
                out.write(json.dumps(asdict(row)) + "\n")
            print(f"{row.name}: {row.found} | {row.first} -> {row.advice} | fix {row.fix} {row.cured}"
                  f"{' WORSE' * row.worse} | {row.kept} {row.seconds} s", flush=True)  # fmt: skip


def summary(rows: list[Row]) -> Iterator[str]:
    sick = [r for r in rows if not r.name.endswith("nothing planted")]
    controls = [r for r in rows if r.name.endswith("nothing planted")]
    tried, trained = [r for r in sick if r.advice], [r for r in sick if r.fix]
    fixable = [r for r in sick if r.cured]
    calm = sum(r.found == "healthy" for r in sick)
    yield f"- cases with a planted defect: {len(sick)}; of these called healthy: {calm}"
    yield f"- advised first, and applied: {len(tried)}; {_outcomes([r.advice for r in tried])}"
    yield f"- changed by fix: {len(trained)}; {_outcomes([r.fix for r in trained])}"
    cured = sum(r.cured == "cured" for r in fixable)
    share = cured / max(1, len(fixable))
    yield f"- with a finding that fix has remedies for: {len(fixable)}; cured {cured} ({share:.0%})"
    yield f"- findings after fix more or more severe than before: {sum(r.worse for r in rows)}"
    alarms = sum(r.found not in ("healthy", "unknown") for r in controls)
    yield (
        f"- with nothing planted: {len(controls)}; with a warning or an error {alarms}; "
        f"changed by fix {sum(bool(r.kept) for r in controls)}"
    )
    yield from ("", "Those in which something did not help:", "")
    for r in rows:
        bad = r.worse or "worse" in (r.advice, r.fix) or r.cured == "not cured" or r.advice == "same"
        if bad or (r in controls and r.found not in ("healthy", "unknown")):
            yield (
                f"- {r.name} (seed {r.seed}): {r.found}; {r.first} -> {r.advice or 'not tried'}; "
                f"fix: {r.kept or 'nothing'} -> {r.fix or 'unchanged'} {r.cured}".rstrip()
            )


def _outcomes(found: list[str]) -> str:
    count, share = Counter(found), found.count("better") / max(1, len(found))
    return f"lower loss in {count['better']} ({share:.0%}), as before in {count['same']}, higher in {count['worse']}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--networks", default=f"0-{len(NETWORKS) - 1}")
    parser.add_argument("--defects", nargs="*", default=[])
    parser.add_argument("--part", default="0/1")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if not given.table:
        warnings.filterwarnings("ignore")
        torch.set_num_threads(1)
        first, _, last = given.networks.partition("-")
        part = tuple(map(int, given.part.split("/")))
        run(
            given.to, given.seed, range(int(first), int(last or first) + 1), (part[0], part[1]), given.defects
        )
        return
    rows = list(rows_of(given.to).values())
    text = "\n".join(summary(rows))
    print(text)
    if given.out:
        head = f"{date.today()}; python {platform.python_version()}, torch {torch.__version__}, one thread a process"
        table = ["| case | seed | found | advised first | training with it | fix did | training after | cured |",
                 "|" + "---|" * 8]  # fmt: skip
        table += [
            f"| {r.name} | {r.seed} | {r.found} | {r.first} | {r.advice} | {r.kept} | {r.fix} | {r.cured} |"
            for r in rows
        ]
        lines = ["# What advice is worth", "", head, "", text, "", *table]
        given.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
