"""Attention, and what is made of rearranged channels: predicted by values that stand in for a pass's tensors."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unitgain.graph import BackwardPropagation, Propagation, Tracer, departures, run
from unitgain.graph.trace import read

WIDTH, HEADS, TOKENS = 64, 2, 12


class Written(nn.Module):
    def __init__(self, *, scale: float = (WIDTH / HEADS) ** -0.5) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (f(x).view(*x.shape[:2], HEADS, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
        x = (q @ k.transpose(-2, -1) * self.scale).softmax(-1) @ v
        return self.out(x.transpose(1, 2).flatten(2))


class Causal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).view(*x.shape[:2], 3, HEADS, -1).permute(2, 0, 3, 1, 4).unbind(0)
        x = F.scaled_dot_product_attention(turned(q), turned(k), v, is_causal=True)
        return self.out(x.transpose(1, 2).flatten(2))


class Torchs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x, x, x, need_weights=False)[0]


def turned(x: Tensor) -> Tensor:
    angle = torch.arange(x.shape[2])[:, None] / 10 ** torch.linspace(0, 1, x.shape[-1])
    a, b = x.chunk(2, -1)
    return x * angle.cos() + torch.cat([-b, a], -1) * angle.sin()


class Block(nn.Module):
    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(WIDTH), attention

    def forward(self, x: Tensor) -> Tensor:
        return x + self.attention(self.norm(x))


FORMS = {"written": Written, "sharp": lambda: Written(scale=1.0), "causal, rotary": Causal, "torch's": Torchs}


def two_blocks(make) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), Block(make()), Block(make()), nn.Linear(WIDTH, WIDTH))


def propagated(model: nn.Module, x: Tensor, theory: Propagation) -> Tracer:
    tracer = Tracer(model.eval(), theory, theory=True)
    run(tracer, read("test", model, x))
    return tracer


@pytest.mark.parametrize("form", FORMS)
def test_attention_is_predicted_however_it_is_written(form: str) -> None:
    """It was "not predicted: attention weighs positions by what they hold", and began anew behind each block."""
    theory = Propagation()
    with torch.no_grad():
        propagated(two_blocks(FORMS[form]), torch.randn(96, TOKENS, WIDTH), theory)
    claims = [c for c in theory.by_node.values() if "attention" in c.node]
    assert len(claims) >= 2
    assert all(c.predicted is not None and c.off < 0.1 for c in claims), claims


def test_attention_that_weighs_all_tokens_alike_leaves_their_mean() -> None:
    """v (r + (1 - r) / T), r the correlation of two tokens."""
    model = Torchs()
    with torch.no_grad():
        model.inner.in_proj_weight[: 2 * WIDTH] *= 1e-3  # queries and keys
    alike = 0.5
    x = alike**0.5 * torch.randn(512, 1, WIDTH) + (1 - alike) ** 0.5 * torch.randn(512, TOKENS, WIDTH)
    theory = Propagation()
    with torch.no_grad():
        values = x @ model.inner.in_proj_weight[2 * WIDTH :].T
        out = values @ model.inner.out_proj.weight.T
        propagated(nn.Sequential(model), x, theory)
    claim = theory.by_node["0.inner"]
    assert claim.predicted is not None, claim.reason
    expected = float(out.var()) * (alike + (1 - alike) / TOKENS)
    assert claim.predicted[0] == pytest.approx(expected, rel=0.08)


def test_gradients_are_predicted_through_attention() -> None:
    """Nothing was known of the gradient at the layers in front of attention."""
    theory = BackwardPropagation()
    model = two_blocks(Written)
    seen = {}
    handle = model.register_forward_hook(lambda m, a, out: seen.update(out=out))
    propagated(model, torch.randn(96, TOKENS, WIDTH), theory)
    handle.remove()
    (seen["out"] * torch.randn(seen["out"].shape)).sum().backward()
    theory.predict_back()
    claims = {n: c for n, c in theory.back_by_node.items() if n.endswith((".v", ".norm"))}
    assert len(claims) == 4
    assert all(c.predicted is not None and c.off < 0.1 for c in claims.values()), claims


def test_parameters_and_random_numbers_are_as_before() -> None:
    """What stands in draws with a generator of its own, also where a call of the pass draws."""
    model = two_blocks(Torchs)
    state = torch.get_rng_state()
    with torch.no_grad():
        propagated(model, torch.ones(96, TOKENS, WIDTH), Propagation())
    assert torch.equal(torch.get_rng_state(), state)


def test_the_advice_for_attention_scales_what_it_returns_and_no_scores() -> None:
    """Scores were called gates, and layers of queries and keys were to be scaled, which changes what is looked at."""
    theory = Propagation()
    with torch.no_grad():
        tracer = propagated(two_blocks(Written), torch.randn(96, TOKENS, WIDTH), theory)
    found = departures(tracer.graph(), theory.by_node)
    named = [d for d in found if d.what == "attention"]
    assert [d.node.partition(":")[0] for d in sorted(named, key=lambda d: d.node)] == [
        "1.attention",
        "2.attention",
    ]
    assert all(d.ratio < 0.8 for d in named)
    assert not any(d.what == "gate" or d.node.endswith((".q", ".k", ".v")) for d in found)
