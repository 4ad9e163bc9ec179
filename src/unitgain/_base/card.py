"""Cards: what a notebook shows in place of a repr. Plain HTML with a few inline styles, no script and no library, so
that a notebook with a hundred of them stays small; colours are readable on white and on dark pages.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from .printable import printable

_COLORS = {"healthy": "#2a9d55", "info": "#5b8def", "warning": "#c98a00", "watch": "#c98a00", "error": "#d43d3d",
           "sick": "#d43d3d"}  # fmt: skip
_NEUTRAL = "#888888"
_FRAME = "border-left:4px solid {color};padding:2px 12px;margin:6px 0;max-width:60em;line-height:1.45"


def escape(text: object) -> str:
    """Text of any origin (names of modules, messages of the user's code) as it may stand in HTML."""
    return html.escape(printable(text))


def card(title: str, status: str, parts: Iterable[str]) -> str:
    """A title in bold beside a bar in the colour of the status, and below it fragments of HTML.

    status: healthy, watch, sick, info, warning or error; anything else is grey. The title is escaped here, the parts
    must have been.
    """
    color = _COLORS.get(status, _NEUTRAL)
    inside = "".join(part for part in parts if part)
    return f'<div style="{_FRAME.format(color=color)}"><div><b>{escape(title)}</b></div>{inside}</div>'


def paragraph(text: str, label: str = "") -> str:
    """A line of text, after a bold label if one is given; nothing if the text is empty."""
    before = f"<b>{escape(label)}</b> " if label else ""
    return f"<div>{before}{escape(text)}</div>" if text else ""


def fold(summary: str, parts: Iterable[str], opened: bool = False, status: str = "") -> str:
    """A line that unfolds into its parts when it is clicked, without any script."""
    color = _COLORS.get(status)
    dot = f'<span style="color:{color}">&#9679;</span> ' if color else ""
    state = " open" if opened else ""
    inside = "".join(part for part in parts if part)
    head = f"<details{state}><summary>{dot}{escape(summary)}</summary>"
    return f'{head}<div style="margin-left:1.4em">{inside}</div></details>'


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A small table; every cell is escaped."""
    cell = 'style="text-align:left;padding:1px 12px 1px 0;font-variant-numeric:tabular-nums"'
    head = "".join(f"<th {cell}>{escape(name)}</th>" for name in columns)
    body = "".join(
        "<tr>" + "".join(f"<td {cell}>{escape(value)}</td>" for value in row) + "</tr>" for row in rows
    )
    opening = '<table style="border-collapse:collapse;font-size:inherit">'
    return f"{opening}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
