"""Fails if a figure of the documentation is missing, out of date, or one that no script draws.

    python scripts/check_figures.py

A figure carries a digest of what it was drawn from: a rule's examples, the code of a page, the code that draws. This
compares the digests and draws nothing; each line says which script draws the figure anew. What a digest cannot see is a
change in what unitgain measures: draw all figures anew before a release (docs/contributing/index.md).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import draw_figures
import draw_rule_figures
from figures import stamp_of
from rule_pictures.table import PICTURES

from unitgain.rules import CATALOGUE

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
AT_EVERY_BUILD = {IMAGES / "architecture.svg"}  # by scripts/draw_architecture.py


def faults() -> Iterator[str]:
    """A line for each figure, or rule without one, that is not as it should be."""
    for code in sorted(CATALOGUE.keys() ^ PICTURES.keys()):
        what = "has no row" if code in CATALOGUE else "is no rule, but has a row"
        yield f"{code} {what} in scripts/rule_pictures/table.py"
    known = {
        path: (script, stamp)
        for script in (draw_rule_figures, draw_figures)
        for path, stamp in script.stamps().items()
    }
    for path, (script, stamp) in known.items():
        if stamp_of(path) != stamp:
            word = "is out of date" if path.exists() else "is missing"
            yield f"{path.relative_to(ROOT)} {word}: run python scripts/{script.__name__}.py {path.stem}"
    there = {path for path in IMAGES.rglob("*") if path.is_file()}
    for path in sorted(there - known.keys() - AT_EVERY_BUILD):
        yield f"{path.relative_to(ROOT)} is drawn by no script"


def main() -> int:
    lines = list(faults())
    for line in lines:
        print(line)
    return bool(lines)


if __name__ == "__main__":
    sys.exit(main())
