"""Cases of UG303: a softmax of attention scores that is nearly one-hot at the start."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from function_rows import CE, Arguments, Net, flat_ce, healthy, labels, sequences, sick, text
from torch import Tensor, nn

STEPS, WIDTH = 14, 48


def over_steps(attend: Callable[[Net, Tensor, Tensor, Tensor], Tensor], gain: float = 1.6) -> Arguments:
    """Steps (N, T, F) -> logits (N, 4): queries, keys and values of Xavier's kind."""

    def run(net: Net, x: Tensor) -> Tensor:
        return net.head(attend(net, net.query(x), net.key(x), net.value(x)).mean(1))

    x = sequences(24, STEPS, WIDTH)
    layers = {name: nn.Linear(WIDTH, WIDTH) for name in ("query", "key", "value")}
    for name in ("query", "key"):
        nn.init.xavier_uniform_(layers[name].weight, gain)
    return Net(run, **layers, head=nn.Linear(WIDTH, 4)), (x, labels(x)), {"loss": CE}


def heads(x: Tensor) -> Tensor:
    return x.unflatten(-1, (2, WIDTH // 2)).transpose(1, 2)


def unit(x: Tensor) -> Tensor:
    return F.normalize(x, dim=-1)


@sick("UG303", "scores")
def scores_as_they_are() -> Arguments:
    return over_steps(lambda net, q, k, v: (q @ k.transpose(1, 2)).softmax(2) @ v)


@sick("UG303", "scores")
def scores_divided_after_the_softmax() -> Arguments:
    return over_steps(lambda net, q, k, v: (torch.bmm(q, k.mT).softmax(-1) / WIDTH**0.5) @ v)


@sick("UG303", "scores")
def scores_multiplied_by_the_root() -> Arguments:
    return over_steps(lambda net, q, k, v: (q @ k.transpose(1, 2) * WIDTH**0.5).softmax(2) @ v)


@sick("UG303", "scores")
def scale_of_one_in_torchs_own() -> Arguments:
    return over_steps(lambda net, q, k, v: F.scaled_dot_product_attention(q, k, v, scale=1.0))


@sick("UG303", "scores")
def heads_by_einsum_without_a_scale() -> Arguments:
    def attend(net: Net, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        weights = torch.einsum("bhqd,bhkd->bhqk", heads(q), heads(k)).softmax(-1)
        return torch.einsum("bhqk,bhkd->bhqd", weights, heads(v)).transpose(1, 2).flatten(2)

    return over_steps(attend, 1.8)


@sick("UG303", "scores")
def causal_scores_without_a_scale() -> Arguments:
    def run(net: Net, x: Tensor) -> Tensor:
        h = net.embed(x)
        q, k, v = net.qkv(h).chunk(3, -1)
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        return net.head(h + (q @ k.mT).masked_fill(later, -torch.inf).softmax(-1) @ v)

    x, y = text(16, 30, 200)
    qkv = nn.Linear(64, 192)
    nn.init.orthogonal_(qkv.weight, 2.5)
    return Net(run, embed=nn.Embedding(200, 64), qkv=qkv, head=nn.Linear(64, 200)), (x, y), {"loss": flat_ce}


# ---- healthy -----------------------------------------------------------------------------------------------------


@healthy("UG303", "scores")
def scores_divided_by_the_root() -> Arguments:
    return over_steps(lambda net, q, k, v: (q @ k.transpose(1, 2) / WIDTH**0.5).softmax(2) @ v)


@healthy("UG303", "scores")
def queries_divided_before_the_product() -> Arguments:
    return over_steps(lambda net, q, k, v: ((q * WIDTH**-0.5) @ k.transpose(1, 2)).softmax(2) @ v)


@healthy("UG303", "scores")
def no_scale_and_small_queries() -> Arguments:
    """As T5 has it: the scale is in the initialization."""
    return over_steps(lambda net, q, k, v: (q @ k.transpose(1, 2)).softmax(2) @ v, WIDTH**-0.25)


@healthy("UG303", "scores")
def cosines_with_a_sharp_scale() -> Arguments:
    return over_steps(lambda net, q, k, v: (100 * unit(q) @ unit(k).transpose(1, 2)).softmax(2) @ v)


@healthy("UG303", "scores")
def torchs_own_with_its_scale() -> Arguments:
    return over_steps(lambda net, q, k, v: F.scaled_dot_product_attention(q, k, v))


@healthy("UG303", "scores")
def causal_scores_with_a_scale() -> Arguments:
    """The first row has one key, and is one-hot by right."""

    def attend(net: Net, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        later = torch.ones(STEPS, STEPS, dtype=torch.bool).triu(1)
        scores = (q @ k.mT / math.sqrt(WIDTH)).masked_fill(later, -1e9)
        return scores.softmax(-1) @ v

    return over_steps(attend)
