"""landscape: the middle is the loss, every filter moves by its own norm, and nothing is left behind."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unitgain as ug
from unitgain import InputError
from unitgain._check.landscape import random_direction
from unitgain.probe import list_parameters
from unitgain.report import Landscape


class Net(nn.Module):
    """A part of every kind: convolution, BatchNorm, dropout, a layer scale, a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.scale = nn.Parameter(torch.ones(6, 1, 1))
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:  # (B, 1, H, W)
        x = x + self.scale * F.relu(self.norm(self.conv(x)))
        return self.head(self.drop(x.mean((2, 3))))


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    model = Net()
    model.norm.running_mean.fill_(50.0)  # stale: in evaluation mode the loss would be another one
    return model


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(16, 1, 5, 5), torch.arange(16) % 3


def without_dropout(model: Net, batch: tuple[Tensor, Tensor]) -> float:
    """The loss with the batch's statistics, which the landscape is to show in its middle."""
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    model.drop.eval()
    loss = F.cross_entropy(model(batch[0]), batch[1])
    model.train()
    model.load_state_dict(kept)
    return float(loss.detach())


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_the_middle_is_the_loss_with_the_batchs_statistics_and_no_dropout(net, batch) -> None:
    for dims in (1, 2):
        result = ug.landscape(net, batch, points=3, dims=dims)
        assert result.loss == without_dropout(net, batch)
        assert result.losses.shape == (3,) * dims


def test_the_loss_off_the_middle_is_that_of_the_moved_weights(net, batch) -> None:
    result = ug.landscape(net, batch, points=5, span=0.5)
    moving = [p for p in list_parameters(net) if p.name in ("conv.weight", "head.weight")]
    first, second = random_direction(moving, 0), random_direction(moving, 1)
    with torch.no_grad():
        for (parameter, a), (_, b) in zip(first, second):
            parameter += 0.25 * a - 0.5 * b
    assert result.losses[0, 3] == pytest.approx(without_dropout(net, batch), rel=1e-5)


def test_statistics_that_a_pass_wrote_do_not_reach_the_next_point(net, batch) -> None:
    once, twice = (ug.landscape(net, batch, points=3, span=2) for _ in range(2))
    assert np.array_equal(once.losses, twice.losses)
    net.norm.momentum = 1.0
    assert np.array_equal(ug.landscape(net, batch, points=3, span=2).losses, once.losses)


def test_every_filter_of_a_direction_has_the_norm_of_the_filter() -> None:
    layers = nn.ModuleDict(
        {
            "conv": nn.Conv2d(4, 6, 3, groups=2),
            "up": nn.ConvTranspose2d(4, 6, 2, groups=2),
            "line": nn.Linear(5, 3),
            "table": nn.Embedding(7, 2),
        }
    )
    with torch.no_grad():
        layers["line"].weight[1] = 0  # type: ignore[index]
    moving = [p for p in list_parameters(layers) if p.tensor.dim() > 1]
    for parameter, (tensor, step) in zip(moving, random_direction(moving, 3)):
        if (
            parameter.name == "up.weight"
        ):  # (inputs, outputs of a group, ...): a filter is one output of one group
            tensor, step = (x.unflatten(0, (2, 2)).transpose(1, 2).flatten(0, 1) for x in (tensor, step))
        assert torch.allclose(step.flatten(1).norm(dim=1), tensor.flatten(1).norm(dim=1), rtol=1e-5)
        assert not torch.allclose(step, tensor)


def test_biases_norms_layer_scales_and_what_is_frozen_stay(net, batch) -> None:
    assert ug.landscape(net, batch, points=3).moved == net.conv.weight.numel() + net.head.weight.numel()
    net.conv.weight.requires_grad_(False)
    assert ug.landscape(net, batch, points=3).moved == net.head.weight.numel()
    net.head.weight.requires_grad_(False)
    with pytest.raises(InputError, match="no trainable weight matrix"):
        ug.landscape(net, batch, points=3)


def test_a_model_is_put_back_bit_for_bit_with_and_without_training(net, batch) -> None:
    before, modes = state(net), [m.training for m in net.modules()]
    net.conv.weight.grad = torch.ones_like(net.conv.weight)
    torch.manual_seed(5)
    random = torch.get_rng_state()
    plain = ug.landscape(net, batch, points=3)
    trained = ug.landscape(net, batch, points=3, steps=20, optimizer="momentum")
    assert trained.loss < plain.loss
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert [m.training for m in net.modules()] == modes
    assert torch.equal(net.conv.weight.grad, torch.ones_like(net.conv.weight))
    assert torch.equal(torch.get_rng_state(), random)


