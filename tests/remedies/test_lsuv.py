"""lsuv_ reaches its target wherever it can, and says where it cannot."""

from __future__ import annotations

import copy
import time

import pytest
import torch
import torch.nn.functional as F
from architectures import ZOO, Repeated, TiedAutoencoder
from torch import Tensor, nn

import unitgain as ug
from unitgain import InputError
from unitgain.remedies import lsuv_


def outputs(model: nn.Module, batch) -> dict[str, Tensor]:
    """What every layer gives, measured without unitgain: in training mode, without dropout."""
    model, found = copy.deepcopy(model).train(), {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout):
            module.eval()
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0

        def hook(m, args, out, name=name):
            found.setdefault(name, []).append((out[0] if isinstance(out, tuple) else out).detach())

        module.register_forward_hook(hook)
    with torch.no_grad():
        model(batch)
    return {name: torch.cat([t.flatten() for t in tensors]) for name, tensors in found.items()}


def test_every_measured_layer_has_std_1_and_mean_0(case) -> None:
    model, batch = case
    report = lsuv_(model, batch)
    assert report.ok, str(report)
    seen = outputs(model, batch)
    measured = [m for m in report.measured if m.reached]
    assert measured
    for m in measured:
        if "all uses" in m.status:
            continue
        assert seen[m.name].std(correction=0).item() == pytest.approx(1, abs=0.05), m
        assert seen[m.name].mean().item() == pytest.approx(0, abs=0.05), m


@pytest.mark.reference
def test_gpt2_as_a_mapping_with_tied_embeddings(torchvision_operators) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(vocab_size=60, n_positions=16, n_embd=32, n_layer=2, n_head=4)
    model, ids = transformers.GPT2LMHeadModel(config), torch.randint(60, (8, 16))
    report = lsuv_(model, {"input_ids": ids, "labels": ids})
    by_name = {m.name: m for m in report.measured}
    assert report.ok, str(report)
    assert by_name["transformer.h.1.mlp.c_proj"].std_after == pytest.approx(1, abs=0.02)
    assert by_name["lm_head"].std_after == pytest.approx(1, abs=0.05)


def test_the_first_layer_is_not_skipped() -> None:
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))
    x = torch.randn(256, 8) * 100
    lsuv_(model, x)
    assert model[0](x).std().item() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(("build", "scale"), [(Repeated, 4), (Repeated, 0.3), (TiedAutoencoder, 3)])
def test_shared_weights_do_not_miss_by_orders_of_magnitude(build, scale) -> None:
    model, x = build(), torch.randn(128, 32 if build is Repeated else 64) * scale
    report = lsuv_(model, x)
    assert report.ok, str(report)
    shared = [m for m in report.measured if "all uses" in m.status]
    sizes = [1] * 6 if build is Repeated else [16, 64]
    assert len(shared) == len(sizes)
    mean = sum(n * m.mean_after for n, m in zip(sizes, shared)) / sum(sizes)
    square = sum(n * (m.std_after**2 + m.mean_after**2) for n, m in zip(sizes, shared)) / sum(sizes)
    assert (square - mean**2) ** 0.5 == pytest.approx(1, abs=0.05)
    if build is Repeated:
        assert outputs(model, x)["layer"].std().item() == pytest.approx(1, abs=0.05)


def test_one_module_tied_to_another_by_its_parameter() -> None:
    a, b = nn.Linear(32, 32), nn.Linear(32, 32)
    b.weight = a.weight
    model, x = nn.Sequential(a, nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), b), torch.randn(128, 32) * 20
    report = lsuv_(model, x)
    assert report.ok, str(report)
    seen = outputs(model, x)
    assert torch.cat([seen["0"], seen["4"]]).std().item() == pytest.approx(1, abs=0.05)
    assert seen["2"].std().item() == pytest.approx(1, abs=0.02)


def test_a_constant_output_ends_and_is_named() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))
    with torch.no_grad():
        model[0].bias.fill_(-1e3)  # a dead ReLU
    x, start, twin = torch.randn(32, 8), time.perf_counter(), copy.deepcopy(model)
    assert lsuv_(twin, x).ok  # with the mean to 0, it lives again
    report = lsuv_(model, x, target_mean=None)
    assert time.perf_counter() - start < 10
    assert not report.ok
    assert any(p.startswith("2: its output is constant") for p in report.problems)
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_mode_buffers_random_state_and_frozen_parameters_stay() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Conv2d(8, 8, 3),
        nn.Conv2d(8, 4, 3),
    )
    model.train()
    model[1].eval()
    model[4].requires_grad_(False)
    frozen, flags = model[4].weight.clone(), [m.training for m in model.modules()]
    buffers, x = {n: b.clone() for n, b in model.named_buffers()}, torch.randn(4, 3, 12, 12)
    state = torch.get_rng_state()
    report = lsuv_(model, x)
    assert flags == [m.training for m in model.modules()]
    assert all(torch.equal(b, buffers[n]) for n, b in model.named_buffers())
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(frozen, model[4].weight)
    status = {m.name: m.status for m in report.measured}
    assert "BatchNorm2d follows" in status["0"]
    assert "frozen" in status["4"]
    assert status["5"] == "reached"
    assert not any(m._forward_hooks for m in model.modules())


