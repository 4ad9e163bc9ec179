"""Which sums are residual ones, and what ends their branches, as mode "train" needs them."""

from __future__ import annotations

from collections.abc import Iterable

from ..graph import Branch, Graph, Node


def residual_sums(graph: Graph) -> list[list[Branch]]:
    """The branches of each residual sum, without parallel layers that are only added up: where the skip path has
    weights, a branch has more of them one after the other."""
    found = []
    for branches in graph.residual_sums():
        real = [b for b in branches if not b.transition or _depth(graph, b.nodes) > _depth(graph, b.skip)]
        if real:
            found.append(real)
    return found


def ends_of(graph: Graph, branches: Iterable[Branch], norms: set[str]) -> list[list[str]]:
    """What is added to a stream, term by term: of each the paths of the norms (among these), or else the layers, that
    made it; more than one where they are concatenated."""
    return [
        makers
        for branch in branches
        if branch.scale in (1.0, None)  # others the code scales already
        for makers in _terms(
            graph, branch.end or (branch.nodes[-1] if branch.nodes else ""), norms, {*branch.nodes}
        )
    ]


def _terms(graph: Graph, name: str, norms: set[str], inside: set[str]) -> list[list[str]]:
    node = graph.nodes.get(name)
    if node is not None and node.kind == "sum" and name in inside:
        return [term for source in node.sources for term in _terms(graph, source, norms, inside)]
    makers = _makers(graph, node, norms, inside)
    return [makers] if makers else []


def _makers(graph: Graph, node: Node | None, norms: set[str], inside: set[str]) -> list[str]:
    if node is None or node.name not in inside:
        return []
    if node.path in norms or node.role == "linear":
        return [node.path]
    if node.role in ("concat", "product", "activation") or node.transparent:
        return [p for s in node.sources for p in _makers(graph, graph.nodes.get(s), norms, inside)]
    return []


def _depth(graph: Graph, names: Iterable[str]) -> int:
    """How many weights stand one after the other among these nodes, at most."""
    depth: dict[str, int] = {}
    for name in names:  # in execution order
        node = graph.nodes.get(name)
        if node is not None:
            before = max((depth.get(source, 0) for source in node.sources), default=0)
            depth[name] = before + node.weighted
    return max(depth.values(), default=0)
