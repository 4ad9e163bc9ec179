"""Last functions that do not fit the loss: one too many, a softmax over one unit, none where log-probabilities are
wanted, outputs in other units than the targets.

Where the last function is a module of its own that is called once, it is replaced in its place. Where it is called in
`forward`, hooks return what goes into it: `ReturnsInput`. A function that is missing is applied to what the model
returns: `AppliesLast`. No parameter changes its name, hooks are not saved with the weights, and the line of code that
calls the function is what the user should change.
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


class AppliesLast:
    """Makes a model return what a function gives of its output, by a forward hook. Of an output that is no tensor, the
    model's own is returned. remove() takes it away.

    >>> model = nn.Linear(4, 3)
    >>> _ = AppliesLast(model, nn.LogSoftmax(dim=1))
    >>> bool((model(torch.randn(2, 4)) <= 0).all())
    True
    """

    def __init__(self, model: nn.Module, function: Function):
        self._function = function
        self._handle = model.register_forward_hook(self._apply)

    def remove(self) -> None:
        self._handle.remove()

    def _apply(self, module: nn.Module, args: Any, output: Any) -> Any:
        return self._function(output) if isinstance(output, Tensor) else output


class ScalesOutput(nn.Module):
    """y * std + mean with stored numbers: outputs in the targets' own units from a network that computes about one.

    >>> ScalesOutput(300.0, 80.0)(torch.tensor([-1.0, 0.0, 1.0]))
    tensor([220., 300., 380.])
    """

    def __init__(self, mean: float, std: float):
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, y: Tensor) -> Tensor:
        return y * self.std + self.mean

    def extra_repr(self) -> str:
        return f"mean={self.mean:.4g}, std={self.std:.4g}"


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


def log_softmax_last_(model: nn.Module, batch: Any) -> RemedyReport:
    """Log-probabilities for a loss that takes them (nll, a divergence): a log-softmax over the classes (axis 1) in the
    place of a last softmax, or behind the model where it ends in plain scores.

    Raises InputError if the batch does not fit, and where the model ends with another function.
    """
    found = graphs.read("log_softmax_last_", model, batch)
    with graphs.undisturbed(model, found):
        graph = graphs.follow(model, found)
    last = _last_function(graph)
    if last is None:
        return _applied(model, "log_softmax", nn.LogSoftmax(dim=1), "log_softmax_last_")
    if last.role != "softmax":
        raise InputError(f"log_softmax_last_: model: it ends with {last.type}, which bounds its scores")
    return _replaced(
        model, batch, "log_softmax_last_", lambda: nn.LogSoftmax(dim=1), lambda t: torch.log_softmax(t, dim=1)
    )


def scale_outputs_(model: nn.Module, mean: float, std: float) -> RemedyReport:
    """Outputs times `std` plus `mean`, behind the model: `ScalesOutput` with the targets' numbers.

    Normalizing the targets does the same to what is learnt, and leaves the loss at about one; this keeps the loss in
    the targets' units, so that plain SGD needs a rate lower by std squared. Raises InputError for a std of zero.

    >>> model = nn.Sequential(nn.Linear(4, 1))
    >>> print(scale_outputs_(model, 300.0, 80.0).changes[0].reason)
    outputs times 80 plus 300: ScalesOutput
    """
    if not (std > 0 and std < float("inf") and abs(mean) < float("inf")):
        raise InputError(f"scale_outputs_(mean={mean!r}, std={std!r}): expected finite numbers, std above 0")
    why = f"outputs times {std:.4g} plus {mean:.4g}: ScalesOutput"
    return _applied(model, "scales_output", ScalesOutput(mean, std), "scale_outputs_", why)


def _applied(model: nn.Module, name: str, function: nn.Module, remedy: str, why: str = "") -> RemedyReport:
    """A function without parameters behind the model: at the end of a Sequential, else by a hook."""
    report = RemedyReport(remedy)
    kind = type(function).__name__
    if type(model) is nn.Sequential and not hasattr(model, name):
        model.add_module(name, function)
        report.changes.append(Change(name, 0.0, 0.0, why or f"{kind} behind the last layer"))
        return report
    AppliesLast(model, function)
    report.changes.append(
        Change("output", 0.0, 0.0, f"AppliesLast: {why or f'{kind} of what the model returns'}")
    )
    report.notes.append("AppliesLast is a hook: it is not saved with the weights")
    return report


def _replaced(
    model: nn.Module, batch: Any, remedy: str, kind: Callable[[], nn.Module], function: Function | None
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
        report.changes.append(Change(last.path, 0.0, 0.0, f"{last.type} replaced by {type(kind()).__name__}"))
        return report
    source = graph.nodes.get(last.sources[0]) if last.sources else None
    if source is None or source.module is None or source.call != 1 or source.role != "linear":
        raise InputError(
            f"{remedy}: model: what goes into its last function ({last.name}) is no module's output"
        )
    ReturnsInput(model, source.module, function)
    reason = f"ReturnsInput: the model returns what {source.path} gives, without {last.type}"
    reason += f", and applies {type(kind()).__name__}" if function is not None else ""
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
