"""What runs after what, as it runs."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from architectures import NormBlock, PlainBlock, TiedAutoencoder, UNet, residual
from torch import Tensor, nn

import unitgain as ug
from unitgain import InputError
from unitgain.remedies import wiring_of


class OutOfOrder(nn.Module):
    """Registered last to first, with a functional slope, and a norm with two uses."""

    def __init__(self) -> None:
        super().__init__()
        self.out, self.norm, self.second, self.first = (
            nn.Linear(8, 3),
            nn.LayerNorm(8),
            nn.Linear(8, 8),
            nn.Linear(4, 8),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout(F.leaky_relu_(self.first(x), 0.3), 0.1, self.training)
        return self.out(self.norm(self.second(x)).view(-1, 8))


def neighbours(model: nn.Module, x: Tensor) -> dict[str, tuple[str, str]]:
    wiring = wiring_of(model, x)
    return {w.name: (wiring.before(w).kind, wiring.after(w).kind) for w in wiring.weights()}


def test_execution_order_not_registration_order() -> None:
    assert neighbours(OutOfOrder(), torch.randn(5, 4)) == {
        "first": ("data", "activation"),
        "second": ("activation", "norm"),
        "out": ("norm", "output"),
    }


def test_modules_called_input_and_output_are_no_input_and_no_output() -> None:
    layers = [
        ("input", nn.Linear(4, 8)),
        ("relu", nn.ReLU()),
        ("output", nn.Linear(8, 8)),
        ("tanh", nn.Tanh()),
    ]
    assert neighbours(nn.Sequential(OrderedDict(layers)), torch.randn(5, 4)) == {
        "input": ("data", "activation"),
        "output": ("activation", "activation"),
    }


def test_a_functional_slope_is_known() -> None:
    wiring = wiring_of(OutOfOrder(), torch.randn(5, 4))
    slope = wiring.before(wiring.nodes["second"]).function
    assert slope is not None
    assert float(slope(torch.tensor(-1.0))) == pytest.approx(-0.3)


def test_concatenation_bare_parameters_and_branches() -> None:
    unet = wiring_of(UNet(), torch.randn(2, 3, 8, 8))
    assert unet.before(unet.nodes["out"]).label == "leaky_relu"
    tied = wiring_of(TiedAutoencoder(), torch.randn(4, 64))
    assert [w.parameters for w in tied.weights()] == [
        ("encoder.weight", "encoder.bias"),
        ("encoder.weight", "bias"),
    ]
    found = wiring_of(residual(PlainBlock), torch.randn(2, 3, 8, 8)).branches()
    weights = [n.name for n in found[0].nodes if n.module is not None]
    assert len(found) == 3
    assert weights == ["1.first", "1.last"]
    assert len(wiring_of(residual(NormBlock), torch.randn(4, 3, 8, 8)).branches()) == 3


def test_an_activation_of_ones_own_is_found_by_trying() -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * torch.sigmoid(2 * x)

    wiring = wiring_of(nn.Sequential(nn.Linear(4, 4), Odd(), nn.Linear(4, 4)), torch.randn(3, 4))
    assert wiring.before(wiring.nodes["2"]).kind == "activation"


def test_theory_predicts_a_model_through_its_wiring() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(512, 512), nn.Tanh(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 512))
    x = torch.randn(256, 512)
    predicted = ug.theory.predict(wiring_of(model, x).layers())
    for i, p in zip((0, 2, 4), predicted):
        assert model[: i + 1](x).std().item() == pytest.approx(p.pre_std, rel=0.05)
    with pytest.raises(InputError, match="more than a stack"):
        wiring_of(residual(PlainBlock), torch.randn(2, 3, 8, 8)).layers()


def test_nothing_is_left_behind() -> None:
    model = residual(NormBlock).eval()
    buffers = {n: b.clone() for n, b in model.named_buffers()}
    x, state = torch.randn(4, 3, 8, 8), torch.get_rng_state()
    wiring_of(model, x)
    assert not any(m.training for m in model.modules())
    assert all(torch.equal(b, buffers[n]) for n, b in model.named_buffers())
    assert torch.equal(state, torch.get_rng_state())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
