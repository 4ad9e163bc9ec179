"""Networks written out for the tests of the graph: each shows one way of putting a network together."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def generator() -> nn.Module:
    """DCGAN's, small: transposed convolutions, BatchNorm, ReLU, tanh."""
    return nn.Sequential(
        nn.ConvTranspose2d(8, 16, 4, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True),
        nn.ConvTranspose2d(16, 8, 4, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True),
        nn.ConvTranspose2d(8, 3, 4, 2, 1), nn.Tanh(),
    )  # fmt: skip


def discriminator() -> nn.Module:
    """Spectrally normalized convolutions and leaky ReLUs."""
    norm = nn.utils.parametrizations.spectral_norm
    return nn.Sequential(
        norm(nn.Conv2d(3, 8, 4, 2, 1)), nn.LeakyReLU(0.2, inplace=True), norm(nn.Conv2d(8, 16, 4, 2, 1)),
        nn.LeakyReLU(0.2, inplace=True), nn.Flatten(), norm(nn.Linear(16 * 16, 1)),
    )  # fmt: skip


class UNet(nn.Module):
    """Two levels; what the encoder found is concatenated, or added, to what the decoder makes of it."""

    def __init__(self, adds: bool = False) -> None:
        super().__init__()
        self.adds, wide = adds, 1 if adds else 2
        self.down1, self.down2 = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.bottom = nn.Conv2d(16, 32, 3, padding=1)
        self.up2, self.up1 = nn.ConvTranspose2d(32, 16, 2, 2), nn.ConvTranspose2d(16, 8, 2, 2)
        self.join2, self.join1 = (
            nn.Conv2d(16 * wide, 16, 3, padding=1),
            nn.Conv2d(8 * wide, 8, 3, padding=1),
        )
        self.head = nn.Conv2d(8, 2, 1)

    def _join(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b if self.adds else torch.cat([a, b], 1)

    def forward(self, x: Tensor) -> Tensor:
        first = F.relu(self.down1(x))
        second = F.relu(self.down2(F.max_pool2d(first, 2)))
        bottom = F.relu(self.bottom(F.max_pool2d(second, 2)))
        x = F.relu(self.join2(self._join(self.up2(bottom), second)))
        x = F.relu(self.join1(self._join(self.up1(x), first)))
        return self.head(x)


class Reader(nn.Module):
    """Embedding, LSTM or GRU, the last state, linear."""

    def __init__(self, cell: type[nn.RNNBase] = nn.LSTM) -> None:
        super().__init__()
        self.embed, self.rnn, self.head = (
            nn.Embedding(20, 8),
            cell(8, 16, batch_first=True),
            nn.Linear(16, 4),
        )

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.rnn(self.embed(x))
        return self.head(out[:, -1])


class GraphNet(nn.Module):
    """Message passing without extra packages: h <- relu(h + sum of the neighbours' messages)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(5, 8), nn.Linear(8, 2)
        self.messages = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        h = self.embed(x)  # (N, 8)
        source, target = edges  # (E,)
        for message in self.messages:
            sent = F.relu(message(h[source]))
            h = F.relu(h + torch.zeros_like(h).index_add(0, target, sent))
        return self.head(h.mean(0, keepdim=True))


class Highway(nn.Module):
    """Srivastava et al. 2015: y = t h(x) + (1 - t) x."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(6, 8), nn.Linear(8, 3)
        self.carry = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
        self.plain = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for carry, plain in zip(self.carry, self.plain):
            t = torch.sigmoid(carry(x))
            x = t * F.relu(plain(x)) + (1 - t) * x
        return self.head(x)


class BareMLP(nn.Module):
    """makemore's: everything a bare parameter, BatchNorm written out."""

    def __init__(self) -> None:
        super().__init__()
        self.C = nn.Parameter(torch.randn(27, 4))
        self.W1, self.b1 = nn.Parameter(torch.randn(12, 32) * 0.2), nn.Parameter(torch.zeros(32))
        self.W2, self.b2 = nn.Parameter(torch.randn(32, 27) * 0.1), nn.Parameter(torch.zeros(27))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.C[x].view(len(x), -1) @ self.W1 + self.b1)
        return h @ self.W2 + self.b2


