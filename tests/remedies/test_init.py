"""init_: scales that fit, and stay flat over depth."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unitgain as ug
from unitgain import InputError
from unitgain.remedies import init_
from unitgain.remedies.gains import keeps_variance, stable

DEPTH = 30
ACTIVATIONS = {
    "tanh": torch.tanh, "relu": F.relu, "leaky_relu": nn.LeakyReLU(0.2), "gelu": nn.GELU(), "silu": F.silu,
    "selu": nn.SELU(), "mish": F.mish, "general_relu": ug.nn.GeneralReLU(0.1, 0.4),
    "general_relu_max": ug.nn.GeneralReLU(0.1, 0.4, 2.0),
}  # fmt: skip


class Deep(nn.Module):
    def __init__(self, width: int, activation) -> None:
        super().__init__()
        self.layers, self.activation = (
            nn.ModuleList(nn.Linear(width, width) for _ in range(DEPTH)),
            activation,
        )

    def forward(self, x: Tensor) -> Tensor:
        self.pre, self.post = [], []
        for layer in self.layers:
            h = layer(x)
            x = self.activation(h)
            self.pre.append(h)
            self.post.append(x)
        return x


def stds(tensors: list[Tensor]) -> Tensor:
    return torch.stack([t.detach().std() for t in tensors])


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_flat_within_15_percent_over_30_layers_of_width_512(name: str) -> None:
    """On inputs that init_ has not seen, the norms of whose examples differ; gradients are kept as well."""
    for seed in (0, 1) if name in ("relu", "silu") else (0,):
        torch.manual_seed(seed)
        model = Deep(512, ACTIVATIONS[name])
        init_(model, batch=torch.zeros(2, 512))  # zeros: it is not looked at
        x = torch.randn(256, 512) * torch.exp(0.15 * torch.randn(256, 1))
        x = (x / x.std()).requires_grad_()
        out = model(x)
        out.backward(torch.randn_like(out))
        for profile in (stds(model.pre), stds(model.post)):
            middle = profile.median()
            assert (profile / middle - 1).abs().max() < 0.15, profile
        growth = float(x.grad.std())
        assert 0.1 < growth < 12, growth  # tanh's exact gain leaves 11 over 30 layers


def test_orthogonal_is_flat_too() -> None:
    for name in ("relu", "gelu"):
        model = Deep(256, ACTIVATIONS[name])
        init_(model, "orthogonal", batch=torch.zeros(2, 256))
        model(torch.randn(256, 256))
        profile = stds(model.pre)
        assert (profile / profile.median() - 1).abs().max() < 0.15, profile
        if name == "relu":
            w = model.layers[3].weight.detach()
            assert torch.allclose(w @ w.T / (w @ w.T).diagonal().mean(), torch.eye(256), atol=1e-4)


def test_stable_recipes_are_at_the_edge_of_chaos() -> None:
    for function in (F.gelu, F.silu, F.mish):
        assert not keeps_variance(function)
        recipe, moments = stable(function), ug.theory.moments(function)
        variance = (
            recipe.gain**2 * (moments.std**2 + recipe.centring * moments.mean**2) + recipe.bias_variance
        )
        assert variance == pytest.approx(1)
        if recipe.centring > 0:
            assert recipe.gain**2 / ug.theory.backward_gain(function) ** 2 == pytest.approx(1)
    assert stable(F.relu).plain
    assert stable(F.gelu, biased=False).plain


def test_the_first_layer_has_gain_1_and_the_others_that_of_what_comes_before() -> None:
    model = nn.Sequential(
        nn.Linear(400, 500), nn.LeakyReLU(0.3), nn.Linear(500, 600), nn.Tanh(), nn.Linear(600, 300)
    )
    init_(model, flat=False, readout=1.0)
    for layer, gain in (
        (model[0], 1.0),
        (model[2], ug.theory.gain(nn.LeakyReLU(0.3))),
        (model[4], ug.theory.gain("tanh")),
    ):
        assert layer.weight.std().item() * math.sqrt(layer.in_features) == pytest.approx(gain, rel=0.01)
    init_(model, mode="fan_out", readout=1.0)
    for layer, gain in ((model[0], ug.theory.backward_gain(nn.LeakyReLU(0.3))), (model[4], 1.0)):
        assert layer.weight.std().item() * math.sqrt(layer.out_features) == pytest.approx(gain, rel=0.01)
    init_(model, "glorot", distribution="uniform", readout=1.0)
    bound = math.sqrt(3) * math.sqrt(2 / 900)
    assert model[0].weight.abs().max().item() == pytest.approx(bound, rel=0.01)


@pytest.mark.parametrize("scheme", ["kaiming", "orthogonal"])
@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(96, 64), nn.Conv1d(16, 64, 5), nn.Conv2d(32, 64, 3, groups=4), nn.Conv3d(8, 32, 3),
        nn.Conv2d(64, 64, 5, groups=64), nn.ConvTranspose1d(64, 32, 5),
        nn.ConvTranspose2d(64, 32, 4, stride=2, groups=2),
    ],
    ids=str,
)  # fmt: skip
def test_every_kind_of_layer_keeps_the_variance(layer: nn.Module, scheme: str) -> None:
    """Away from the borders: output mean square is the input's."""
    init_(layer, scheme, flat=False)
    dims = layer.weight.dim() - 2
    x = torch.randn(16, getattr(layer, "in_channels", None) or layer.in_features, *[16] * dims)
    with torch.no_grad():
        y = layer(x)
    inner = y[(..., *[slice(4, -4)] * dims)]
    assert inner.square().mean().sqrt().item() == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.LSTMCell])
