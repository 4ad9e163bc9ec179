"""Axes and the graph: ninth unseen half."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from registry import report
from samples import Net, error_rate, log, mlp, scored, seeded, wrong_on
from torch import Tensor, nn


def cells(n: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures (n, 5, 3, 3) with a kind in each of nine cells, the number of the cell that is asked for, its kind."""
    g = seeded(seed)
    kinds = torch.randint(0, 5, (n, 9), generator=g)
    asked = torch.randint(0, 9, (n,), generator=g)
    pictures = F.one_hot(kinds, 5).transpose(1, 2).reshape(n, 5, 3, 3) * 2.0 - 0.4
    return pictures + 0.2 * torch.randn(n, 5, 3, 3, generator=g), asked, kinds[torch.arange(n), asked]


class AsksAboutRegions(nn.Module):
    """Visual question answering in small: the question's vector attends to the regions of a feature map."""

    def __init__(self, permuted: bool, width: int = 24):
        super().__init__()
        self.permuted = permuted
        self.backbone = nn.Sequential(nn.Conv2d(5, width, 1), nn.ReLU(), nn.Conv2d(width, width, 1))
        self.where = nn.Parameter(0.5 * torch.randn(9, width))
        self.question = nn.Embedding(9, width)
        self.answer = nn.Sequential(nn.Linear(width, 32), nn.ReLU(), nn.Linear(32, 5))

    def forward(self, pictures: Tensor, asked: Tensor) -> Tensor:
        encoded = self.backbone(pictures)  # (B, C, H, W)
        batch, channels = encoded.shape[:2]
        if self.permuted:
            encoded = encoded.permute(0, 2, 3, 1)
        regions = encoded.reshape(batch, 9, channels)
        scores = torch.einsum("brc,bc->br", regions + self.where, self.question(asked))
        weights = torch.softmax(scores / math.sqrt(channels), 1)
        return self.answer((weights[:, :, None] * regions).sum(1))


@report(
    "graph", "UG806 UG204", area="visual questions", action=r"permute|transpose", steps=400, rate=1e-2,
    source="github.com/fawazsammani/knowing-when-to-look-adaptive-attention/issues/6",
    cause="the feature map (B, C, H, W) is viewed as (B, H * W, C) without a permute: features act as pixels",
)  # fmt: skip
def region_features_viewed(cured: bool):
    *inputs, kind = cells(512, 1)
    *fresh, wanted = cells(512, 2)
    model = AsksAboutRegions(permuted=cured)
    return model, (*inputs, kind), {"loss": F.cross_entropy}, wrong_on(tuple(fresh), wanted)


