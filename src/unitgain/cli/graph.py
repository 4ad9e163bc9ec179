"""unitgain check --graph: what was understood of a model, for a person or as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .._base import InputError
from .output import Console, note

if TYPE_CHECKING:
    from torch import nn

    from ..graph import Graph


def refuse_beside_graph(given: Mapping[str, Any]) -> None:
    """given: {option: its value} of options that mean nothing where nothing is checked."""
    for option, value in given.items():
        if value:
            raise InputError(
                f"{option}: --graph shows what was understood of the model and checks nothing; leave it out"
            )


def traced(model: nn.Module, batch: Any) -> Graph:
    from ..graph import trace

    return trace(model, batch)


def show_graph(graph: Graph, json: str | None) -> None:
    """Prints the graph; json: a file to write it to as well, or "-" to print that instead."""
    from json import dumps

    text = dumps(graph.to_dict(), indent=1)
    if json == "-":
        print(text)
        return
    Console().print(str(graph), markup=False, highlight=False, soft_wrap=True)
    if json is not None:
        with open(json, "w", encoding="utf-8") as file:
            file.write(text + "\n")
        note(f"graph written: {json}")
