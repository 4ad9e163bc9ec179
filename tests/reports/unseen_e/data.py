"""Data: fourth collection, half E."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import boxes, clusters, convnet, glyphs, log, mlp, scored, seeded
from torch import nn


@report(
    "data", "UG201 UG109", "UG502 UG301 UG102 UG307 UG605 UG401", area="stereo", action=r"normali|standard|scale|input",
    steps=40,
    source="github.com/anishmadan23/deep3d-pytorch/issues/1",
    cause="the loader divides pictures by 255 that have been divided before: inputs, targets and the error are minute",
)  # fmt: skip
def pictures_divided_by_255_again(cured: bool):
    left = glyphs(48, 6, 12, seed=1)[0]
    right = left.roll(2, 3)
    if not cured:
        left, right = left / 255, right / 255
    spread = right.var()
    model = nn.Sequential(nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 1, 5, padding=2))
    return (
        model,
        (left, right),
        {"loss": F.mse_loss},
        scored(lambda out: F.mse_loss(out, right) / spread, left),
    )


@report(
    "data", area="segmentation", action=r"augment|flip|mask", form="probe", boundary=True,
    no_rule="pictures are flipped at random, and their masks are not", says=r"augment|flip|mask",
    source="github.com/huggingface/cookbook/issues/248",
    cause="random flips are applied to the pictures alone: half of the masks belong to the unflipped picture",
)  # fmt: skip
def pictures_turned_and_their_masks_not(cured: bool):
    x, mask, _ = boxes(48, seed=2)
    g = seeded(3)
    model = nn.Sequential(nn.Conv2d(1, 12, 5, padding=2), nn.ReLU(), nn.Conv2d(12, 1, 5, padding=2))
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)

    def turned():
        flip = torch.rand(48, generator=g) < 0.5
        pictures, masks = x.clone(), mask.clone()
        pictures[flip] = pictures[flip].flip(3)
        if cured:
            masks[flip] = masks[flip].flip(3)
        return pictures, masks

    def loop(probe, steps: int = 80) -> float:
        for _ in range(steps):
            pictures, masks = turned()
            loss = F.binary_cross_entropy_with_logits(model(pictures), masks)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
        return scored(lambda out: F.binary_cross_entropy_with_logits(out, mask), x)(model)

    return model, optimizer, loop, turned(), {"loss": F.binary_cross_entropy_with_logits}


@report(
    "data", "UG113", "UG504 UG501", form="probe", area="image classification", action=r"shuffl|one class",
    source="github.com/Deci-AI/super-gradients/issues/416; ultralytics/yolov5/issues/5622; "
    "open-mmlab/mmdetection/issues/1649",
    cause="the loader's standard is not to shuffle, and pictures are stored by class: every batch holds one class",
)  # fmt: skip
def loader_that_does_not_shuffle(cured: bool):
    x, labels = glyphs(384, 6, 10, seed=4)
    order = torch.randperm(384, generator=seeded(5)) if cured else labels.argsort()
    x, labels = x[order], labels[order]
    model = convnet(1, 6, 8, norm=False)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)

    def loop(probe, steps: int = 120) -> float:
        for step in range(steps):
            part = slice(32 * (step % 12), 32 * (step % 12) + 32)
            loss = F.cross_entropy(model(x[part]), labels[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
        return scored(lambda out: F.cross_entropy(out, labels), x)(model)

    return model, optimizer, loop, (x[:32], labels[:32]), {"loss": F.cross_entropy}


@report(
    "data", "UG201", "UG501 UG504 UG302 UG304 UG303 UG605 UG402 UG101", form="probe", area="monitoring", few=20,
    action=r"normali|standard|input",
    source="github.com/deeplearning4j/deeplearning4j/issues/3347; GengDavid/pytorch-cpn/pull/9; "
    "pytorch/vision/issues/680",
    cause="the normalizer changes batches in place and is applied in every epoch: they grow from epoch to epoch",
)  # fmt: skip
def normalizer_applied_in_every_epoch(cured: bool):
    x, labels = clusters(256, 12, 6, 0.8, seed=6)
    raw = 3 + 0.2 * x
    mean, deviation = raw.mean(), raw.std()
    model = mlp(12, 48, 6)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)

    def loop(probe, steps: int = 48) -> float:
        batches = list(raw.clone().split(32))
        for step in range(steps):
            batch = batches[step % 8]
            if step < 8 or not cured:
                batch.sub_(mean).div_(deviation)
            loss = F.cross_entropy(model(batch), labels[32 * (step % 8) : 32 * (step % 8) + 32])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
        return scored(lambda out: F.cross_entropy(out, labels), (raw - mean) / deviation)(model)

    return model, optimizer, loop, None, {}
