"""Rules of initialization, streams and gradients on real models: planted defects, and what only looks like one."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unitgain as ug


def data(features: int = 32, classes: int = 5) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.randn(64, features, generator=g), torch.randint(0, classes, (64,), generator=g)


def mlp(depth: int, act: Callable[[], nn.Module] = nn.ReLU, width: int = 64) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Linear(32, width), act()]
    for _ in range(depth - 1):
        layers += [nn.Linear(width, width), act()]
    return nn.Sequential(*layers, nn.Linear(width, 5))


def kaiming(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            nn.init.kaiming_normal_(module.weight)
            nn.init.zeros_(module.bias)
    return model


class Block(nn.Module):
    def __init__(self, relu: bool, zero: bool):
        super().__init__()
        self.first, self.last, self.relu = nn.Linear(64, 64), nn.Linear(64, 64), relu
        kaiming(self)
        if zero:
            nn.init.zeros_(self.last.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.last(F.relu(self.first(x)))
        return F.relu(x) if self.relu else x


def residual(depth: int, relu: bool = False, zero: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    blocks = nn.Sequential(*(Block(relu, zero) for _ in range(depth)))
    return nn.Sequential(nn.Linear(32, 64), nn.ReLU(), blocks, nn.Linear(64, 5))


def found(model: nn.Module, select: str, batch: tuple[Tensor, Tensor] | None = None) -> list[tuple[str, str]]:
    report = ug.check(model, batch or data(), select=[select])
    return [(f.severity, str(f.site)) for f in report.findings]


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("act", [nn.ReLU, nn.Tanh, nn.GELU, nn.SiLU])
def test_torch_default_in_small_networks_is_information_at_most(
    depth: int, act: Callable[[], nn.Module]
) -> None:
    assert all(severity == "info" for severity, _ in found(mlp(depth, act), "UG605"))


def test_kaiming_needs_no_remark() -> None:
    assert found(kaiming(mlp(4)), "UG605") == []
    assert found(kaiming(mlp(4)), "UG307") == []
    assert found(kaiming(mlp(4)), "UG404") == []


@pytest.mark.parametrize("factor", [30.0, 1 / 30])
def test_one_layer_far_off_is_one_finding_that_names_it(factor: float) -> None:
    model = kaiming(mlp(4))
    with torch.no_grad():
        model[2].weight.mul_(factor)
    findings = [f for f in ug.check(model, data()).findings if f.severity != "info"]
    assert [(f.code, f.site) for f in findings] == [("UG605", "2.weight")]


def test_weights_with_a_loss_that_says_trained_are_not_judged() -> None:
    model = kaiming(mlp(2))
    x, y = data()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    assert "trained" in ug.check(model, (x, y)).diagnosis.abstained["UG605"]


@pytest.mark.parametrize(("depth", "relu", "zero", "fires"), [
    (8, False, False, True), (8, True, False, True), (8, False, True, False), (3, False, False, False),
])  # fmt: skip
def test_residual_streams(depth: int, relu: bool, zero: bool, fires: bool) -> None:
    assert bool(found(residual(depth, relu, zero), "UG607")) == fires


def test_stream_of_rectified_sums_shifts_its_mean_unless_branches_start_at_zero() -> None:
    assert [severity for severity, _ in found(residual(8, relu=True), "UG305")] == ["warning"]
    assert found(residual(8, relu=True, zero=True), "UG305") == []


def test_ordered_phase_makes_examples_alike() -> None:
    model = mlp(10, nn.Tanh)
    for module in model:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.5 / module.in_features**0.5)
            nn.init.normal_(module.bias, 0, 1)
    assert [severity for severity, _ in found(model, "UG307")] == ["warning"]


def test_weight_of_unlike_scale_among_peers_with_norms_is_named() -> None:
    model = nn.Sequential(*(nn.Sequential(nn.Linear(32, 32), nn.LayerNorm(32), nn.GELU()) for _ in range(6)))
    model.append(nn.Linear(32, 5))
    kaiming(model)
    assert found(model, "UG404") == []
    with torch.no_grad():
        model[3][0].weight.mul_(30)
    assert found(model, "UG404") == [("warning", "3.0.weight")]


def test_tiny_gradients_in_float16_underflow_and_not_in_bfloat16() -> None:
    def loss(outputs: Tensor, target: Tensor) -> Tensor:
        return 1e-4 * F.cross_entropy(outputs.float(), target)

    x, y = data()

    def severities(dtype: torch.dtype) -> list[str]:
        model = kaiming(mlp(2)).to(dtype)
        report = ug.check(model, (x.to(dtype), y), loss=loss, select=["UG406"])
        return [f.severity for f in report.findings]

    assert severities(torch.float16) == ["error"]
    assert severities(torch.bfloat16) == []
    assert severities(torch.float32) == []


def test_pixels_at_a_small_batch_are_enough_for_batch_norm_and_vectors_are_not() -> None:
    torch.manual_seed(0)
    conv = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5))
    batch = torch.randn(4, 3, 8, 8), torch.randint(0, 5, (4,))
    assert found(conv, "UG602", batch) == []
    dense = nn.Sequential(nn.Linear(32, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 5))
    assert [severity for severity, _ in found(dense, "UG602", (data()[0][:4], data()[1][:4]))] == ["warning"]


class TimeFirst(nn.Module):
    """Tokens (N, T) through a recurrent layer that takes time first; outputs in one row, (T * N, words)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.rnn, self.head = nn.Embedding(16, 24), nn.GRU(24, 24), nn.Linear(24, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(self.embed(x.T))[0]).flatten(0, 1)


