"""The network on the page: an overview of its blocks, and a table of its layers by block, with what flows past."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from .._base import escape, printable
from .html_blocks import Block, Cell, blocks_of, flow_of, lane_picture
from .html_flags import Flags, worse
from .layers import Layer
from .text import count, number, percent, shape_text, shorten

OPEN = 60  # layers up to which all blocks are open at first; of more only those with a finding
COLUMNS = (
    ("#", "Execution order", "num"), ("Site", "", ""), ("Type", "", ""), ("Shape", "", ""), ("Mean", "", "num"),
    ("Std", "Standard deviation", "num"), ("Scale", "Standard deviation on a log scale; the mark is 1", "fixed"),
    ("Satur.", "Share of values in a flat tail", "num"), ("Dead", "Share of units that no example activates", "num"),
    ("Zero", "Share of exact zeros", "num"), ("NaN", "Share of values that are NaN or infinite", "num"),
    ("Grad rms", "Root mean square of the gradient with respect to the activation", "num"),
    ("grad:data", "log10 of gradient:data of the layer's weight", "num"),
    ("upd:data", "log10 of update:data of the layer's weight", "num"), ("Findings", "", ""),
)  # fmt: skip
_MEASURED = {
    "Satur.": "saturated", "Dead": "dead", "Zero": "zero", "NaN": "nonfinite", "Grad rms": "gradient",
    "grad:data": "gradient_ratio", "upd:data": "update_ratio",
}  # fmt: skip


def title_of(layer: Layer, width: int = 44) -> str:
    """What a layer is called where its type does not stand beside it: of one named by a number, the type too.

    It is text, not HTML: "14 · Softmax".
    """
    short = shorten(printable(layer.name), width)
    if layer.site.title == layer.name:
        return short
    return f"{short} · {shorten(printable(layer.site.module), 20)}"


def network(layers: Sequence[Layer], flags: Sequence[Flags]) -> tuple[str, str]:
    """(the overview, the table's bodies) as HTML."""
    blocks, flow = blocks_of(layers), flow_of(layers)
    decades = _decades(layers)
    grouped = len(blocks) > 1 and any(len(block.layers) > 1 for block in blocks)
    pictures = {cell.key: lane_picture(cell) for cell in flow}
    symbols = "".join(f'<symbol id="{key}" viewBox="0 0 46 28">{p}</symbol>' for key, p in pictures.items())
    known = {column for layer in layers for column, text in _texts(layer).items() if text}
    measured = {
        name: column for name, column in _MEASURED.items() if column in known
    }  # others would be empty
    bodies = [
        _body(block, flow, flags, decades, list(measured.values()), grouped, len(layers) <= OPEN)
        for block in blocks
    ]
    defined = f'<svg class="symbols" aria-hidden="true">{symbols}</svg>'
    return _overview(blocks, flags) if grouped else "", defined + _table(bodies, measured)


def _table(bodies: Sequence[str], measured: Mapping[str, str]) -> str:
    heads = "".join(
        f'<th class="{kind}"{f" title={chr(34)}{why}{chr(34)}" if why else ""}>{name}</th>'
        for name, why, kind in COLUMNS
        if name in measured or name not in _MEASURED
    )
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Table of all layers"><table><thead><tr>'
        f'<th class="fixed">Flow</th>{heads}</tr></thead>{"".join(bodies)}</table></div>'
    )


def _level(block: Block, flags: Sequence[Flags]) -> str:
    return worse(*(flags[layer.number - 1].level for layer in block.layers))


def _overview(blocks: Sequence[Block], flags: Sequence[Flags]) -> str:
    items = []
    for block in blocks:
        level, size = _level(block, flags), count(len(block.layers), "layer")
        sums = f", {count(block.sums, 'residual sum')}" if block.sums else ""
        state = f" {level}" if level else ""
        items.append(
            f'<li><a href="#block-{block.number}" data-block="{block.number}" class="{level}" '
            f'title="{escape(_name(block, 200))}: {size}{sums}{state}">{escape(_name(block, 26))}'
            f"{'<b aria-hidden=true>⊕</b>' if block.sums else ''}{f'<i>{level}</i>' if level else ''}</a></li>"
        )
    return f'<ol class="flow" aria-label="Blocks in execution order">{"".join(items)}</ol>'


