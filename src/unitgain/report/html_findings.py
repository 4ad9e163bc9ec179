"""Findings on the page: evidence, cause, what to do with code to copy, the layers concerned; and their rules."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from .._base import escape, printable
from ..record import Record
from ..rules import CATALOGUE, Diagnosis, Finding
from .html_code import check_of, code_of
from .html_flags import Concern, Key, concerns_of
from .html_network import title_of
from .layers import Layer
from .text import count, measured_rows, not_rewound, shorten

MOST_LAYERS = 6  # links to layers that a finding shows at once
MOST_NUMBERS = 6  # numbers of its evidence
WORDS = {"error": "error", "warning": "warning", "info": "note"}


def findings(record: Record, diagnosis: Diagnosis, layers: Sequence[Layer]) -> str:
    """An article for each; those that a baseline accepts stand at the end, folded."""
    if not diagnosis.findings:
        return '<p class="muted">No findings.</p>'
    numbers = {layer.key: layer.number for layer in layers}
    new = [f for f in diagnosis.findings if f not in diagnosis.accepted]
    text = "\n".join(_finding(f, i, record, layers, numbers) for i, f in enumerate(new, start=1))
    if diagnosis.accepted:
        old = "".join(
            f"<li><code>{escape(f.code)}</code> {escape(f.name)}: {escape(f.message)}</li>"
            for f in diagnosis.accepted
        )
        title = f"Accepted by the baseline ({len(diagnosis.accepted)})"
        text += f'<details class="abstained"><summary>{title}</summary><ul>{old}</ul></details>'
    return text


def first_action(diagnosis: Diagnosis) -> str:
    """What the page opens with beside the verdict: the one action, its code, and where the reason stands."""
    if not diagnosis.first_action:
        return ""
    new = [f for f in diagnosis.findings if f not in diagnosis.accepted]
    found = next((i for i, f in enumerate(new) if f.remedy == diagnosis.first_action), None)
    said = f'<p class="action"><b>Do this first</b> {escape(diagnosis.first_action)}</p>'
    if found is None:
        return said
    finding = new[found]
    reason = f"{escape(finding.code)} {escape(finding.name)}: {escape(finding.message)}"
    why = f'<p class="why">Why: <a href="#finding-{found + 1}">{reason}</a></p>'
    return said + code_block(code_of(finding)) + why


def _finding(
    finding: Finding, place: int, record: Record, layers: Sequence[Layer], numbers: Mapping[Key, int]
) -> str:
    concerned = concerns_of(record, finding, numbers)
    own = concerned[0].number if concerned and not concerned[0].said else None
    at = ""
    if finding.site:
        name = escape(title_of(layers[own - 1], 64) if own else shorten(printable(finding.site), 64))
        at = _link(own, name, finding.site) if own else f'<span class="site">{name}</span>'
    proof = finding.proof
    tried = "" if proof is None else "<br>".join(escape(line) for line in (str(proof), *proof.others))
    rows = [
        ("Measured", _evidence(finding, {layers[c.number - 1].name for c in concerned})),
        ("Cause", escape(finding.cause)),
        ("Do", f"<b>{escape(finding.remedy)}</b>" if finding.remedy else ""),
        ("", code_block(code_of(finding))),
        ("Where", f"<code>{escape(finding.where)}</code>" if finding.where else ""),
        ("Tried", tried),
        ("Expect", escape(finding.effect)),
        ("Verify", escape(finding.verify)),
        (
            "",
            code_block(check_of(finding, record.facts.mode == "training"))
            if finding.severity != "info"
            else "",
        ),
        ("Layers", _places(concerned, layers, own)),
        ("Explains", "<br>".join(map(_with_rule, finding.consequences))),
    ]
    body = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows if value)
    return (
        f'<article class="finding {finding.severity}" id="finding-{place}">'
        f'<h3><span class="severity">{WORDS[finding.severity]}</span> {_rule_link(finding.code)} '
        f"{escape(finding.name)} {at}</h3>"
        f'<p class="message">{escape(finding.message)}</p><dl>{body}</dl></article>'
    )


def _evidence(finding: Finding, linked: Collection[str]) -> str:
    """The numbers of a finding, but for lists of layers that stand below as links."""
    beside = {
        key: value
        for key, value in finding.evidence.items()
        if not (
            isinstance(value, (list, tuple))
            and value
            and all(isinstance(v, str) and v in linked for v in value)
        )
    }
    chips = [f"<li><span>{escape(name)}</span> {escape(value)}</li>" for name, value in measured_rows(beside)]
    shown = f'<ul class="evidence">{"".join(chips[:MOST_NUMBERS])}</ul>' if chips else ""
    if len(chips) <= MOST_NUMBERS:
        return shown
    rest = "".join(chips[MOST_NUMBERS:])
    more = f"<summary>{len(chips) - MOST_NUMBERS} more</summary>"
    return f'{shown}<details>{more}<ul class="evidence">{rest}</ul></details>'


def _places(concerned: Sequence[Concern], layers: Sequence[Layer], own: int | None) -> str:
    """Links to the layers that a finding names beside its own site."""
    others = [c for c in concerned if c.number != own]
    if not others:
        return ""
    links = []
    for one in others:
        layer = layers[one.number - 1]
        said = f" <small>{escape(one.said)}</small>" if one.said else ""
        links.append(f"<li>{_link(one.number, escape(title_of(layer, 40)), layer.name)}{said}</li>")
    shown = f'<ul class="places">{"".join(links[:MOST_LAYERS])}</ul>'
    if len(links) <= MOST_LAYERS:
        return shown
    more = f"<summary>{count(len(links) - MOST_LAYERS, 'more layer')}</summary>"
    return f'{shown}<details>{more}<ul class="places">{"".join(links[MOST_LAYERS:])}</ul></details>'


def _link(layer: int, shown: str, name: str) -> str:
    return (
        f'<a class="site" href="#layer-{layer}" data-layer="{layer}" title="Show {escape(name)} in the '
        f'charts">{shown}</a>'
    )


def _rule_link(code: str) -> str:
    if code not in CATALOGUE:
        return f"<code>{escape(code)}</code>"
    return f'<a href="#rule-{code}" title="What {code} means"><code>{code}</code></a>'


def _with_rule(line: str) -> str:
    """A line of the evidence that begins with a rule's code, which leads to its explanation."""
    code, _, rest = line.partition(" ")
    return f"{_rule_link(code)} {escape(rest)}" if code in CATALOGUE else escape(line)


