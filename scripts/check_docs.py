"""Fails if a public name is missing from the built documentation: python scripts/check_docs.py SITE

Public is what the `__all__` of unitgain lists, and that of every room whose name has no underscore. A name is there if
it has an entry (mkdocstrings made one from its docstring) or is named as code on its room's page.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src" / "unitgain"
NOT_IN_PYTHON = {"cli"}  # rooms without a Python interface


def public() -> Iterator[tuple[str, list[str]]]:
    """(page, names) of the package itself and of every public room."""
    yield "unitgain", names_of(PACKAGE / "__init__.py")
    yield "plots", names_of(PACKAGE / "report" / "plots" / "__init__.py")
    for path in sorted(PACKAGE.glob("*/__init__.py")):
        if not path.parent.name.startswith("_") and path.parent.name not in NOT_IN_PYTHON:
            yield path.parent.name, names_of(path)


def names_of(path: Path) -> list[str]:
    """The names in a file's `__all__`."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    return []


def missing(site: Path) -> list[str]:
    found = []
    for page, names in public():
        path = site / "reference" / "python" / f"{page}.html"
        html = path.read_text(encoding="utf-8") if path.exists() else ""
        there = {i.rpartition(".")[2] for i in re.findall(r'id="unitgain\.([\w.]+)"', html)}
        there |= {
            i.removeprefix("ug.").rpartition(".")[2] for i in re.findall(r"<code>([\w.]+)</code>", html)
        }
        found += [f"{page}: {name}" for name in names if name not in there]
    return found


def main() -> int:
    lines = missing(Path(sys.argv[1]))
    for line in lines:
        print(f"not in the documentation: {line}")
    return bool(lines)


if __name__ == "__main__":
    sys.exit(main())
