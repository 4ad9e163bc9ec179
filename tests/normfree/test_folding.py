"""What convert(mode="preserve") and fold must not do: change the function, forget a norm, or say that they had."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from normfree_networks import IMAGES, NETWORKS, Row, conv, drawn
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import unitgain as ug
from unitgain import InputError
from unitgain._batch import Batch, tensors_in
from unitgain.normfree import convert, fold, rebuild
from unitgain.normfree.proving import distance
from unitgain.normfree.reading import count_batch_norms

ROWS = [pytest.param(row, id=name) for name, row in NETWORKS.items()]


def out(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    with torch.no_grad():
        return [t.clone() for t in tensors_in(model.eval()(x.clone()))]


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("mode", ["preserve", "fold"])
def test_the_function_stays_and_each_norm_becomes_what_the_table_says(row: Row, mode: str) -> None:
    model = drawn(row.make()).double()
    x = torch.randn(row.shape, dtype=torch.float64)
    wanted = out(model, x)
    report = convert(model, x, mode)
    assert " ".join(c.how for c in report.changes) == ((mode == "fold" and row.fold) or row.preserve)
    assert distance(out(report.model, x), wanted) < 1e-9
    other = torch.randn(row.shape, dtype=torch.float64)
    fresh = drawn_like(row, report, mode)
    assert fresh is None or distance(out(report.model, other), out(fresh, other)) < 1e-9
    assert all(p.dtype == torch.float64 for p in report.model.parameters())
    if not report.refused:
        assert count_batch_norms(report.model, Batch((x,)), training=True) == 0
        assert report.batch_norms[1] == 0
    if mode == "fold":
        assert report.classes_left == []


def drawn_like(row: Row, report: object, mode: str) -> nn.Module | None:
    """The original once more: the seed of every test is the same."""
    torch.manual_seed(0)
    return drawn(row.make()).double()


@pytest.mark.parametrize("row", ROWS)
def test_in_float32_it_is_no_further_from_the_truth_than_twice_the_original(row: Row) -> None:
    model = drawn(row.make())
    x = torch.randn(row.shape)
    truth = out(copy.deepcopy(model).double(), x.double())
    own = distance([t.double() for t in out(model, x)], truth)
    convert(model, x, "preserve")
    assert distance([t.double() for t in out(model, x)], truth) <= 2 * own + 2e-7
    assert all(p.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize("row", ROWS)
def test_what_preserve_leaves_folds_to_the_same_as_the_original(row: Row) -> None:
    model = drawn(row.make()).double()
    x = torch.randn(row.shape, dtype=torch.float64)
    wanted = out(model, x)
    convert(model, x, "preserve")
    report = fold(model, x)
    assert distance(out(report.model, x), wanted) < 1e-9
    assert report.classes_left == []


@pytest.mark.parametrize("mode", ["preserve", "fold"])
@pytest.mark.parametrize("row", ROWS)
def test_a_second_conversion_changes_nothing_and_the_structure_can_be_rebuilt(row: Row, mode: str) -> None:
    model = drawn(row.make())
    x = torch.randn(row.shape)
    report = convert(model, x, mode)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    again = convert(model, x, mode)
    assert again.edits == []
    assert list(model.state_dict()) == list(state)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    new = rebuild(row.make(), [e.to_dict() for e in report.edits])
    new.load_state_dict(state)
    assert all(torch.equal(a, b) for a, b in zip(out(new, x), out(model, x)))


def test_preserve_has_the_gradients_of_the_frozen_norm() -> None:
    """The "tune" form: same steps as training with frozen statistics, not those of a folded weight."""
    model = drawn(nn.Sequential(conv(3, 4), nn.BatchNorm2d(4), nn.ReLU(), conv(4, 2, bias=True))).double()
    x = torch.randn(IMAGES, dtype=torch.float64)
    mean = model[1].running_mean.clone()
    model.eval()(x).square().sum().backward()
    weight, gain, shift = (
        model[0].weight.grad.clone(),
        model[1].weight.grad.clone(),
        model[1].bias.grad.clone(),
    )
    model.zero_grad()
    convert(model, x, "preserve")
    model.train()(x).square().sum().backward()
    step = model[0].parametrizations.weight
    assert torch.allclose(step.original.grad, weight)
    assert torch.allclose(model[0].bias.grad, shift)
    # the shift is a parameter of its own now: the mean's part of the gain's gradient has gone over to it
    assert torch.allclose(step[0].gain.grad - mean * step[0].inverse_std * shift, gain)


def test_preserve_trains_at_batch_size_one_for_a_hundred_steps() -> None:
    model = drawn(nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                                nn.Linear(8, 2)))  # fmt: skip
    convert(model, torch.randn(IMAGES), "preserve")
    optimizer = torch.optim.SGD(model.parameters(), 0.3)
    ug.optim.AGC(optimizer, model, clipping=0.1)
    x, y = torch.randn(20, 3, 7, 7), torch.arange(20) % 2
    x[y == 1] += 1
    losses = []
    for step in range(100):
        loss = nn.functional.cross_entropy(model(x[step % 20][None]), y[step % 20][None])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-20:]) < 0.7 * sum(losses[:20])


def test_a_frozen_gain_stays_frozen() -> None:
    model = drawn(nn.Sequential(conv(3, 4), nn.BatchNorm2d(4)))
    model[1].requires_grad_(False)
    convert(model, torch.randn(IMAGES), "preserve")
    assert [n for n, p in model.named_parameters() if p.requires_grad] == [
        "0.parametrizations.weight.original"
    ]


def test_the_optimizer_keeps_the_weights_that_it_had() -> None:
    model = drawn(nn.Sequential(conv(3, 4), nn.BatchNorm2d(4)))
    weight = model[0].weight
    convert(model, torch.randn(IMAGES), "preserve")
    assert model[0].parametrizations.weight.original is weight


def test_an_error_in_the_middle_leaves_the_model_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    model = drawn(nn.Sequential(conv(3, 4), nn.BatchNorm2d(4), nn.ReLU()))
    state = {k: v.clone() for k, v in model.state_dict().items()}
    modules = list(model.modules())
    from unitgain.normfree import folding

    def stops(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(folding, "_set_affine", stops)
    monkeypatch.setattr(folding, "scaled_outputs", stops)
    monkeypatch.setattr(folding.nn.Module, "requires_grad_", nn.Module.requires_grad_)
    with pytest.raises(KeyboardInterrupt):
        fold(model, torch.randn(IMAGES))
    assert list(model.modules()) == modules
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_copy_leaves_the_model_alone() -> None:
    model = drawn(nn.Sequential(conv(3, 4), nn.BatchNorm2d(4)))
    report = convert(model, torch.randn(IMAGES), "fold", copy=True)
    assert isinstance(model[1], nn.BatchNorm2d)
    assert isinstance(report.model[1], nn.Identity)


def test_modes_and_flags_stay() -> None:
    model = drawn(nn.Sequential(conv(3, 4), nn.BatchNorm2d(4), nn.ReLU()))
    model[2].eval()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    convert(model, torch.randn(IMAGES), "fold")
    assert torch.equal(model[0].weight.grad, torch.ones_like(model[0].weight))
    assert [m.training for m in model.modules()] == [True, True, True, False]


def test_a_norm_with_an_activation_inside_keeps_it() -> None:
    class NormAct(nn.BatchNorm2d):
        def __init__(self, channels: int):
            super().__init__(channels)
            self.drop, self.act = nn.Identity(), nn.SiLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = nn.functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, self.training, 0.1, self.eps
            )
            return self.act(self.drop(y))

    model = drawn(nn.Sequential(conv(3, 4), NormAct(4), nn.MaxPool2d(2), NormAct(4))).double()
    x = torch.randn(IMAGES, dtype=torch.float64)
    wanted = out(model, x)
    report = fold(model, x)
    assert [c.how for c in report.changes] == ["absorbed", "affine"]
    assert distance(out(model, x), wanted) < 1e-9
    assert [type(m).__name__ for m in model[1]] == ["SiLU"]


@pytest.mark.parametrize(
    ("mode", "batch", "part"),
    [
        ("freeze", torch.randn(IMAGES), "preserve"),
        ("fold", torch.randn(1, 3, 7, 7), "at least two"),
        ("fold", torch.randn(4, 5, 7, 7), "expected input"),
    ],
)
def test_mistakes_are_named_in_one_line(mode: str, batch: torch.Tensor, part: str) -> None:
    model = nn.Sequential(conv(3, 4), nn.BatchNorm2d(4))
    with pytest.raises(InputError, match=part):
        convert(model, batch, mode)
    assert isinstance(model[1], nn.BatchNorm2d)


def test_fold_without_a_batch_asks_for_one_where_order_matters() -> None:
    with pytest.raises(InputError, match="needed to find out what runs before 1"):
        fold(nn.Sequential(conv(3, 4), nn.BatchNorm2d(4)))


@pytest.mark.parametrize("name", ["nf_resnet_tiny", "nfnet_tiny", "nf_regnet_tiny"])
def test_our_own_networks_fold_with_their_alphas_and_skip_gains(name: str) -> None:
    if name not in ug.models.names():
        pytest.skip(f"no model {name}")
    model = ug.models.create(name, num_classes=3).double().eval()
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith("skipinit_gain"):
            nn.init.constant_(parameter, 0.7)
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    wanted = out(model, x)
    report = fold(model, x)
    assert distance(out(model, x), wanted) < 1e-9
    assert not any(n.endswith("skipinit_gain") for n, _ in report.model.named_parameters())
    assert not {n for n in report.classes_left if n.startswith("ScaledStd")}


def test_scaled_std_on_a_layer_of_the_user_is_folded() -> None:
    """fold_ ignores parametrizations."""
    model = nn.Sequential(ug.nn.scaled_std_(conv(3, 4), gamma="relu"), nn.ReLU())
    x = torch.randn(IMAGES)
    wanted = out(model, x)
    report = fold(model, x)
    assert report.classes_left == []
    assert torch.allclose(out(model, x)[0], wanted[0], atol=1e-6)


def test_dead_channels_are_named() -> None:
    model = NETWORKS["zero gains and dead channels"].make()
    report = convert(model, torch.randn(IMAGES), "preserve")
    assert any(note.startswith("1: 1 channels") for note in report.notes)


def test_what_is_folded_can_be_scripted_traced_exported_and_followed_by_fx() -> None:
    model = drawn(
        nn.Sequential(conv(3, 4, stride=2), nn.BatchNorm2d(4), nn.ReLU(), conv(4, 4), nn.BatchNorm2d(4))
    )
    x = torch.randn(IMAGES)
    fold(model, x)
    wanted = out(model, x)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        traced = torch.jit.trace(model, x)
    exported = torch.export.export(model, (x,)).module()
    followed = torch.fx.symbolic_trace(model)
    for other in (traced, exported, followed):
        assert torch.allclose(other(x), wanted, atol=1e-6)


def test_hooks_that_go_with_a_norm_are_named() -> None:
    model = drawn(nn.Sequential(conv(3, 4), nn.BatchNorm2d(4)))
    model[1].register_forward_hook(lambda *_: None)
    assert "1: it has hooks, which go with it" in fold(model, torch.randn(IMAGES)).notes


def test_folding_a_copy_leaves_the_original_its_weights() -> None:
    """torch gives a deep copy of a parametrized layer the same class, and removing took the weight from both."""
    x = torch.randn(4, 3, 6, 6)
    model = nn.Sequential(
        weight_norm(conv(3, 4)), nn.BatchNorm2d(4), nn.ReLU(), ug.nn.scaled_std_(conv(4, 4))
    )
    preserved = convert(model, x, "preserve", copy=True).model
    for original in (model, preserved):
        wanted = original.eval()(x)
        folded = fold(original, x, copy=True).model
        ug.nn.fold_(copy.deepcopy(original))
        assert torch.equal(original(x), wanted)
        assert torch.allclose(folded.eval()(x), wanted, atol=1e-5)


class OnGraph(nn.Module):
    """A graph convolution: the degrees' inverse square roots are NaN for noise in the place of the adjacency."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(4, 6), nn.BatchNorm1d(6)

    def forward(self, x: torch.Tensor, adjacency: torch.Tensor) -> torch.Tensor:
        scale = adjacency.sum(-1, keepdim=True).rsqrt()  # (B, nodes, 1)
        h = scale * (adjacency @ (scale * self.layer(x)))
        return self.norm(h.flatten(0, 1)).view(h.shape)


def test_a_model_that_makes_nan_of_noise_is_proved_on_its_batch() -> None:
    """All of its norms were refused: NaN is not equal to itself."""
    model = drawn(OnGraph())
    inputs = {"x": torch.randn(4, 5, 4), "adjacency": torch.rand(4, 5, 5) + 0.1}
    report = convert(model, inputs, "preserve")
    assert [c.how for c in report.changes] == ["affine"]
    assert report.distance is not None
    assert report.distance < 1e-9
    wanted = [torch.tensor([1.0, float("nan"), float("inf")])]
    assert distance([torch.tensor([1.0, float("nan"), float("inf")])], wanted) == 0
    assert distance([torch.tensor([1.0, float("nan"), 1.0])], wanted) == float("inf")
