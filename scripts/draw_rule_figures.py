"""Draws docs/images/rules: for each rule what it looks at, in its bad example and in its better one, side by side.

    python scripts/draw_rule_figures.py             # those that are out of date
    python scripts/draw_rule_figures.py --all       # all of them, half a minute
    python scripts/draw_rule_figures.py UG103 ...

The examples are those of the rules' files, which tests run; how each is drawn is in scripts/rule_pictures. Each file
says what it was drawn from, which scripts/check_figures.py compares. scripts/build_rule_pages.py puts them on pages.
"""

from __future__ import annotations

import sys
from pathlib import Path

from figures import digest, stamp_of
from rule_pictures import _example, _paper, _sources, table

from unitgain.rules import CATALOGUE

FOLDER = Path(__file__).parents[1] / "docs" / "images" / "rules"


def path_of(code: str) -> Path:
    return FOLDER / f"{code}.svg"


def stamps() -> dict[Path, str]:
    """{picture: digest of its rule's examples, its row of the table and the code that draws it}."""
    return {
        path_of(code): digest(CATALOGUE[code].bad, CATALOGUE[code].good, *_sources.of_row(code))
        for code, picture in table.PICTURES.items()
        if isinstance(picture, table.Picture) and code in CATALOGUE
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