def test_a_model_that_raises_off_the_middle_is_put_back_too(batch) -> None:
    class Fragile(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            if not torch.equal(self.weight, self.kept):
                raise RuntimeError("only at home")
            return super().forward(x.flatten(1))

    model = Fragile(25, 3)
    model.kept = model.weight.detach().clone()
    with pytest.raises(InputError, match="only at home"):
        ug.landscape(model, batch, points=3)
    assert torch.equal(model.weight, model.kept)


def test_a_model_that_draws_sees_the_same_numbers_at_every_point(batch) -> None:
    class Noisy(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.flatten(1)) + torch.randn(len(x), 3)

    model = Noisy(25, 3)
    with torch.no_grad():
        model.weight.zero_()  # a filter of norm zero does not move: all differences would be noise
    assert len(set(ug.landscape(model, batch, points=5).losses.ravel().tolist())) == 1


def test_progress_counts_every_point(net, batch) -> None:
    seen: list[tuple[int, int]] = []
    ug.landscape(net, batch, points=3, dims=1, progress=lambda done, total, what: seen.append((done, total)))
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]


WRONG = [
    ({"points": 4}, "odd number"),
    ({"dims": 3}, "dims"),
    ({"span": 0}, "span"),
    ({"steps": 5, "optimizer": "adamm"}, "did you mean"),
    ({"loss": None}, "loss"),
]


@pytest.mark.parametrize(("given", "said"), WRONG)
def test_what_does_not_fit_is_refused_by_name(net, batch, given, said) -> None:
    with pytest.raises(InputError, match=said):
        ug.landscape(net, batch, **{"points": 3, **given})


def test_a_batch_without_targets_has_no_loss_to_draw(net, batch) -> None:
    with pytest.raises(InputError, match="no loss to draw"):
        ug.landscape(net, batch[0], points=3)


# ---- the result ----------------------------------------------------------------------------------------------


def bowl(**given) -> Landscape:
    axis = (-1.0, -0.5, 0.0, 0.5, 1.0)
    a, b = np.meshgrid(axis, axis)
    return Landscape("Bowl", "mse", axis, 2 + (a - 0.5) ** 2 + b**2, moved=10, kept=2, **given)


def test_a_result_says_where_its_lowest_point_lies() -> None:
    result = bowl()
    assert result.lowest == (2.0, (0.5, 0.0))
    assert "lowest on this plane is 2, at (+0.5, +0)" in result.summary
    assert str(result).startswith("Bowl: Loss 2.25 at the weights")
    assert bowl(steps=20).conditions().startswith("after 20 steps")


def test_points_that_are_not_finite_are_counted_and_left_blank() -> None:
    result = bowl()
    result.losses[0, :2] = math.nan, math.inf
    assert "At 2 of 25 points the loss is NaN or infinite" in result.summary
    figure = result.plot()
    figure.canvas.draw()
    assert json.loads(result.to_json())["losses"][0][:2] == [None, None]


def test_a_picture_of_two_has_one_scale_and_a_logarithm_where_it_is_needed() -> None:
    steep = bowl()
    steep.losses[:] = steep.losses * 100
    figure = ug.plots.landscape([bowl(), steep], labels=["flat", "steep"])
    figure.canvas.draw()
    planes = [axes for axes in figure.axes if axes.get_xlabel() == "first direction"]
    limits = [axes.collections[0].get_clim() for axes in planes]
    assert limits[0] == limits[1] == (2.0, 525.0)
    assert [axes.get_title(loc="left") for axes in figure.axes if axes.name == "3d"] == ["flat", "steep"]
    assert figure.axes[0].get_zlabel() == "log10 of the loss"


def test_lines_are_drawn_in_one_panel_and_never_with_planes(net, batch) -> None:
    line = ug.landscape(net, batch, points=3, dims=1)
    assert len(ug.plots.landscape([line, line]).axes) == 1
    with pytest.raises(InputError, match="draw them apart"):
        ug.plots.landscape([line, bowl()])
    with pytest.raises(InputError, match="got Record"):
        ug.plots.landscape(ug.Record())  # type: ignore[arg-type]


def test_a_card_has_the_picture_and_a_file_its_suffix_names(tmp_path: Path) -> None:
    result = bowl()
    assert "data:image/jpeg;base64" in result._repr_html_()
    assert len(result._repr_html_()) < 60_000
    for name in ("a.png", "a.svg", "a.json"):
        result.save(tmp_path / name)
        assert (tmp_path / name).stat().st_size > 400
    with pytest.raises(InputError, match="must end in"):
        result.save(tmp_path / "a.html")
