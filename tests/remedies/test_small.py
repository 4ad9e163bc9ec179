"""Residual branches, the head, small repairs, and taking things back."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from architectures import NormBlock, PlainBlock, residual
from torch import Tensor, nn

from unitgain import InputError
from unitgain import remedies as rm


def state(model: nn.Module) -> dict[str, Tensor]:
    return {n: t.detach().clone() for n, t in model.state_dict().items()}


REMEDIES = {
    "init_": lambda m, x: rm.init_(m, batch=x),
    "lsuv_": rm.lsuv_,
    "scale_head_": rm.scale_head_,
    "zero_residual_ends_": rm.zero_residual_ends_,
    "skip_init_": rm.skip_init_,
    "scale_residual_branches_": rm.scale_residual_branches_,
    "fixup_": rm.fixup_,
    "remove_redundant_bias_": rm.remove_redundant_bias_,
    "recalibrate_": lambda m, x: rm.recalibrate_(m, [x]),
    "normalize_input_": rm.normalize_input_,
    "break_symmetry_": rm.break_symmetry_,
    "center_units_": rm.center_units_,
}


@pytest.mark.parametrize("name", REMEDIES)
def test_every_remedy_can_be_taken_back_exactly(name: str) -> None:
    model, x = residual(PlainBlock if name == "fixup_" else NormBlock), torch.randn(8, 3, 10, 10) * 3
    with torch.no_grad():
        (model[1].first if name == "fixup_" else model[1].conv1).weight.zero_()
    model.eval()
    before, out, snapshot = state(model), model(x), rm.Snapshot(model)
    tensors = {n: id(p) for n, p in model.named_parameters()}
    report = REMEDIES[name](model, x)
    assert report.changes
    assert str(report)
    snapshot.restore()
    after = state(model)
    assert list(before) == list(after)
    assert all(torch.equal(before[n], after[n]) for n in before)
    assert tensors == {n: id(p) for n, p in model.named_parameters()}
    assert torch.equal(out, model(x))
    assert not model.training


@pytest.mark.parametrize("block", [PlainBlock, NormBlock])
def test_silent_branches_make_every_block_the_identity(block) -> None:
    x = torch.randn(4, 3, 10, 10)
    for remedy in (rm.zero_residual_ends_, rm.skip_init_):
        model = residual(block)
        stem = model[0](x)
        assert remedy(model, x).ok
        expected = stem if block is PlainBlock else F.relu(stem)
        got = model[:4](x)
        assert torch.equal(got, expected)


def test_skip_init_keeps_its_gains_through_copies_and_state_dicts() -> None:
    model, x = residual(PlainBlock), torch.randn(4, 3, 10, 10)
    rm.skip_init_(model, x, alpha=0.5)
    twin = copy.deepcopy(model)
    assert torch.equal(model(x), twin(x))
    fresh = residual(PlainBlock)
    rm.skip_init_(fresh, x)
    fresh.load_state_dict(model.state_dict())
    assert torch.allclose(model(x), fresh(x))
    model(x).sum().backward()
    assert model[1].last.skip_gain.grad is not None


def test_scaled_branches_keep_variance_within_a_factor_over_depth() -> None:
    def growth(scaled: bool) -> float:
        torch.manual_seed(0)
        model, x = residual(PlainBlock, 16), torch.randn(8, 3, 12, 12)
        rm.init_(model, batch=x)
        if scaled:
            assert len(rm.scale_residual_branches_(model, x).changes) >= 16
        return (model[:17](x).var() / model[0](x).var()).item()

    assert growth(False) > 1000
    assert growth(True) < 8


def test_fixup_scales_by_depth_and_refuses_norms() -> None:
    model, x = residual(PlainBlock, 4), torch.randn(4, 3, 10, 10)
    before = model[1].first.weight.detach().clone()
    rm.fixup_(model, x)
    assert torch.allclose(model[1].first.weight, before * 4**-0.5)  # m = 2: L^(-1/2)
    assert not model[1].last.weight.any()
    assert not model(x).any()
    assert {n.split(".")[-1] for n, p in model.named_parameters() if p.dim() == 0} == {
        "fixup_bias_in", "fixup_scale", "fixup_bias_out",
    }  # fmt: skip
    with pytest.raises(InputError, match="norm"):
        rm.fixup_(residual(NormBlock), x)
    with pytest.raises(InputError, match="no residual branch"):
        rm.fixup_(nn.Linear(3, 3), torch.randn(2, 3))


@pytest.mark.parametrize("classes", [2, 10, 27, 1000])
@pytest.mark.parametrize("norm", [False, True])
def test_the_first_loss_is_within_2_percent_of_ln_c(classes: int, norm: bool) -> None:
    tail = [nn.BatchNorm1d(classes)] if norm else []
    model = nn.Sequential(nn.Linear(16, 200), nn.Tanh(), nn.Linear(200, classes), *tail)
    with torch.no_grad():
        model[2].weight.normal_()
        model[2].bias.normal_()
    x, y = torch.randn(512, 16), torch.randint(classes, (512,))
    report = rm.scale_head_(model, (x, y))
    assert report.ok, str(report)
    assert F.cross_entropy(model(x), y).item() == pytest.approx(math.log(classes), rel=0.02)


def test_a_shared_head_is_left_and_named() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.head = nn.Embedding(50, 16), nn.Linear(16, 50, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.embedding(x))

    report = rm.scale_head_(Tied(), torch.randint(50, (4, 7)))
    assert not report.changes
    assert "shared with embedding" in report.problems[0]


def test_a_redundant_bias_goes_and_outputs_stay_in_both_modes() -> None:
    model, x = residual(NormBlock), torch.randn(8, 3, 10, 10)
    with torch.no_grad():
        for block in (model[1], model[2]):
            block.conv1.bias.normal_()
    model(x)
    trained, evaluated = copy.deepcopy(model)(x), copy.deepcopy(model).eval()(x)
    report = rm.remove_redundant_bias_(model, x)
    assert [c.name for c in report.changes] == [f"{i}.conv{j}.bias" for i in (1, 2, 3) for j in (1, 2)]
    assert torch.allclose(copy.deepcopy(model).eval()(x), evaluated, atol=1e-5)
    assert torch.allclose(model(x), trained, atol=1e-5)


def test_a_bias_that_is_not_redundant_stays() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 8), nn.ReLU(), nn.BatchNorm1d(8))
    assert not rm.remove_redundant_bias_(model, torch.randn(16, 8)).changes


def test_input_is_normalized_by_channel_also_by_name() -> None:
    x = torch.rand(64, 3, 8, 8) * torch.tensor([255.0, 1.0, 10.0]).view(1, 3, 1, 1) + 7
    model = nn.Sequential(nn.Identity())
    rm.normalize_input_(model, x)
    for y in (model(x), model(input=x)):
        assert torch.allclose(y.mean((0, 2, 3)), torch.zeros(3), atol=1e-4)
        assert torch.allclose(y.std((0, 2, 3)), torch.ones(3), atol=1e-3)
    for wrong, why in ((torch.full((4, 3), 2.0), "constant"), (torch.full((4, 3), float("nan")), "finite")):
        with pytest.raises(InputError, match=why):
            rm.normalize_input_(nn.Linear(3, 3), wrong)


def test_symmetric_units_are_drawn_anew_and_silent_ends_stay() -> None:
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 4))
    with torch.no_grad():
        model[0].weight.fill_(0.5)
        model[2].weight[5:9] = model[2].weight[4]
        model[4].weight.zero_()
    kept = model[2].weight.detach().clone()
    report = rm.break_symmetry_(model, torch.randn(8, 64))
    assert {c.name for c in report.changes} == {"0.weight", "2.weight"}
    assert len(torch.unique(model[0].weight.detach(), dim=0)) == 128
    assert model[0].weight.std().item() == pytest.approx(1 / 8, rel=0.05)
    rest = [i for i in range(128) if not 5 <= i < 9]
    assert torch.equal(model[2].weight[rest], kept[rest])
    assert len(torch.unique(model[2].weight.detach(), dim=0)) == 128
    assert not model[4].weight.any()


# ---- units whose input lies far from zero ----------------------------------------------------------------------


@pytest.mark.parametrize("norm", [False, True])
def test_units_are_centered_one_layer_after_the_other(norm: bool) -> None:
    """The second layer's units are far off only before the first one's are centered, or by a bias of their own."""
    torch.manual_seed(0)
    norms = [nn.BatchNorm1d(32)] if norm else []
    model = nn.Sequential(nn.Linear(8, 32), *norms, nn.ReLU(), nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 3))
    first = model[1] if norm else model[0]
    nn.init.constant_(first.bias, -6.0)
    with torch.no_grad():
        model[-3].bias[:4] = 9.0
    before, x = state(model), torch.randn(256, 8)
    report = rm.center_units_(model, x)
    into_tanh = model[:-2](x)
    assert [c.reason for c in report.changes] == ["32 of 32 units centered", report.changes[1].reason]
    assert into_tanh[:, :4].mean(0).abs().max() < 1e-4
    changed = {
        n for n, t in state(model).items() if not torch.equal(t, before[n]) and n.endswith(("weight", "bias"))
    }
    assert changed == {f"{'1' if norm else '0'}.bias", f"{len(model) - 3}.bias"}


def test_units_that_are_not_far_off_stay() -> None:
    model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3))
    assert not rm.center_units_(model, torch.randn(256, 8)).changes


def test_a_layer_without_a_bias_of_its_own_is_named() -> None:
    shared = nn.Linear(8, 8)
    nn.init.constant_(shared.bias, -20.0)
    nn.init.constant_((plain := nn.Linear(8, 8, bias=False)).weight, -3.0)
    model = nn.Sequential(
        shared, nn.ReLU(), shared, nn.ReLU(), nn.Softplus(), plain, nn.ReLU(), nn.Linear(8, 2)
    )
    report = rm.center_units_(model, torch.randn(64, 8))
    assert not report.changes
    assert "used more than once" in report.problems[0]
    assert "no bias" in report.problems[-1]
    with pytest.raises(InputError, match="far is 0"):
        rm.center_units_(model, torch.randn(64, 8), far=0)


class Gated(nn.Module):
    """A highway layer, closed at first, and two heads: how likely something rare is, and scores."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.gate = nn.Linear(8, 8), nn.Linear(8, 8)
        self.rare, self.scores = nn.Linear(8, 1), nn.Linear(8, 3)
        for layer, bias in ((self.hidden, -9.0), (self.gate, -4.0), (self.rare, -4.6)):
            nn.init.constant_(layer.bias, bias)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h, t = F.relu(self.hidden(x)), self.gate(x).sigmoid()
        x = t * h + (1 - t) * x
        return {"rare": torch.sigmoid(self.rare(x)), "scores": self.scores(x)}


def test_outputs_behind_a_last_function_and_gates_keep_their_biases() -> None:
    model, x = Gated(), torch.randn(128, 8)
    rm.center_units_(model, x)
    assert model.gate.bias.eq(-4.0).all()
    assert model.rare.bias.eq(-4.6).all()
    last = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1), nn.Sigmoid())
    nn.init.constant_(last[2].bias, -4.6)
    assert not rm.center_units_(last, x).changes


SETS_VALUES = (
    "init_",
    "lsuv_",
    "scale_head_",
    "zero_residual_ends_",
    "recalibrate_",
    "break_symmetry_",
    "center_units_",
)


@pytest.mark.parametrize("name", SETS_VALUES)
def test_parameters_of_a_compiled_model_go_by_their_own_names(name: str) -> None:
    model, x = residual(NormBlock), torch.randn(8, 3, 10, 10) * 3
    with torch.no_grad():
        model[1].conv1.weight.zero_()
    report = REMEDIES[name](torch.compile(model, backend="eager"), x)
    known = {n for n, _ in [*model.named_parameters(), *model.named_buffers()]}
    assert report.changes
    assert {c.name for c in report.changes} <= known
