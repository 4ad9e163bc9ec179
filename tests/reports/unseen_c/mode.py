"""Training and evaluation mode: third collection, half C."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import Net, scored, seeded
from torch import Tensor, nn


@report(
    "mode", "UG703 UG604", area="tables", steps=20, few=2, rate=1e-3,
    action=r"BatchNorm|norm|running|statistics|share|own",
    source="github.com/dreamquark-ai/tabnet/pull/76",
    cause="one BatchNorm is shared by two steps whose inputs differ: its running statistics fit neither of them",
)  # fmt: skip
def norm_shared_by_two_steps(cured: bool):
    def run(net: Net, x: Tensor) -> Tensor:
        first = net.norm(net.one(x))
        second = (net.other if cured else net.norm)(net.two(x.square() * 3))
        return net.head(torch.relu(torch.cat([first, second], 1)))

    g = seeded(91)
    x = torch.randn(256, 8, generator=g)
    labels = (x[:, :4].square().sum(1) > 3.4).long() + 2 * (x[:, 4] > 0).long()
    model = Net(
        run, one=nn.Linear(8, 16), two=nn.Linear(8, 16), norm=nn.BatchNorm1d(16), other=nn.BatchNorm1d(16),
        head=nn.Linear(32, 4),
    )  # fmt: skip
    if not cured:
        del model.other
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(150):  # it comes trained
        optimizer.zero_grad()
        F.cross_entropy(model(x), labels).backward()
        optimizer.step()
    optimizer.zero_grad()
    return model, (x, labels), {"loss": F.cross_entropy}, scored(lambda out: F.cross_entropy(out, labels), x)
