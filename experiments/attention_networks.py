"""Small transformers for the propagation table: every way that attention is written, and masks, windows, rotations.

Half of them were looked at while the law was written (IN_SIGHT), the others were written beside it and run when it was
done (HELD_OUT). Inputs are images of 64 x 64 pixels, or tokens (TOKENS) of a vocabulary of 1,000.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

VOCABULARY, LENGTH = 1000, 48


def patches(width: int, patch: int = 8) -> nn.Module:
    """(N, 3, H, W) -> (N, T, width)."""
    return nn.Sequential(nn.Conv2d(3, width, patch, patch), nn.Flatten(2), Swap())


class Swap(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


def heads_of(x: Tensor, heads: int) -> Tensor:
    """(N, T, C) -> (N, H, T, C / H)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


class Written(nn.Module):
    """Matrix products and a softmax."""

    def __init__(self, width: int, heads: int = 4, *, causal: bool = False):
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.heads, self.causal = heads, causal

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (heads_of(f(x), self.heads) for f in (self.q, self.k, self.v))
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
        if self.causal:
            mask = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
            scores = scores.masked_fill(mask, float("-inf"))
        x = scores.softmax(-1) @ v
        return self.out(x.transpose(1, 2).flatten(2))


class Fused(nn.Module):
    """scaled_dot_product_attention, with one layer for queries, keys and values."""

    def __init__(self, width: int, heads: int = 4, *, causal: bool = False, scale: float | None = None):
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)
        self.heads, self.causal, self.scale = heads, causal, scale

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (heads_of(part, self.heads) for part in self.qkv(x).chunk(3, -1))
        x = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal, scale=self.scale)
        return self.out(x.transpose(1, 2).flatten(2))


class Torchs(nn.Module):
    """nn.MultiheadAttention."""

    def __init__(self, width: int, heads: int = 4):
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


