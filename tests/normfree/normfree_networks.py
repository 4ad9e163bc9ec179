"""Small networks with BatchNorm, one for each way in which folding could go wrong in silence.

Each is drawn with gains of both signs, biases, and running statistics that differ from channel to channel, so that a
norm that is left out, or folded twice, or folded along another axis is seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unitgain as ug


@torch.no_grad()
def drawn(model: nn.Module) -> nn.Module:
    """Numbers as a trained network could have them."""
    for module in model.modules():
        if isinstance(getattr(module, "running_mean", None), Tensor):
            module.running_mean.normal_(0, 0.5)
            module.running_var.uniform_(0.3, 3.0)
            for name, low, high in (("weight", -1.5, 1.5), ("bias", -0.7, 0.7)):
                if isinstance(getattr(module, name, None), Tensor):
                    getattr(module, name).uniform_(low, high)
    return model


def conv(cin: int, cout: int, kernel: int = 3, **options: object) -> nn.Conv2d:
    return nn.Conv2d(cin, cout, kernel, **{"padding": kernel // 2, "bias": False, **options})


class PreActivation(nn.Module):
    """BatchNorm before ReLU and a zero-padded convolution, on a stream that goes on beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.conv, self.norm2 = (
            conv(3, 6),
            nn.BatchNorm2d(6),
            conv(6, 6),
            nn.BatchNorm2d(6),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return x + self.norm2(self.conv(F.relu(self.norm(x))))


class Dense(nn.Module):
    """Each feature map feeds several norms, through concatenations."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 4)
        self.norms = nn.ModuleList(nn.BatchNorm2d(4 + 3 * i) for i in range(3))
        self.convs = nn.ModuleList(conv(4 + 3 * i, 3) for i in range(3))

    def forward(self, x: Tensor) -> Tensor:
        found = [self.stem(x)]
        for norm, layer in zip(self.norms, self.convs):
            found.append(layer(torch.relu(norm(torch.cat(found, 1)))))
        return torch.cat(found, 1).mean((2, 3))


class SplitKernels(nn.Module):
    """Several convolutions, concatenated, then one BatchNorm: MixNet's."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(2, 2, 3, groups=2), conv(2, 2, 5, groups=2)
        self.stem, self.norm = conv(3, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.stem(x).split(2, 1)
        return self.norm(torch.cat([self.a(first), self.b(second)], 1))


class OtherUse(nn.Module):
    """What goes into the norm is used elsewhere too: folding would change that."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = conv(3, 6), nn.BatchNorm2d(6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.norm(x) + x.sigmoid()


class AlsoReturned(OtherUse):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.conv(x)
        return self.norm(x), x


class Scaled(OtherUse):
    """A number of the code's between layer and norm."""

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(3 * self.conv(x) + 1)


class SharedNorm(nn.Module):
    """One norm for two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.norm = conv(3, 3), conv(3, 3), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.b(torch.relu(self.norm(self.a(x)))))


class SharedLayer(nn.Module):
    """One layer, each time with a norm of its own behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.one, self.two = conv(3, 3), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.conv(torch.relu(self.one(self.conv(x)))))


class TiedWeights(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.norm = conv(3, 3), conv(3, 3), nn.BatchNorm2d(3)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.b(torch.relu(self.a(x))))


class WeightUsedAgain(nn.Module):
    """The weight of the layer goes into a function as well."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = conv(3, 3), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(torch.relu(self.norm(self.conv(x))), self.conv.weight, padding=1)


class Functional(nn.Module):
    """F.batch_norm in the code of a module."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = conv(3, 5), nn.BatchNorm2d(5)
        self.weight = nn.Parameter(torch.rand(5) + 0.5)
        self.register_buffer("mean", torch.randn(5))
        self.register_buffer("var", torch.rand(5) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return F.batch_norm(x, self.mean, self.var, self.weight, None, self.training, 0.1, 1e-3)


class Tokens(nn.Module):
    """LeViT's: Linear on (N, L, C), flattened for the norm, and its own shape asked for again."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(8, 6, bias=False), nn.BatchNorm1d(6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear(x)
        return self.norm(x.flatten(0, 1)).reshape_as(x)


class Transposed(nn.Module):
    """Linear on (N, L, C), transposed for the norm."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(8, 6), nn.BatchNorm1d(6)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.linear(x).transpose(1, 2))


class Shuffled(nn.Module):
    """Channels change places between layer and norm, and their number stays."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = conv(3, 6), nn.BatchNorm2d(6)
        self.shuffle = nn.ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(torch.roll(self.shuffle(self.conv(x)), 1, 1))


class SquareTranspose(nn.Module):
    """Channels and positions change places, and there are as many of both."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(8, 6), nn.BatchNorm1d(6)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.linear(x))  # (N, 6, 6): the norm's channels are the tokens


class Standardized(nn.Conv2d):
    """A layer whose weight is not used as it is."""

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, w / w.std((1, 2, 3), keepdim=True), None, padding=1)


class HalfBatch(nn.BatchNorm2d):
    """A norm with a forward of its own: another function of its numbers."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + x.mean((1, 2, 3), keepdim=True)


class AuxiliaryHead(nn.Module):
    """A part with a norm that runs in training only."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = conv(3, 6), nn.BatchNorm2d(6)
        self.aux, self.aux_norm = conv(6, 2), nn.BatchNorm2d(2)

    def forward(self, x: Tensor) -> object:
        x = self.norm(self.stem(x)).relu()
        return (x.mean((2, 3)), self.aux_norm(self.aux(x))) if self.training else x.mean((2, 3))


class DataDependent(nn.Module):
    """What torch.fx and export cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = conv(3, 6), nn.BatchNorm2d(6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x))
        return y.relu() if float(x.mean()) > -1e9 else y


class GateOnStream(nn.Module):
    """Dropout between layer and norm: nothing in evaluation, but not to be passed in training."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.drop, self.norm = nn.Linear(8, 6), nn.Dropout(0.3), nn.BatchNorm1d(6)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.drop(self.linear(x)))


class NeverRuns(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.spare = conv(3, 4), nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


def dead() -> nn.Module:
    model = drawn(nn.Sequential(conv(3, 4), nn.BatchNorm2d(4), nn.ReLU(), conv(4, 4)))
    with torch.no_grad():
        model[0].weight[1] = 0
        model[1].running_mean[1], model[1].running_var[1] = 0, 0
        model[1].weight[2] = 0
    return model


def batch_statistics() -> nn.Module:
    return nn.Sequential(conv(3, 4), nn.BatchNorm2d(4, track_running_stats=False), nn.ReLU())


def weight_normed() -> nn.Module:
    layer = nn.utils.parametrizations.weight_norm(conv(3, 4))
    return nn.Sequential(layer, nn.BatchNorm2d(4))


def registered_twice() -> nn.Module:
    model = nn.Sequential(conv(3, 4), nn.BatchNorm2d(4))
    model.add_module("again", nn.Identity())
    model[2].alias = model[1]  # type: ignore[assignment]
    return model


IMAGES, ROWS = (4, 3, 7, 7), (4, 8)


@dataclass(frozen=True)
class Row:
    """make: the network. shape: of its input. preserve, fold: what becomes of each norm, in the order of the model."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    preserve: str
    fold: str = ""


A, K, R, F_ = "absorbed", "affine", "refused", "forward"
NETWORKS: dict[str, Row] = {
    "convolutions, each with stride, padding, dilation, groups": Row(
        lambda: nn.Sequential(
            conv(3, 4, stride=2), nn.BatchNorm2d(4), conv(4, 8, dilation=2, groups=2), nn.BatchNorm2d(8), nn.ReLU(),
            conv(8, 8, groups=8, bias=True), nn.BatchNorm2d(8, eps=1e-3), nn.SiLU(),
            conv(8, 4, padding_mode="reflect"), nn.BatchNorm2d(4),
        ), IMAGES, f"{A} {A} {A} {A}"),
    "transposed convolution": Row(
        lambda: nn.Sequential(nn.ConvTranspose2d(3, 6, 4, 2, 1, groups=1), nn.BatchNorm2d(6), nn.ReLU(),
                              nn.ConvTranspose2d(6, 4, 3, 2, groups=2), nn.BatchNorm2d(4)), IMAGES, f"{A} {A}"),
    "sequences and volumes": Row(
        lambda: nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Conv1d(4, 4, 3),
                              nn.SyncBatchNorm(4)),
        (4, 3, 16), f"{A} {A}"),
    "a 3-D convolution": Row(
        lambda: nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), nn.BatchNorm3d(4)), (2, 2, 4, 4, 4), A),
    "an MLP": Row(
        lambda: nn.Sequential(nn.Linear(8, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)), ROWS, A),
    "no gains": Row(lambda: nn.Sequential(conv(3, 4), nn.BatchNorm2d(4, affine=False)), IMAGES, A),
    "our own BatchNorm": Row(lambda: nn.Sequential(conv(3, 4), ug.nn.BatchNorm(4), nn.ReLU()), IMAGES, A),
    "pre-activation": Row(PreActivation, IMAGES, f"{K} {A}"),
    "dense": Row(Dense, IMAGES, f"{K} {K} {K}"),
    "split kernels": Row(SplitKernels, IMAGES, A),
    "norm of the input before a padded convolution": Row(
        lambda: nn.Sequential(nn.BatchNorm2d(3), conv(3, 4)), IMAGES, K),
    "norm of the input before a convolution without padding": Row(
        lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)), IMAGES, K, F_),
    "norm before a grouped convolution without padding": Row(
        lambda: nn.Sequential(nn.BatchNorm2d(6), nn.Conv2d(6, 4, 3, groups=2, bias=False)), (4, 6, 7, 7), K, F_),
    "norm before a linear layer": Row(lambda: nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 4)), ROWS, K, F_),
    "norm of rows with nothing to take it": Row(lambda: nn.Sequential(nn.BatchNorm1d(8), nn.ReLU()), ROWS, K),
    "behind a pool": Row(
        lambda: nn.Sequential(conv(3, 4), nn.MaxPool2d(2), nn.BatchNorm2d(4), nn.ReLU()), IMAGES, K),
    "the layer's output is used elsewhere": Row(OtherUse, IMAGES, K),
    "the layer's output is returned": Row(AlsoReturned, IMAGES, K),
    "a number between": Row(Scaled, IMAGES, K),
    "shared norm": Row(SharedNorm, (4, 3, 7, 7), K),
    "shared layer": Row(SharedLayer, IMAGES, f"{K} {K}"),
    "tied weights": Row(TiedWeights, IMAGES, K),
    "weight used again": Row(WeightUsedAgain, IMAGES, K),
    "functional": Row(Functional, IMAGES, f"{A} {R}"),
    "tokens": Row(Tokens, (4, 5, 8), A),
    "transposed tokens": Row(Transposed, (4, 5, 8), A),
    "shuffled channels": Row(Shuffled, IMAGES, K),
    "tokens as channels": Row(SquareTranspose, (4, 6, 8), K),
    "a standardized weight": Row(lambda: nn.Sequential(Standardized(3, 4, 3), nn.BatchNorm2d(4)), IMAGES, K),
    "a norm of another function": Row(
        lambda: nn.Sequential(conv(3, 4), HalfBatch(4), nn.ReLU(), conv(4, 4), nn.BatchNorm2d(4)), IMAGES, f"{R} {A}"),
    "auxiliary head": Row(AuxiliaryHead, IMAGES, f"{A} {A}"),
    "control flow that depends on data": Row(DataDependent, IMAGES, A),
    "dropout between": Row(GateOnStream, ROWS, K),
    "a norm that never runs": Row(NeverRuns, IMAGES, f"{A} {R}"),
    "zero gains and dead channels": Row(dead, IMAGES, A),
    "batch statistics in evaluation too": Row(batch_statistics, IMAGES, R),
    "weight norm": Row(weight_normed, IMAGES, A),
    "registered twice": Row(registered_twice, IMAGES, A),
}  # fmt: skip
