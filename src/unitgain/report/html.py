"""The report as one HTML page that opens from disk without a network.

Findings, table and texts are written here, so that they can be read without JavaScript; charts are drawn by
page/charts.js with the plotly.js that the plotly package carries. A content security policy in the page
forbids every request. Every string from the record or the findings goes through `html.escape`; the chart
data goes through `script_json`.
"""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from .._version import __version__
from ..record import Record
from ..rules import Diagnosis, Finding
from .html_data import chart_data
from .json_report import plain
from .layers import Layer, key_of_finding, layers_of, reported_step
from .terminal import heading_parts
from .text import clean, count, label, not_rewound, number, percent, shape_text, shorten, value_text

if TYPE_CHECKING:
    from .fix_report import FixReport

MARKS = {"healthy": "✓", "sick": "✗", "unknown": "?"}


def to_html(record: Record, diagnosis: Diagnosis, repair: FixReport | None = None) -> str:
    """The whole page as text; of a repair, with what was changed and charts of before and after."""
    from plotly.offline import get_plotlyjs

    layers = layers_of(record, diagnosis.findings)
    model, *facts = heading_parts(record)
    parts = {
        "title": text(f"{model}: unitgain report"),
        "model": text(model),
        "facts": "".join(f"<li>{text(fact)}</li>" for fact in facts),
        "status": diagnosis.status if diagnosis.status in MARKS else "unknown",
        "mark": MARKS.get(diagnosis.status, "?"),
        "verdict": text(diagnosis.verdict),
        "action": _action(diagnosis),
        "findings": _findings(record, diagnosis, layers),
        "abstained": _abstained(record, diagnosis),
        "table": _table(layers),
        "layer_count": text(count(len(layers), "layer")),
        "step": text(f"step {reported_step(record)}"),
        "footer": text(f"unitgain {__version__} · measured {record.meta.get('created', '')}"),
        "early": _file("early.js"),
        "style": _file("page.css"),
        "repair": _repair(repair),
        "data": script_json(plain(chart_data(record, layers, repair.before.record if repair else None))),
        "plotly": get_plotlyjs(),
        "script": _file("charts.js") + _file("page.js"),
    }
    # one pass over the template: what is put in is never looked at again, whatever it contains
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _file("page.html"))


def text(value: object) -> str:
    """Any value as text in HTML, also inside an attribute.

    >>> text("<script>")
    '&lt;script&gt;'
    """
    return html.escape(clean(value), quote=True)


def script_json(value: Any) -> str:
    r"""JSON that can stand inside a script element: it cannot close it, nor open a comment.

    >>> script_json("</script>")
    '"\\u003c/script\\u003e"'
    """
    dumped = json.dumps(value, allow_nan=False, separators=(",", ":"))  # ASCII: U+2028 and U+2029 are escaped
    return dumped.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _file(name: str) -> str:
    return (files("unitgain.report") / "page" / name).read_text(encoding="utf-8")


def _action(diagnosis: Diagnosis) -> str:
    if not diagnosis.first_action:
        return ""
    return f'<p class="action"><b>Do this first</b> {text(diagnosis.first_action)}</p>'


def _repair(repair: FixReport | None) -> str:
    """The section about a repair: one article per remedy that was tried."""
    if repair is None:
        return ""
    articles = []
    for action in repair.actions:
        done = "kept" if action.kept else "undone"
        lines = [*action.changes, *(f"not done: {problem}" for problem in action.problems)]
        changes = "".join(f"<li>{text(line)}</li>" for line in lines)
        number_of = text(count(len(action.changes), "change"))
        details = f"<details><summary>{number_of}</summary><ul>{changes}</ul></details>"
        articles.append(
            f'<article class="finding {done}"><h3><span class="severity">{done}</span> '
            f"<code>{text(action.code)}</code> {text(action.remedy)}</h3>"
            f'<p class="message">{text(action.outcome)}</p>{details if changes else ""}</article>'
        )
    advice = "".join(f"<li>{text(line)}</li>" for line in repair.advice)
    left = f"<h3>Left for you</h3><ul>{advice}</ul>" if advice else ""
    skipped = "".join(
        f"<li><code>{text(s.code)}</code> {text(s.remedy)}: {text(s.reason)}</li>" for s in repair.skipped
    )
    not_applied = f"<h3>Did not apply</h3><ul>{skipped}</ul>" if skipped else ""
    heading = "What would be changed" if repair.dry_run else "What was changed"
    verdicts = f"Before: {text(repair.before.verdict)}. After: {text(repair.after.verdict)}."
    summary = f"<p>{text(repair.summary)}. {verdicts}</p>"
    chart = (
        '<figure data-chart="repair"><figcaption><h3>Before and after</h3><p>Standard deviation of the activations, '
        "and rms of their gradients, over depth: as the model came, and as it is now.</p></figcaption>"
        '<div class="plot tall"></div></figure>'
    )
    return f'<section id="repair"><h2>{heading}</h2>{summary}{"".join(articles)}{not_applied}{left}{chart}</section>'


def _findings(record: Record, diagnosis: Diagnosis, layers: Sequence[Layer]) -> str:
    if not diagnosis.findings:
        return '<p class="muted">No findings.</p>'
    numbers = {layer.key: layer.number for layer in layers}
    rows = [(f, key_of_finding(record, f)) for f in diagnosis.findings]
    return "\n".join(_finding(f, numbers.get(key) if key else None) for f, key in rows)