def test_the_model_comes_back_when_it_raises() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(9, 4)).eval()
    with pytest.raises(InputError, match="raised RuntimeError"):
        lsuv_(model, torch.randn(4, 8))
    assert not model.training
    assert not any(m._forward_hooks for m in model.modules())


@pytest.mark.parametrize("per", ["layer", "channel"])
@pytest.mark.parametrize("groups", [1, 2])
def test_behind_a_general_relu_mean_and_std(per: str, groups: int) -> None:
    model = nn.Sequential(
        nn.Conv2d(4, 8, 3), ug.nn.GeneralReLU(0.1, 0.4), nn.ConvTranspose2d(8, 6, 3, groups=groups),
        ug.nn.GeneralReLU(0.1, 0.4), nn.Conv2d(6, 4, 1, bias=False),
    )  # fmt: skip
    x = torch.randn(32, 4, 8, 8) + 1
    report = lsuv_(model, x, where="activation", per=per)
    assert report.ok, str(report)
    dims = (0, 2, 3) if per == "channel" else (0, 1, 2, 3)
    for end in (2, 4, 5):
        y = model[:end](x)
        assert torch.allclose(y.std(dims, correction=0), torch.ones(()), atol=0.02)
        assert torch.allclose(y.mean(dims), torch.zeros(()), atol=0.02)


def test_targets_out_of_an_activations_reach_are_told_not_chased() -> None:
    model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.Tanh())
    x = torch.randn(128, 16)
    report = lsuv_(model, x, where="activation")
    status = {m.name: m.status for m in report.measured}
    assert report.ok
    assert "a mean of 0 is out of ReLU's reach" in status["0"]
    assert "too narrow" in status["2"]
    assert F.relu(model[0](x)).std().item() == pytest.approx(1, abs=0.02)
    assert model[:3](x).std().item() == pytest.approx(1, abs=0.02)


def test_weights_only() -> None:
    model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 8))
    biases, x = [model[0].bias.clone(), model[2].bias.clone()], torch.randn(128, 16) + 3
    report = lsuv_(model, x, bias=False)
    assert report.ok, str(report)
    assert torch.equal(biases[0], model[0].bias)
    assert torch.equal(biases[1], model[2].bias)
    assert model(x).std(correction=0).item() == pytest.approx(1, abs=0.02)


def test_weight_norm_is_scaled_through_its_parametrization() -> None:
    model = nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(16, 32)), nn.ReLU(), nn.Linear(32, 4)
    )
    x = torch.randn(128, 16) * 9
    assert lsuv_(model, x).ok
    assert model[0](x).std().item() == pytest.approx(1, abs=0.02)


def test_a_standardized_weight_is_left_and_named() -> None:
    class Standardized(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return F.linear(input, 3 * F.layer_norm(self.weight, [self.in_features]), self.bias)

    class Own(nn.Linear):
        pass

    model, x = nn.Sequential(Standardized(16, 32), nn.ReLU(), Own(32, 8)), torch.randn(128, 16)
    before = model[0].weight.clone()
    report = lsuv_(model, x)
    assert torch.equal(before, model[0].weight)
    assert "standardized" in report.measured[0].status
    assert report.measured[1].status == "reached"


def test_one_pass_sets_all_layers() -> None:
    calls = []

    class Counted(nn.Sequential):
        def forward(self, input):
            calls.append(1)
            return super().forward(input)

    model = Counted(*[m for _ in range(12) for m in (nn.Linear(16, 16), nn.ReLU())])
    lsuv_(model, torch.randn(64, 16))
    assert len(calls) == 3  # look, set, verify


@pytest.mark.parametrize(
    "wrong",
    [
        {"target_std": 0},
        {"where": "output"},
        {"per": "unit"},
        {"tol": 0},
        {"max_iter": 0},
        {"target_mean": float("nan")},
    ],
)
def test_impossible_targets_are_refused(wrong) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        lsuv_(nn.Linear(4, 4), torch.randn(8, 4), **wrong)


def test_the_zoo_is_ten_architectures() -> None:
    assert len(ZOO) >= 10
