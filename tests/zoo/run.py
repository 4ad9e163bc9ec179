"""`make zoo`: every row examined, recall and precision by code; exits with 1 when a demand is not met.

python tests/zoo/run.py [PATTERN] [--seed N] [--fix]     PATTERN: only rows whose id matches, as in "unet-*"

With --fix every row is repaired instead, and no row may have an error or a warning after it that it had not before.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from evaluate import HEALTHY, RECALL, RECALL_OF_A_CODE, SICK, Outcome, absent, examine, repair
from reference import declare_torchvision_operators
from rich.console import Console
from rich.table import Table
from row import Healthy, Sick

from unitgain.rules import CATALOGUE


def examined(pattern: str, seed: int) -> tuple[list[Outcome], list[str], list[str]]:
    """(outcomes, ids of rows left out, lines about rows that could not be examined)."""
    outcomes, left_out, broken = [], [], []
    for row in (*SICK, *HEALTHY):
        if not fnmatchcase(row.id, pattern):
            continue
        if isinstance(row, Healthy) and absent(row):
            left_out.append(row.id)
            continue
        try:
            outcomes.append(examine(row, seed))
        except Exception as error:  # one row that crashes must not hide the others
            broken.append(f"{row.id}: {type(error).__name__}: {error}")
    return outcomes, left_out, broken


def by_code(outcomes: Sequence[Outcome]) -> dict[str, Counter[str]]:
    """{code: planted, found, reported, right}. A cause with alternatives counts for the first of them."""
    table: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        row = outcome.row
        if isinstance(row, Sick):
            for text in row.must:
                count = table.setdefault(text.split("|")[0], Counter())
                count["planted"] += 1
                count["found"] += text not in outcome.missing
        accepted = row.accepted if isinstance(row, Sick) else frozenset()
        for code in {f.code for f in outcome.loud}:
            count = table.setdefault(code, Counter())
            count["reported"] += 1
            count["right"] += code in accepted
    return dict(sorted(table.items()))


def failures(outcomes: Sequence[Outcome], table: dict[str, Counter[str]]) -> list[str]:
    """The demands that are not met."""
    planted, found = (sum(c[key] for c in table.values()) for key in ("planted", "found"))
    failed = []
    if found < RECALL * planted:
        failed.append(f"recall {found / planted:.3f}, {RECALL} is demanded")
    failed += [
        f"{code}: {c['found']} of {c['planted']} found, {RECALL_OF_A_CODE:.0%} is demanded"
        for code, c in table.items()
        if c["found"] < RECALL_OF_A_CODE * c["planted"]
    ]
    alarms = sum(bool(o.loud) for o in outcomes if isinstance(o.row, Healthy))
    if alarms:
        failed.append(f"{alarms} healthy models with an error or a warning")
    false = sum(bool(o.alarms) for o in outcomes if isinstance(o.row, Sick))
    if false:
        failed.append(f"{false} rows with an error or a warning that is neither planted nor granted")
    crowded = sum(o.crowd > 0 for o in outcomes if isinstance(o.row, Sick))
    if crowded:
        failed.append(f"{crowded} rows with more than one finding for a planted cause")
    return failed


def mend(console: Console, pattern: str, seed: int) -> list[str]:
    """Repairs the rows; returns what went wrong."""
    failed, fixed, loud, left, noted = [], 0, 0, 0, 0
    for row in (*SICK, *HEALTHY):
        if not fnmatchcase(row.id, pattern) or (isinstance(row, Healthy) and absent(row)):
            continue
        try:
            outcome = repair(row, seed)
        except Exception as error:
            failed.append(f"{row.id}: {type(error).__name__}: {error}")
            continue
        console.print(f"  {outcome}", highlight=False, markup=False)
        before, after = (sum(f.severity != "info" for f in r.findings)
                         for r in (outcome.result.before, outcome.result.after))  # fmt: skip
        loud, left, fixed = loud + before, left + after, fixed + (before > 0 and after == 0)
        noted += len(outcome.notes)
        failed += [f"{row.id}: {f.code} appeared: {f.message}" for f in outcome.worse]
    console.print(
        f"{loud} errors and warnings before, {left} after; {fixed} networks without any; {noted} new remarks for "
        "information"
    )
    return failed


def share(part: int, whole: int) -> str:
    return f"{part / whole:.2f}" if whole else ""


def show(console: Console, outcomes: Sequence[Outcome], table: dict[str, Counter[str]]) -> None:
    sick_rows = [o for o in outcomes if isinstance(o.row, Sick)]
    wrong = [o for o in outcomes if not o.right]
    if wrong:
        console.print("Rows that went wrong", style="bold")
        for outcome in wrong:
            console.print(f"  {outcome}", highlight=False, markup=False)
    drawn = Table(title="The sick zoo", title_style="bold")
    for name in ("code", "name", "planted", "found", "recall", "reported", "right", "precision"):
        drawn.add_column(name, justify="left" if name in ("code", "name") else "right")
    total: Counter[str] = Counter()
    for code, count in table.items():
        total.update(count)
        name = CATALOGUE[code].name if code in CATALOGUE else ""
        drawn.add_row(code, name, *_cells(count))
    drawn.add_section()
    drawn.add_row("all", "", *_cells(total), style="bold")
    console.print(drawn)
    causes = sum(len(o.row.must) for o in sick_rows)
    loud = sum(len(o.loud) for o in sick_rows)
    healthy = [o for o in outcomes if isinstance(o.row, Healthy)]
    console.print(
        f"{len(sick_rows)} sick networks with {causes} planted causes: {share(loud, causes)} errors and warnings per "
        f"cause; {len(healthy)} healthy ones, {sum(bool(o.loud) for o in healthy)} of them with an alarm; checks took "
        f"{sum(o.seconds for o in outcomes):.1f} s"
    )


def _cells(count: Counter[str]) -> tuple[str, ...]:
    """UG601 is only ever information, which reports (errors and warnings) do not count."""
    planted, found, reported, right = (count[key] for key in ("planted", "found", "reported", "right"))
    return str(planted), str(found), share(found, planted), str(reported), str(right), share(right, reported)


def judge(console: Console, pattern: str, seed: int) -> list[str]:
    """Checks the rows; returns the demands that are not met."""
    outcomes, left_out, broken = examined(pattern, seed)
    table = by_code(outcomes)
    show(console, outcomes, table)
    if left_out:
        console.print(f"{len(left_out)} rows left out, for want of a package")
    return [*broken, *(failures(outcomes, table) if outcomes else ["no row matches"])]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Recall and precision of unitgain's rules on the sick zoo.")
    parser.add_argument("pattern", nargs="?", default="*", help="only rows whose id matches")
    parser.add_argument("--seed", type=int, default=0, help="other draws of weights and batches")
    parser.add_argument("--fix", action="store_true", help="repair every row instead of judging the rules")
    chosen = parser.parse_args(arguments)
    declare_torchvision_operators()
    console = Console(width=None if sys.stdout.isatty() else 120)
    begin = time.perf_counter()
    failed = (mend if chosen.fix else judge)(console, chosen.pattern, chosen.seed)
    for line in failed:
        console.print(f"FAILED {line}", style="bold red", markup=False)
    console.print(f"{time.perf_counter() - begin:.0f} s in all")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
