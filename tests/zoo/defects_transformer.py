"""Planted defects: transformers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from networks import VOCABULARY, Attention, Then, Transformer, small_, texts, tokens
from row import Case, fill, normal, plus, rated, sick, times
from torch import Tensor, nn


def language(model: nn.Module, **options) -> Case:
    return Case(model, tokens(), **options)


def bare(blocks: int = 8, **options) -> Transformer:
    return Transformer(blocks, norm=nn.Identity, **options)


def tied() -> Transformer:
    """Embeddings of std 1, as torch draws them, used as the head of features of unit variance."""
    model = Transformer(dim=64)
    model.head.weight = model.embed.weight
    return model


class FirstToken(Transformer):
    """A classifier that reads the first position of a causal network, where it has seen one token only."""

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids) + self.position[: ids.shape[1]]
        return self.head(self.norm(self.blocks(x))[:, 0])


class HandMadeAttention(Attention):
    """softmax as exp over its sum, with queries and keys that are never divided by sqrt(d)."""

    def forward(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        scores = (8 * q @ k.transpose(-1, -2)).exp()
        y = scores / scores.sum(-1, keepdim=True) @ v
        return self.proj(y.transpose(1, 2).reshape(b, t, d))


def hand_made() -> Transformer:
    model = Transformer(causal=False)
    model.blocks[1].attention = HandMadeAttention(32, 2, False)
    return model


class BatchFirstForgotten(nn.Module):
    """nn.MultiheadAttention takes (T, B, D) unless told otherwise: here it attends over the examples."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Embedding(VOCABULARY, 32), nn.LayerNorm(32)
        self.attention, self.head = nn.MultiheadAttention(32, 4), nn.Linear(32, 10)
        small_(self.head)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        y = self.norm(x)
        return self.head((x + self.attention(y, y, y, need_weights=False)[0]).mean(1))


class SpareToken(Transformer):
    """A class token that was made and never put before the others."""

    def __init__(self) -> None:
        super().__init__(pooled=True)
        self.token = nn.Parameter(torch.randn(1, 1, 32) * 0.02)


class LengthOfDifference(Transformer):
    """Adds how far each token is from the first one, by a root whose slope at zero, for that one, is infinite."""

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        far = (x - x[:, :1]).square().sum(-1, keepdim=True).sqrt()
        return self.head(self.norm(self.blocks(x + self.position[: ids.shape[1]] + 0.1 * far)))


def ignored() -> tuple[Tensor, Tensor]:
    """Every target is padding."""
    ids, target = tokens()
    return ids, torch.full_like(target, -100)


class ScaledGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, w: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return w.view_as(w)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return gradient * ctx.factor, None


class Multiplied(nn.Linear):
    """A linear layer whose weight's gradient is multiplied."""

    factor = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, ScaledGradient.apply(self.weight, self.factor), self.bias)


def multiplied(model: Transformer, block: int, factor: float) -> Transformer:
    old = model.blocks[block].fc2
    new = Multiplied(old.in_features, old.out_features)
    new.load_state_dict(old.state_dict())
    new.factor = factor
    model.blocks[block].fc2 = new
    return model


def positions_dominate() -> Transformer:
    """Token embeddings of std 0.02 beside position embeddings of std 1."""
    model = Transformer(causal=False)
    return normal(normal(model, "embed.weight", 0.02), "position", 1.0)


def rate(kind: type[torch.optim.Optimizer], lr: float):
    return lambda parameters: kind(parameters, lr=lr)


