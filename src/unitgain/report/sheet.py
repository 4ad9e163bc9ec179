"""A page of sections, tables and line charts in the look of the report, for what is no Record: conversions, audits.

A chart is said in Python, with colours by the names that page/page.css gives them; page/sheet.js draws it with draw.js.
As the report's page it needs no network, and every string from a model goes through `escape` or `script_json`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .._base import escape
from .._version import __version__
from .html import MARKS, filled, page_file, script_json
from .html_findings import code_block
from .json_report import plain


@dataclass(frozen=True)
class Line:
    """One line of a chart; xs: where it has points of its own. color: a name of page.css. None in ys is a gap."""

    name: str
    ys: Sequence[float | None]
    color: str
    xs: Sequence[float] | None = None
    dash: bool = False


@dataclass(frozen=True)
class Chart:
    """Lines over one axis, on a logarithmic scale where `log`. names: of the points along the axis; unit: its title."""

    title: str
    text: str
    lines: Sequence[Line]
    xs: Sequence[float]
    names: Sequence[str] = ()
    unit: str = ""
    log: bool = False
    guide: float | None = None

    def spec(self) -> dict[str, Any]:
        """What page/sheet.js draws."""
        return {
            "label": self.title, "xs": list(self.xs), "names": list(self.names), "unit": self.unit, "log": self.log,
            "guide": self.guide,
            "lines": [
                {"name": l.name, "ys": list(l.ys), "color": l.color, "dash": l.dash}
                | ({} if l.xs is None else {"xs": list(l.xs)})
                for l in self.lines
            ],
        }  # fmt: skip


@dataclass(frozen=True)
class Section:
    """A heading, HTML below it, and charts below that."""

    title: str
    html: str = ""
    charts: Sequence[Chart] = field(default_factory=tuple)

    @property
    def id(self) -> str:
        return re.sub(r"\W+", "-", self.title.lower()).strip("-")


def page(
    model: str,
    kind: str,
    facts: Iterable[str],
    level: str,
    verdict: str,
    action: str,
    code: str,
    sections: Sequence[Section],
) -> str:
    """The whole page as text.

    kind     what it is about, for the title: "conversion report"
    level    healthy, watch, sick, unknown or info: the colour of the verdict
    action   what to do first, and `code` for it; "" for neither
    """
    charts = [chart for section in sections for chart in section.charts]
    did = f'<p class="action"><b>Do this next</b> {escape(action)}</p>' if action else ""
    number = iter(range(len(charts)))
    parts = {
        "title": escape(f"{model}: unitgain {kind}"),
        "model": escape(model),
        "facts": "".join(f"<li>{escape(fact)}</li>" for fact in facts),
        "level": level,
        "mark": MARKS.get(level, "i"),
        "verdict": escape(verdict),
        "action": did + code_block(code),
        "links": "".join(f'<a href="#{s.id}">{escape(s.title)}</a>' for s in sections),
        "sections": "\n".join(_section(s, [next(number) for _ in s.charts]) for s in sections),
        "footer": escape(f"unitgain {__version__}"),
        "data": script_json(plain([chart.spec() for chart in charts])),
        "script": page_file("draw.js") + page_file("sheet.js"),
    }
    return filled("sheet.html", parts)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], text: Sequence[int] = ()) -> str:
    """The first column names the row; text: columns that are words, and may break, and not numbers. Columns without
    any text are left out."""
    listed = [[str(cell) for cell in row] for row in rows]
    shown = [i for i in range(len(columns)) if i == 0 or any(row[i] for row in listed)]

    def cells(row: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{kind}{words}>{escape(row[i])}</{kind}>"
            for i in shown
            for kind in (tag if i else "th",)
            for words in (' class="words"' if i in (0, *text) else "",)
        )

    head = cells(columns, "th")
    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in listed)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def paragraph(text: str) -> str:
    return f'<p class="muted">{escape(text)}</p>'


def bullets(lines: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(line[:1].upper() + line[1:])}</li>" for line in lines) + "</ul>"


def folded(summary: str, html: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{html}</details>"


def _section(section: Section, numbers: Sequence[int]) -> str:
    figures = "".join(
        f'<figure data-chart="{number}"><figcaption><h3>{escape(chart.title)}</h3><p>{escape(chart.text)}</p>'
        '</figcaption><div class="plot"></div></figure>'
        for number, chart in zip(numbers, section.charts)
    )
    return f'<section id="{section.id}"><h2>{escape(section.title)}</h2>{section.html}{figures}</section>'
