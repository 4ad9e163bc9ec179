"""Layers in blocks, and what flows past them: the page's picture of the graph.

A block is a module that ends in a residual sum, or else the part of the names that layers share. A skip is drawn from
the site that a later one reads over the heads of those between, as the record's site attributes say it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .._base import printable
from .layers import Layer

LANES = 3  # skips drawn side by side; of more at one place the longest are left out


@dataclass(frozen=True)
class Block:
    """Consecutive layers of one module. title: its path; module: its type where that is known; sums: residual sums."""

    number: int
    title: str
    layers: Sequence[Layer]
    module: str = ""
    sums: int = 0


@dataclass
class Cell:
    """What the flow looks like at one layer, by lanes: 0 is the main line, skips run in 1, 2, ...

    dot      lane of the layer itself
    through  lanes that pass
    starts   lanes of skips that begin behind this layer
    forks    lanes of skips that begin at the sum before this layer
    ends     lanes of skips that end before it
    joins    whether what ends there is added (or gated); otherwise it is read alone, or concatenated
    first, last   of the network
    """

    dot: int = 0
    through: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    forks: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    joins: bool = False
    first: bool = False
    last: bool = False

    @property
    def key(self) -> str:
        """Equal for cells that look the same."""
        parts = (self.through, self.starts, self.ends, self.forks)
        lanes = "_".join("".join(map(str, sorted(lanes))) for lanes in parts)
        return f"g{self.dot}{lanes}{'j' * self.joins}{'f' * self.first}{'l' * self.last}"


def blocks_of(layers: Sequence[Layer]) -> list[Block]:
    """The layers in execution order, consecutive ones of one block together; numbers from 1."""
    known = {_parent(layer) for layer in layers if layer.site.attributes.get("block") == "block"}
    known |= {_path(layer) for layer in layers if _is_block(layer)}
    modules = {_path(layer): layer.site.module for layer in layers if _is_block(layer)}
    groups: list[tuple[str, list[Layer]]] = []
    for layer in layers:
        title = _title(layer, known)
        if not groups or groups[-1][0] != title:
            groups.append((title, []))
        groups[-1][1].append(layer)
    return [
        Block(number, title, rows, printable(modules.get(title, "")), sum(map(_ends_branch, rows)))
        for number, (title, rows) in enumerate(groups, start=1)
    ]


def flow_of(layers: Sequence[Layer]) -> list[Cell]:
    """One cell for each layer."""
    places = {layer.name: i for i, layer in enumerate(layers) if layer.site.kind == "activation"}
    places = {layer.name: i for i, layer in enumerate(layers) if layer.site.kind == "input"} | places
    cells = [Cell(first=i == 0, last=i == len(layers) - 1) for i in range(len(layers))]
    busy: list[int] = [-1] * (LANES + 1)  # the row at which a lane is free again
    for skip in sorted(_skips(layers, places), key=lambda skip: (skip.start, skip.end)):
        lane = next((k for k in range(1, LANES + 1) if busy[k] <= skip.start), None)
        if lane is None:
            continue
        busy[lane] = skip.end
        (cells[skip.start].forks if skip.from_sum else cells[skip.start].starts).append(lane)
        cells[skip.end].ends.append(lane)
        cells[skip.end].joins |= skip.joins
        for i in range(skip.start + 1, skip.end):
            cells[i].through.append(lane)
        for i in skip.own:
            cells[i].dot = lane
    return cells


@dataclass(frozen=True)
class _Skip:
    """A tensor that is read past other layers; rows. joins: whether it is added; own: the layers on a shortcut;
    from_sum: it is not the output of the layer at its start, but the sum that goes into it."""

    start: int
    end: int
    joins: bool
    own: Sequence[int] = ()
    from_sum: bool = False


def _skips(layers: Sequence[Layer], places: dict[str, int]) -> Iterable[_Skip]:
    ends = [i for i, layer in enumerate(layers) if _ends_branch(layer)]
    reads = [[places[name] for name in _sources(layer) if name in places] for layer in layers]
    shortcuts: dict[
        int, range
    ] = {}  # by the row of the sum: layers that stand between it and the branch's end
    for i, sources in enumerate(reads):
        whole = _is_block(layers[i])  # its site says what goes into the block, not what is added in it
        inner = [k for k in ends if k < i - 1 and (sources[0] < k if whole and sources else k in sources)]
        if (
            inner
            and len(reads[inner[-1] + 1]) == 1
            and (reads[inner[-1] + 1] == sources if whole else i - 1 in sources)
        ):
            shortcuts[i] = range(inner[-1] + 1, i)
    inside = {path[0] for path in shortcuts.values()}
    summed: dict[int, int] = {}  # {row of a tensor: the last row that read it with something added}
    for i, sources in enumerate(reads):
        if i in shortcuts:
            yield _Skip(reads[shortcuts[i][0]][0], i, True, shortcuts[i])
        elif i not in inside:
            for start in (k for k in sources if k < i - 1):
                # where a block is measured as a whole, the branch that ends inside it is added to what it reads
                inner = sum(start < end < i for end in ends) if _is_block(layers[i]) else 0
                joins = len(sources) > 1 or inner > 0
                earlier = summed.get(start) if len(sources) == 1 and inner > 1 else None
                if earlier is not None:  # of two branches in one block the second leaves the first one's sum
                    yield _Skip(earlier, i, joins, from_sum=True)
                else:
                    yield _Skip(start, i, joins)
                if joins:
                    summed[start] = i


def _sources(layer: Layer) -> Sequence[str]:
    attributes = layer.site.attributes
    found = attributes.get("sources") or attributes.get("inputs") or ()
    return [str(name) for name in found] if isinstance(found, (list, tuple)) else ()


def _ends_branch(layer: Layer) -> bool:
    return layer.site.attributes.get("block") == "branch"


def _is_block(layer: Layer) -> bool:
    return layer.site.attributes.get("role") == "block"


def _path(layer: Layer) -> str:
    return str(layer.site.attributes.get("path") or layer.name)


def _parent(layer: Layer) -> str:
    return _path(layer).rpartition(".")[0]


def _title(layer: Layer, known: set[str]) -> str:
    """The block of a layer: the innermost known one, else what stands before the rest of its name, "" for none."""
    if layer.site.kind != "activation":
        return ""
    parts = _path(layer).split(".")
    for length in range(len(parts), 0, -1):
        path = ".".join(parts[:length])
        if path in known:
            return path
    numbered = [i for i, part in enumerate(parts[:-1]) if part.isdigit()]
    return ".".join(parts[: numbered[-1] + 1]) if numbered else parts[0] if len(parts) > 1 else ""


def lane_picture(cell: Cell) -> str:
    """The inside of a symbol 46 by 28: lines, the layer's dot, and the sum before it."""

    def x(lane: int) -> int:
        return 9 + 12 * lane

    top, bottom = 14 if cell.first else 0, 14 if cell.last else 28
    lines = [f"M9 {top}V{bottom}", *(f"M{x(k)} 0V28" for k in cell.through)]
    lines += [f"M9 14C9 24 {x(k)} 16 {x(k)} 28" for k in cell.starts]
    lines += [f"M14 7C{x(k)} 7 {x(k)} 8 {x(k)} 28" for k in cell.forks]
    lines += [f"M{x(k)} 0C{x(k)} 8 {x(k)} 7 14 7" for k in cell.ends]
    plus = '<circle cx="9" cy="7" r="4.5" class="sum"/><path d="M6 7h6M9 4v6"/>' if cell.joins else ""
    height = 20 if cell.ends else 14
    return f'<path d="{"".join(lines)}"/>{plus}<circle cx="{x(cell.dot)}" cy="{height}" r="3.5" class="dot"/>'