ROWS = (
    sick("transformer-tied-embeddings-std-1", "UG101", lambda: language(tied())),
    sick("transformer-head-weights-x15", "UG101", lambda: language(times(Transformer(), "head.weight", 15))),
    sick("transformer-causal-first-token", "UG102", lambda: Case(FirstToken(pooled=True), texts(first=0))),
    sick("transformer-softmax", "UG103", lambda: language(Then(Transformer(), lambda x: x.softmax(-1)))),
    sick("transformer-every-target-ignored", "UG104", lambda: Case(Transformer(), ignored())),
    sick("transformer-plain-small-weights", "UG301", lambda: language(
        normal(bare(residual=False), "blocks.*.weight", 0.05)
    )),
    sick("transformer-plain-standard-normal", "UG302", lambda: language(
        normal(bare(residual=False, causal=False), "blocks.*.weight", 1.0)
    )),
    sick("transformer-tanh-x8", "UG303", lambda: language(times(Transformer(act=nn.Tanh), "blocks.1.fc1.weight", 8))),
    sick("transformer-sigmoid-inside-x40", "UG303", lambda: language(
        times(Transformer(act=nn.Sigmoid), "blocks.*.fc1.weight", 40)
    )),
    sick("transformer-relu-bias-minus-8", "UG304", lambda:
        language(plus(Transformer(act=nn.ReLU), "blocks.0.fc1.bias", -8))),
    sick("transformer-40-percent-of-relus-dead", "UG304", lambda: language(
        plus(Transformer(act=nn.ReLU), "blocks.2.fc1.bias", -20, first=0.4)
    )),
    sick("transformer-branch-ends-in-bias-std-4", "UG305", lambda: language(
        normal(Transformer(6), "blocks.*.fc2.bias", 4)
    ), may="UG307"),
    sick("transformer-exp-overflows", "UG306", lambda:
        language(times(hand_made(), "blocks.1.attention.qkv.weight", 3))),
    sick("transformer-positions-dominate", "UG307 UG802", lambda: language(positions_dominate()), may="UG305"),
    sick("transformer-plain-ordered", "UG307 UG802", lambda: language(
        normal(bare(16, residual=False, causal=False), "blocks.*.bias", 1.0)
    ), may="UG305"),
    sick("transformer-spare-token", "UG403", lambda: Case(SpareToken(), texts())),
    sick("transformer-gradient-multiplied-by-300", "UG404", lambda: language(multiplied(Transformer(4), 2, 300.0))),
    sick("transformer-gradient-multiplied-by-0.001", "UG404", lambda: language(multiplied(Transformer(4), 1, 0.001))),
    sick("transformer-root-of-zero", "UG405", lambda: language(LengthOfDifference())),
    sick("transformer-float16-without-loss-scaling", "UG406", lambda: Case(
        Transformer().half(), tokens(64)
    )),
    sick("transformer-adam-rate-0.3", "UG501", lambda: language(
        Transformer(), steps=12, optimizer=rate(torch.optim.AdamW, 0.3)
    )),
    sick("transformer-adam-rate-1e-8", "UG502", lambda: language(
        Transformer(), steps=12, optimizer=rate(torch.optim.AdamW, 1e-8)
    )),
    sick("transformer-adam-rate-2-in-5-steps", "UG504", lambda: language(
        Transformer(), steps=5, optimizer=rate(torch.optim.AdamW, 2.0)
    )),
    sick("transformer-one-matrix-rate-x1000", "UG503", lambda:
        rated(language(Transformer()), "blocks.1.fc1.weight", 20.0, 0.02)),
    sick("transformer-batch-first-forgotten", "UG603", lambda: Case(BatchFirstForgotten(), texts())),
    sick("transformer-constant-inner-weights", "UG606", lambda: language(
        fill(Transformer(), "blocks.1.fc1.weight", 0.05)
    )),
    sick("transformer-all-tokens-embedded-alike", "UG606|UG102|UG307", lambda: Case(
        fill(Transformer(pooled=True), "embed.weight", 0.02), texts()
    )),
    sick("transformer-full-branches-without-norm", "UG607", lambda: language(
        times(bare(10), "blocks.*.weight", 1.3)
    ), may="UG305"),
    sick("transformer-branches-x4-without-norm", "UG607", lambda: language(
        times(bare(8, act=nn.ReLU), "blocks.*.fc2.weight", 4)
    ), may="UG305"),
)  # fmt: skip
