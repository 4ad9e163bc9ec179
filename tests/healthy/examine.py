"""Every architecture, checked as it is and with 20 rehearsed steps: each finding at warning or above.

    python tests/healthy/examine.py [--half first|held-out] [--only NAME ...] [--out FILE.md] [--json FILE]

The half that was held out was drawn by chance (architecture.held_out).
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from architecture import ALL, Architecture, held_out

import unitgain as ug
from unitgain.report import Report

STEPS = 20
for _group in ("pictures", "sequences", "tables_and_games", "libraries"):  # each adds its rows to ALL
    importlib.import_module(f"architectures_{_group}")


def check(row: Architecture, steps: int) -> Report:
    torch.manual_seed(0)
    setup = row.build()
    rehearsed = {"optimizer": setup.optimizer, "clip": setup.clip} if steps else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries' own
        given = {"loss": setup.loss} if setup.step is None else {"step": setup.step}
        return ug.check(setup.model, setup.batch, steps=steps, **given, **rehearsed)


def alarms(report: Report) -> list[dict[str, Any]]:
    return [
        {"code": f.code, "severity": f.severity, "site": f.site, "message": f.message, "cause": f.cause,
         "consequences": list(f.consequences)}
        for f in report.findings if f.severity != "info"
    ]  # fmt: skip


def examine(row: Architecture) -> dict[str, Any]:
    began, result = time.perf_counter(), {"name": row.name, "source": row.source, "alarms": []}
    seen = set()
    for steps in (0, STEPS):
        try:
            report = check(row, steps)
        except Exception as error:  # one architecture that raises must not end the survey
            result["failed"] = f"{type(error).__name__}: {str(error)[:300]}"
            break
        for alarm in alarms(report):
            if (key := (alarm["code"], alarm["severity"])) not in seen:
                seen.add(key)
                result["alarms"].append({**alarm, "steps": steps})
        result["losses"] = [round(float(v), 4) for v in report.record.metric("loss")[1]]
    return {**result, "seconds": round(time.perf_counter() - began, 1)}


def torchvision_operators() -> Any:
    """Declares torchvision's compiled operators where a CPU build of torch lacks them."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return library
    except ModuleNotFoundError:
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--half", choices=("first", "held-out"))
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    keep, later = torchvision_operators(), held_out()
    rows = [r for r in ALL if options.half is None or (r.name in later) == (options.half == "held-out")]
    rows = [r for r in rows if not options.only or r.name in options.only]
    results = []
    for row in rows:
        result = examine(row)
        results.append({**result, "held_out": row.name in later})
        print(f"{row.name:32} {result['seconds']:6.1f} s {result.get('failed', '')}", flush=True)
        for a in result["alarms"]:
            print(f"    {a['severity']} {a['code']} ({a['steps']} steps) {a['message'][:240]}", flush=True)
        if options.json:
            options.json.write_text(json.dumps(results, indent=1))
    print("\n".join(summary(results)))
    if options.out:
        options.out.write_text(page(results))
    del keep


def summary(results: list[dict[str, Any]]) -> list[str]:
    lines = []
    for name, which in (("first half", False), ("held out", True)):
        part = [r for r in results if r["held_out"] == which]
        if part:
            alarmed = sum(bool(r["alarms"]) for r in part)
            errors = sum(any(a["severity"] == "error" for a in r["alarms"]) for r in part)
            failed = sum("failed" in r for r in part)
            lines.append(
                f"{name}: {len(part)} architectures, {alarmed} with a warning or an error, {errors} with an error, "
                f"{failed} not checked"
            )
    return lines


def page(results: list[dict[str, Any]]) -> str:
    head = [
        "# Public architectures at their own initialization, loss, optimizer and rate",
        f"{datetime.date.today()}, torch {torch.__version__}, {torch.get_num_threads()} thread(s); "
        f"`make healthy`: each checked as it is and with {STEPS} rehearsed steps on one batch, seed 0.",
        "\n".join(f"- {line}" for line in summary(results)),
    ]
    rows = ["| architecture | source | held out | warnings and errors |", "|---|---|---|---|"]
    for r in results:
        found = "; ".join(f"{a['severity']} {a['code']}: {a['message']}" for a in r["alarms"]) or "none"
        found = r.get("failed", found).replace("|", "/").replace("\n", " ")
        rows.append(f"| {r['name']} | {r['source']} | {'yes' if r['held_out'] else 'no'} | {found} |")
    return "\n\n".join([*head, "\n".join(rows)]) + "\n"


if __name__ == "__main__":
    main()
