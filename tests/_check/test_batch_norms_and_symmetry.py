"""What check finds out for UG604 and UG606: batch statistics out of buffers, and units that are copies."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import unitgain as ug
from unitgain._check.batch_norms import batch_norm_facts, snapshot
from unitgain._check.symmetry import same_units
from unitgain.record import UnitFacts


@settings(max_examples=12, deadline=None)
@given(
    momentum=st.sampled_from([0.01, 0.1, 0.5, 1.0, None]),
    tracked=st.integers(0, 50),
    shift=st.floats(-3, 3),
    scale=st.floats(0.2, 5),
)
def test_batch_statistics_are_read_off_the_buffers(
    momentum: float | None, tracked: int, shift: float, scale: float
) -> None:
    norm = nn.BatchNorm2d(5, momentum=momentum)
    g = torch.Generator().manual_seed(tracked)
    norm.running_mean.normal_(generator=g)
    norm.running_var.uniform_(0.5, 2, generator=g)
    norm.num_batches_tracked.fill_(tracked)
    mean, variance = norm.running_mean.clone(), norm.running_var.clone()
    x = shift + scale * torch.randn(6, 5, 4, 4, generator=g)
    before = snapshot(norm)
    norm(x)
    (row,) = batch_norm_facts(norm, before)
    gap = ((x.mean((0, 2, 3)) - mean).abs() / (variance + norm.eps).sqrt()).median()
    ratio = ((x.transpose(0, 1).flatten(1).var(1) + norm.eps) / (variance + norm.eps)).log().abs().median()
    assert row.mean_gap == pytest.approx(float(gap), rel=1e-2, abs=1e-3)
    assert row.log_variance == pytest.approx(float(ratio), rel=1e-2, abs=1e-3)
    assert (row.tracked, row.momentum) == (tracked, momentum)


def test_norm_that_ran_twice_or_not_is_not_compared() -> None:
    norm = nn.BatchNorm1d(3)
    before = snapshot(norm)
    assert math.isnan(batch_norm_facts(norm, before)[0].mean_gap)
    norm(norm(torch.randn(8, 3)))
    assert math.isnan(batch_norm_facts(norm, before)[0].mean_gap)
    assert snapshot(nn.BatchNorm1d(3, track_running_stats=False)) == {}
    assert list(snapshot(ug.nn.BatchNorm(3))) == [""]


def trained(batches: int = 60, momentum: float = 0.1) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 16), nn.BatchNorm1d(16, momentum=momentum), nn.ReLU(), nn.Linear(16, 3)
    )
    for _ in range(batches):
        model(torch.randn(64, 6))
    return model


def batch(shift: float = 0.0, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    return shift + scale * torch.randn(64, 6, generator=g), torch.randint(0, 3, (64,), generator=g)


def codes(model: nn.Module, given_: tuple[Tensor, Tensor], rule: str) -> list[tuple[str, str | None]]:
    return [(f.severity, f.site) for f in ug.check(model, given_, select=[rule]).findings]


def test_statistics_that_fit_are_silent_and_those_of_other_data_are_stale() -> None:
    assert codes(trained(), batch(), "UG604") == []
    assert codes(trained(), batch(shift=3), "UG604") == [("warning", "1")]
    assert codes(trained(), batch(scale=4), "UG604") == [("warning", "1")]


def test_weights_that_moved_on_leave_stale_statistics() -> None:
    model = trained()
    with torch.no_grad():
        model[0].weight.mul_(5)
    assert codes(model, batch(), "UG604") == [("warning", "1")]


def test_fresh_network_has_no_stale_statistics_whatever_the_data() -> None:
    report = ug.check(trained(batches=0), batch(shift=3), select=["UG604"])
    assert report.findings == ()
    assert "not trained" in report.diagnosis.abstained["UG604"]


def test_statistics_of_a_running_average_that_hardly_moves_are_stale() -> None:
    model = trained(momentum=1e-4)
    with torch.no_grad():
        model[0].weight.mul_(4)
    assert codes(model, batch(), "UG604") == [("warning", "1")]


# ---- units that are copies -------------------------------------------------------------------------------------


def net(act: Callable[[], nn.Module] = nn.Tanh) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), act(), nn.Linear(16, 16), act(), nn.Linear(16, 3))


def plant(model: nn.Sequential, layer: int, change: Callable[[nn.Module], None]) -> nn.Sequential:
    with torch.no_grad():
        change(model[layer])
    return model


def constant(layer: nn.Module) -> None:
    layer.weight.fill_(0.1)
    layer.bias.zero_()


def half(layer: nn.Module) -> None:
    layer.weight[8:], layer.bias[8:] = layer.weight[:8].clone(), layer.bias[:8].clone()


def zero(layer: nn.Module) -> None:
    layer.weight.zero_()
    layer.bias.zero_()


@pytest.mark.parametrize("layer", [0, 2])
@pytest.mark.parametrize("change", [constant, half])
def test_equal_units_are_found_wherever_they_are(layer: int, change: Callable[[nn.Module], None]) -> None:
    ((severity, site),) = codes(plant(net(), layer, change), batch(), "UG606")
    assert (severity, site) == ("warning", f"{layer}.weight")


def test_units_that_stay_the_same_for_good_are_an_error() -> None:
    model = net()
    for layer in (0, 2, 4):
        plant(model, layer, constant)
    ((severity, site),) = codes(model, batch(), "UG606")
    assert (severity, site) == ("error", "0.weight")


@pytest.mark.parametrize("act", [nn.ReLU, nn.Tanh, nn.GELU])
def test_network_of_zeros_never_moves(act: Callable[[], nn.Module]) -> None:
    model = net(act)
    for layer in (0, 2, 4):
        plant(model, layer, zero)
    assert codes(model, batch(), "UG606") == [("error", "0.weight")]


def test_zero_classifier_with_more_classes_than_examples_is_fine() -> None:
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 500))
    plant(model, 2, zero)
    assert codes(model, batch(), "UG606") == []


class Block(nn.Module):
    def __init__(self, change: Callable[[nn.Module], None]):
        super().__init__()
        self.first, self.last, self.gate = nn.Linear(8, 8), nn.Linear(8, 8), nn.Parameter(torch.ones(1))
        with torch.no_grad():
            change(self)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gate * self.last(torch.relu(self.first(x)))


@pytest.mark.parametrize(
    "change", [lambda b: zero(b.last), lambda b: b.gate.zero_()], ids=["zero end", "SkipInit"]
)
@pytest.mark.parametrize("zero_head", [False, True])
def test_zero_ends_of_branches_and_zero_gains_are_fine(
    change: Callable[[Block], None], zero_head: bool
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), *(Block(change) for _ in range(3)), nn.Linear(8, 3))
    if zero_head:
        plant(model, 4, zero)
    assert codes(model, batch(), "UG606") == []


def test_depthwise_filters_biases_and_pruned_units_are_no_copies() -> None:
    conv = nn.Conv2d(8, 8, 3, groups=8)
    nn.init.constant_(conv.weight, 1 / 9)
    pruned = nn.Linear(6, 16)
    with torch.no_grad():
        pruned.weight[4:].zero_()
        pruned.bias.zero_()
    assert same_units(nn.ModuleList([conv, pruned, nn.LayerNorm(8), nn.Linear(6, 16)])) == {}


def test_copies_are_counted_in_every_kind_of_layer() -> None:
    layers: dict[str, nn.Module] = {
        "conv": nn.Conv2d(4, 8, 3), "up": nn.ConvTranspose2d(4, 8, 3), "groups": nn.Conv1d(8, 8, 3, groups=2),
        "lstm": nn.LSTM(4, 3), "attention": nn.MultiheadAttention(4, 2),
    }  # fmt: skip
    model = nn.ModuleDict(layers)
    assert same_units(model) == {}
    for p in model.parameters():
        nn.init.constant_(p, 0.3)
    assert {name: row.copies for name, row in same_units(model).items()} == {
        "conv.weight": 7, "up.weight": 7, "groups.weight": 6, "lstm.weight_ih_l0": 11,
        "attention.in_proj_weight": 11, "attention.out_proj.weight": 3,
    }  # fmt: skip


def test_units_that_differ_in_their_bias_alone_are_copies_that_need_not_stay_alike() -> None:
    layer = nn.Linear(6, 16)
    nn.init.constant_(layer.weight, 0.5)
    nn.Sequential(layer, nn.Tanh(), nn.Linear(16, 1))(torch.randn(8, 6)).sum().backward()
    assert same_units(layer)["weight"] == UnitFacts(units=16, copies=15, same_gradient=0)


def test_cells_are_looked_at_as_their_layers_are() -> None:
    cell = nn.LSTMCell(4, 8)
    for p in cell.parameters():
        nn.init.constant_(p, 0.1)
    assert same_units(cell)["weight_ih"].copies == 31
