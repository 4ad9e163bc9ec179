"""Draws docs/images/rules: for each rule what it looks at, in its bad example and in its better one, side by side.

    python scripts/draw_rule_figures.py             # those that are out of date
    python scripts/draw_rule_figures.py --all       # all of them, half a minute
    python scripts/draw_rule_figures.py UG103 ...

The examples are those of the rules' files, which tests run; how each is drawn is in scripts/rule_pictures. Each file
says what it was drawn from, which scripts/check_figures.py compares. scripts/build_rule_pages.py puts them on pages.
"""

from __future__ import annotations

import ast
import inspect
import sys
from pathlib import Path

from figures import digest, stamp_of
from rule_pictures import _example, _paper, table

from unitgain.rules import CATALOGUE

FOLDER = Path(__file__).parents[1] / "docs" / "images" / "rules"


def path_of(code: str) -> Path:
    return FOLDER / f"{code}.svg"


def stamps() -> dict[Path, str]:
    """{picture: digest of what it is drawn from}: the rule's examples, its row of the table, the code that draws."""
    lines = _lines_of_table()
    shared = [inspect.getsource(module) for module in (_example, _paper)]
    found = {}
    for code, picture in table.PICTURES.items():
        if isinstance(picture, table.Picture):
            rule, kind = CATALOGUE[code], sys.modules[picture.draw.__module__]
            found[path_of(code)] = digest(rule.bad, rule.good, lines[code], inspect.getsource(kind), *shared)
    return found


def _lines_of_table() -> dict[str, str]:
    source = inspect.getsource(table)
    tables = [node.value for node in ast.parse(source).body if isinstance(node, ast.AnnAssign)]
    (rows,) = (node for node in tables if isinstance(node, ast.Dict))
    return {
        ast.literal_eval(key): ast.unparse(value)
        for key, value in zip(rows.keys, rows.values)
        if key is not None
    }


def draw(code: str, stamp: str) -> str:
    """The SVG."""
    rule, picture = CATALOGUE[code], table.PICTURES[code]
    assert isinstance(picture, table.Picture), picture
    svg, bad, better = _paper.side_by_side(
        picture.draw, _example.run(rule.bad), _example.run(rule.good), share=picture.share
    )
    return _paper.finished(svg, picture.sentence.format(bad=bad, better=better).replace("$", ""), stamp)


def main(wanted: list[str]) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    every = stamps()
    for old in FOLDER.iterdir():
        if old not in every:
            old.unlink()
    for path, stamp in every.items():
        if path.stem in wanted or "--all" in wanted or (not wanted and stamp_of(path) != stamp):
            path.write_text(draw(path.stem, stamp), encoding="utf-8")
            print(f"docs/images/rules/{path.name}")


if __name__ == "__main__":
    main(sys.argv[1:])
