"""Residual networks: the scale of a branch beside that of its skip connection.

With branches of the same scale as their skip, variance doubles at every block. Four known ways out, all for branches
as they are found in one forward pass (`Graph.branches`):

    zero_residual_ends_       branches start at zero: Goyal et al. 2017 (arXiv 1706.02677, the last norm's gain)
    skip_init_                a learnable factor of 0 at each branch's end: De and Smith 2020 (arXiv 2002.10444)
    scale_residual_branches_  each branch times 1/sqrt(number of branches): all of them add as much as the stem
    fixup_                    for networks without norms: Zhang et al. 2019 (arXiv 1901.09321)

Factors and biases that are added become parameters of the module at the branch's end, applied by forward hooks, so
that no module changes its place or class. To load a state dict with them, apply the remedy to the fresh model first.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from .. import graph as graphs
from .._base import InputError, opens_compiled
from ..graph import Branch, Graph, Node
from .lever import Lever
from .report import Change, RemedyReport

_WEIGHTED = ("linear", "attention")


@opens_compiled
def zero_residual_ends_(model: nn.Module, batch: Any) -> RemedyReport:
    """Sets what each branch ends with to zero: the last norm's gain and bias, or the last weight and bias.

    Every block starts as the identity.

    Raises InputError if the batch does not fit, or if the model has no residual branch.
    """
    return _scale_ends(model, batch, 0.0, "zero_residual_ends_", "the branch starts at zero")


@opens_compiled
def scale_residual_branches_(model: nn.Module, batch: Any, factor: float | None = None) -> RemedyReport:
    """Multiplies what each branch ends with by a factor, 1/sqrt(number of branches) if none is given.

    The factor goes into the last norm's gain and bias or the last weight and bias. Raises InputError as
    zero_residual_ends_ does, and for a factor that is not finite.
    """
    if factor is not None and not math.isfinite(factor):
        raise InputError(f"scale_residual_branches_: factor is {factor}; a finite number is right")
    return _scale_ends(model, batch, factor, "scale_residual_branches_", "scaled by {factor:.3g}")


def _graph(remedy: str, model: nn.Module, batch: Any) -> Graph:
    found = graphs.read(remedy, model, batch)
    with graphs.undisturbed(model, found):
        graph = graphs.follow(model, found)
    if not graph.branches:
        raise InputError(
            f"{remedy}: model: no residual branch was found in its forward pass (a sum of two paths)"
        )
    return graph


def end_of(graph: Graph, branch: Branch) -> Node | None:
    """The last node of a branch whose parameters set its scale: a norm with a gain, or a weight."""
    for node in (graph[name] for name in reversed(branch.nodes)):
        if node.role in _WEIGHTED:
            return node
        if (
            node.role == "norm"
            and node.module is not None
            and node.module._parameters.get("weight") is not None
        ):
            return node
    return None


@torch.no_grad()
def _scale_ends(model: nn.Module, batch: Any, factor: float | None, remedy: str, why: str) -> RemedyReport:
    graph = _graph(remedy, model, batch)
    branches = graph.branches
    factor = len(branches) ** -0.5 if factor is None else factor
    report, done = RemedyReport(f"{remedy}: {len(branches)} branches"), set()
    names = {id(p): n for n, p in model.named_parameters()}
    for branch in branches:
        end = end_of(graph, branch)
        if end is None:
            report.problems.append(f"{branch.sum}: its branch ends with nothing that can be scaled")
            continue
        for tensor in _parameters_of(model, end):
            if id(tensor) in done:
                continue
            done.add(id(tensor))
            name = names[id(tensor)]
            if not tensor.requires_grad:
                report.notes.append(f"{name} is frozen and stays as it is")
                continue
            with report.changing(name, tensor, why.format(factor=factor)):
                tensor.mul_(factor) if factor else tensor.zero_()
    return report


def _parameters_of(model: nn.Module, node: Node) -> list[Tensor]:
    if node.role == "norm":
        assert node.module is not None
        return list(node.module.parameters(recurse=False))
    lever = Lever(model, node)
    return [t for t in (lever.scales, lever.bias) if t is not None]


# ---- factors of their own ----------------------------------------------------------------------------------


def _multiply(module: nn.Module, args: Any, output: Any) -> Any:
    return _on_first(module, output, lambda y: y * module.skip_gain)


def _multiply_and_add(module: nn.Module, args: Any, output: Any) -> Any:
    return _on_first(module, output, lambda y: y * module.fixup_scale + module.fixup_bias_out)


def _add_before(module: nn.Module, args: Any) -> Any:
    return (args[0] + module.fixup_bias_in, *args[1:])


def _on_first(module: nn.Module, output: Any, function: Any) -> Any:
    if isinstance(output, Tensor):
        return function(output)
    first = next(t for _, t in graphs.outputs_of(module, output))
    return tuple(function(item) if item is first else item for item in output)


def skip_init_(model: nn.Module, batch: Any, alpha: float = 0.0) -> RemedyReport:
    """Gives each branch a learnable factor, `skip_gain`, that starts at alpha.

    >>> class Block(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.fc = nn.Linear(8, 8)
    ...     def forward(self, x):
    ...         return x + self.fc(x)
    >>> model, x = nn.Sequential(Block(), Block()), torch.randn(4, 8)
    >>> skip_init_(model, x).ok, torch.equal(model(x), x)
    (True, True)
    >>> [name for name, p in model.named_parameters() if p.dim() == 0]
    ['0.fc.skip_gain', '1.fc.skip_gain']
    """
    if not math.isfinite(alpha):
        raise InputError(f"skip_init_: alpha is {alpha}; a finite number is right, usually 0")
    graph = _graph("skip_init_", model, batch)
    report = RemedyReport(f"skip_init_: {len(graph.branches)} branches")
    for branch in graph.branches:
        end = end_of(graph, branch)
        module = end.module if end is not None else None
        if end is None or module is None:
            report.problems.append(f"{branch.sum}: its branch ends in no module that could carry a factor")
            continue
        if "skip_gain" in module._parameters:
            report.notes.append(f"{end.path} has its factor already")
            continue
        _scalar(module, "skip_gain", alpha, like=next(module.parameters()))
        module.register_forward_hook(_multiply)
        report.changes.append(
            Change(f"{end.path}.skip_gain", 1.0, abs(alpha), "a learnable factor of the branch, new")
        )
    return report


def _scalar(module: nn.Module, name: str, value: float, like: Tensor) -> None:
    module.register_parameter(name, nn.Parameter(torch.tensor(value, dtype=like.dtype, device=like.device)))


@torch.no_grad()
def fixup_(model: nn.Module, batch: Any) -> RemedyReport:
    """Fixup: makes the weights of a residual network without norms fit for large learning rates.

    Of L branches with m weights each: the last weight becomes 0, the others are multiplied by L^(-1/(2m-2)), the
    last layer of the network becomes 0, and a scalar bias before every weight of a branch, a scalar factor and
    a bias after its last are added (0, 1, 0). Call `init_` before: weights are taken as they are.

    Raises InputError if there is no branch, or if a branch has a norm, beside which this scaling means nothing.
    """
    graph = _graph("fixup_", model, batch)
    branches = graph.branches
    normed = [b for b in branches if any(graph[n].role == "norm" for n in b.nodes)]
    if normed:
        raise InputError(
            f"fixup_: model: the branch into {normed[0].sum} has a norm; fixup is for networks without, "
            "zero_residual_ends_ for those with norms"
        )
    report = RemedyReport(f"fixup_: {len(branches)} branches")
    names, done = {id(p): n for n, p in model.named_parameters()}, set()
    for branch in branches:
        nodes = [graph[name] for name in branch.nodes]
        weights = [n for n in nodes if n.role in _WEIGHTED and n.weighted and n.module is not None]
        if not weights:
            report.problems.append(f"{branch.sum}: its branch has no module with a weight")
            continue
        factor = len(branches) ** (-1 / (2 * len(weights) - 2)) if len(weights) > 1 else 1.0
        for node in weights:
            lever, last = Lever(model, node), node is weights[-1]
            weight = lever.scales
            if weight is None or id(weight) in done or not weight.requires_grad:
                continue
            done.add(id(weight))
            with report.changing(
                names[id(weight)], weight, "last of its branch" if last else f"x {factor:.3g}"
            ):
                weight.mul_(0.0 if last else factor)
            if last and lever.can_shift and lever.bias is not None:
                with report.changing(names[id(lever.bias)], lever.bias, "last of its branch"):
                    lever.bias.zero_()
            module = node.module
            assert module is not None
            if "fixup_bias_in" not in module._parameters:
                if node.role == "linear":
                    _scalar(module, "fixup_bias_in", 0.0, like=weight)
                    module.register_forward_pre_hook(_add_before)
                if last:
                    _scalar(module, "fixup_scale", 1.0, like=weight)
                    _scalar(module, "fixup_bias_out", 0.0, like=weight)
                    module.register_forward_hook(_multiply_and_add)
    heads = [w.node for w in graph.weights() if w.node.role == "linear" and w.after.kind == "output"]
    for node in heads:
        for tensor in _parameters_of(model, node):
            if tensor.requires_grad and id(tensor) not in done:
                with report.changing(names[id(tensor)], tensor, "the last layer starts at zero"):
                    tensor.zero_()
    report.notes.append(
        "scalar biases and factors were added to the branches' modules: give the optimizer model.parameters() anew"
    )
    return report
