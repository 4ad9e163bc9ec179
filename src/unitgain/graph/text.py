"""A graph as text that a person reads, and as a dictionary for programs.

Nodes stand in execution order, indented under the module that they belong to. "from" is left out where a node goes on
with the tensor of the line before, and shapes where they stay the same; repeated blocks are shown once.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from .branch import Branch
from .node import Node

if TYPE_CHECKING:
    from .graph import Graph

SCHEMA_VERSION = 1
_LEAST = 3  # nodes of a block that is worth folding
_MOST = 4  # sources that are named


def as_dict(graph: Graph) -> dict[str, Any]:
    """See docs/reference/graph.md."""
    return {
        "schema_version": SCHEMA_VERSION,
        "model": graph.model,
        "nodes": [node.to_dict() for node in graph],
        "weights": [
            {
                "name": w.name, "parameters": list(w.node.parameters),
                "before": {"kind": w.before.kind, "label": w.before.label},
                "after": {"kind": w.after.kind, "label": w.after.label},
                "norm": w.norm.name if w.norm is not None else None,
            }
            for w in graph.weights()
        ],
        "norms": [
            {"name": n.node.name, "fed_by": n.fed_by.node.name if n.fed_by.node is not None else None,
             "absorbs": n.absorbs}
            for n in graph.norms()
        ],
        "branches": [branch.to_dict() for branch in graph.branches],
        "outputs": list(graph.outputs),
    }  # fmt: skip


def as_text(graph: Graph) -> str:
    """The whole graph, repeated blocks folded."""
    lines = [_summary(graph), ""]
    rows = _rows(graph)
    widths = [max((len(r[i]) for r in rows if len(r) > 1), default=0) for i in range(3)]
    for row in rows:
        if len(row) == 1:
            lines.append(row[0])
        else:
            *columns, note = row
            lines.append("  ".join([*(c.ljust(w) for c, w in zip(columns, widths)), note]).rstrip())
    if graph.outputs:
        lines += ["", f"output: {_listed(list(graph.outputs))}"]
    return "\n".join(lines)


def _summary(graph: Graph) -> str:
    weights, norms = len(graph.weights()), len(graph.norms())
    counts = [_plural(weights, "weight"), _plural(norms, "norm")]
    branches = graph.branches
    if branches:
        more = []
        transitions = sum(b.transition for b in branches)
        sums = len(graph.residual_sums())
        if sums < len(branches):
            more.append(f"at {_plural(sums, 'sum')}")
        if transitions:
            more.append(_plural(transitions, "transition"))
        for order in ("pre", "post"):
            if (number := sum(b.order == order for b in branches)) > 0:
                more.append(f"{number if number < len(branches) else 'all'} {order}-activation")
        counts.append(_plural(len(branches), "residual branch") + (f" ({', '.join(more)})" if more else ""))
    if joins := graph.concatenations():
        counts.append(_plural(len(joins), "concatenation"))
    return f"{graph.model}: {', '.join(counts)}"


def _rows(graph: Graph) -> list[tuple[str, ...]]:
    """(name, type, shape, notes) of a node, or one heading."""
    branches = {found[0].sum: found for found in graph.residual_sums()}
    rows: list[tuple[str, ...]] = []
    heading, shape, before, shown = "", None, None, None
    shown_nodes = [
        n for n in graph if n.kind != "block" or len(n.sources) != 1
    ]  # another name for what it returns
    for prefix, group in groupby(shown_nodes, key=_block):
        nodes = list(group)
        signature = (_parent(prefix), _signature(prefix, nodes))
        if prefix and shown is not None and signature == shown[0] and len(nodes) >= _LEAST:
            shown[1].append(prefix)
            before, shape, heading = nodes[-1], nodes[-1].shape, prefix
            continue
        rows += _folded(shown)
        shown = (signature, [prefix])
        for node in nodes:
            path = _heading(node)
            if path != heading and path:
                rows.append((f"{'  ' * path.count('.')}  {path}",))
            heading = path
            notes = _notes(graph, node, branches.get(node.name, []), before)
            given = str(node.shape) if node.shape != shape else ""
            depth = "  " * (path.count(".") + 2 if path else 1)
            rows.append((depth + _relative(node.name, path), node.label, given, notes))
            before, shape = node, node.shape
    return rows + _folded(shown)


def _folded(shown: Any) -> list[tuple[str, ...]]:
    if shown is None or len(shown[1]) == 1:
        return []
    first, *more = shown[1]
    names = more[0] if len(more) == 1 else f"{more[0]} to {more[-1]}"
    return [(f"{'  ' * more[0].count('.')}  {names}: the same as {first}",)]


def _notes(graph: Graph, node: Node, branches: Sequence[Branch], before: Node | None) -> str:
    path, notes = _heading(node), []
    follows = before is not None and node.sources == (before.name,)
    if branches:
        notes.append(_residual(branches, path))
    elif node.sources and not follows:
        notes.append(f"from {_listed([_relative(s, path) for s in node.sources])}")
    if node.weighted:
        made, taken = graph.before(node), graph.after(node)
        notes.append(f"behind {made.label}" + (f", before {taken.label}" if taken.kind == "norm" else ""))
    if node.role == "norm":
        absorbed = next((n.absorbs for n in graph.norms() if n.node is node), None)
        if absorbed is not None:
            notes.append(f"undoes {absorbed}")
    if node.kind == "opaque":
        notes.append("its inside cannot be followed")
    return "; ".join(notes)


def _residual(branches: Sequence[Branch], path: str) -> str:
    """ "residual: maxpool + 0.2 * (conv1 to bn2)" """
    first = branches[0]
    skip = _relative(first.start, path)
    if first.skip:
        way = [_relative(n, path) for n in first.skip]
        skip = f"{way[0]}({skip})" if len(way) == 1 else f"({way[0]} to {way[-1]})({skip})"
    parts = [_times(first.skip_scale, skip)]
    for branch in branches:
        names = [_relative(n, path) for n in branch.nodes]
        inside = names[0] if len(names) == 1 else f"({names[0]} to {names[-1]})"
        parts.append(_times(branch.scale, inside))
    return f"residual{' transition' if first.transition else ''}: {' + '.join(parts)}"


def _times(factor: float | None, what: str) -> str:
    if factor == 1:
        return what
    return f"{'scale' if factor is None else f'{factor:.3g}'} * {what}"


def _heading(node: Node) -> str:
    """The module under which a node is shown: its own for a function, the one that it is part of for a module."""
    return node.path if node.module is None else node.path.rpartition(".")[0]


def _relative(name: str, path: str) -> str:
    return name[len(path) + 1 :] if path and name.startswith(f"{path}.") else _function(name, path)


def _function(name: str, path: str) -> str:
    return name[len(path) :] if path and name.startswith(f"{path}:") else name


def _block(node: Node) -> str:
    """The innermost numbered part that a node lies in ("transformer.h.3"), "" if it lies in none."""
    parts = node.path.split(".")
    own = len(parts) if node.module is None or not node.leaf else len(parts) - 1
    numbered = [i for i, part in enumerate(parts[:own]) if part.isdigit()]
    return ".".join(parts[: numbered[-1] + 1]) if numbered else ""


def _parent(prefix: str) -> str:
    return prefix.rpartition(".")[0]


def _signature(prefix: str, nodes: Sequence[Node]) -> tuple[Any, ...]:
    """What must be equal for two blocks to be shown as one."""

    def inside(name: str) -> str:
        within = name.startswith((f"{prefix}.", f"{prefix}:")) or name == prefix
        return name[len(prefix) :] if within else "outside"

    return tuple(
        (inside(n.name), n.label, n.role, n.shape, tuple(inside(s) for s in n.sources)) for n in nodes
    )


def _listed(names: Sequence[str]) -> str:
    if len(names) <= _MOST:
        return ", ".join(names)
    return f"{', '.join(names[: _MOST - 1])} and {len(names) - _MOST + 1} more"


def _plural(number: int, noun: str) -> str:
    ending = "" if number == 1 else "es" if noun.endswith("ch") else "s"
    return f"{number} {noun}{ending}"
