"""Writes docs/reference/rules: one page per code, and an index, from the rules' files.

    python scripts/build_rule_pages.py

Pages of codes that are gone are deleted. A test fails while the pages are out of date.
"""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

from unitgain.rules import CATALOGUE

FOLDER = Path(__file__).parents[1] / "docs" / "reference" / "rules"
PICTURES = Path(__file__).parents[1] / "docs" / "images" / "rules"
NOTICE = "<!-- Written by scripts/build_rule_pages.py from src/unitgain/rules/ug*.py; do not edit. -->\n\n"


def pages() -> dict[str, str]:
    """{file name: text} of every page."""
    rows = [f"| [{r.code}]({r.code}.md) | {r.name} | {r.seen} |" for r in CATALOGUE.values()]
    index = "\n".join(["# Rules", "", "| code | name | what is seen |", "|---|---|---|", *rows, ""])
    texts = {f"{rule.code}.md": with_picture(rule.code, rule.page()) for rule in CATALOGUE.values()}
    return {name: NOTICE + text for name, text in {"index.md": index, **texts}.items()}


def with_picture(code: str, page: str) -> str:
    """The page with the picture that scripts/draw_rule_figures.py has drawn, if there is one, below its first lines.

    The picture itself says in one sentence what is seen on it.
    """
    path = PICTURES / f"{code}.svg"
    if not path.exists():
        return page
    found = re.search(r"<title>(.*?)</title>", path.read_text(encoding="utf-8"), re.S)
    assert found is not None, f"{path} has no title"
    picture = f"![{unescape(found[1])}](../../images/rules/{code}.svg)\n\n"
    return page.replace("## Why it matters", picture + "## Why it matters", 1)


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    wanted = pages()
    for old in FOLDER.glob("*.md"):
        if old.name not in wanted:
            old.unlink()
    for name, text in wanted.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