def code_block(code: str) -> str:
    """Code with a button that copies it."""
    if not code:
        return ""
    button = '<button type="button" class="copy" aria-label="Copy this code">Copy</button>'
    return f'<div class="code"><pre tabindex="0"><code>{escape_lines(code)}</code></pre>{button}</div>'


def escape_lines(text: str) -> str:
    """Text whose line breaks stay, for a pre element."""
    return "\n".join(escape(line) for line in text.split("\n"))


# ---- rules -------------------------------------------------------------------------------------------------


def rules(diagnosis: Diagnosis) -> str:
    """What the page's findings mean: the text of each rule that found something, or is named as a consequence."""
    codes = dict.fromkeys(f.code for f in diagnosis.findings)
    codes |= dict.fromkeys(line.split(" ")[0] for f in diagnosis.findings for line in f.consequences)
    found = [code for code in codes if code in CATALOGUE]
    if not found:
        return ""
    inside = "".join(_rule(code) for code in found)
    return f'<section id="rules"><h2>What the findings mean</h2>{inside}</section>'


def _rule(code: str) -> str:
    rule = CATALOGUE[code]
    parts = [
        f"<p>{_prose(rule.seen)}</p>", f"<h4>Why it matters</h4><p>{_prose(rule.matters)}</p>",
        f'<p class="muted">Source: {_prose(rule.source)}</p>',
        f"<h4>How it is measured</h4><p>{_prose(rule.measured)}</p>",
    ]  # fmt: skip
    if rule.thresholds:
        rows = "".join(
            f"<tr><th scope=row>{escape(name.replace('_', ' '))}</th><td>{value:g}</td>"
            f"<td>{_prose(value.why)}</td></tr>"
            for name, value in rule.thresholds.items()
        )
        parts.append(f'<table class="thresholds">{rows}</table>')
    parts += [f"<h4>What to do</h4><p>{_prose(rule.action)}</p>"]
    for title, example in (("An example that has it", rule.bad), ("The same, better", rule.good)):
        parts.append(f"<h4>{title}</h4>{code_block(example.strip())}")
    summary = f"<summary><code>{code}</code> {escape(rule.name)}</summary>"
    return f'<details id="rule-{code}" class="rule">{summary}{"".join(parts)}</details>'


def _prose(text: str) -> str:
    """A rule's text, with what stands in backquotes as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


# ---- what was not judged -----------------------------------------------------------------------------------


def abstained(record: Record, diagnosis: Diagnosis) -> str:
    lines = [f"Tried: {diagnosis.tried}."] if diagnosis.tried else []
    lines += [f"Not seen: {line}." for line in diagnosis.unseen]
    if line := not_rewound(record.facts):
        lines.append(f"Not put back after the run: {line}.")
    said = "".join(f'<p class="abstained">{escape(line)}</p>' for line in lines)
    if not diagnosis.abstained:
        return said
    rows = "".join(
        f"<dt>{escape(code)}</dt><dd>{escape(reason)}</dd>" for code, reason in diagnosis.abstained.items()
    )
    summary = f"<summary>Not judged ({len(diagnosis.abstained)})</summary>"
    return f'{said}<details class="abstained">{summary}<dl>{rows}</dl></details>'