def test_outputs_time_first_and_targets_example_first_are_misaligned_and_see_no_future() -> None:
    torch.manual_seed(0)
    text = torch.randint(0, 16, (12, 11))
    x, after = text[:, :-1], text[:, 1:]
    sick = ug.check(TimeFirst(), (x, after.flatten()), F.cross_entropy, select=["UG116", "UG802"])
    assert [f.code for f in sick.findings] == ["UG116"]
    assert "time first" in sick.findings[0].message
    right = ug.check(TimeFirst(), (x, after.T.flatten()), F.cross_entropy, select=["UG116", "UG802"])
    assert not right.findings


class ByHand(nn.Module):
    """Layers as products of matrices, with He's initialization; held: units of the first layer that are held down."""

    def __init__(self, *widths: int, held: int = 0):
        super().__init__()
        draw = [(2 / a) ** 0.5 * torch.randn(a, b) for a, b in itertools.pairwise(widths)]
        self.weights = nn.ParameterList(draw)
        self.biases = nn.ParameterList([torch.zeros(b) for b in widths[1:]])
        with torch.no_grad():
            self.biases[0][:held] = -30.0

    def forward(self, x: Tensor) -> Tensor:
        for place, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = x @ w + b
            x = F.relu(x) if place < len(self.weights) - 1 else x
        return x


@pytest.mark.parametrize(("held", "codes"), [(0, []), (24, ["UG304"])])
def test_two_columns_leave_units_dead_by_chance_also_in_layers_written_by_hand(
    held: int, codes: list[str]
) -> None:
    for seed in range(3):
        torch.manual_seed(seed)
        model, batch = (
            ByHand(2, 64, 64, 64, 64, 3, held=held),
            (torch.randn(256, 2), torch.randint(3, (256,))),
        )
        assert [f.code for f in ug.check(model, batch, select=["UG304"]).findings] == codes


@pytest.mark.parametrize(("maps", "others", "codes"), [(32, 0, ["UG113"]), (32, 1, []), (4, 0, [])])
def test_maps_of_labels_are_of_one_class_where_no_place_has_another(
    maps: int, others: int, codes: list[str]
) -> None:
    y = torch.zeros(maps, 8, 8, dtype=torch.long)
    y[0, 2, :others] = 1
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1))
    found = ug.check(model, (torch.randn(maps, 3, 8, 8), y), select=["UG113"]).findings
    assert [(f.code, f.severity) for f in found] == [(code, "info") for code in codes]
