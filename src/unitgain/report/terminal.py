"""The report in a terminal: verdict, the one action, findings, and every layer's scale at a glance.

Everything is a rich renderable made of Text objects, never of markup strings, so that a module called
"[red]" is printed as such. Nothing depends on colour: severity is a word, scale is a position.
"""

from __future__ import annotations

import io
import math
import os
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from .._base import plain_console, printable
from ..record import Record
from ..rules import Diagnosis, Finding
from .layers import Layer, Peers, layers_of, reported_step
from .text import count, measured_rows, not_rewound, number, percent, shape_text, shorten

MAX_ROWS = 40
WIDTH = 80
_CELL = 11  # columns for a short value of the evidence: two pairs fit beside the margin of 80 columns
_ROOM_FOR_GRADIENTS = 70  # columns of the terminal: in fewer, names or numbers would be cut
SIGNS = {"error": "✗", "warning": "!", "info": "i", "": " "}
COLORS = {"error": "red", "warning": "yellow", "info": "cyan", "": ""}
STATUS = {"healthy": ("✓", "green"), "sick": ("✗", "red"), "unknown": ("?", "yellow")}
ASCII = str.maketrans("✗✓→…×│━●◂▸·\u00a0", "x+>~x|=o<>- ")


def render(record: Record, diagnosis: Diagnosis, width: int, page: str | None = None) -> Group:
    """The whole report as one renderable for a terminal of this width.

    page  where the .html report is, if there is one: it says what has no place here
    """
    return Group(*_parts(record, diagnosis, width, page))


def plain_text(record: Record, diagnosis: Diagnosis, width: int = WIDTH, page: str | None = None) -> str:
    """The whole report as text without colour codes, no line wider than `width`."""
    stream = io.StringIO()
    plain_console(stream, width).print(render(record, diagnosis, width, page))
    return stream.getvalue().replace("\u00a0", " ")  # no-break spaces have done their work


def ascii_text(record: Record, diagnosis: Diagnosis, width: int, page: str | None = None) -> str:
    """The same for a terminal that shows only ASCII: signs are replaced, other letters become "?"."""
    text = plain_text(record, diagnosis, width, page).translate(ASCII)
    return text.encode("ascii", "replace").decode()


def _parts(record: Record, diagnosis: Diagnosis, width: int, page: str | None) -> Iterator[RenderableType]:
    yield _heading(record)
    yield Text()
    yield from _verdict(diagnosis)
    for place, finding in enumerate(diagnosis.findings, start=1):
        yield Text()
        if finding in diagnosis.accepted:
            yield _accepted(place, finding)
        else:
            yield from _finding(place, finding, _title(record, finding.site))
    layers = layers_of(record, diagnosis.findings)
    if layers:
        yield Text()
        yield from _depth(record, layers, diagnosis, width)
    if diagnosis.abstained:
        yield Text()
        yield _not_judged(diagnosis.abstained, width, page)
    if diagnosis.tried:
        yield Text()
        yield Text.assemble(("Tried  ", "bold"), (printable(diagnosis.tried), "dim"))
    for line in diagnosis.unseen:
        yield Text()
        yield Text.assemble(("Not seen  ", "bold"), (printable(line), "dim"))
    if line := not_rewound(record.facts):
        yield Text()
        yield Text.assemble(("Not put back after the run  ", "bold"), (line, "dim"))


def heading_parts(record: Record) -> list[str]:
    """What was measured, in a few words: model, size, mode, loss."""
    facts = record.facts
    parts = [printable(facts.model.name or "model")]
    parameters = facts.model.parameters
    total = parameters.trainable if parameters.all is None else parameters.all
    if total is not None:
        parts.append(count(total, "parameter"))
    sites = len(record.sites("activation"))
    parts.append(count(sites, "activation"))
    if facts.rehearsed_steps:
        parts.append(f"{count(facts.rehearsed_steps, 'step')} rehearsed")
    else:
        parts += _steps(record)
    loss = facts.loss
    if loss.value is not None:
        first = "first " if facts.mode == "training" else ""
        name = printable(loss.name or "")  # cross entropy is what a reader expects
        other = f" ({name})" if name and loss.kind != "cross_entropy" else ""
        value = number(loss.value, 4) if math.isfinite(loss.value) else loss.value
        parts.append(f"{first}loss {value}{other}")
    return parts


def _steps(record: Record) -> list[str]:
    """How many steps were measured, and of how many where losses say that."""
    measured, losses = len(record.steps()), record.metric("loss", optional=True)[0]
    total = int(losses[-1]) + 1 if len(losses) else 0
    if measured and total > measured:
        return [f"{measured:,} of {count(total, 'step')} measured"]
    if measured < 2:
        return []
    return [count(measured, "step") + ("" if measured == total else " measured")]


