"""The report as one HTML page that opens from disk without a network.

Verdict, findings, table and texts are written here, so that they can be read without JavaScript; charts are drawn by
page/charts.js as inline SVG, without a library. A content security policy in the page forbids every request. Every
string from the record or the findings goes through `escape`; the chart data goes through `script_json`, and the
scripts set it as text.

html_findings.py  findings, their rules            html_code.py    code to copy
html_network.py   blocks and the table of layers   html_blocks.py  which layers are a block, what flows past
html_flags.py     what is coloured                 html_data.py    the numbers behind the charts
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from .._base import escape
from .._version import __version__
from ..record import Record
from ..rules import Diagnosis
from .html_data import chart_data
from .html_findings import abstained, findings, first_action, rules
from .html_flags import flags_of
from .html_network import network
from .json_report import plain
from .layers import layers_of, reported_step
from .text import count

if TYPE_CHECKING:
    from .fix_report import FixReport

MARKS = {"healthy": "✓", "sick": "✗", "watch": "!", "unknown": "?"}


def to_html(record: Record, diagnosis: Diagnosis, repair: FixReport | None = None) -> str:
    """The whole page as text; of a repair, with what was changed and charts of before and after."""
    from .terminal import heading_parts  # rich with it, which draws random numbers where it is loaded

    layers = layers_of(record, diagnosis.findings)
    flags = flags_of(record, diagnosis.findings, layers)
    overview, table = network(layers, flags) if layers else ("", "")
    model, *facts = heading_parts(record)
    level = level_of(diagnosis)
    parts = {
        "title": escape(f"{model}: unitgain report"),
        "model": escape(model),
        "facts": "".join(f"<li>{escape(fact)}</li>" for fact in facts),
        "level": level,
        "mark": MARKS[level],
        "verdict": escape(diagnosis.verdict),
        "action": first_action(diagnosis),
        "findings": findings(record, diagnosis, layers),
        "rules": rules(diagnosis),
        "abstained": abstained(record, diagnosis),
        "overview": overview,
        "table": table,
        "no_layers": "" if layers else " hidden",
        "no_charts": "" if layers or record.metric_names() else " hidden",
        "layer_count": escape(count(len(layers), "layer")),
        "step": escape(f"step {reported_step(record)}"),
        "footer": escape(f"unitgain {__version__} · measured {record.meta.get('created', '')}"),
        "repair": _repair(repair),
        "data": script_json(
            plain(chart_data(record, layers, flags, repair.before.record if repair else None))
        ),
        "script": page_file("draw.js") + page_file("charts.js") + page_file("page.js"),
    }
    return filled("page.html", parts)


def level_of(diagnosis: Diagnosis) -> str:
    """healthy, watch (warnings, but no error), sick, or unknown."""
    if diagnosis.status != "sick":
        return diagnosis.status if diagnosis.status in MARKS else "unknown"
    judged = [f for f in diagnosis.findings if f not in diagnosis.accepted]
    return "sick" if not judged or any(f.severity == "error" for f in judged) else "watch"


def script_json(value: Any) -> str:
    r"""JSON that can stand inside a script element: it cannot close it, nor open a comment.

    >>> script_json("</script>")
    '"\\u003c/script\\u003e"'
    """
    dumped = json.dumps(value, allow_nan=False, separators=(",", ":"))  # ASCII: U+2028 and U+2029 are escaped
    return dumped.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def filled(template: str, parts: Mapping[str, str]) -> str:
    """A page of page/, with the head that all have and with its placeholders filled."""
    parts = {**parts, "early": page_file("early.js"), "style": page_file("page.css")}
    # one pass over the template: a placeholder in the text that is put in is not replaced
    text = page_file("head.html") + page_file(template)
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], text)


def page_file(name: str) -> str:
    return (files("unitgain.report") / "page" / name).read_text(encoding="utf-8")


def _repair(repair: FixReport | None) -> str:
    """The section about a repair: one article per remedy that was tried."""
    if repair is None:
        return ""
    articles = []
    for action in repair.actions:
        done = "kept" if action.kept else "undone"
        lines = [*action.changes, *(f"not done: {problem}" for problem in action.problems)]
        changes = "".join(f"<li>{escape(line)}</li>" for line in lines)
        number_of = escape(count(len(action.changes), "change"))
        details = f"<details><summary>{number_of}</summary><ul>{changes}</ul></details>"
        articles.append(
            f'<article class="finding {done}"><h3><span class="severity">{done}</span> '
            f"<code>{escape(action.code)}</code> {escape(action.remedy)}</h3>"
            f'<p class="message">{escape(action.outcome)}</p>{details if changes else ""}</article>'
        )
    advice = "".join(f"<li>{escape(line)}</li>" for line in repair.advice)
    left = f"<h3>Left for you</h3><ul>{advice}</ul>" if advice else ""
    skipped = "".join(
        f"<li><code>{escape(s.code)}</code> {escape(s.remedy)}: {escape(s.reason)}</li>"
        for s in repair.skipped
    )
    not_applied = f"<h3>Did not apply</h3><ul>{skipped}</ul>" if skipped else ""
    heading = "What would be changed" if repair.dry_run else "What was changed"
    verdicts = f"Before: {escape(repair.before.verdict)}. After: {escape(repair.after.verdict)}."
    trained = f"<p>Trained: {escape(repair.rehearsed)}.</p>" if repair.rehearsed else ""
    summary = f"<p>{escape(repair.summary)}. {verdicts}</p>{trained}"
    chart = (
        '<figure data-chart="repair"><figcaption><h3>Before and after</h3><p>Standard deviation of the activations, '
        "and rms of their gradients, over depth: as the model came (dashed), and as it is now.</p></figcaption>"
        '<div class="plot"></div></figure>'
    )
    return f'<section id="repair"><h2>{heading}</h2>{summary}{"".join(articles)}{not_applied}{left}{chart}</section>'
