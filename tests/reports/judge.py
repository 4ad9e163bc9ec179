"""Runs unitgain over the reported troubles and counts what it names, and over healthy trainings and counts alarms.

    python tests/reports/judge.py [HALF|all] [--cured] [-v] [--out FILE] [--from FILE.py] [NAME ...]

HALF      dev, held_out, unseen_a to unseen_f, unseen_i, unseen_j (registry.HALVES), or variants_g and variants_h
          (registry.VARIANTS)
--cured   the cured variants and the healthy trainings: every finding at warning or above is a false alarm
-v        every finding in full
--out     writes what is printed to a file as well, under a heading with date, versions and counts
--from    cases of another file with a dictionary REPORTS of the same fields, instead of ours

Verdicts: `named` if a finding at warning or above has a code of `must`,
or a text that matches `says`; `part` if so, but
the cause has another part that no rule knows; `symptom` if only a code of `may` is found, or one of `must` for
information or as a consequence of another finding; `missed` else, and then `beyond` where the case lies beyond what
measuring can know. False alarms are findings at warning or above that are neither must nor may. A "probe" case is
judged twice: a Probe over the training as reported, and, where model, batch and loss can be said, ug.check of the
untrained model. What either finds counts. A refusal (an exception) counts as a finding of its own.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import inspect
import platform
import re
import sys
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))

import registry
from registry import Case, built

import unitgain as ug

ALARMS = ("error", "warning")
NEVER_A_SYMPTOM = {"UG601"}  # a bias before BatchNorm: true, and harmless
VERDICTS = ("named", "part", "symptom", "missed", "beyond")


@dataclass
class Found:
    """What all runs of one case gave."""

    alarms: dict[str, str] = field(default_factory=dict)  # code: text, at warning or above
    informed: set[str] = field(default_factory=set)  # codes for information, and consequences
    actions: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)  # for -v

    def add(self, how: str, diagnosis: Any) -> None:
        diagnosis = getattr(diagnosis, "diagnosis", diagnosis)
        for f in diagnosis.findings:
            severity = str(getattr(f.severity, "value", f.severity)).lower()
            text = f"{f.message} {f.cause} {f.remedy}"
            if severity in ALARMS:
                self.alarms[f.code] = self.alarms.get(f.code, "") + " " + text
            else:
                self.informed.add(f.code)
            consequences = str(getattr(f, "consequences", ""))
            self.informed |= set(re.findall(r"UG\d{3}", consequences))
            self.lines.append(f"      {how}: {severity} {f.code} at {f.site}: {text}")
        self.actions.append(str(diagnosis.first_action or ""))
        self.lines.append(f"      {how}: first action: {diagnosis.first_action}")

    def refused(self, how: str, error: Exception) -> None:
        name = type(error).__name__
        self.alarms[name] = self.alarms.get(name, "") + f" {error}"
        self.lines.append(f"      {how}: {name}: {error}")


def examined(case: Case, cured: bool) -> Found:
    """Everything that unitgain says of one variant."""
    found = Found()
    for how, run in _runs(case, cured):
        torch.manual_seed(0)
        try:
            found.add(how, run())
        except Exception as error:
            found.refused(how, error)
    return found


def _runs(case: Case, cured: bool) -> Iterator[tuple[str, Callable[[], Any]]]:
    def check() -> Any:
        parts = built(case, cured)
        model, batch, kwargs = (parts[0], *parts[3:5]) if case.form == "probe" else parts[:3]
        return ug.check(model, batch, **_known(kwargs))

    def probe() -> Any:
        model, optimizer, loop = built(case, cured)[:3]
        with ug.Probe(model, optimizer, every=10) as probe:
            loop(probe)
        return ug.diagnose(probe.record)

    if case.form == "probe":
        yield "probe", probe
    torch.manual_seed(0)
    if case.form == "check" or built(case, cured)[3] is not None:
        yield "check", check


def _known(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Without the arguments that this version of ug.check does not have."""
    parameters = inspect.signature(ug.check).parameters
    return {name: value for name, value in kwargs.items() if name in parameters}


