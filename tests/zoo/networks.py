"""The zoo's healthy networks, small, of every family, and batches for them. Defects are planted in these.

Shapes: B batch, C channels, H and W height and width, T length of a sequence, D features, K classes.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Make = Callable[[], nn.Module]
RELU = math.sqrt(2)
TANH = 5 / 3
CLASSES = 10
VOCABULARY = 50


def scaled_(model: nn.Module, gain: float = RELU) -> nn.Module:
    """Weights of linear and convolution layers: normal with std gain/sqrt(fan_in); biases zero."""
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            nn.init.normal_(module.weight, 0, gain / math.sqrt(module.weight[0].numel()))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model


def small_(head: nn.Module, gain: float = 0.3) -> None:
    """A head whose logits begin small."""
    scaled_(head, gain)


# ---- batches -----------------------------------------------------------------------------------------------


def vectors(n: int = 64, features: int = 20, classes: int = CLASSES) -> tuple[Tensor, Tensor]:
    return torch.randn(n, features), torch.arange(n) % classes


def numbers(n: int = 64, features: int = 20, out: int = 1) -> tuple[Tensor, Tensor]:
    """Regression: targets that depend on the inputs, of unit variance."""
    x = torch.randn(n, features)
    return x, x @ torch.randn(features, out) / math.sqrt(features)


def pictures(n: int = 16, channels: int = 3, size: int = 32) -> Tensor:
    """(B, C, H, W) of mean 0 and std 1: smooth shapes with some pixel noise, as photographs have."""
    coarse = F.interpolate(torch.randn(n, channels, 5, 5), size=(size, size), mode="bicubic")
    x = coarse + 0.3 * torch.randn(n, channels, size, size)
    return (x - x.mean()) / x.std()


def images(n: int = 16, channels: int = 3, size: int = 32, classes: int = CLASSES) -> tuple[Tensor, Tensor]:
    return pictures(n, channels, size), torch.arange(n) % classes


def masks(n: int = 4, size: int = 32, classes: int = 4) -> tuple[Tensor, Tensor]:
    """Segmentation: pictures and a class for each pixel (B, H, W)."""
    x = pictures(n, 3, size)
    return x, (x.mean(1) * 1.5 + classes / 2).long().clamp(0, classes - 1)


def tokens(n: int = 16, length: int = 12) -> tuple[Tensor, Tensor]:
    """A language model's batch: (B, T) and the next tokens."""
    text = torch.randint(0, VOCABULARY, (n, length + 1))
    return text[:, :-1], text[:, 1:]


def texts(n: int = 32, length: int = 12, first: int | None = None) -> tuple[Tensor, Tensor]:
    """Token sequences with one class each; `first` is a token that all of them begin with."""
    text = torch.randint(1, VOCABULARY, (n, length))
    if first is not None:
        text[:, 0] = first
    return text, torch.arange(n) % CLASSES


def series(n: int = 32, length: int = 12, features: int = 8) -> tuple[Tensor, Tensor]:
    """(B, T, D) with one class each."""
    return torch.randn(n, length, features), torch.arange(n) % CLASSES


def same(x: Tensor) -> tuple[Tensor, Tensor]:
    """An autoencoder's batch."""
    return x, x.clone()


# ---- networks ----------------------------------------------------------------------------------------------


def mlp(
    depth: int = 5,
    width: int = 64,
    *,
    inputs: int = 20,
    out: int = CLASSES,
    act: Make = nn.ReLU,
    gain: float = RELU,
    norm: Callable[[int], nn.Module] | None = None,
    bias: bool = True,
) -> nn.Sequential:
    """fc1, (norm1,) act1, ..., head."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i in range(1, depth + 1):
        layers[f"fc{i}"] = nn.Linear(inputs if i == 1 else width, width, bias=bias)
        if norm is not None:
            layers[f"norm{i}"] = norm(width)
        layers[f"act{i}"] = act()
    layers["head"] = nn.Linear(width, out)
    model = nn.Sequential(layers)
    scaled_(model, gain)
    small_(model.head)
    return model


def cnn(
    widths: tuple[int, ...] = (16, 16, 32, 32),
    *,
    norm: Callable[[int], nn.Module] | None = nn.BatchNorm2d,
    act: Make = nn.ReLU,
    gain: float = RELU,
    bias: bool = False,
    strides: tuple[int, ...] = (2, 1, 2, 1),
    channels: int = 3,
    head: bool = True,
) -> nn.Sequential:
    """conv1, (norm1,) act1, ..., pool, flatten, head."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, (width, stride) in enumerate(zip(widths, strides), start=1):
        layers[f"conv{i}"] = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=bias)
        if norm is not None:
            layers[f"norm{i}"] = norm(width)
        layers[f"act{i}"] = act()
        channels = width
    if head:
        layers["pool"], layers["flatten"] = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        layers["head"] = nn.Linear(channels, CLASSES)
    model = nn.Sequential(layers)
    scaled_(model, gain)
    if head:
        small_(model.head)
    return model


