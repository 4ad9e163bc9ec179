"""Training and evaluation mode: development half."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import Net, boxes, clusters, log, scored, seeded, wrong_on
from torch import Tensor, nn


def fitted(
    model, x: Tensor, y: Tensor, steps: int, rate: float, size: int, loss=F.cross_entropy
) -> nn.Module:
    """The model after training in batches of this size, as a user would hand it over: in evaluation mode."""
    optimizer = torch.optim.Adam(model.parameters(), rate)
    g = seeded(7)
    for _ in range(steps):
        part = torch.randperm(len(x), generator=g)[:size]
        optimizer.zero_grad()
        loss(model(x[part]), y[part]).backward()
        optimizer.step()
    return model.eval()


@report(
    "mode", "UG703 UG604", "", area="cnn", action=r"momentum|running|recompute|calibrat|statistics", steps=0,
    source="github.com/Cadene/pretrained-models.pytorch/issues/5",
    cause="BatchNorm's momentum is 0: its running statistics stay at their start, and evaluation uses those",
)  # fmt: skip
def batch_norm_momentum_zero(cured: bool):
    x, _, box = boxes(64)
    y = (box - box.mean(0)) / box.std(0)
    layers = [
        nn.Conv2d(1, 12, 3, 2, 1),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.Conv2d(12, 24, 3, 2, 1),
        nn.BatchNorm2d(24),
    ]
    model = nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(384, 4))
    for norm in (layers[1], layers[4]):
        norm.momentum = 0.1 if cured else 0.0
    with torch.no_grad():
        layers[0].weight.mul_(6)  # trained weights rarely have outputs of unit scale
    loss = scored(lambda out: F.mse_loss(out, y), x)
    return fitted(model, x, y, 80, 3e-3, 32, F.mse_loss), (x, y), {"loss": F.mse_loss}, loss


@report(
    "mode", "UG706", area="recommendation", action=r"dropout|training=", steps=0,
    source="github.com/rixwew/pytorch-fm/issues/21; yangze0930/NTS-Net/issues/14; delip/PyTorchNLPBook/issues/28",
    cause="F.dropout(x, 0.5) without training=self.training drops in evaluation too: every answer is another one",
)  # fmt: skip
def dropout_always_on(cured: bool):
    def run(net: Net, x: Tensor) -> Tensor:
        h = F.relu(net.first(x))
        return net.last(F.dropout(h, 0.6, training=net.training) if cured else F.dropout(h, 0.6))

    x, labels = clusters(256, 12, 8, 0.9, seed=11)
    model = fitted(Net(run, first=nn.Linear(12, 64), last=nn.Linear(64, 8)), x, labels, 250, 3e-3, 128)
    return model, (x, labels), {"loss": F.cross_entropy}, wrong_on(x, labels)


@report(
    "mode", "UG602 UG703", "UG604 UG504 UG501", form="probe", area="saliency",
    action=r"group|layer ?norm|instance|batch",
    source="github.com/xuebinqin/BASNet/issues/42; ly015/intrinsic_flow/issues/1",
    cause="batches of one example: BatchNorm's statistics are that one's, and the running ones fit none",
)  # fmt: skip
def batch_norm_of_one_example(cured: bool):
    def norm(channels: int) -> nn.Module:
        return nn.GroupNorm(4, channels) if cured else nn.BatchNorm2d(channels)

    labels = torch.arange(64) % 4
    colour = torch.randn(4, 3, 1, 1, generator=seeded(6))
    x = colour[labels] + 0.6 * torch.randn(64, 3, 4, 4, generator=seeded(7))
    layers = [nn.Conv2d(3, 16, 2, 2), norm(16), nn.ReLU(), nn.Flatten(), nn.Linear(64, 4)]
    model = nn.Sequential(*layers)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    g = seeded(3)

    def loop(probe, steps: int = 400) -> float:
        for _ in range(steps):
            i = int(torch.randint(0, 64, (1,), generator=g))
            loss = F.cross_entropy(model(x[i : i + 1]), labels[i : i + 1])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
        return wrong_on(x, labels)(model)

    return model, optimizer, loop, (x[:1], labels[:1]), {"loss": F.cross_entropy}