class WaveNet(nn.Module):
    """Gated dilated convolutions, a residual and a skip output for each (van den Oord et al. 2016)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(1, 8, 1)
        self.filters = nn.ModuleList(nn.Conv1d(8, 8, 2, dilation=2**i) for i in range(3))
        self.gates = nn.ModuleList(nn.Conv1d(8, 8, 2, dilation=2**i) for i in range(3))
        self.residual = nn.ModuleList(nn.Conv1d(8, 8, 1) for _ in range(3))
        self.skips = nn.ModuleList(nn.Conv1d(8, 16, 1) for _ in range(3))
        self.head = nn.Conv1d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x, total = self.first(x), None
        for i in range(3):
            padded = F.pad(x, (2**i, 0))
            z = torch.tanh(self.filters[i](padded)) * torch.sigmoid(self.gates[i](padded))
            skip = self.skips[i](z)
            total = skip if total is None else total + skip
            x = x + self.residual[i](z)
        return self.head(F.relu(total))


class Spellings(nn.Module):
    """Six ways of writing a residual sum, with factors on branch and skip."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(6, 8), nn.Linear(8, 3)
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(6))
        self.gain = nn.Parameter(torch.tensor(0.3))
        self.scale = nn.Parameter(torch.full((8,), 0.2))

    def forward(self, x: Tensor) -> Tensor:
        f = [lambda x, layer=layer: torch.tanh(layer(x)) for layer in self.layers]
        x = self.first(x)
        x = torch.add(x, f[0](x), alpha=0.25)
        x = torch.lerp(x, f[1](x), 0.1)
        y = f[2](x)
        y *= self.gain
        y += x
        x = torch.addcmul(y, f[3](y), self.scale)
        x = sum([0.5 * x, f[4](x)])  # type: ignore[assignment]
        x = torch.stack([x, f[5](x)]).sum(0)
        return self.head(x)


class Block(nn.Module):
    """conv-bn-relu-conv-bn, a projection where the shape changes, squeeze-and-excitation if asked for."""

    def __init__(self, before: int, after: int, stride: int = 1, squeeze: bool = False) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after)
        self.conv2, self.bn2 = nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after)
        self.shortcut = nn.Sequential()
        if stride > 1 or before != after:
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
            )
        self.squeeze = nn.Sequential(nn.Conv2d(after, 4, 1), nn.ReLU(), nn.Conv2d(4, after, 1), nn.Sigmoid())
        self.squeezes = squeeze

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.squeezes:
            out = out * self.squeeze(out.mean((2, 3), keepdim=True))
        out += self.shortcut(x)
        return F.relu(out)


