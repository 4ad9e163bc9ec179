"""Planted defects: residual networks."""

from __future__ import annotations

import torch
from networks import ResNet, Then, group_norm, images, pictures
from row import Case, alike, fill, normal, plus, rated, sick, spoil, statistics, times
from torch import Tensor, nn


def classify(model: nn.Module, n: int = 16, **options) -> Case:
    return Case(model, images(n), **options)


def bare(blocks: int = 8, branch: float = 0.3, **options) -> ResNet:
    """Without normalization; branches of this gain, so that the stream grows gently."""
    model = ResNet(blocks, norm=nn.Identity, zero=False, **options)
    return times(model, "blocks.*.conv2.weight", branch)


class Forgetful(ResNet):
    """The stream goes on as plain numbers after the second block."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i == 1:
                x = x.data
        return self.head(self.pool(self.act(self.norm(x))).flatten(1))


class Unused(ResNet):
    """The last block is skipped by an index that is one too small."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks[:-1](self.stem(x))
        return self.head(self.pool(self.act(self.norm(x))).flatten(1))


class Shuffled(ResNet):
    """Flattens the batch into the channels and back: view where a transpose was meant."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.stem(x))
        b, c, h, w = x.shape
        x = x.view(c, b, h, w).transpose(0, 1)
        return self.head(self.pool(self.act(self.norm(x))).flatten(1))


def reset(model: ResNet) -> ResNet:
    """Statistics of training, of which one layer's were lost on the way (a checkpoint without its buffers)."""
    statistics(model, *(pictures(16) for _ in range(40)))
    norm = model.blocks[2].norm2
    norm.running_mean.fill_(0.0)
    norm.running_var.fill_(30.0)
    return model


ROWS = (
    sick("resnet-head-weights-x30", "UG101", lambda: classify(times(ResNet(norm=group_norm), "head.weight", 30))),
    sick("resnet-softmax", "UG103", lambda: classify(Then(ResNet(), lambda x: x.softmax(1)))),
    sick("resnet-input-std-30", "UG201", lambda: Case(ResNet(), (pictures() * 30, torch.arange(16) % 10))),
    sick("resnet-nan-weight-in-a-branch", "UG306", lambda: classify(spoil(ResNet(), "blocks.2.conv2.weight"))),
    sick("resnet-root-of-the-stream", "UG306", lambda: classify(Then(ResNet(), lambda x: x.log()))),
    sick("resnet-stem-bias-std-20", "UG307", lambda:
        classify(normal(ResNet(norm=group_norm), "stem.bias", 20)), may="UG305"),
    sick("resnet-norm-shift-kills-a-branch", "UG304", lambda: classify(fill(ResNet(6), "blocks.4.norm2.bias", -8))),
    sick("resnet-branches-end-in-bias-std-1", "UG305", lambda:
        classify(normal(bare(), "blocks.*.conv2.bias", 1.0)), may="UG307"),
    sick("resnet-weights-not-centred", "UG305|UG607", lambda:
        classify(plus(bare(), "blocks.*.conv2.weight", 0.0025)), may="UG307"),
    sick("resnet-detached-by-data", "UG403", lambda: Case(Forgetful(), images())),
    sick("resnet-last-block-skipped", "UG403", lambda: Case(Unused(), images())),
    sick("resnet-branch-weights-x0.04", "UG404", lambda: classify(times(ResNet(6), "blocks.3.conv1.weight", 0.04))),
    sick("resnet-branch-weights-x30", "UG404", lambda: classify(times(ResNet(6), "blocks.0.conv1.weight", 30))),
    sick("resnet-sgd-rate-1e-6", "UG502", lambda: classify(
        ResNet(), steps=6, optimizer=lambda p: torch.optim.SGD(p, 1e-6, momentum=0.9)
    )),
    sick("resnet-one-branch-rate-x1000", "UG503", lambda: rated(
        classify(ResNet()), "blocks.1.conv2.weight", 50.0, 0.05
    )),
    sick("resnet-batch-of-3-batchnorm", "UG602", lambda: Case(ResNet(width=8), images(3, size=2))),
    sick("resnet-view-for-transpose", "UG603", lambda: Case(Shuffled(norm=group_norm), images())),
    sick("resnet-statistics-of-another-run", "UG604", lambda: classify(reset(ResNet()))),
    sick("resnet-identical-filters", "UG606", lambda:
        classify(alike(ResNet(norm=group_norm), "blocks.1.conv1.weight"))),
    sick("resnet-full-branches-12-blocks", "UG607", lambda: classify(bare(12, 1.0)), may="UG305"),
    sick("resnet-branches-x2.5-8-blocks", "UG607", lambda: classify(bare(8, 2.5)), may="UG305"),
    sick("resnet-full-silu-branches-16-blocks", "UG607", lambda: classify(bare(16, 1.0, act=nn.SiLU)), may="UG305"),
)  # fmt: skip
