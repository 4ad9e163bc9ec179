"""Optimizers and training loops: fourth collection, half F."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import Net, clusters, descend, glyphs, mlp, scored, seeded
from torch import Tensor, nn


@report(
    "optimizer", "UG701", "UG502 UG503 UG508", form="probe", area="detection", action=r"optimizer",
    source="github.com/bubbliiiing/efficientdet-pytorch/issues/37",
    cause="groups are made of the layers' weights and biases: the weights of the fusion belong to no layer",
)  # fmt: skip
def fusion_weights_in_no_group(cured: bool):
    def run(net: Net, clear: Tensor, dim: Tensor) -> Tensor:
        share = F.relu(net.share)
        share = share / (share.sum() + 1e-4)
        return net.body(share[0] * clear + share[1] * dim)

    clear, labels = glyphs(96, 6, 8, noise=0.2, seed=1)
    later, wanted = glyphs(96, 6, 8, noise=0.2, seed=2)
    g = seeded(3)
    dim, dimmer = (2.5 * torch.randn(96, 1, 8, 8, generator=g) for _ in range(2))
    model = Net(run, body=nn.Sequential(nn.Flatten(), *mlp(64, 32, 6)), share=nn.Parameter(torch.ones(2)))
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    groups = [
        {"params": [m.weight for m in layers], "weight_decay": 1e-4},
        {"params": [m.bias for m in layers]},
    ]
    if cured:
        groups.append({"params": [model.share]})
    optimizer = torch.optim.Adam(groups, 1e-2)

    def loop(probe, steps: int = 150) -> float:
        descend(probe, optimizer, steps, lambda step: F.cross_entropy(model(clear, dim), labels))
        return scored(lambda out: F.cross_entropy(out, wanted), later, dimmer)(model)

    return model, optimizer, loop, (clear, dim, labels), {"loss": F.cross_entropy}


@report(
    "optimizer", "UG507", "UG110 UG114 UG510 UG102 UG301 UG307 UG502", form="probe", area="image classification",
    action=r"decay",
    source="github.com/juntang-zhuang/Adabelief-Optimizer/pull/30",
    cause="the decay for decoupled decay is used where it is added to the gradients: a hundred times too large",
)  # fmt: skip
def decay_a_hundred_times_the_papers(cured: bool):
    x, labels = clusters(256, 16, 8, 1.0, seed=4)
    model = mlp(16, 48, 48, 8)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3, weight_decay=1e-3 if cured else 1e-1)

    def loop(probe, steps: int = 200) -> float:
        return descend(probe, optimizer, steps, lambda step: F.cross_entropy(model(x), labels))

    return model, optimizer, loop, (x, labels), {"loss": F.cross_entropy}