def group_norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(4, width)


class Block(nn.Module):
    """x + branch(x), pre-activation: norm, act, conv, norm, act, conv."""

    def __init__(self, width: int, norm: Callable[[int], nn.Module], act: Make, zero: bool):
        super().__init__()
        self.norm1, self.act1 = norm(width), act()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2, self.act2 = norm(width), act()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        scaled_(self)
        if zero:
            nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(self.act1(self.norm1(x)))
        return x + self.conv2(self.act2(self.norm2(y)))


class ResNet(nn.Module):
    """stem, blocks, (norm,) act, pool, head. norm=nn.Identity gives a network without normalization, which then
    begins every branch at zero, as Fixup and SkipInit do."""

    def __init__(
        self,
        blocks: int = 4,
        width: int = 16,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
        act: Make = nn.ReLU,
        zero: bool | None = None,
    ):
        super().__init__()
        zero = norm is nn.Identity if zero is None else zero
        self.stem = scaled_(nn.Conv2d(3, width, 3, stride=2, padding=1, bias=norm is not nn.BatchNorm2d), 1.0)
        self.blocks = nn.Sequential(*(Block(width, norm, act, zero) for _ in range(blocks)))
        self.norm, self.act = norm(width), act()
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(width, CLASSES)
        small_(self.head)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.stem(x))
        return self.head(self.pool(self.act(self.norm(x))).flatten(1))


class Attention(nn.Module):
    def __init__(self, dim: int, heads: int, causal: bool):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.proj(y.transpose(1, 2).reshape(b, t, d))


class TransformerBlock(nn.Module):
    """Pre-norm; norm=nn.Identity takes the normalization away, residual=False the shortcuts too."""

    def __init__(
        self, dim: int, heads: int, causal: bool, norm: Callable[[int], nn.Module], act: Make, residual: bool
    ):
        super().__init__()
        self.residual = residual
        self.norm1, self.attention = norm(dim), Attention(dim, heads, causal)
        self.norm2, self.fc1, self.act, self.fc2 = (
            norm(dim),
            nn.Linear(dim, 4 * dim),
            act(),
            nn.Linear(4 * dim, dim),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.attention(self.norm1(x))
        x = x + y if self.residual else y
        y = self.fc2(self.act(self.fc1(self.norm2(x))))
        return x + y if self.residual else y


class Transformer(nn.Module):
    """Tokens (B, T) -> logits (B, T, vocabulary); with pooled=True (B, K) from the mean over T."""

    def __init__(
        self,
        blocks: int = 3,
        dim: int = 32,
        heads: int = 4,
        *,
        causal: bool = True,
        pooled: bool = False,
        norm: Callable[[int], nn.Module] = nn.LayerNorm,
        act: Make = nn.GELU,
        residual: bool = True,
        length: int = 12,
    ):
        super().__init__()
        self.pooled = pooled
        self.embed, self.position = (
            nn.Embedding(VOCABULARY, dim),
            nn.Parameter(torch.randn(length, dim) * 0.3),
        )
        self.blocks = nn.Sequential(
            *(TransformerBlock(dim, heads, causal, norm, act, residual) for _ in range(blocks))
        )
        self.norm, self.head = norm(dim), nn.Linear(dim, CLASSES if pooled else VOCABULARY)
        scaled_(self, 1.0)
        small_(self.head)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids) + self.position[: ids.shape[1]]
        x = self.norm(self.blocks(x))
        return self.head(x.mean(1) if self.pooled else x)


