"""Last functions that the loss does not want: a sigmoid before a loss that applies one, a softmax over one unit.

Where the last function is a module of its own that is called once, it is replaced in its place. Where it is called in
`forward`, hooks return what goes into it: `ReturnsInput`. Either way no parameter changes its name, and the line of
code that calls the function is what the user should change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .. import graph as graphs
from .._base import InputError
from ..graph import Graph, Node
from .report import Change, RemedyReport

Function = Callable[[Tensor], Tensor]


class ReturnsInput:
    """Makes a model return what one of its modules gives, after another function than the model's own last one.

    Two forward hooks: one keeps the module's output, the other returns it in place of the model's, if it has the same
    number of values. remove() takes both away.
    """

    def __init__(self, model: nn.Module, source: nn.Module, function: Function | None = None):
        self._kept: list[Tensor] = []
        self._function = function
        self._handles = [source.register_forward_hook(self._keep), model.register_forward_hook(self._return)]

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()

    def _keep(self, module: nn.Module, args: Any, output: Any) -> None:
        self._kept[:] = [output]

    def _return(self, module: nn.Module, args: Any, output: Any) -> Any:
        if not self._kept or not isinstance(output, Tensor):
            return output
        kept = self._kept.pop()
        if kept.numel() != output.numel():
            return output
        kept = kept if self._function is None else self._function(kept)
        return kept.reshape(output.shape)


def drop_last_function_(model: nn.Module, batch: Any) -> RemedyReport:
    """Takes away the activation function or softmax at the end of the model, so that it returns what goes into it.

    Raises InputError if the batch does not fit, and where the model does not end with such a function.

    >>> model = nn.Sequential(nn.Linear(4, 1), nn.Sigmoid())
    >>> print(drop_last_function_(model, torch.randn(8, 4)).changes[0].reason, model[1])
    Sigmoid replaced by Identity Identity()
    """
    return _replaced(model, batch, "drop_last_function_", nn.Identity, None)


def sigmoid_for_softmax_(model: nn.Module, batch: Any) -> RemedyReport:
    """A sigmoid in the place of a softmax at the end of a model whose last layer has one unit.

    Raises InputError as drop_last_function_ does, and where the softmax has more than one unit.
    """
    return _replaced(model, batch, "sigmoid_for_softmax_", nn.Sigmoid, torch.sigmoid)


def _replaced(
    model: nn.Module, batch: Any, remedy: str, kind: type[nn.Module], function: Function | None
) -> RemedyReport:
    found = graphs.read(remedy, model, batch)
    with graphs.undisturbed(model, found):
        graph = graphs.follow(model, found)
    last = _last_function(graph)
    if last is None or (function is not None and last.role != "softmax"):
        what = "a softmax" if function is not None else "an activation function or a softmax"
        raise InputError(f"{remedy}: model: it does not end with {what} that could be replaced")
    report = RemedyReport(remedy)
    called = sum(node.module is last.module for node in graph)
    if last.module is not None and last.path and called == 1:
        parent, _, name = last.path.rpartition(".")
        model.get_submodule(parent).register_module(name, kind())
        report.changes.append(Change(last.path, 0.0, 0.0, f"{last.type} replaced by {kind.__name__}"))
        return report
    source = graph.nodes.get(last.sources[0]) if last.sources else None
    if source is None or source.module is None or source.call != 1 or source.role != "linear":
        raise InputError(
            f"{remedy}: model: what goes into its last function ({last.name}) is no module's output"
        )
    ReturnsInput(model, source.module, function)
    reason = f"ReturnsInput: the model returns what {source.path} gives, without {last.type}"
    reason += f", and applies {kind.__name__}" if function is not None else ""
    report.changes.append(Change(last.name, 0.0, 0.0, reason))
    report.notes.append("ReturnsInput is a pair of hooks: they are not saved with the weights")
    return report


def _last_function(graph: Graph) -> Node | None:
    """The activation function or softmax whose output the model returns, seen through reshapes."""
    for name in graph.outputs:
        node = graph.nodes.get(name)
        while (
            node is not None
            and (node.role in ("reshape", "dropout") or node.kind == "block")
            and node.sources
        ):
            node = graph.nodes.get(node.sources[0])
        if node is not None and node.role in ("activation", "softmax"):
            return node
    return None