def test_recurrent_gates_are_drawn_one_by_one(kind) -> None:
    module = kind(64, 32)
    init_(module)
    count = 3 if kind is nn.GRU else 4
    parameters = {n.removesuffix("_l0"): p.detach() for n, p in module.named_parameters()}
    for gate in parameters["weight_hh"].chunk(count):
        assert torch.allclose(gate @ gate.T, torch.eye(32), atol=1e-5)
    assert parameters["weight_ih"].std().item() == pytest.approx(1 / 8, rel=0.05)
    forget = parameters["bias_ih"].chunk(count)[1] + parameters["bias_hh"].chunk(count)[1]
    assert torch.equal(forget, torch.full((32,), 0.0 if kind is nn.GRU else 1.0))


def test_attention_projections_have_fans_of_their_own() -> None:
    packed, apart = nn.MultiheadAttention(64, 4), nn.MultiheadAttention(64, 4, kdim=32, vdim=16)
    init_(packed)
    init_(apart)
    for part in packed.in_proj_weight.chunk(3):
        assert part.std().item() == pytest.approx(1 / 8, rel=0.05)
    assert apart.v_proj_weight.std().item() == pytest.approx(1 / 4, rel=0.1)
    assert not packed.in_proj_bias.any()


def test_embeddings_padding_and_tied_heads() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.head = nn.Embedding(50, 64, padding_idx=0), nn.Linear(64, 50, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.tanh(self.embedding(x)))

    plain = nn.Embedding(50, 64, padding_idx=3)
    init_(plain)
    assert not plain.weight[3].any()
    assert plain.weight.std().item() == pytest.approx(1, rel=0.05)
    tied = Tied()
    report = init_(tied, batch=torch.randint(1, 50, (4, 7)), readout=1.0)
    assert tied.embedding.weight is tied.head.weight
    assert tied.head.weight.std().item() == pytest.approx(ug.theory.gain("tanh") / 8, rel=0.1)
    assert any("shared" in note for note in report.notes)


def test_frozen_weights_and_norms_stay_and_are_told() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8))
    model[3].weight.requires_grad_(False)
    with torch.no_grad():
        model[1].weight.fill_(3.0)
    before = model[3].weight.clone()
    report = init_(model, batch=torch.randn(4, 8))
    assert torch.equal(before, model[3].weight)
    assert any("frozen" in note for note in report.notes)
    assert bool((model[1].weight == 3).all())
    assert "moot, as BatchNorm1d" in report.change("0.weight").reason


def test_without_a_batch_a_pass_is_tried_else_registration_order_and_it_is_said() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.act, self.b = nn.Linear(4, 300), nn.ReLU(), nn.Linear(300, 2)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.b(self.act(self.a(x + y)))

    assert any("made-up inputs" in n for n in init_(nn.Sequential(nn.Linear(4, 4), nn.ReLU())).notes)
    model = Two()
    report = init_(model)
    assert any("registered" in n for n in report.notes)
    assert "behind ReLU" in report.change("b.weight").reason
    assert "gain 1.593" in init_(Two(), activation="tanh").change("b.weight").reason or "ReLU" not in str(
        report
    )


def test_only_changes_what_is_named() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    before = model[0].weight.clone()
    report = init_(model, only=["2"])
    assert torch.equal(before, model[0].weight)
    assert {c.name for c in report.changes} == {"2.weight", "2.bias"}


def test_every_architecture_runs_and_gives_finite_outputs(case) -> None:
    model, batch = case
    report = init_(model, batch=batch)
    out = model(batch)
    out = out[0] if isinstance(out, tuple) else out
    assert torch.isfinite(out).all()
    assert out.std() < 20, str(report)
    assert str(report)


@pytest.mark.parametrize(
    "wrong",
    [{"scheme": "he"}, {"mode": "fan"}, {"distribution": "flat"}, {"readout": -1}, {"activation": "rely"}],
)
def test_unknown_options_are_refused(wrong) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        init_(nn.Linear(4, 4), **wrong)
