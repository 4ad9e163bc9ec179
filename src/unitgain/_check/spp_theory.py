"""What theory says of the sites of a signal propagation plot, as plain numbers for the record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..graph import BackwardPropagation, Graph, Propagation, branch_to_stream, departures


def theory_of(graph: Graph, theory: Propagation, named: Mapping[str, int]) -> dict[str, Any]:
    """What theory says of the sites (number of the tensor of each), and of every node between."""
    predicted, silent = {}, {}
    for name, number in named.items():
        claim = theory.claims.get(number)
        if claim is not None and claim.predicted is not None:
            predicted[name] = {"channel_var": claim.predicted[0], "sq_channel_mean": claim.predicted[1]}
        elif claim is not None and claim.reason:
            silent[name] = claim.reason
    ratios = {
        name: ratio
        for name, branches in zip(
            (n for n in named if ":branch" not in n and n != "stem"), graph.residual_sums()
        )
        if (ratio := branch_to_stream(branches, theory.claims, theory.by_node)) is not None
    }
    nodes = [
        {"node": c.node, "measured": list(c.measured), "predicted": None if c.predicted is None else list(c.predicted),
         "reason": c.reason}
        for c in theory.by_node.values()
        if c.node in graph.nodes and graph[c.node].kind not in ("input", "block")
    ]  # fmt: skip
    why = [departure.to_dict() for departure in departures(graph, theory.by_node)]
    law = "node by node" if predicted else ""
    return {
        "law": law, "predicted": predicted, "silent": silent, "branch_to_stream": ratios, "why": why, "nodes": nodes,
    }  # fmt: skip


def backward_of(theory: BackwardPropagation, named: Mapping[str, int]) -> dict[str, Any]:
    """The gradient's mean square at the sites: measured, predicted, and why it is not."""
    measured, predicted, silent = {}, {}, {}
    for name, number in named.items():
        claim = theory.back.get(number)
        if claim is None:
            continue
        measured[name] = claim.measured[0]
        if claim.predicted is not None:
            predicted[name] = claim.predicted[0]
        else:
            silent[name] = claim.reason
    return {"measured": measured, "predicted": predicted, "silent": silent}