def verdict_on(case: Case, found: Found) -> str:
    said = bool(case.says) and any(re.search(case.says, text, re.I) for text in found.alarms.values())
    if case.must & found.alarms.keys() or said:
        return "part" if case.no_rule and not said else "named"
    if ((case.must | case.may) & (found.informed | found.alarms.keys())) - NEVER_A_SYMPTOM:
        return "symptom"
    return "beyond" if case.boundary else "missed"


class Page:
    """Prints, and keeps what was printed for --out."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, text: str = "") -> None:
        print(text, flush=True)
        self.lines.append(text)


def judge_reported(cases: list[Case], page: Page, verbose: bool) -> None:
    total: Counter[str] = Counter()
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    for case in cases:
        found = examined(case, cured=False)
        verdict = verdict_on(case, found)
        false = sorted(found.alarms.keys() - case.must - case.may) if verdict != "named" or case.must else []
        cure = bool(case.action) and any(
            re.search(case.action, action, re.I) for action in found.actions if action
        )
        total[verdict] += 1
        kinds[case.kind][verdict] += 1
        total["false alarms"] += bool(false)
        total["cured by the first action"] += cure
        total["called healthy"] += not found.alarms
        page(
            f"{case.name:46} {case.kind:9} {verdict:8} {'cure' if cure else '-':4} "
            f"alarms {' '.join(sorted(found.alarms)) or '-':24} info {' '.join(sorted(found.informed)) or '-'}"
            + (f"  FALSE {' '.join(false)}" if false else "")
        )
        if verbose:
            page("\n".join(found.lines))
    page()
    seen = sum(total[v] for v in VERDICTS) - total["beyond"]
    page(
        f"{len(cases)} reported troubles, {seen} of which measuring could see: cause named in {total['named']}, a part "
        f"of it in {total['part']}, a symptom in {total['symptom']}, missed {total['missed']}; called healthy "
        f"{total['called healthy']}; first action cures {total['cured by the first action']}; false alarms in "
        f"{total['false alarms']}"
    )
    for kind, counts in sorted(kinds.items()):
        page(f"  {kind:10} " + ", ".join(f"{counts[v]} {v}" for v in VERDICTS if counts[v]))


def judge_healthy(cases: list[Case], what: str, page: Page, verbose: bool) -> None:
    alarmed = 0
    for case in cases:
        found = examined(case, cured=True)
        alarmed += bool(found.alarms)
        if found.alarms:
            page(f"{case.name:46} {case.kind:9} ALARM    {' '.join(sorted(found.alarms))}")
        if verbose:
            page("\n".join(found.lines))
    page(f"{len(cases)} {what}: {alarmed} with alarms")


def cases_of(path: Path) -> list[Case]:
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location("other_reports", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return list(registry.from_dicts(module.REPORTS))


def main() -> None:
    parser = argparse.ArgumentParser(description="unitgain on reported troubles and healthy trainings")
    parser.add_argument("half", nargs="?", default="dev")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--cured", action="store_true")
    parser.add_argument("-v", "--verbose", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--from", dest="other", type=Path)
    args = parser.parse_intermixed_args()
    if args.half not in (*registry.HALVES, *registry.VARIANTS, "all"):
        args.half, args.names = "all", [args.half, *args.names]

    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    start = time.perf_counter()
    halves = registry.HALVES if args.half == "all" else (args.half,)
    cases = cases_of(args.other) if args.other else registry.load(*halves)
    cases = [case for case in cases if not args.names or case.name in args.names]
    reported = [case for case in cases if case.kind != "healthy"]
    healthy = [case for case in cases if case.kind == "healthy"]
    page = Page()
    if args.cured:
        judge_healthy(reported, "cured variants", page, args.verbose)
    elif reported:
        judge_reported(reported, page, args.verbose)
    if healthy:
        judge_healthy(healthy, "healthy trainings", page, args.verbose)
    page(f"{time.perf_counter() - start:.0f} s")
    if args.out:
        heading = (
            f"# Reported troubles, {args.half}{', cured' if args.cured else ''}\n\n{datetime.date.today()}, unitgain "
            f"{ug.__version__}, torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}, "
            f"one thread\n\n```\n"
        )
        args.out.write_text(heading + "\n".join(page.lines) + "\n```\n", encoding="utf-8")


if __name__ == "__main__":
    main()
