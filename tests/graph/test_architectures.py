"""The graph of 96 architectures against what a person reads off their definitions."""

from __future__ import annotations

import pytest
import torch
from table import FIRST, FOURTH, SECOND, THIRD, Row

from unitgain._batch import Batch
from unitgain.graph import Graph, Neighbour, follow, trace, undisturbed

ROWS = {**FIRST, **SECOND, **THIRD, **FOURTH}


def graph_of(row: Row) -> Graph:
    model, batch = row.make(), row.batch()
    if isinstance(batch, Batch):
        with undisturbed(model, batch):
            return follow(model, batch)
    return trace(model, batch)


def named(found: Neighbour) -> str:
    """An activation by its name, anything else by its kind."""
    known = found.node.activation if found.node is not None and found.kind == "activation" else None
    return known.name if known is not None else found.kind


def feeds(found: Neighbour, wanted: str) -> str:
    return wanted if found.kind == wanted or found.node is None else found.node.name


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ROWS)
def test_graph_is_as_the_architectures_definition_says(
    name: str, constant_weights, torchvision_operators
) -> None:
    row = ROWS[name]
    graph = graph_of(row)
    branches = graph.branches
    found = {
        "branches": len(branches), "transitions": sum(b.transition for b in branches),
        "pre": sum(b.order == "pre" for b in branches), "post": sum(b.order == "post" for b in branches),
        "nested": sum(b.inside is not None for b in branches), "concats": len(graph.concatenations()),
        "before": {w: named(graph.before(w)) for w in row.before},
        "after": {w: named(graph.after(w)) for w in row.after},
        "fed": {n: feeds(graph.before(n), wanted) for n, wanted in row.fed.items()},
    }  # fmt: skip
    expected = {k: getattr(row, k) if getattr(row, k) is not None else found[k] for k in found}
    assert found == {k: dict(v) if isinstance(found[k], dict) else v for k, v in expected.items()}
    for key, wanted in (("scale", row.scales), ("skip_scale", row.skip_scales)):
        if wanted is not None:
            assert [getattr(b, key) for b in branches] == [
                None if w is None else pytest.approx(w) for w in wanted
            ]


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["timm resnet18", "gpt2", "unet", "t5"])
def test_the_dictionary_is_stable_and_can_be_json(name: str, constant_weights, torchvision_operators) -> None:
    import json

    graph = graph_of(ROWS[name])
    told = graph.to_dict()
    assert json.loads(json.dumps(told)) == told
    torch.manual_seed(1)
    assert graph_of(ROWS[name]).to_dict() == told
    names = {n["name"] for n in told["nodes"]}
    assert all(set(n["inputs"]) <= set(n["sources"]) <= names for n in told["nodes"])
    assert all({b["sum"], *b["nodes"], *b["skip"]} <= names for b in told["branches"])