class Rotary(nn.Module):
    """Rotated queries and keys, keys and values of two heads for four, norms of queries and keys by choice."""

    def __init__(self, width: int, heads: int = 4, *, groups: int = 2, norms: bool = False):
        super().__init__()
        each = width // heads
        self.q, self.out = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.k, self.v = (nn.Linear(width, groups * each, bias=False) for _ in range(2))
        self.heads, self.groups = heads, groups
        self.norms = nn.ModuleList(nn.RMSNorm(each) for _ in range(2)) if norms else None

    def forward(self, x: Tensor) -> Tensor:
        q = heads_of(self.q(x), self.heads)
        k, v = (heads_of(f(x), self.groups) for f in (self.k, self.v))
        if self.norms is not None:
            q, k = self.norms[0](q), self.norms[1](k)
        angle = torch.arange(x.shape[1])[:, None] / 100 ** torch.linspace(0, 1, q.shape[-1] // 2)
        angle = torch.cat([angle, angle], -1)
        q, k = (t * angle.cos() + turned(t) * angle.sin() for t in (q, k))
        k, v = (t.repeat_interleave(self.heads // self.groups, 1) for t in (k, v))
        x = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(x.transpose(1, 2).flatten(2))


def turned(x: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat([-b, a], -1)


class Einsum(nn.Module):
    """Attention in two einsums, scores with a slope over the distance (ALiBi)."""

    def __init__(self, width: int, heads: int = 4):
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (f(x).unflatten(-1, (self.heads, -1)) for f in (self.q, self.k, self.v))
        scores = torch.einsum("nthd,nshd->nhts", q, k) / math.sqrt(q.shape[-1])
        at = torch.arange(x.shape[1])
        slopes = 2.0 ** -torch.arange(1, self.heads + 1)
        scores = scores - slopes[:, None, None] * (at[:, None] - at).abs()
        return self.out(torch.einsum("nhts,nshd->nthd", scores.softmax(-1), v).flatten(2))


class Windows(nn.Module):
    """Attention inside windows of 4 x 4 places with a learned bias for each pair."""

    def __init__(self, width: int, heads: int = 4, window: int = 4):
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.bias = nn.Parameter(0.5 * torch.randn(heads, window**2, window**2))
        self.heads, self.window = heads, window

    def forward(self, x: Tensor) -> Tensor:
        n, t, c = x.shape
        side, w = math.isqrt(t), self.window
        x = x.view(n, side // w, w, side // w, w, c).transpose(2, 3).reshape(-1, w * w, c)
        q, k, v = self.qkv(x).view(-1, w * w, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        scores = q * (c // self.heads) ** -0.5 @ k.transpose(-2, -1) + self.bias
        x = (scores.softmax(-1) @ v).transpose(1, 2).reshape(-1, w * w, c)
        x = self.out(x)
        return x.view(n, side // w, side // w, w, w, c).transpose(2, 3).reshape(n, t, c)


class Linear(nn.Module):
    """Attention without a softmax over pairs: softmaxes of queries and of keys, and keys meet values first."""

    def __init__(self, width: int, heads: int = 4):
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (heads_of(part, self.heads) for part in self.qkv(x).chunk(3, -1))
        context = k.softmax(-2).transpose(-2, -1) @ v
        return self.out((q.softmax(-1) @ context).transpose(1, 2).flatten(2))


class Gated(nn.Module):
    """SwiGLU."""

    def __init__(self, width: int):
        super().__init__()
        self.gate, self.up = (nn.Linear(width, 2 * width, bias=False) for _ in range(2))
        self.down = nn.Linear(2 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


def mlp(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))


class Block(nn.Module):
    def __init__(
        self, width: int, attention: nn.Module, after: nn.Module, norm: type[nn.Module] = nn.LayerNorm,
        *, post: bool = False,
    ):  # fmt: skip
        super().__init__()
        self.norm1, self.norm2 = norm(width), norm(width)
        self.attention, self.mlp, self.post = attention, after, post

    def forward(self, x: Tensor) -> Tensor:
        if self.post:
            x = self.norm1(x + self.attention(x))
            return self.norm2(x + self.mlp(x))
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class OfImages(nn.Module):
    """Patches, a learned position each, blocks, the mean of all tokens."""

    def __init__(self, width: int, blocks: list[nn.Module], patch: int = 8):
        super().__init__()
        self.patches = patches(width, patch)
        self.position = nn.Parameter(0.3 * torch.randn((64 // patch) ** 2, width))
        self.blocks, self.norm, self.head = (
            nn.Sequential(*blocks),
            nn.LayerNorm(width),
            nn.Linear(width, 10),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.patches(x) + self.position)).mean(1))


class OfTokens(nn.Module):
    """Embeddings, blocks, logits for every position."""

    def __init__(self, width: int, blocks: list[nn.Module], *, positions: bool = True):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, width)
        self.position = nn.Embedding(LENGTH, width) if positions else None
        self.blocks, self.norm = nn.Sequential(*blocks), nn.LayerNorm(width)
        self.head = nn.Linear(width, VOCABULARY, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        if self.position is not None:
            x = x + self.position(torch.arange(tokens.shape[1]))
        return self.head(self.norm(self.blocks(x)))


class Crossed(nn.Module):
    """Learned queries that look at patches, twice (a perceiver)."""

    def __init__(self, width: int = 192):
        super().__init__()
        self.patches, self.queries = patches(width), nn.Parameter(torch.randn(16, width))
        self.norm, self.norm_q = nn.LayerNorm(width), nn.LayerNorm(width)
        self.first, self.mlp = nn.MultiheadAttention(width, 4, batch_first=True), mlp(width)
        self.block = Block(width, Fused(width), mlp(width))
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.norm(self.patches(x))
        q = self.queries.expand(x.shape[0], -1, -1)
        q = q + self.first(self.norm_q(q), seen, seen, need_weights=False)[0]
        return self.head(self.block(q + self.mlp(q)).mean(1))


def _blocks(
    count: int, width: int, attention: Callable[[], nn.Module], post: bool = False
) -> list[nn.Module]:
    return [Block(width, attention(), mlp(width), post=post) for _ in range(count)]


IN_SIGHT: dict[str, Callable[[], nn.Module]] = {
    "attention: written out": lambda: OfImages(256, _blocks(3, 256, lambda: Written(256))),
    "attention: fused, causal": lambda: OfTokens(256, _blocks(3, 256, lambda: Fused(256, causal=True))),
    "attention: torch's": lambda: OfImages(256, _blocks(3, 256, lambda: Torchs(256))),
    "attention: rotary, gated": lambda: OfTokens(
        256, [Block(256, Rotary(256), Gated(256), nn.RMSNorm) for _ in range(3)], positions=False
    ),
    "attention: windows": lambda: OfImages(128, _blocks(3, 128, lambda: Windows(128)), patch=4),
}
HELD_OUT: dict[str, Callable[[], nn.Module]] = {
    "attention: written out, causal": lambda: OfTokens(
        192, _blocks(3, 192, lambda: Written(192, 6, causal=True))
    ),
    "attention: sharp scores": lambda: OfTokens(256, _blocks(3, 256, lambda: Fused(256, scale=0.7))),
    "attention: norms of queries and keys": lambda: OfTokens(
        256, [Block(256, Rotary(256, groups=1, norms=True), mlp(256)) for _ in range(3)], positions=False
    ),
    "attention: einsum, slopes": lambda: OfTokens(256, _blocks(3, 256, lambda: Einsum(256))),
    "attention: norms behind the sums": lambda: OfImages(
        256, _blocks(3, 256, lambda: Fused(256, 8), post=True)
    ),
    "attention: without pairs": lambda: OfImages(256, _blocks(3, 256, lambda: Linear(256))),
    "attention: learned queries": Crossed,
    "attention: torch's encoder": lambda: nn.Sequential(
        patches(256),
        nn.TransformerEncoder(
            nn.TransformerEncoderLayer(256, 4, 512, 0.0, batch_first=True, norm_first=True),
            3,
            enable_nested_tensor=False,
        ),
        Swap(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(256, 10),
    ),
}


class Logits(nn.Module):
    """The first output of one of transformers' models, at its own initialization."""

    def __init__(self, name: str, **config: object):
        super().__init__()
        import transformers

        model, kind = (getattr(transformers, name + end) for end in ("Model", "Config"))
        self.model = model(kind(**config))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.model(tokens)[0]


IN_SIGHT["transformers: GPT-2"] = lambda: Logits(
    "GPT2", n_embd=256, n_layer=3, n_head=4, vocab_size=VOCABULARY, n_positions=64
)
_SMALL = {"hidden_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": VOCABULARY}
HELD_OUT["transformers: BERT"] = lambda: Logits(
    "Bert", intermediate_size=512, attn_implementation="eager", **_SMALL
)
HELD_OUT["transformers: Llama"] = lambda: Logits(
    "Llama", intermediate_size=512, num_key_value_heads=2, **_SMALL
)
HELD_OUT["transformers: GPT-NeoX"] = lambda: Logits("GPTNeoX", intermediate_size=512, **_SMALL)


def takes_tokens(model: nn.Module) -> bool:
    return isinstance(model, (OfTokens, Logits))


OF_TOKENS = (
    "attention: fused, causal", "attention: rotary, gated", "attention: written out, causal",
    "attention: sharp scores", "attention: norms of queries and keys", "attention: einsum, slopes",
)  # fmt: skip