class Cell(nn.Module):
    """An Elman network, unrolled by hand: h = tanh(W x + U h), the last h goes into the head."""

    def __init__(self, features: int = 8, hidden: int = 48, act: Make = nn.Tanh):
        super().__init__()
        self.inward, self.hidden = nn.Linear(features, hidden), nn.Linear(hidden, hidden, bias=False)
        self.act, self.head = act(), nn.Linear(hidden, CLASSES)
        scaled_(self, 1.0)
        nn.init.orthogonal_(self.hidden.weight)
        self.inward.weight.data.mul_(0.5)
        small_(self.head)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), self.hidden.in_features)
        for t in range(x.shape[1]):
            h = self.act(self.inward(x[:, t]) + self.hidden(h))
        return self.head(h)


class Recurrent(nn.Module):
    """torch's LSTM or GRU over embedded tokens or series, the last output into the head."""

    def __init__(
        self, kind: type[nn.RNNBase] = nn.LSTM, features: int = 8, hidden: int = 32, words: bool = False
    ):
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, features) if words else nn.Identity()
        self.rnn, self.head = kind(features, hidden, batch_first=True), nn.Linear(hidden, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(self.embed(x))[0][:, -1])


class Autoencoder(nn.Module):
    """encoder, code, decoder: linear layers 64, 48, 32, `code`, 32, 48, 64 with an activation between."""

    def __init__(self, code: int = 16, act: Make = nn.ReLU, gain: float = RELU, features: int = 64):
        super().__init__()
        self.encoder = mlp_chain((features, 48, 32, code), act, gain)
        self.decoder = mlp_chain((code, 32, 48, features), act, gain)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


def mlp_chain(widths: tuple[int, ...], act: Make, gain: float) -> nn.Sequential:
    """fc1, act1, ..., and a last layer without activation."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    last = len(widths) - 1
    for i in range(1, last + 1):
        layers[f"fc{i}"] = nn.Linear(widths[i - 1], widths[i])
        if i < last:
            layers[f"act{i}"] = act()
    model = nn.Sequential(layers)
    scaled_(model, gain)
    scaled_(model[-1], 1.0)
    return model


def low_rank(n: int = 64, features: int = 64, rank: int = 8) -> Tensor:
    """Vectors of unit variance that can be compressed."""
    x = torch.randn(n, rank) @ torch.randn(rank, features) / math.sqrt(rank)
    return (x - x.mean()) / x.std()


class UNet(nn.Module):
    """Two levels down and up with concatenated skips: down1, down2, middle, up2, up1, head."""

    def __init__(
        self,
        width: int = 8,
        norm: Callable[[int], nn.Module] | None = nn.BatchNorm2d,
        act: Make = nn.ReLU,
        bias: bool = False,
        out: int = 4,
    ):
        super().__init__()
        w = width
        for name, before, after in (
            ("down1", 3, w), ("down2", w, 2 * w), ("middle", 2 * w, 2 * w), ("up2", 4 * w, w), ("up1", 2 * w, w)
        ):  # fmt: skip
            body = cnn(
                (after, after), norm=norm, act=act, bias=bias, strides=(1, 1), channels=before, head=False
            )
            setattr(self, name, body)
        self.pool, self.grow = nn.MaxPool2d(2), nn.Upsample(scale_factor=2)
        self.head = nn.Conv2d(w, out, 1)
        small_(self.head)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down1(x)
        b = self.down2(self.pool(a))
        c = self.middle(self.pool(b))
        b = self.up2(torch.cat([self.grow(c), b], 1))
        return self.head(self.up1(torch.cat([self.grow(b), a], 1)))


class Then(nn.Module):
    """A network and a function of its output."""

    def __init__(self, net: nn.Module, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.net, self.function = net, function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.net(x))


class Call(nn.Module):
    """A function as a module, for defects in the middle of nn.Sequential."""

    def __init__(self, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def insert(model: nn.Sequential, after: str, name: str, module: nn.Module) -> nn.Sequential:
    """The same layers with one more after the named one."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for key, layer in model.named_children():
        layers[key] = layer
        if key == after:
            layers[name] = module
    assert name in layers, f"no layer is called {after}"
    return nn.Sequential(layers)