def _name(block: Block, width: int) -> str:
    """A block's title; of layers outside blocks the first one's and the last one's."""
    if block.title:
        return shorten(printable(block.title), width)
    first, last = (title_of(layer, width // 2) for layer in (block.layers[0], block.layers[-1]))
    return title_of(block.layers[0], width) if len(block.layers) == 1 else f"{first} … {last}"


def _body(
    block: Block,
    flow: Sequence[Cell],
    flags: Sequence[Flags],
    decades: int,
    measured: Sequence[str],
    grouped: bool,
    opened: bool,
) -> str:
    """A tbody: the block's own row if there is more than one layer in it, and its layers'."""
    level = _level(block, flags)
    rows = "".join(_row(x, flow[x.number - 1], flags[x.number - 1], decades, measured) for x in block.layers)
    if not grouped or len(block.layers) == 1:
        return f'<tbody id="block-{block.number}">{rows}</tbody>'
    shut = "" if opened or level else " shut"
    first, last = block.layers[0], block.layers[-1]
    here, end = flow[first.number - 1], flow[last.number - 1]
    opened_cell = Cell(through=[*here.through, *here.ends], first=here.first)
    shut_cell = Cell(through=sorted({*here.through} & {*end.through}), first=here.first, last=end.last)
    sums_in = bool(block.sums)
    opened_flow, shut_flow = _inline(opened_cell, False), _inline(shut_cell, sums_in)
    picture = f'<i class="if-open">{opened_flow}</i><i class="if-shut">{shut_flow}</i>'
    codes = dict.fromkeys(code for x in block.layers for code in flags[x.number - 1].codes)
    sums = f" · {count(block.sums, 'residual sum')}" if block.sums else ""
    module = f"{escape(shorten(block.module, 20))} · " if block.module else ""
    state = f'<em class="{level}">{level}</em>' if level else ""
    head = (
        f'<tr class="head {level}"><td class="g">{picture}</td>'
        f"<td>{first.number}–{last.number}</td>"
        f'<th scope="rowgroup" colspan="3"><button type="button" aria-expanded="{"false" if shut else "true"}" '
        f'title="{escape(_name(block, 200))}">{escape(_name(block, 30))}</button> '
        f"<small>{module}{count(len(block.layers), 'layer')}{sums}</small> {state}</th>"
        f"<td>{number(last.values.get('mean'))}</td><td>{number(last.values.get('std'))}</td>"
        f"<td>{_scale(last.values.get('std'), decades)}</td>{'<td></td>' * len(measured)}<td>{_codes(codes)}</td></tr>"
    )
    return f'<tbody id="block-{block.number}" class="block{shut}">{head}{rows}</tbody>'


def _inline(cell: Cell, sums: bool) -> str:
    """The flow beside a block's own row: lanes that pass the whole block, and a loop if it adds something."""
    picture = lane_picture(cell)
    picture = re.sub(r'<circle[^>]*class="dot"/>', "", picture)
    loop = '<path class="loop" d="M9 6C20 6 20 22 9 22"/>' if sums else ""
    box = '<rect x="5" y="10" width="8" height="8" rx="2" class="dot"/>'
    return f'<svg viewBox="0 0 46 28" aria-hidden="true">{picture}{loop}{box}</svg>'


def _texts(layer: Layer) -> dict[str, str]:
    """{column: what stands in it}; nothing where nothing was measured, or is of note."""
    values = layer.values
    return {
        "mean": number(values.get("mean")),
        "std": number(values.get("std")),
        "saturated": percent(values.get("saturated")),
        "dead": percent(layer.dead_fraction),
        "zero": percent(values.get("zero") or None),
        "nonfinite": percent(values.get("nonfinite") or None),
        "gradient": number(layer.gradient.get("rms")),
        "gradient_ratio": _ratio(layer.ratios.get("gradient")),
        "update_ratio": _ratio(layer.ratios.get("update")),
    }


def _row(layer: Layer, cell: Cell, flags: Flags, decades: int, measured: Sequence[str]) -> str:
    values, site, shown = layer.values, layer.site, _texts(layer)

    def td(column: str) -> str:
        level = flags.columns.get(column)
        return f'<td class="{level}">{shown[column]}</td>' if level else f"<td>{shown[column]}</td>"

    name = escape(shorten(printable(layer.name), 44))
    return (
        f'<tr id="layer-{layer.number}"{f" class={flags.level}" if flags.level else ""}>'
        f'<td class="g"><svg aria-hidden="true"><use href="#{cell.key}"/></svg></td><td>{layer.number}</td>'
        f'<th scope="row"><a href="#layer-{layer.number}" data-layer="{layer.number}" '
        f'title="{escape(layer.name)}">{name}</a></th><td>{escape(shorten(printable(site.module), 20))}</td>'
        f"<td>{escape(shape_text(site.shape))}</td>{td('mean')}{td('std')}"
        f"<td>{_scale(values.get('std'), decades)}</td>{''.join(map(td, measured))}"
        f"<td>{_codes(flags.codes)}</td></tr>"
    )


def _codes(codes: Sequence[str] | dict[str, None]) -> str:
    return " ".join(f"<code>{escape(code)}</code>" for code in codes)


def _scale(std: float | None, decades: int) -> str:
    """A bar from one to the standard deviation on a log scale; --p is its place in per cent of the cell's width."""
    if std is None or not std > 0 or math.isinf(std):
        return ""
    place = 50 + 50 * max(-1.0, min(1.0, math.log10(std) / decades))
    return f'<span class="bar" style="--p:{place:.0f}%"></span>'


def _decades(layers: Sequence[Layer]) -> int:
    stds = [layer.values.get("std", 0.0) for layer in layers]
    logs = [abs(math.log10(s)) for s in stds if s > 0 and math.isfinite(s)]
    return max(1, min(6, math.ceil(max(logs, default=1.0))))


def _ratio(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.1f}"
