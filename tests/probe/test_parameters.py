"""Ratios of gradients and updates against a naive before and after; names of parameters."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from unitgain import Probe
from unitgain.probe.parameters import list_parameters

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "sgd with weight decay": lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.3),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-2),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.2),
    "adamw not foreach": lambda p: torch.optim.AdamW(p, lr=1e-2, foreach=False),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-2),
}


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 3))


def naive(
    net: nn.Module, make, batches, *, clip: float | None = None, accumulate: int = 1
) -> list[dict[str, dict]]:
    """What anyone would write by hand: copies before and after each step."""
    optimizer, rows = make(net.parameters()), []
    for i in range(0, len(batches), accumulate):
        for x in batches[i : i + accumulate]:
            (net(x).square().mean() / accumulate).backward()
        if clip:
            nn.utils.clip_grad_norm_(net.parameters(), clip)
        before = {n: p.detach().clone() for n, p in net.named_parameters()}
        gradients = {n: p.grad.clone() for n, p in net.named_parameters()}
        optimizer.step()
        optimizer.zero_grad()
        rows.append({
            n: {"parameter": before[n], "parameter_gradient": gradients[n], "update": p.detach() - before[n]}
            for n, p in net.named_parameters()
        })  # fmt: skip
    return rows


def std(t: torch.Tensor) -> float:
    return float(t.double().std(correction=0))


@pytest.mark.parametrize("limit", [None, 65_536])
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("options", [{}, {"clip": 0.01}, {"accumulate": 3}], ids=str)
def test_ratios_equal_the_naive_ones(name: str, options: dict, limit: int | None) -> None:
    net = model()
    twin = copy.deepcopy(net)
    batches = [torch.randn(5, 6) for _ in range(6)]
    want = naive(twin, OPTIMIZERS[name], batches, **options)
    accumulate = options.get("accumulate", 1)
    optimizer = OPTIMIZERS[name](net.parameters())
    with Probe(net, optimizer, limit=limit, strict=True, every=1) as probe:
        for i in range(0, len(batches), accumulate):
            for x in batches[i : i + accumulate]:
                (net(x).square().mean() / accumulate).backward()
            if "clip" in options:
                nn.utils.clip_grad_norm_(net.parameters(), options["clip"])
            optimizer.step()
            optimizer.zero_grad()
    for step, rows in enumerate(want):
        for parameter, tensors in rows.items():
            for kind, tensor in tensors.items():
                got = probe.record.value(kind, parameter, "std", step)
                assert got == pytest.approx(std(tensor), rel=1e-4, abs=1e-8), (kind, parameter, step)
                assert probe.record.value(kind, parameter, "absmax", step) == pytest.approx(
                    float(tensor.abs().max()), rel=1e-6
                )
            data = std(tensors["parameter"])
            for kind in ("parameter_gradient", "update"):
                ratio = probe.record.value(kind, parameter, "ratio", step)
                if data > 1e-7 and std(tensors[kind]) > 0:
                    assert ratio == pytest.approx(math.log10(std(tensors[kind]) / data), abs=1e-3)
                elif data == 0:
                    assert math.isnan(ratio)


def test_ratios_of_large_parameters_are_close_though_sampled() -> None:
    net = nn.Linear(300, 400)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    with Probe(net, optimizer, strict=True, every=1) as probe:
        before = net.weight.detach().clone()
        net(torch.randn(16, 300)).square().mean().backward()
        gradient = net.weight.grad.clone()
        optimizer.step()
    update = net.weight.detach() - before
    for kind, tensor in (("parameter_gradient", gradient), ("update", update)):
        assert probe.record.value(kind, "weight", "ratio") == pytest.approx(
            math.log10(std(tensor) / std(before)), abs=0.03
        )


def test_one_bad_value_in_a_large_gradient_is_seen() -> None:
    net = nn.Linear(300, 400)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    with Probe(net, optimizer, strict=True, every=1) as probe:
        net(torch.randn(16, 300)).square().mean().backward()
        net.weight.grad[123, 45] = math.nan
        optimizer.step()
    assert probe.record.value("parameter_gradient", "weight", "nonfinite") > 0
    assert probe.record.value("parameter_gradient", "weight", "std") > 0


def test_frozen_parameters_have_no_gradient_and_no_update() -> None:
    net = model()
    net[0].requires_grad_(False)
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.1)
    with Probe(net, optimizer, strict=True, every=1) as probe:
        net(torch.randn(5, 6)).square().mean().backward()
        optimizer.step()
    record = probe.record
    assert "0.weight" in record.values("parameter")
    assert "0.weight" not in record.values("update")
    assert record.site("parameter", "0.weight").attributes["trainable"] is False


def test_sparse_gradients_are_measured() -> None:
    net = nn.Sequential(nn.Embedding(50, 4, sparse=True), nn.Flatten(), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    with Probe(net, optimizer, strict=True, every=1) as probe:
        net(torch.randint(0, 50, (6, 2))).square().mean().backward()
        optimizer.step()
    assert probe.record.value("parameter_gradient", "0.weight", "rms") > 0
    assert probe.record.value("update", "0.weight", "rms") > 0


def test_roles_fans_and_aliases() -> None:
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(9, 4)
            self.conv = nn.Conv2d(4, 8, 3, groups=2)
            self.up = nn.ConvTranspose2d(8, 4, 2)
            self.grouped = nn.ConvTranspose2d(8, 4, 3, groups=4)
            self.norm = nn.BatchNorm2d(4)
            self.head = nn.Linear(4, 9)
            self.head.weight = self.embed.weight
            self.again = self.head
            self.scale = nn.Parameter(torch.ones(3))

    found = {p.name: p for p in list_parameters(Net())}
    assert {n: p.role for n, p in found.items()} == {
        "scale": "other", "embed.weight": "embedding", "conv.weight": "weight", "conv.bias": "bias",
        "up.weight": "weight", "up.bias": "bias",
        "grouped.weight": "weight", "grouped.bias": "bias",
        "norm.weight": "gain", "norm.bias": "bias", "head.bias": "bias",
    }  # fmt: skip
    assert found["conv.weight"].fan_in == 2 * 9
    assert found["up.weight"].fan_in == 8 * 4
    assert found["grouped.weight"].fan_in == 2 * 9
    assert found["conv.bias"].fan_in is None
    assert found["embed.weight"].aliases == ["head.weight", "again.weight"]
    assert found["head.bias"].aliases == ["again.bias"]


def test_gradients_too_small_to_square_keep_their_scale() -> None:
    """float32 squares of 1e-25 are zero: the norm of such a gradient says nothing, its sample does."""
    model = nn.Linear(64, 64, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Probe(model, optimizer, strict=True, every=1) as probe:
        (model(torch.randn(8, 64)) * 1e-27).sum().backward()
        optimizer.step()
    assert model.weight.grad is not None
    expected = float(model.weight.grad.double().std(correction=0))
    assert probe.record.value("parameter_gradient", "weight", "std") == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_fan_in_of_transposed_convolutions_keeps_the_variance(groups: int) -> None:
    """Weights of variance 1/fan_in give outputs of the inputs' variance; groups were forgotten."""
    layer = nn.ConvTranspose1d(64, 64, 1, groups=groups, bias=False)
    fan_in = next(p.fan_in for p in list_parameters(layer))
    assert fan_in is not None
    nn.init.normal_(layer.weight, std=fan_in**-0.5)
    assert std(layer(torch.randn(64, 64, 20)).detach()) == pytest.approx(1.0, rel=0.15)


def test_without_an_optimizer_an_accumulated_gradient_replaces_the_earlier_one() -> None:
    """It holds the earlier ones already: merged, the sum and its parts were mixed."""
    net = nn.Linear(4, 3, bias=False)
    with Probe(net, strict=True, every=1) as probe:
        out = net(torch.ones(1, 4)).sum()
        out.backward(retain_graph=True)
        out.backward()
        probe.flush()
    assert probe.record.value("parameter_gradient", "weight", "mean") == 2.0
    assert probe.record.value("parameter_gradient", "weight", "count") == 12