def _heading(record: Record) -> Text:
    first, *rest = heading_parts(record)
    return Text.assemble(
        ("unitgain", "bold"), "  ", (first, "bold cyan"), ("".join(f" · {r}" for r in rest), "dim")
    )


def _verdict(diagnosis: Diagnosis) -> Iterator[RenderableType]:
    sign, color = STATUS.get(diagnosis.status, STATUS["unknown"])
    yield hanging(
        Text(sign, style=f"bold {color}"), Text(printable(diagnosis.verdict), style=f"bold {color}"), 2
    )
    if diagnosis.first_action:
        action = Text.assemble(("Do this first: ", "bold"), printable(diagnosis.first_action))
        yield hanging(Text("→", style="bold"), action, 2)


def _title(record: Record, name: str | None) -> str:
    """What people call the site of a finding: "6 · Linear" of one that is called 6."""
    site = record.site("activation", name) if name else None
    return site.title if site else name or ""


def _finding(place: int, finding: Finding, site: str) -> Iterator[RenderableType]:
    color = COLORS[finding.severity]
    title = Text.assemble(
        (f"{SIGNS[finding.severity]} {finding.severity}", f"bold {color}"),
        "  ",
        (f"{printable(finding.code)} {printable(finding.name)}", "bold"),
    )
    if site:
        title.append(f"  at {shorten(printable(site), 48)}", style="cyan")
    yield hanging(Text(f"{place}.", style="dim"), title, 4)
    yield Padding(Text(printable(finding.message)), (0, 0, 0, 4))
    if measured_rows(finding.evidence):
        yield Padding(hanging(Text("Measured", style="dim"), _measured(finding.evidence), 9), (0, 0, 0, 4))
    for name, text in (
        ("Cause", finding.cause),
        ("Do", finding.remedy),
        ("Expect", finding.effect),
        ("Verify", finding.verify),
    ):
        if text:
            yield _field(name, printable(text), style="bold" if name == "Do" else "")
    if finding.where:
        yield _field("Where", printable(finding.where))
    for place, consequence in enumerate(finding.consequences):
        yield _field("Explains" if place == 0 else "", printable(consequence), style="dim")


def _accepted(place: int, finding: Finding) -> RenderableType:
    """A finding that a baseline accepts, in a line or two."""
    site = f" at {shorten(printable(finding.site), 48)}" if finding.site else ""
    title = f"accepted {finding.severity} {printable(finding.code)} {printable(finding.name)}{site}: "
    return hanging(Text(f"{place}.", style="dim"), Text(title + printable(finding.message), style="dim"), 4)


def _measured(evidence: Mapping[str, Any]) -> RenderableType:
    """The evidence as a small table: short values two to a line, longer ones below on lines of their own."""
    rows = measured_rows(evidence)
    width = min(max(len(name) for name, _ in rows), 18)
    short = [(name, value) for name, value in rows if len(name) <= width and len(value) <= _CELL]
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=width)
    grid.add_column(width=_CELL)
    grid.add_column(width=width)
    grid.add_column(width=_CELL)
    for i in range(0, len(short), 2):
        cells = [
            Text(t, style="dim" if j == 0 else "") for pair in short[i : i + 2] for j, t in enumerate(pair)
        ]
        grid.add_row(*cells)
    parts: list[RenderableType] = [grid] if short else []
    for name, value in rows:
        if (name, value) not in short:
            parts.append(hanging(Text(name, style="dim"), Text(value), max(width, len(name)) + 2))
    return Group(*parts)


def _field(name: str, text: str, style: str = "") -> RenderableType:
    return Padding(hanging(Text(name, style="dim"), Text(text, style=style), 9), (0, 0, 0, 4))


