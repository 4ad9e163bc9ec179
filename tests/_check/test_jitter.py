"""batch_jitter: what depends on the batch is told from what does not, in the right size, and nothing is left behind."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import Tensor, nn

import unitgain as ug
from unitgain import InputError


@pytest.fixture
def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))


def test_jitter_begins_at_the_first_batch_norm_and_falls_with_the_size(net) -> None:
    result = ug.batch_jitter(net, torch.randn(64, 6), sizes=[4, 32])
    assert result.sites == ("0", "1", "2", "3", "4")
    assert result.norms == ("1",)
    assert result.at("0", 4) < 1e-5
    assert result.at("1", 4) > 1.5 * result.at("1", 32) > 0.01
    assert result.at("2", 4) == result.at("3", 4)  # dropout is off
    assert result.outputs[4].shape == (16, 3)


def test_the_jitter_is_the_std_over_batches_relative_to_that_over_examples() -> None:
    """Of a layer that subtracts the batch's mean, where it can be computed by hand."""

    class Centred(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x - x.mean(0)

    torch.manual_seed(0)
    x = torch.randn(400, 50)
    found = ug.batch_jitter(nn.Sequential(Centred()), x, sizes=10, draws=200).at("0", 10)
    assert found == pytest.approx(math.sqrt(9) / 10, rel=0.1)  # nine of the ten are drawn


def test_a_network_whose_examples_are_independent_is_said_to_be(net) -> None:
    result = ug.batch_jitter(nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8)), torch.randn(64, 6))
    assert result.sizes == (4, 8, 16, 32)
    assert "the same in every batch" in result.summary


def test_layers_where_examples_cannot_be_told_apart_are_left_blank(net) -> None:
    with torch.no_grad():
        net[1].weight.zero_()
    result = ug.batch_jitter(net, torch.randn(16, 6))
    assert math.isnan(result.at("1", result.sizes[0]))
    assert json.loads(result.to_json())["jitter"]["2"][1] is None
    result.plot().canvas.draw()


def test_the_model_and_the_random_numbers_are_put_back(net) -> None:
    net.eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    random = torch.get_rng_state()
    ug.batch_jitter(net, torch.randn(16, 6, generator=torch.Generator().manual_seed(0)))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(module.training or module._forward_hooks for module in net.modules())
    assert torch.equal(torch.get_rng_state(), random)


def test_a_picture_shows_the_outputs_of_every_size_and_the_norms(net) -> None:
    result = ug.batch_jitter(net, torch.randn(32, 6), sizes=(2, 8))
    outputs, depth = result.plot().axes
    assert [line.get_label() for line in outputs.lines[:2]] == ["batches of 2", "batches of 8"]
    assert "BatchNorm" in [text.get_text() for text in depth.get_legend().get_texts()]
    assert "batches of 8" in result._repr_html_()


WRONG = [
    ({"sizes": [1]}, "sizes"),
    ({"sizes": [64]}, "from 2 to 16"),
    ({"example": 16}, "example"),
    ({"draws": 1}, "draws"),
]


@pytest.mark.parametrize(("given", "said"), WRONG)
def test_what_does_not_fit_is_refused_by_name(net, given, said) -> None:
    with pytest.raises(InputError, match=said):
        ug.batch_jitter(net, torch.randn(16, 6), **given)
    with pytest.raises(InputError, match="at least 4"):
        ug.batch_jitter(net, torch.randn(2, 6))


def test_a_site_that_is_mistyped_gets_a_suggestion(net) -> None:
    model = nn.Sequential()
    model.add_module("linear", net[0])
    model.add_module("norm", net[1])
    with pytest.raises(InputError, match="did you mean 'linear'"):
        ug.batch_jitter(model, torch.randn(16, 6)).at("lineer", 4)
