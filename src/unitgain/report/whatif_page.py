"""The page of a what-if: plain HTML and pictures as SVG, without scripts, for a browser, a mail or a printer."""

from __future__ import annotations

import base64
import io
import re
from typing import TYPE_CHECKING, Any

from .._base import escape
from .plots import _whatif as pictures

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..rules import Finding
    from .whatif import Setting, WhatIf

_SIZE = (2.9, 1.75)  # inches of one picture
_COLORS = {"error": "#c62f2f", "warning": "#9a6a00", "info": "#3867c9"}

STYLE = """
:root { color-scheme: light dark; --ink: #1c1f24; --soft: #5b6470; --line: #d9dde3; --ground: #fff; --panel: #f6f7f9 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaed; --soft: #a3abb6; --line: #3a4049; --ground: #16181c; --panel: #1f2329 } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground); margin: 0 auto;
  max-width: 90rem; padding: 1rem }
h1 { font-size: 1.35rem; margin: .2rem 0 } h2 { font-size: 1rem; margin: 1.4rem 0 .3rem }
h2.chapter { font-size: 1.2rem; border-top: 1px solid var(--line); padding-top: 1rem }
h3 { font-size: .95rem; font-weight: 500; margin: .8rem 0 .2rem }
.soft { color: var(--soft) } .lead { font-size: 1.05rem; font-weight: 600; max-width: 60rem }
.scroll { overflow-x: auto; -webkit-overflow-scrolling: touch }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { text-align: left; vertical-align: top; padding: .25rem .7rem .25rem 0 }
td { white-space: nowrap }
tbody th { font-weight: 400; color: var(--soft); min-width: 6rem; position: sticky; left: 0;
  background: var(--ground) }
thead th { border-bottom: 1px solid var(--line) }
.cells { display: flex; gap: .6rem; overflow-x: auto }
.cells > div { flex: 1 0 16.5rem; max-width: 26rem; min-width: 0 }
.cells img { width: 100%; background: #fff; border-radius: 4px; display: block } .cells .name { font-weight: 600 }
.note { font-size: .82rem; color: var(--soft); margin: .1rem 0 .4rem }
.find { background: var(--panel); border-left: 4px solid var(--line); padding: .2rem .6rem; margin: .3rem 0;
  font-size: .88rem; overflow-wrap: anywhere }
code { background: var(--panel); padding: .1rem .3rem; border-radius: 3px; overflow-wrap: anywhere }
.dot { display: inline-block; width: .7rem; height: .7rem; border-radius: 2px }
@media print { .cells { flex-wrap: wrap } body { max-width: none } }
"""


def to_html(result: WhatIf) -> str:
    """See WhatIf.to_html."""
    title = f"What if: {result.model}, {', '.join(result.vary)}"
    body = "\n".join(_body(result))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>\n'
        f"<body>\n{body}\n</body></html>\n"
    )


def _body(result: WhatIf) -> Iterator[str]:
    yield f"<h1>What if: {escape(', '.join(result.vary))}</h1>"
    yield f'<div class="soft">{escape(result.model)} · {escape(result.conditions_line())}</div>'
    yield f'<p class="lead">{escape(result.summary)}</p>'
    if result.command:
        yield f"<p><code>{escape(result.command)}</code></p>"
    yield numbers(result)
    yield from picture_rows(result)
    yield "<h2>findings</h2>"
    yield f'<div class="cells">{"".join(map(_findings, result.settings))}</div>'
    yield "<h2>what was changed</h2>"
    yield f'<div class="cells">{"".join(map(_changes, result.settings))}</div>'
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    yield f'<p class="soft">{escape(versions)}</p>'


def picture_rows(result: WhatIf, only: Sequence[str] = (), level: str = "h2") -> Iterator[str]:
    """A heading, a legend and a picture for each setting, for each row of pictures (for these of them); level: of the
    heading."""
    for name, row in _pictures(result).items():
        if only and name not in only:
            continue
        yield f"<{level}>{escape(pictures.TITLES[name])}</{level}>"
        cells = [
            f'<div><div class="name">{escape(setting.name)}</div><img alt="{escape(alt)}" src="{source}">'
            f'<div class="note">{escape(pictures.caption(setting, name))}</div></div>'
            for setting, source in zip(result.settings, row)
            for alt in [f"{pictures.TITLES[name]} with {setting.name}"]
        ]
        yield f'<div class="note">{_legend(result, name)}</div><div class="cells">{"".join(cells)}</div>'


def _legend(result: WhatIf, row: str) -> str:
    """Which colour is which layer."""
    return " &nbsp; ".join(
        f'<span class="dot" style="background:{color}"></span> {escape(name)}'
        for name, color in pictures.legend(result, row)
    )


def numbers(result: WhatIf) -> str:
    head = "".join(f"<th>{escape(s.name)}</th>" for s in result.settings)
    rows = "".join(
        f"<tr><th>{escape(title)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
        for title, cells in result.rows()
    )
    return f'<div class="scroll"><table><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _findings(setting: Setting) -> str:
    found = "".join(map(finding_box, setting.findings)) or '<div class="note">none</div>'
    return f'<div><div class="name">{escape(setting.name)}</div>{found}</div>'


def finding_box(finding: Finding) -> str:
    color = _COLORS.get(finding.severity, _COLORS["info"])
    head = f'<b style="color:{color}">{escape(finding.code)}</b> {escape(finding.message)}'
    remedy = f'<span class="soft">{escape(finding.remedy)}</span>'
    return f'<div class="find" style="border-color:{color}">{head}<br>{remedy}</div>'


def _changes(setting: Setting) -> str:
    lines = [*setting.changes[:12]]
    if len(setting.changes) > len(lines):
        lines.append(f"and {len(setting.changes) - len(lines)} more")
    told = "".join(f'<div class="note">{escape(line)}</div>' for line in [*lines, *setting.notes])
    nothing = '<div class="note">nothing in the network</div>'
    return f'<div><div class="name">{escape(setting.name)}</div>{told or nothing}</div>'


# ---- pictures ------------------------------------------------------------------------------------------------


def _pictures(result: WhatIf) -> dict[str, list[str]]:
    """{row: a data URL for each setting}."""
    from matplotlib.figure import Figure

    found = {}
    for name, draw in pictures.pictures(result).items():
        figures = [Figure(figsize=_SIZE, layout="constrained") for _ in result.settings]
        draw([figure.subplots() for figure in figures])
        found[name] = [_data_url(figure) for figure in figures]
    return found


def _data_url(figure: Any) -> str:
    import matplotlib as mpl

    stream = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "unitgain", "path.simplify_threshold": 0.3}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = re.sub(r"<metadata>.*?</metadata>", "", stream.getvalue(), flags=re.DOTALL)
    text = re.sub(
        r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), text
    )  # hundredths are enough
    return "data:image/svg+xml;base64," + base64.b64encode(text.encode()).decode()