def hanging(first: Text, body: RenderableType, indent: int) -> Table:
    """What stands beside a first column, its further lines aligned below it."""
    grid = Table.grid(expand=False)
    grid.add_column(width=indent, no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(first, body)
    return grid


def _not_judged(abstained: Mapping[str, str], width: int, page: str | None) -> Text:
    """The rules that could not judge, in about two lines: grouped by reason, scale over depth (without it little is
    known of a network's health) and then the commonest reasons first.

    What does not fit is named by its code alone; the .html and .json reports have every reason.
    """
    groups: dict[str, list[str]] = {}
    for code, reason in abstained.items():
        groups.setdefault(printable(reason), []).append(printable(code))
    ordered = sorted(groups.items(), key=lambda group: ("UG302" not in group[1], -len(group[1])))
    title, text = "Not judged  ", ""
    why = (
        f"(see {shorten(printable(os.path.basename(page)), 40)})" if page else "(why: --html or report.save)"
    )
    for given in range(len(ordered), -1, -1):
        parts = [f"{_numbers(codes)}: {reason}" for reason, codes in ordered[:given]]
        rest = sorted(code for _, codes in ordered[given:] for code in codes)
        if rest:
            parts.append(f"{'also ' if given else ''}{_numbers(rest)} {why}")
        text = " · ".join(parts)
        if len(textwrap.wrap(title + text, width)) <= 2:
            break
    return Text.assemble((title, "bold"), (text, "dim"))


def _numbers(codes: list[str]) -> str:
    """Codes with their common letters once.

    >>> _numbers(["UG101", "UG302", "UG305"])
    'UG101 302 305'
    """
    return " ".join([codes[0], *(code.removeprefix("UG") for code in codes[1:])])


# ---- the table over depth ----------------------------------------------------------------------------------


def _depth(record: Record, layers: list[Layer], diagnosis: Diagnosis, width: int) -> Iterator[RenderableType]:
    peers = Peers.of(layers)
    shown = choose(layers, peers, MAX_ROWS)
    wide = width >= 110
    decades = _decades_shown(shown)
    bar_width = 21 if wide else 11
    gradients = width >= _ROOM_FOR_GRADIENTS and any(layer.gradient for layer in layers)
    updates = any("update" in layer.ratios for layer in layers)
    title = Text.assemble(
        ("Scale over depth", "bold"), (f"  std on a log scale, ±{decades} decades around │ = 1", "dim")
    )
    if len(record.steps()) > 1:
        title.append(f", step {reported_step(record)}", style="dim")
    yield title

    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim", expand=False)
    types = [len(printable(layer.site.module)) for layer in shown]
    names = [len(printable(layer.name)) for layer in shown]
    least = 16 if wide else 9
    type_width = least
    fixed = 2 + len(str(layers[-1].number)) + 1 + type_width + 1 + 8 + 8 + bar_width + 1 + 9
    fixed += (9 if gradients else 0) + (8 + 18 if wide else 0)
    name_width = max(10, width - fixed)
    room = max(0, name_width - max(names, default=0))  # what short names leave is for the types
    type_width = min(least + room, max(least, *types))
    name_width -= type_width - least
    table.add_column("", width=1, no_wrap=True)
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("site", no_wrap=True, max_width=name_width)
    table.add_column("type", no_wrap=True, max_width=type_width)
    if wide:
        table.add_column("shape", no_wrap=True, max_width=17)
    table.add_column("mean", justify="right", no_wrap=True, min_width=7)
    table.add_column("std", justify="right", no_wrap=True, min_width=7)
    table.add_column(_axis(bar_width, decades), width=bar_width, no_wrap=True)
    table.add_column("tails", justify="right", no_wrap=True, min_width=8)
    if gradients:
        table.add_column("grad rms", justify="right", no_wrap=True)
    if updates and wide:
        table.add_column("upd:data", justify="right", no_wrap=True)
    for layer in shown:
        color = COLORS[layer.severity]
        calm = "" if layer.severity else "dim"
        tint = f"bold {color}" if layer.severity in ("error", "warning") else ""
        tint = tint or ("" if diagnosis.status == "healthy" else _tint(layer, peers))
        std, mean = layer.values.get("std"), layer.values.get("mean")
        cells: list[Text] = [
            Text(SIGNS[layer.severity], style=f"bold {color}"),
            Text(str(layer.number), style="dim"),
            Text(shorten(printable(layer.name), name_width), style=f"bold {color}" if color else ""),
            Text(shorten(printable(layer.site.module), type_width), style="dim"),
        ]
        if wide:
            cells.append(Text(shorten(shape_text(layer.site.shape), 17), style="dim"))
        cells += [
            Text(number(mean), style=calm),
            Text(number(std), style=tint),
            Text(bar(std, bar_width, decades), style=tint or "green"),
            Text(tails(layer), style=tint or "dim"),
        ]
        if gradients:
            cells.append(Text(number(layer.gradient.get("rms")), style=calm))
        if updates and wide:
            ratio = layer.ratios.get("update")
            cells.append(Text("" if ratio is None else f"{ratio:+.1f}", style=calm))
        table.add_row(*cells)
    yield table
    if len(shown) < len(layers):
        hidden = len(layers) - len(shown)
        yield Text(
            f"{hidden} of {len(layers)} layers are not shown: what has a finding and what lies furthest "
            "off is here, the rest evenly chosen. The .html report has all.",
            style="dim",
        )


def compared(before: Record, after: Record, width: int) -> Iterator[RenderableType]:
    """Two measurements of one network side by side: every layer's scale before and after."""
    rows = layers_of(after)
    old = {layer.key: layer for layer in layers_of(before)}
    shown = choose(rows, Peers.of(rows), MAX_ROWS // 2)
    decades = _decades_shown([*shown, *(old[layer.key] for layer in shown if layer.key in old)])
    bar_width = 21 if width >= 110 else 15
    yield Text.assemble(
        ("Scale over depth", "bold"), (f"  std on a log scale, ±{decades} decades around │ = 1", "dim")
    )
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim", expand=False)
    table.add_column("#", justify="right", no_wrap=True)
    name_width = max(10, width - len(str(rows[-1].number if rows else 0)) - 2 * bar_width - 2 * 9 - 5)
    table.add_column("site", no_wrap=True, max_width=name_width)
    for name in ("before", "after"):
        table.add_column(name, justify="right", no_wrap=True, min_width=8)
        table.add_column(_axis(bar_width, decades), width=bar_width, no_wrap=True)
    for layer in shown:
        was = old[layer.key].values.get("std") if layer.key in old else None
        now = layer.values.get("std")
        table.add_row(
            Text(str(layer.number), style="dim"),
            Text(shorten(printable(layer.name), name_width)),
            Text(number(was)),
            Text(bar(was, bar_width, decades), style="yellow"),
            Text(number(now)),
            Text(bar(now, bar_width, decades), style="green"),
        )
    yield table


def choose(layers: Sequence[Layer], peers: Peers, limit: int) -> list[Layer]:
    """At most `limit` layers in order: those with findings, the worst, and evenly chosen ones for context.

    The first and the last are always among them.
    """
    if len(layers) <= limit:
        return list(layers)

    def worst_first(layer: Layer) -> tuple[int, float]:
        rank = {"error": 0, "warning": 1, "info": 2}.get(layer.severity, 3)
        return rank, -max(layer.concerns(peers).values(), default=0.0)

    chosen = {0, len(layers) - 1}
    ranked = sorted(range(len(layers)), key=lambda i: worst_first(layers[i]))
    for i in ranked:
        if len(chosen) >= limit // 2:
            break
        chosen.add(i)
    # the rest halve the widest gaps, so that depth is covered evenly
    while len(chosen) < limit:
        order = sorted(chosen)
        left, right = max(pairwise(order), key=lambda gap: gap[1] - gap[0])
        chosen.add((left + right) // 2)
    return [layers[i] for i in sorted(chosen)]


def bar(value: float | None, width: int, decades: int) -> str:
    """A value's place on a log scale: a line from the mark at 1 to a dot; arrows where it leaves the scale.

    >>> bar(1.0, 9, 2), bar(10.0, 9, 2), bar(0.01, 9, 2), bar(1e-9, 9, 2), bar(0.0, 9, 2)
    ('    ●', '    │━●', '●━━━│', '◂━━━│', '    │')
    """
    middle = width // 2
    cells = [" "] * width
    cells[middle] = "│"
    if value is not None and value > 0 and not math.isnan(value):
        place = math.inf if math.isinf(value) else math.log10(value) / decades * middle
        end = middle + round(max(-middle, min(middle, place)))
        for i in range(min(middle, end), max(middle, end) + 1):
            cells[i] = "│" if i == middle else "━"
        cells[end] = "▸" if place > middle + 0.5 else "◂" if place < -middle - 0.5 else "●"
    return "".join(cells).rstrip()


def tails(layer: Layer) -> str:
    """The most telling fraction of a layer: non-finite, all zeros, saturated, dead units, zeros.

    A unit that died in training does not count as dead, since it was active before; a layer of zeros shows as zeros.
    """
    bad = layer.values.get("nonfinite", 0.0)
    if bad > 0:
        return f"NaN {percent(bad)}"
    saturated, dead, zero = (
        layer.values.get("saturated", 0.0),
        layer.dead_fraction,
        layer.values.get("zero", 0.0),
    )
    if dead < zero == 1:
        return f"zero {percent(zero)}"
    if saturated > 0:
        return f"sat {percent(saturated)}"
    if dead > 0:
        return f"dead {percent(dead)}"
    return f"zero {percent(zero)}" if zero >= 0.01 else ""


def _axis(width: int, decades: int) -> Text:
    """The bar column's heading: its ends and the mark at one."""
    cells = list(" " * width)
    low, high = f"1e-{decades}", f"1e{decades}"
    cells[: len(low)] = low
    cells[width - len(high) :] = high
    cells[width // 2] = "1"
    return Text("".join(cells))


def _decades_shown(layers: Sequence[Layer]) -> int:
    stds = [layer.values.get("std", 0.0) for layer in layers]
    furthest = max((abs(math.log10(s)) for s in stds if s > 0 and math.isfinite(s)), default=1.0)
    return max(1, min(9, math.ceil(furthest)))


def _tint(layer: Layer, peers: Peers) -> str:
    """The colour of a layer that is far from its peers, in a network with findings, though none of them names it."""
    off = layer.concerns(peers)
    judged = [off.get(name, 0.0) for name in ("scale", "saturated", "dead", "non-finite")]
    return "red" if max(judged) >= 1 else "yellow" if max(judged) >= 0.5 else ""
