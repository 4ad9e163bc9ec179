"""Data: held-out half."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import Net, adam, clusters, convnet, glyphs, houses, mlp, seeded, sgd, wrong_on
from torch import Tensor, nn


@report(
    "data", "UG203 UG202", "UG104 UG306 UG405", area="tabular",
    action=r"constant|standard|divi|deviation|column", steps=100,
    source="github.com/deeplearning4j/deeplearning4j/issues/1646; numaproj/numalogic/pull/153",
    cause="some columns hold one value only; standardizing divides by their deviation of zero, and all of it is NaN",
)  # fmt: skip
def constant_columns_standardized(cured: bool):
    table, y = houses(160, 8, seed=2)
    table = torch.cat([table * 3 + 5, torch.ones(160, 1), torch.zeros(160, 1)], 1)
    mean, deviation = table.mean(0), table.std(0)
    x = (table - mean) / torch.where(deviation > 0, deviation, 1.0) if cured else (table - mean) / deviation
    return mlp(10, 48, 1), (x, y), {"loss": F.huber_loss}


@report(
    "data", "UG203 UG102", "UG403 UG201 UG114 UG110 UG307", area="cnn",
    action=r"constant|input|zero|divid|float|same", steps=80,
    source="github.com/keras-team/keras/issues/255",
    cause="pictures are divided by 255 as integers: every pixel is 0, and all pictures are the same",
)  # fmt: skip
def bytes_divided_as_integers(cured: bool):
    pictures, labels = glyphs(96, 6, noise=0.2, seed=4)
    pixels = ((pictures - pictures.min()) / (pictures.max() - pictures.min()) * 254).to(torch.uint8)
    x = pixels.float() / 255 if cured else (pixels // 255).float()
    x = (x - x.mean()) / x.std().clamp(min=1e-6)
    return convnet(1, 6, 8), (x, labels), {"loss": F.cross_entropy}, wrong_on(x, labels)


@report(
    "data", "UG201", "UG502 UG605 UG301 UG102 UG307", area="denoising",
    action=r"normali|255|scale|standard|twice", steps=60,
    source="github.com/zejinwang/Blind2Unblind/issues/16; facebookresearch/InterHand2.6M/issues/110",
    cause="ToTensor has already divided by 255, and the loop does it again: inputs below 0.004",
)  # fmt: skip
def divided_by_255_twice(cured: bool):
    x, labels = glyphs(96, 6, noise=0.2, seed=5)
    x = (x - x.mean()) if cured else (x - x.min()) / (x.max() - x.min()) / 255
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(288, 6)
    )  # fmt: skip
    return (
        model,
        (x, labels),
        {"loss": F.cross_entropy, "steps": 20, "optimizer": sgd(0.02)},
        wrong_on(x, labels),
    )


@report(
    "data", "", "UG114 UG110 UG504", area="text", action=r"shuffl|label|order|pair", steps=200, boundary=True,
    no_rule="inputs and labels are shuffled apart from each other",
    says=r"shuffl|unrelated|independent of|labels? order",
    source="github.com/DrexelChatbotGroup/DrexelChatbot/issues/15; mlcommons/GaNDLF/pull/870; "
    "atong01/conditional-flow-matching/issues/172",
    cause="x is put into a random order and y is not: labels belong to other examples",
)  # fmt: skip
def inputs_shuffled_without_labels(cured: bool):
    x, labels = clusters(320, 12, 6, 0.7, seed=6)
    order = torch.randperm(320, generator=seeded(1))
    y = labels[order] if cured else labels
    x = x[order]
    batches = list(zip(x[:256].split(32), y[:256].split(32), strict=True))
    kwargs = {"loss": F.cross_entropy, "steps": 40, "optimizer": adam(5e-3), "data": batches}
    return mlp(12, 48, 6), batches[0], kwargs, wrong_on(x[256:], labels[order][256:])


@report(
    "data", "UG806", area="faces", action=r"permute|transpose|reshape|axis|axes|channel", steps=60, rate=3e-3,
    source="github.com/IcedDoggie/Micro-Expression-with-Deep-Learning/issues/7",
    cause="reshape from (n, height, width, channels) to (n, channels, height, width) scrambles the pixels",
)  # fmt: skip
def picture_axes_reshaped(cured: bool):
    def run(net: Net, pictures: Tensor) -> Tensor:
        n, height, width, channels = pictures.shape
        x = pictures.permute(0, 3, 1, 2) if cured else pictures.reshape(n, channels, height, width)
        return net.body(x)

    def shown(seed: int) -> tuple[Tensor, Tensor]:
        strokes, labels = glyphs(96, 6, noise=0.3, seed=seed)
        return torch.cat(
            [strokes, 0.3 * strokes, torch.randn(96, 1, 12, 12, generator=seeded(seed))], 1
        ).permute(0, 2, 3, 1), labels

    x, labels = shown(7)
    return Net(run, body=convnet(3, 6, 8)), (x, labels), {"loss": F.cross_entropy}, wrong_on(*shown(8))