class Detector(nn.Module):
    """A list of images in, a list of dictionaries out: two residual stages and a feature pyramid."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.stages = nn.ModuleList([Block(8, 8), Block(8, 16, 2), Block(16, 32, 2)])
        self.lateral = nn.ModuleList(nn.Conv2d(c, 8, 1) for c in (8, 16, 32))
        self.boxes, self.scores = nn.Conv2d(8, 4, 3, padding=1), nn.Conv2d(8, 2, 3, padding=1)

    def forward(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        x = F.relu(self.stem(torch.stack(list(images))))
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        top = self.lateral[2](features[2])
        levels = [top]
        for lateral, feature in zip((self.lateral[1], self.lateral[0]), (features[1], features[0])):
            top = lateral(feature) + F.interpolate(top, scale_factor=2, mode="nearest")
            levels.append(top)
        boxes, scores = self.boxes(levels[-1]), self.scores(levels[-1])
        return [{"boxes": b.flatten(1).t(), "scores": s.flatten(1).t()} for b, s in zip(boxes, scores)]


class GRUCell(nn.Module):
    """A GRU written out over five steps of an embedded text."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.update, self.reset, self.new = (nn.Linear(16, 8) for _ in range(3))
        self.head = nn.Linear(8, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        embedded = self.embed(tokens)  # (B, 5, 8)
        h = torch.zeros(len(tokens), 8)
        for t in range(embedded.shape[1]):
            x = embedded[:, t]
            z = torch.sigmoid(self.update(torch.cat([x, h], 1)))
            r = torch.sigmoid(self.reset(torch.cat([x, h], 1)))
            n = torch.tanh(self.new(torch.cat([x, r * h], 1)))
            h = (1 - z) * n + z * h
        return self.head(h)


class Elman(nn.Module):
    """h <- tanh(W x + U h) over the steps of a sequence; the input's products are made for all steps at once."""

    def __init__(self, at_once: bool) -> None:
        super().__init__()
        self.at_once = at_once
        self.W, self.U, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h, outputs = torch.zeros(len(x), 8), []
        entering = self.W(x) if self.at_once else x
        for t in range(x.shape[1]):
            step = entering[:, t]
            h = torch.tanh((step if self.at_once else self.W(step)) + self.U(h))
            outputs.append(h)
        return self.head(torch.stack(outputs, 1))


class GPT(nn.Module):
    """Karpathy's, with attention written out and tied weights."""

    class Layer(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
            self.drop = nn.Dropout(0.1)

        def attend(self, x: Tensor) -> Tensor:
            B, T, C = x.shape
            q, k, v = (p.view(B, T, 2, C // 2).transpose(1, 2) for p in self.qkv(x).split(C, dim=2))
            scores = (q @ k.transpose(-2, -1)) / math.sqrt(C // 2)
            scores = scores.masked_fill(torch.tril(torch.ones(T, T)) == 0, float("-inf"))
            y = F.softmax(scores, dim=-1) @ v
            return self.out(y.transpose(1, 2).contiguous().view(B, T, C))

        def forward(self, x: Tensor) -> Tensor:
            x = x + self.drop(self.attend(self.ln1(x)))
            return x + self.drop(self.mlp(self.ln2(x)))

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(20, 16), nn.Embedding(8, 16)
        self.layers = nn.ModuleList(self.Layer(16) for _ in range(2))
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 20, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, x: Tensor) -> Tensor:
        h = self.tokens(x) + self.places(torch.arange(x.shape[1]))
        for layer in self.layers:
            h = layer(h)
        return self.head(self.norm(h))


class VQVAE(nn.Module):
    """An autoencoder with a code book, whose gradient goes straight through: x + (q - x).detach()."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 4))
        self.book = nn.Embedding(10, 4)
        self.decoder = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 12))

    def forward(self, x: Tensor) -> Tensor:
        z = self.encoder(x)
        q = self.book(torch.cdist(z, self.book.weight).argmin(1))
        return self.decoder(z + (q - z).detach())


class Latents(nn.Module):
    """Learned latents that read from a sequence, as a Perceiver's or DETR's queries."""

    def __init__(self) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(1, 3, 8))
        self.embed, self.head = nn.Linear(5, 8), nn.Linear(8, 2)
        self.norms = nn.ModuleList(nn.LayerNorm(8) for _ in range(2))
        self.attention = nn.ModuleList(nn.MultiheadAttention(8, 2, batch_first=True) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        memory = self.embed(x)
        z = self.latents.expand(len(x), -1, -1)
        for norm, attention in zip(self.norms, self.attention):
            z = z + attention(norm(z), memory, memory, need_weights=False)[0]
        return self.head(z.mean(1))


class LeafResidual(nn.Linear):
    """A residual sum inside a subclass of Linear."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.5 * super().forward(torch.relu(x))


def resnet(squeeze: bool = False) -> nn.Module:
    blocks = [
        Block(8, 8, squeeze=squeeze),
        Block(8, 16, 2, squeeze=squeeze),
        Block(16, 16, squeeze=squeeze),
    ]
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4)
    )


class EulerSteps(nn.Module):
    """One layer, four steps of an integrator: x + 0.25 f(x)."""

    def __init__(self) -> None:
        super().__init__()
        self.field = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(4):
            x = x + 0.25 * self.field(x)
        return x


class TimedBlock(nn.Module):
    """A block of a diffusion model's U-Net: the time is added between two convolutions."""

    def __init__(self, channels: int, out: int):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(2, channels), nn.Conv2d(channels, out, 3, padding=1)
        self.time = nn.Linear(8, out)
        self.norm2, self.conv2 = nn.GroupNorm(2, out), nn.Conv2d(out, out, 3, padding=1)
        self.skip = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.time(F.silu(time))[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return self.skip(x) + h


class Denoiser(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(1, 8), nn.SiLU(), nn.Linear(8, 8))
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.down1, self.down2 = TimedBlock(4, 4), TimedBlock(4, 8)
        self.up1, self.up2 = TimedBlock(16, 4), TimedBlock(8, 4)
        self.last = nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        time = self.embed(time)
        x = self.first(x)
        one = self.down1(x, time)
        two = self.down2(F.avg_pool2d(one, 2), time)
        x = self.up1(torch.cat([two, two], 1), time)
        x = self.up2(torch.cat([F.interpolate(x, scale_factor=2.0), one], 1), time)
        return self.last(x)