class ReadsRows(nn.Module):
    """An LSTM over the rows of a picture, with labels in, and a dictionary with the loss out."""

    def __init__(self, batch_first: bool):
        super().__init__()
        self.lstm = nn.LSTM(8, 32, num_layers=1, batch_first=batch_first)
        self.classifier = nn.Linear(32, 4)

    def forward(self, pixel_rows: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        read, _ = self.lstm(pixel_rows)
        logits = self.classifier(read[:, -1])
        return (
            {"logits": logits}
            if labels is None
            else {"loss": F.cross_entropy(logits, labels), "logits": logits}
        )


def rows(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Sequences (n, 8, 8) whose label stands in one of their first six rows."""
    g = seeded(seed)
    x = 0.5 * torch.randn(n, 8, 8, generator=g)
    labels, place = torch.randint(0, 4, (n,), generator=g), torch.randint(0, 6, (n,), generator=g)
    x[torch.arange(n), place] += 2 * F.one_hot(labels, 8)
    return x, labels


@report(
    "graph", "UG603 UG807", area="image as a sequence", action=r"batch_first", rate=5e-3,
    source="github.com/pytorch/pytorch/issues/1538",
    cause="nn.LSTM without batch_first takes the first axis, the batch, for time: it reads from example to example",
)  # fmt: skip
def lstm_reads_from_example_to_example(cured: bool):
    x, labels = rows(256, 3)
    fresh, wanted = rows(256, 4)
    score = scored(lambda out: error_rate(out["logits"], wanted), fresh)
    return ReadsRows(batch_first=cured), {"pixel_rows": x, "labels": labels}, {"loss": None}, score


class AttentionPool(nn.Module):
    def __init__(self, features: int, axis: int):
        super().__init__()
        self.score = nn.Sequential(nn.Linear(features, 32), nn.Tanh(), nn.Linear(32, 1))
        self.axis = axis

    def forward(self, history: Tensor) -> Tensor:  # (B, T, F)
        return (history * torch.softmax(self.score(history), dim=self.axis)).sum(1)


class Actor(nn.Module):
    """Looks at the last observations of an agent and names one of five actions."""

    def __init__(self, axis: int):
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(8, 32), nn.ReLU())
        self.pool = AttentionPool(32, axis)
        self.head = nn.Linear(32, 5)

    def forward(self, history: Tensor) -> Tensor:
        return self.head(self.pool(self.embed(history)))


def histories(n: int, seed: int, steps: int = 10) -> tuple[Tensor, Tensor]:
    """(n, steps, 8): five channels of noise, and a flag at the one step whose largest channel is the action."""
    g = seeded(seed)
    x = torch.randn(n, steps, 8, generator=g)
    x[:, :, 5:] = 0
    place = torch.randint(0, steps, (n,), generator=g)
    x[torch.arange(n), place, 5] = 2.0
    return x, x[torch.arange(n), place, :5].argmax(1)


@report(
    "graph", "UG807 UG603", area="imitation", action=r"dim|axis", steps=400, rate=5e-3,
    source="github.com/catalyst-team/catalyst/pull/285",
    cause="the softmax of the attention pooling is taken over the batch, not over the observations that are pooled",
)  # fmt: skip
def pooling_weights_sum_over_the_batch(cured: bool):
    x, action = histories(256, 5)
    fresh, wanted = histories(64, 6)
    return Actor(axis=1 if cured else 0), (x, action), {"loss": F.cross_entropy}, wrong_on(fresh, wanted)


class Experts(nn.Module):
    """A softmax gate over four experts that are kept by name."""

    def __init__(self, registered: bool):
        super().__init__()
        experts = {f"expert_{i}": mlp(6, 32, 16) for i in range(4)}
        self.experts = nn.ModuleDict(experts) if registered else experts
        self.gate = nn.Linear(6, 4)
        self.head = nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.gate(x).softmax(-1)
        mixed = torch.stack([expert(x) for expert in self.experts.values()], -1) @ weights[:, :, None]
        return self.head(mixed.squeeze(-1)).squeeze(-1)


class Trainer:
    """fit() as many people write it."""

    def __init__(self, model: nn.Module, criterion, rate: float):
        self.model, self.criterion = model, criterion
        self.optimizer = torch.optim.Adam(model.parameters(), lr=rate)

    def fit(self, probe, x: Tensor, y: Tensor, steps: int, size: int = 64) -> None:
        g = seeded(8)
        for _ in range(steps):
            chosen = torch.randint(0, len(x), (size,), generator=g)
            self.optimizer.zero_grad()
            loss = self.criterion(self.model(x[chosen]), y[chosen])
            loss.backward()
            self.optimizer.step()
            log(probe, loss)


@report(
    "graph", "UG801", form="probe", area="regression on tables", action=r"Module(Dict|List)|register",
    source="theflyingbirds.in/blog/pytorch-mysteries-lets-understand-nnmodule-nnparameter-modulelist-sequential-and-"
    "the-classic-layers-linear-activations-dropout",
    cause="the layers are kept in a plain Python container: parameters() does not see them and nothing trains them",
)  # fmt: skip
def experts_in_a_plain_dictionary(cured: bool):
    x = torch.randn(512, 6, generator=seeded(7))
    y = torch.where(x[:, 0] > 0, x[:, 1] * x[:, 2], torch.sin(2 * x[:, 3])) + 0.5 * x[:, 4].abs()
    y = (y - y.mean()) / y.std()
    model = Experts(registered=cured)
    trainer = Trainer(model, F.mse_loss, 5e-3)

    def loop(probe, steps: int = 300) -> float:
        trainer.fit(probe, x, y, steps)
        return scored(lambda out: F.mse_loss(out, y), x)(model)

    return model, trainer.optimizer, loop, (x[:64], y[:64]), {"loss": F.mse_loss}


class Anomaly(nn.Module):
    """An autoencoder as a generator, and a discriminator whose features are compared: anomaly detection."""

    def __init__(self):
        super().__init__()
        self.generator = mlp(16, 24, 6, 24, 16, act=nn.Tanh)
        self.features = nn.Sequential(nn.Linear(16, 24), nn.LeakyReLU(0.2), nn.Linear(24, 12))
        self.judge = nn.Sequential(nn.LeakyReLU(0.2), nn.Linear(12, 1))


@report(
    "graph", form="probe", area="anomaly detection", action=r"detach",
    no_rule="one of the generator's losses is computed from a detached fake and gives the generator no gradient",
    says=r"detach|no gradient (comes|reaches|flows)|without (a )?gradient",
    source="github.com/samet-akcay/skip-ganomaly/issues/5",
    cause="the latent loss is added to the generator's, and was computed while x_fake was detached: it trains nothing",
)  # fmt: skip
def latent_loss_of_a_detached_fake(cured: bool):
    g = seeded(9)
    x = torch.tanh(torch.randn(256, 5, generator=g) @ torch.randn(5, 16, generator=g))
    net = Anomaly()
    opt_g = torch.optim.Adam(net.generator.parameters(), 2e-3)
    opt_d = torch.optim.Adam([*net.features.parameters(), *net.judge.parameters()], 5e-4)
    bce = F.binary_cross_entropy_with_logits

    def loop(probe, steps: int = 300) -> float:
        lat = torch.zeros(())
        for _ in range(steps):
            fake = net.generator(x)
            seen, made = net.features(x), net.features(fake.detach())
            real, false = net.judge(seen), net.judge(made)
            err_d = bce(real, torch.ones_like(real)) + bce(false, torch.zeros_like(false))
            opt_d.zero_grad()
            err_d.backward(retain_graph=True)
            if cured:
                made = net.features(fake)
            lat = F.mse_loss(made, seen.detach())
            err_g = bce(net.judge(net.features(fake)), torch.ones(len(x), 1)) + 20 * lat
            opt_g.zero_grad()
            err_g.backward()
            opt_g.step()
            opt_d.step()
            log(probe, err_g)
        return float(F.mse_loss(net.features(net.generator(x)), net.features(x)))

    return net, [opt_g, opt_d], loop, None, {}


class PreActivation(nn.Module):
    """A residual block of 1-d convolutions that begins with its activation."""

    def __init__(self, channels: int, inplace: bool):
        super().__init__()
        self.conv = nn.Sequential(
            nn.ReLU(inplace=inplace),
            nn.Conv1d(channels, 16, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv1d(16, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv(x)
        out += x
        return out


@report(
    "graph", "", area="audio", action=r"in.?place", steps=250, rate=3e-3,
    no_rule="a ReLU in place at the start of a residual branch changes the shortcut's value as well",
    says=r"in.?place", source="github.com/rosinality/vq-vae-2-pytorch/issues/60",
    cause="nn.ReLU(inplace=True) begins the residual branch: what is added afterwards is the rectified input",
)  # fmt: skip
def shortcut_rectified_in_place(cured: bool):
    g = seeded(10)
    t = torch.arange(48) / 6
    rate, phase = 1 + 2 * torch.rand(64, 3, 1, generator=g), 6.28 * torch.rand(64, 3, 1, generator=g)
    clean = torch.sin(rate * t + phase) * 1.4
    noisy = clean + 0.15 * torch.randn(clean.shape, generator=g)
    blocks = [PreActivation(3, inplace=not cured) for _ in range(4)]
    model = nn.Sequential(nn.Conv1d(3, 3, 1, bias=False), *blocks, nn.Conv1d(3, 3, 1))
    return model, (noisy, clean), {"loss": F.mse_loss}


class SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int, transposed_back: bool):
        super().__init__()
        self.heads, self.transposed_back = heads, transposed_back
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        split = self.qkv(x).view(batch, length, self.heads, -1).permute(0, 2, 1, 3)
        q, k, v = split.chunk(3, -1)
        values = F.scaled_dot_product_attention(q, k, v)  # (B, heads, T, head width)
        if self.transposed_back:
            values = values.permute(0, 2, 1, 3)
        return self.out(values.reshape(batch, length, width))


class Tagger(nn.Module):
    def __init__(self, words: int, width: int, length: int, transposed_back: bool):
        super().__init__()
        self.embed, self.place = nn.Embedding(words, width), nn.Embedding(length, width)
        self.attend = SelfAttention(width, 4, transposed_back)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = mlp(width, 2 * width, width, act=nn.GELU)
        self.head = nn.Linear(width, words)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens) + self.place.weight
        x = x + self.attend(self.norm1(x))
        x = x + self.mlp(self.norm2(x))
        return self.head(x).transpose(1, 2)  # classes before positions, as cross entropy has it


@report(
    "graph", "UG806", area="translation", action=r"permute|transpose", steps=400, rate=5e-3,
    source="github.com/ajhalthor/Transformer-Neural-Network/pull/4",
    cause="the heads' values are reshaped to (batch, length, width) without permuting them back: tokens are mixed",
)  # fmt: skip
def heads_merged_without_permuting_back(cured: bool):
    def data(seed: int) -> tuple[Tensor, Tensor]:
        """Each word of a permutation is asked where the next higher word stands."""
        tokens = torch.rand(256, 12, generator=seeded(seed)).argsort(1)
        return tokens, tokens.argsort(1).gather(1, (tokens + 1) % 12)

    tokens, wanted = data(11)
    model = Tagger(12, 32, 12, transposed_back=cured)
    return model, (tokens, wanted), {"loss": F.cross_entropy}, wrong_on(*data(12))


@report(
    "graph", area="graphs", action=r"self.?loop|identity|own features|eye", rate=1e-2,
    no_rule="no node of the graph network sees its own features",
    says=r"self.?loop|own (features|input)|does not depend on its own",
    source="github.com/Emory-Melody/GraphSlim/issues/4",
    cause="the adjacency has no self-loops: a graph convolution averages the neighbours and leaves the node itself out",
)  # fmt: skip
def nodes_do_not_see_themselves(cured: bool):
    def data(seed: int) -> tuple[Tensor, Tensor, Tensor]:
        x = torch.randn(256, 8, 4, generator=seeded(seed))
        chain = torch.eye(8).roll(1, 1).triu() + torch.eye(8).roll(-1, 1).tril()
        if cured:
            chain = chain + torch.eye(8)
        adjacency = (chain / chain.sum(1, keepdim=True)).expand(256, 8, 8)
        return x, adjacency, (x[..., 0] > 0).long()

    def run(net: Net, x: Tensor, adjacency: Tensor) -> Tensor:
        return net.classify(F.relu(adjacency @ net.conv(x))).transpose(1, 2)

    x, adjacency, labels = data(13)
    *fresh, wanted = data(14)
    model = Net(run, conv=nn.Linear(4, 32), classify=mlp(32, 32, 2))
    return model, (x, adjacency, labels), {"loss": F.cross_entropy}, wrong_on(tuple(fresh), wanted)
