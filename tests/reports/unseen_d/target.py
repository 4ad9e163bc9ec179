"""Targets and their shapes: third collection, half D."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import Net, clusters, error_rate, houses, mlp, scored, seeded, wrong_on
from torch import Tensor


@report(
    "target", "UG107", area="tables", action=r"shape|broadcast|squeeze|reshape", steps=150, rate=5e-3,
    source="github.com/OpenTabular/DeepTab/issues/441; OpenTabular/DeepTab/pull/455",
    cause="targets that are a column (N, 1) already get a further axis: (N, 1, 1) against outputs (N, 1)",
)  # fmt: skip
def column_given_a_further_axis(cured: bool):
    x, y = houses(192, 8, seed=32)
    score = scored(lambda out: F.mse_loss(out, y), x)
    return mlp(8, 48, 1), (x, y if cured else y.unsqueeze(1)), {"loss": F.mse_loss}, score


@report(
    "target", area="detection", action=r"label|class|background", steps=150, rate=5e-3, boundary=True,
    no_rule="the first class of objects has the same number as the background", says=r"background",
    source="github.com/lzx1413/PytorchSSD/issues/7; microsoft/computervision-recipes/pull/315",
    cause="class numbers are not moved by one for the background: background and the first class are one label",
)  # fmt: skip
def first_class_is_the_background(cured: bool):
    x, kind = clusters(256, 12, 4, 0.6, seed=33)  # kind 3 is no object
    y = torch.where(kind == 3, 0, kind + 1 if cured else kind)
    score = scored(lambda out: ((out.argmax(1) > 0) != (kind < 3)).float().mean(), x)
    return mlp(12, 32, 4), (x, y), {"loss": F.cross_entropy}, score


@report(
    "target", area="detection", action=r"axis|argmax|class|dim", steps=150, rate=5e-3,
    no_rule="the class is the argmax over the axis of the anchors, not over the classes", says=r"axis|argmax",
    source="github.com/eriklindernoren/PyTorch-YOLOv3/issues/96",
    cause="of one-hot targets (example, anchor, class), argmax(1) is taken: an anchor's number, not a class",
)  # fmt: skip
def class_taken_over_the_anchors(cured: bool):
    def loss(out: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(out.flatten(0, 1), y.argmax(2 if cured else 1).flatten())

    g = seeded(34)
    labels = torch.randint(0, 5, (96, 5), generator=g)
    centres = torch.randn(5, 8, generator=g)
    x = centres[labels] + 0.5 * torch.randn(96, 5, 8, generator=g)
    y = F.one_hot(labels, 5).float()
    return mlp(8, 32, 5), (x, y), {"loss": loss}, wrong_on(x, labels, 2)


@report(
    "target", area="spatial transcriptomics", action=r"temperature|uniform|even|target|soft", steps=120, rate=3e-3,
    may="UG110 UG114 UG502 UG401 UG307",
    no_rule="soft targets are multiplied by the temperature where they were to be divided: they are nearly even",
    says=r"uniform|temperature|nearly even|almost equal",
    source="github.com/bowang-lab/BLEEP/issues/5",
    cause="logits are divided by the temperature and targets multiplied by it: every pair is wanted about equally",
)  # fmt: skip
def targets_softened_by_temperature(cured: bool):
    def run(net: Net, spots: Tensor, pictures: Tensor) -> tuple[Tensor, Tensor]:
        return F.normalize(net.spot(spots), dim=1), F.normalize(net.picture(pictures), dim=1)

    def loss(out: tuple[Tensor, Tensor], y: Tensor) -> Tensor:
        spots, pictures = out
        alike = ((spots @ spots.T + pictures @ pictures.T) / 2).detach()
        wanted = (alike / 0.1 if cured else alike * 0.1).softmax(1)
        return F.cross_entropy(spots @ pictures.T / 0.1, wanted)

    g = seeded(38)
    meaning = torch.randn(64, 6, generator=g)
    spots = meaning @ torch.randn(6, 16, generator=g) / 2.5 + 0.2 * torch.randn(64, 16, generator=g)
    pictures = meaning @ torch.randn(6, 12, generator=g) / 2.5 + 0.2 * torch.randn(64, 12, generator=g)
    which = torch.arange(64)
    model = Net(run, spot=mlp(16, 48, 8), picture=mlp(12, 48, 8))
    score = scored(lambda out: error_rate(out[0] @ out[1].T, which), spots, pictures)
    return model, (spots, pictures, which), {"loss": loss}, score
