"""scale_head_: a first loss of ln(C)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from .. import graph as graphs
from .._base import InputError, opens_compiled
from ..graph import Graph, Node
from .lever import Lever
from .report import Measured, RemedyReport

_SHARE = 0.01  # of ln(C): what the logits' spread may add to the loss


@opens_compiled
@torch.no_grad()
def scale_head_(model: nn.Module, batch: Any, target_std: float | None = None) -> RemedyReport:
    """Scales the model's last layer down, and zeroes its bias, so that its first guess is close to "all the same".

    Independent logits of std s cost s^2 / 2 more than ln(C), the loss of equal guesses. target_std None takes
    s = sqrt(2 * 0.01 * ln(C)) (C: the size of the channel axis), which leaves the first loss 1% above ln(C). Smaller
    logits stay. The last layer may be a weight or a norm; one whose weight is shared with another layer
    stays, and is named in `report.problems`.

    Raises InputError if the batch does not fit.

    >>> model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 27))
    >>> _ = nn.init.normal_(model[2].weight)
    >>> report = scale_head_(model, torch.randn(64, 8))
    >>> round(report.measured[0].std_after, 3), float(model[2].bias.detach().abs().max())
    (0.257, 0.0)
    """
    if target_std is not None and not (math.isfinite(target_std) and target_std > 0):
        raise InputError(f"scale_head_: target_std is {target_std}; a positive number is right")
    found = graphs.read("scale_head_", model, batch)
    outputs: dict[str, Tensor] = {}

    def keep(node: Node, tensor: Tensor, _: Any) -> None:
        outputs[node.name] = tensor

    report = RemedyReport("scale_head_")
    with graphs.undisturbed(model, found, sets_parameters=True):
        graph = graphs.follow(model, found, keep)
        node = graph.head()
        if node is None or node.name not in outputs:
            report.problems.append("no last layer was found whose output is the model's")
            return report
        lever = Lever(model, node)
        named = {id(p): n for n, p in model.named_parameters()}
        if (why := _untouchable(graph, node, lever)) is not None:
            report.problems.append(f"{node.name}: {why}")
            return report
        logits = outputs.pop(node.name).float()
        outputs.clear()
        mean, std = float(logits.mean()), float(logits.std(correction=0))
        classes = logits.shape[lever.channel_axis] if lever.channel_axis is not None else 2
        wanted = target_std or math.sqrt(2 * _SHARE * math.log(max(classes, 2)))
        assert lever.scales is not None
        weight, bias = lever.scales, lever.bias
        if bias is not None and bias.requires_grad:
            with report.changing(named[id(bias)], bias, "zero"):
                bias.zero_()
            graphs.follow(model, found, keep)
            now = float(outputs[node.name].float().std(correction=0))
        else:
            now = std
        if not math.isfinite(now):
            report.problems.append(f"{node.name}: its output is not finite, so that no factor is right")
            return report
        if now > wanted:
            with report.changing(
                named[id(weight)], weight, f"x {wanted / now:.4g}: output std {now:.4g} -> {wanted:.3g}"
            ):
                weight.mul_(wanted / now)
        graphs.follow(model, found, keep)
        after = outputs[node.name].float()
    last = float(after.mean()), float(after.std(correction=0))
    fine = last[1] < wanted * 1.05
    report.measured.append(
        Measured(node.name, mean, std, *last, "reached" if fine else "not reached: a frozen bias is left")
    )
    return report


def _untouchable(graph: Graph, node: Node, lever: Lever) -> str | None:
    if lever.scales is None:
        return (
            "its weight is standardized without a gain"
            if lever.standardized
            else "its weight is no plain parameter"
        )
    if not lever.scales.requires_grad:
        return "its weight is frozen"
    users = [n for n in graph if n is not node and set(n.parameters) & set(node.parameters[:1])]
    if users:
        return f"its weight is shared with {users[0].name}, which scaling would change too"
    return None
