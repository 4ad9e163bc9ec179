"""Axes, masks and the graph: second collection, half B."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import Net, films, glyphs, rings, scored, seeded, sentences, wrong_on
from torch import Tensor, nn


@report(
    "graph", area="recommendation", action=r"freeze|frozen|requires_grad", steps=200, rate=5e-3,
    no_rule="word vectors are loaded with from_pretrained, which freezes them unless told",
    says=r"frozen|freeze|requires_grad",
    source="github.com/RUCAIBox/RecBole/issues/2046",
    cause="nn.Embedding.from_pretrained has freeze=True: the vectors are never trained, and say little of the labels",
)  # fmt: skip
def pretrained_vectors_stay_frozen(cured: bool):
    text, _, labels = sentences(192, 8, 30, 4, seed=2)
    vectors = torch.randn(30, 4, generator=seeded(3))
    model = Net(
        lambda net, text: net.head(net.rnn(net.embed(text))[0][:, -1]),
        embed=nn.Embedding.from_pretrained(vectors, freeze=not cured), rnn=nn.GRU(4, 8, batch_first=True),
        head=nn.Linear(8, 4),
    )  # fmt: skip
    return model, (text, labels), {"loss": F.cross_entropy}, wrong_on(text, labels)


@report(
    "graph", "UG801", area="text", action=r"ModuleList|regist", steps=250, rate=2e-2,
    source="github.com/asyml/texar-pytorch/issues/72",
    cause="a layer that merges several encoders keeps them in a Python list: none of them is trained",
)  # fmt: skip
def merged_encoders_in_a_list(cured: bool):
    def run(net: Net, x: Tensor) -> Tensor:
        return net.head(torch.cat([torch.tanh(layer(x)) for layer in net.layers], 1))

    x, labels = rings(192, 3)
    layers = [nn.Linear(2, 4) for _ in range(3)]
    model = Net(run, layers=nn.ModuleList(layers) if cured else layers, head=nn.Linear(12, 3))
    return model, (x, labels), {"loss": F.cross_entropy}, wrong_on(x, labels)


class Block(nn.Module):
    """Two convolutions with BatchNorm, and a way around them that may have been written wrongly."""

    def __init__(self, width: int, cured: bool):
        super().__init__()
        layers = [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)]
        more = [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)]
        self.branch, self.cured = nn.Sequential(*layers, nn.ReLU(), *more), cured

    def forward(self, x: Tensor) -> Tensor:
        way = x
        x = self.branch(x)
        return F.relu(x + way) if self.cured else F.relu(x + x)


@report(
    "graph", area="games", action=r"itself|residual|skip|shortcut|add", steps=40, rate=3e-3, few=6,
    may="UG307 UG302 UG607 UG401 UG402 UG404 UG101",
    no_rule="the output of a residual block is added to itself, not to its input", says=r"itself|skip|shortcut",
    source="github.com/werner-duvaud/muzero-general/issues/89; kyegomez/BitNet/issues/32",
    cause="x += x where the input of the block was to be added: the network is deep and has no ways around",
)  # fmt: skip
def residual_adds_itself(cured: bool):
    x, labels = glyphs(64, 6, 8, seed=5)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), *(Block(8, cured) for _ in range(10)),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 6),
    )  # fmt: skip

    def score(model: nn.Module) -> float:
        with torch.no_grad():
            return float(F.cross_entropy(model(x), labels))

    return model, (x, labels), {"loss": F.cross_entropy}, score


@report(
    "graph", "UG603", area="video", action=r"batch_first|transpose|axis", steps=150, rate=5e-3,
    source="github.com/HHTseng/video-classification/issues/42; pytorch/pytorch/issues/1538",
    cause="an LSTM over features (batch, time, width) without batch_first: it runs over the videos",
)  # fmt: skip
def video_steps_taken_for_examples(cured: bool):
    def run(net: Net, video: Tensor) -> Tensor:
        frames = video.transpose(1, 2)  # (batch, time, 1, height, width)
        features = net.cnn(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        return net.head(net.rnn(features)[0][:, -1])

    def shown(seed: int) -> tuple[Tensor, Tensor]:
        video = films(128, 4, 6, seed=seed)
        column = video[:, 0].flatten(2).argmax(2) % 6
        return video, ((column[:, 1] - column[:, 0]) % 6).clamp(
            max=2
        )  # not at all, to the right, to the left

    video, labels = shown(6)
    model = Net(
        run, cnn=nn.Sequential(nn.Flatten(), nn.Linear(36, 24), nn.ReLU()), rnn=nn.LSTM(24, 24, batch_first=cured),
        head=nn.Linear(24, 3),
    )  # fmt: skip
    return model, (video, labels), {"loss": F.cross_entropy}, wrong_on(*shown(7))


class Layer(nn.Module):
    """A layer whose output is used by the residual connection, and lost where there is none."""

    def __init__(self, width: int, cured: bool):
        super().__init__()
        self.layer, self.cured = nn.Sequential(nn.Linear(width, width), nn.GELU()), cured

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        return y if self.cured else x


@report(
    "graph", "UG403", "UG803", area="sequences", action=r"not used|unused|reach|forward|gradient|output", steps=150,
    rate=5e-3,
    source="github.com/state-spaces/s4/pull/30",
    cause="without a residual connection the block returns its input: its layer is computed, not used, and not trained",
)  # fmt: skip
def block_output_dropped(cured: bool):
    x, labels = rings(192, 3, seed=7)
    model = nn.Sequential(nn.Linear(2, 24), nn.GELU(), Layer(24, cured), Layer(24, cured), nn.Linear(24, 3))
    model[0].weight.data.mul_(0.3)
    return model, (x, labels), {"loss": F.cross_entropy}, scored(lambda out: F.cross_entropy(out, labels), x)