def _finding(finding: Finding, layer: int | None) -> str:
    place = ""
    if finding.site:
        name = text(shorten(clean(finding.site), 64))
        place = f'<span class="site" title="{text(finding.site)}">{name}</span>'
        if layer is not None:
            place = (
                f'<a class="site" href="#layer-{layer}" data-layer="{layer}" '
                f'title="Show {text(finding.site)} in the charts">{name}</a>'
            )
    rows = [
        ("Cause", text(finding.cause)),
        ("Do", f"<b>{text(finding.remedy)}</b>" if finding.remedy else ""),
        ("Expect", text(finding.effect)),
        ("Verify", text(finding.verify)),
        ("Explains", "<br>".join(text(c) for c in finding.consequences)),
    ]
    body = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows if value)
    chips = "".join(
        f"<li><span>{text(label(k))}</span> {text(value_text(v))}</li>" for k, v in finding.evidence.items()
    )
    evidence = f'<ul class="evidence">{chips}</ul>' if chips else ""
    return (
        f'<article class="finding {finding.severity}">'
        f'<h3><span class="severity">{finding.severity}</span> <code>{text(finding.code)}</code> '
        f"{text(finding.name)} {place}</h3>"
        f'<p class="message">{text(finding.message)}</p>{evidence}<dl>{body}</dl></article>'
    )


def _abstained(record: Record, diagnosis: Diagnosis) -> str:
    unseen = "".join(f'<p class="abstained">Not seen: {text(line)}.</p>' for line in diagnosis.unseen)
    if line := not_rewound(record.facts):
        unseen += f'<p class="abstained">Not put back after the run: {text(line)}.</p>'
    if not diagnosis.abstained:
        return unseen
    rows = "".join(
        f"<dt>{text(code)}</dt><dd>{text(reason)}</dd>" for code, reason in diagnosis.abstained.items()
    )
    summary = f"<summary>Not judged ({len(diagnosis.abstained)})</summary>"
    return f'{unseen}<details class="abstained">{summary}<dl>{rows}</dl></details>'


def _table(layers: Sequence[Layer]) -> str:
    decades = _decades(layers)
    return "\n".join(_row(layer, decades) for layer in layers)


def _row(layer: Layer, decades: int) -> str:
    values, site = layer.values, layer.site
    std = values.get("std")
    link = f'href="#layer-{layer.number}" data-layer="{layer.number}" title="{text(layer.name)}"'
    name = text(shorten(clean(layer.name), 44))
    cells = [
        _cell(layer.number, str(layer.number)),
        f'<th scope="row" data-v="{text(layer.name)}"><a {link}>{name}</a></th>',
        f'<td data-v="{text(site.module)}">{text(shorten(clean(site.module), 20))}</td>',
        f"<td>{text(shape_text(site.shape))}</td>",
        _cell(values.get("mean"), number(values.get("mean"))),
        _cell(std, number(std)),
        f"<td>{_scale(std, decades)}</td>",
        _cell(values.get("saturated"), percent(values.get("saturated")), 0.15, 0.5),
        _cell(layer.dead_fraction, percent(layer.dead_fraction), 0.1, 0.5),
        _cell(values.get("zero"), percent(values.get("zero") or None)),
        _cell(values.get("nonfinite"), percent(values.get("nonfinite") or None), 1e-300, 1e-300),
        _cell(layer.gradient.get("rms"), number(layer.gradient.get("rms"))),
        _cell(layer.ratios.get("gradient"), _ratio(layer.ratios.get("gradient"))),
        _cell(layer.ratios.get("update"), _ratio(layer.ratios.get("update"))),
        "<td>" + " ".join(f"<code>{text(code)}</code>" for code in layer.codes) + "</td>",
    ]
    return f'<tr id="layer-{layer.number}" class="{layer.severity}">{"".join(cells)}</tr>'


def _cell(value: float | None, shown: str, warn: float = math.inf, alarm: float = math.inf) -> str:
    """A number with its sorting key, tinted from the limits on."""
    known = value is not None and math.isfinite(value)
    shade = ""
    if known and value is not None and value >= warn:
        shade = ' class="alarm"' if value >= alarm else ' class="warn"'
    return f'<td data-v="{value if known else ""}"{shade}>{text(shown)}</td>'


def _scale(std: float | None, decades: int) -> str:
    """A bar from one to the standard deviation on a log scale, as percentages of the cell's width."""
    if std is None or not std > 0 or math.isinf(std):
        return '<span class="scale"></span>'
    place = 50 + 50 * max(-1.0, min(1.0, math.log10(std) / decades))
    low, high = min(50.0, place), max(50.0, place)
    style = f"--a:{low:.1f}%;--b:{100 - high:.1f}%;--p:{place:.1f}%"
    return f'<span class="scale" style="{style}"><i></i><b></b></span>'


def _decades(layers: Sequence[Layer]) -> int:
    stds = [layer.values.get("std", 0.0) for layer in layers]
    logs = [abs(math.log10(s)) for s in stds if s > 0 and math.isfinite(s)]
    return max(1, min(6, math.ceil(max(logs, default=1.0))))


def _ratio(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.1f}"
