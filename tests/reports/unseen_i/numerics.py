"""Numerics: ninth unseen half."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from registry import report
from samples import clusters, log, mlp, scored, seeded, wrong_on
from torch import Tensor, nn


class Siamese(nn.Module):
    def __init__(self, epsilon: float):
        super().__init__()
        self.embed = mlp(10, 48, 8)
        self.epsilon = epsilon

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        difference = self.embed(left) - self.embed(right)
        return (difference.square().sum(1) + self.epsilon).sqrt()


@report(
    "numerics", "UG405", "UG104", area="metric learning", action=r"eps|sqrt|root|square", rate=5e-3,
    source="github.com/adambielski/siamese-triplet/issues/18",
    cause="two examples of a pair are the same: the distance is 0, where the square root has no finite derivative",
)  # fmt: skip
def a_pair_of_the_same_example(cured: bool):
    x, labels = clusters(128, 10, 5, 0.6, seed=1)
    partner = torch.randperm(128, generator=seeded(2))
    partner[7] = 7
    same = (labels == labels[partner]).float()

    def contrastive(distance: Tensor, same: Tensor) -> Tensor:
        return (same * distance.square() + (1 - same) * F.relu(1 - distance).square()).mean()

    score = scored(lambda d: float(((d < 0.5).float() != same).float().mean()), x, x[partner])
    return Siamese(1e-9 if cured else 0.0), (x, x[partner], same), {"loss": contrastive}, score


@report(
    "numerics", "UG104 UG405", "UG306 UG504 UG501", form="probe", area="classification",
    action=r"log.?softmax|log_soft",
    source="github.com/skorch-dev/skorch/issues/481",
    cause="the logarithm of a softmax: a probability that rounds to 0 becomes minus infinity, and the loss NaN",
)  # fmt: skip
def logarithm_of_the_probabilities(cured: bool):
    x, labels = clusters(256, 12, 4, 0.25, seed=3)
    x = 6 * x
    labels = labels.clone()
    labels[:4] = (labels[:4] + 1) % 4  # a few examples are labelled wrongly
    body = mlp(12, 64, 64, 4)
    model = nn.Sequential(body, nn.Softmax(dim=-1))
    optimizer = torch.optim.RMSprop(model.parameters(), lr=0.01)

    def get_loss(x: Tensor, y: Tensor) -> Tensor:
        if cured:
            return F.nll_loss(F.log_softmax(body(x), -1), y)
        return F.nll_loss(torch.log(model(x)), y)

    def loop(probe, steps: int = 120) -> float:
        loss = torch.zeros(())
        for _ in range(steps):
            optimizer.zero_grad()
            loss = get_loss(x, labels)
            loss.backward()
            optimizer.step()
            log(probe, loss)
        return float(loss)

    return model, optimizer, loop, None, {}


class DynamicConv(nn.Module):
    """K kernels and biases, mixed by an attention over the pooled input."""

    def __init__(self, channels: int, out: int, zeros: bool, kernels: int = 4):
        super().__init__()
        self.attention = nn.Sequential(nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(channels, kernels))
        self.weight = nn.Parameter(torch.randn(kernels, out, channels) / math.sqrt(channels))
        bias = torch.zeros(kernels, out)
        if not zeros:  # what torch.Tensor(kernels, out) may find in memory
            bias[1, 3], bias[2, 0] = 2.7e19, -3.1e-38
        self.bias = nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, T)
        mix = self.attention(x).softmax(-1)
        weight = torch.einsum("bk,koc->boc", mix, self.weight)
        return torch.einsum("boc,bct->bot", weight, x) + (mix @ self.bias)[:, :, None]


@report(
    "numerics", "", "UG104 UG306 UG302 UG101 UG305 UG405 UG504 UG404 UG503 UG402 UG605", area="dynamic convolution",
    action=r"bias|uninitiali[sz]ed|empty|torch\.Tensor|zeros", rate=5e-3,
    no_rule="a parameter begins as uninitialized memory",
    says=r"uninitiali[sz]ed|torch\.empty|bias.*(1e|e\+)",
    source="github.com/kaijieshi7/Dynamic-convolution-Pytorch/pull/17",
    cause="the biases are made by torch.Tensor(K, out), which is memory as it was found: some values are 1e19 and more",
)  # fmt: skip
def biases_from_memory(cured: bool):
    x, labels = clusters(128, 32, 4, 1.0, seed=4)
    layers = [DynamicConv(4, 16, cured), nn.ReLU(), nn.Flatten(), nn.Linear(128, 4)]
    return nn.Sequential(*layers), (x.view(128, 4, 8), labels), {"loss": F.cross_entropy}


class CausalReader(nn.Module):
    """One attention layer whose mask says what is padding and what lies ahead; padding stands on the left."""

    def __init__(self, finite: bool, words: int = 20, width: int = 32):
        super().__init__()
        self.finite = finite
        self.embed = nn.Embedding(words, width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, 4)

    def forward(self, input_ids: Tensor) -> Tensor:
        length = input_ids.size(1)
        q, k, v = self.qkv(self.embed(input_ids)).chunk(3, -1)
        ahead = torch.ones(length, length, dtype=torch.bool).triu(1)
        closed = ahead | (input_ids == 0)[:, None, :]
        if self.finite:
            closed = closed & ~torch.eye(length, dtype=torch.bool)
        scores = (q @ k.transpose(1, 2) / math.sqrt(q.size(-1))).masked_fill(closed, float("-inf"))
        return self.out((scores.softmax(-1) @ v).sum(1) / length)


@report(
    "numerics", "UG306 UG104", "UG405 UG202", area="language", action=r"mask|-inf|row|finfo", rate=1e-2,
    source="github.com/huggingface/transformers/pull/17306",
    cause="causal mask and padding on the left close all of a row: a softmax of nothing but minus infinity is NaN",
)  # fmt: skip
def rows_with_nothing_to_attend_to(cured: bool):
    g = seeded(5)
    tokens = torch.randint(5, 20, (96, 8), generator=g)
    labels = torch.randint(0, 4, (96,), generator=g)
    tokens[torch.arange(96), torch.randint(3, 8, (96,), generator=g)] = labels + 1
    tokens[torch.arange(8) < torch.randint(0, 3, (96, 1), generator=g)] = 0
    return CausalReader(finite=cured), (tokens, labels), {"loss": F.cross_entropy}, wrong_on(tokens, labels)
