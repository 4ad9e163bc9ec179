"""Initialization: second collection, half A."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import Net, adam, boxes, scored
from torch import Tensor, nn


@report(
    "init", area="detection", action=r"bias|start|prior|head", steps=15, may="UG114 UG110 UG304",
    no_rule="the biases of two heads are swapped: rare cells start at one half, and sizes at a large negative value",
    says=r"bias|rare|prior|at the start",
    source="github.com/lwpyr/CSP-pedestrian-detection-in-pytorch/issues/4; "
    "zylo117/Yet-Another-EfficientDet-Pytorch/issues/285",
    cause="the bias of -4.6 that makes rare cells unlikely at first is given to the head of sizes instead",
)  # fmt: skip
def heads_with_swapped_bias(cured: bool):
    def run(net: Net, x: Tensor) -> Tensor:
        features = net.body(x)
        return torch.cat([net.cell(features), net.size(features)], 1)

    def loss(out: Tensor, y: Tensor) -> Tensor:
        cells = F.binary_cross_entropy_with_logits(out[:, :1], y[:, :1], reduction="sum") / y[:, :1].sum()
        return cells + ((out[:, 1:] - y[:, 1:]).abs() * y[:, :1]).sum() / y[:, :1].sum()

    x, _, box = boxes(32, seed=1)
    middle = (box[:, :2] + box[:, 2:] / 2).long()
    cell = torch.zeros(32, 1, 16, 16)
    cell[torch.arange(32), 0, middle[:, 1], middle[:, 0]] = 1
    y = torch.cat([cell, box[:, 2:, None, None].log().expand(-1, -1, 16, 16)], 1)
    layers = [nn.Conv2d(1, 12, 5, padding=2), nn.ReLU(), nn.Conv2d(12, 12, 5, padding=2), nn.ReLU()]
    model = Net(run, body=nn.Sequential(*layers), cell=nn.Conv2d(12, 1, 1), size=nn.Conv2d(12, 2, 1))
    nn.init.constant_((model.cell if cured else model.size).bias, -4.6)
    nn.init.constant_((model.size if cured else model.cell).bias, 0)
    kwargs = {"loss": loss, "steps": 10, "optimizer": adam(2e-3)}
    return model, (x, y), kwargs, scored(lambda out: loss(out, y), x)
