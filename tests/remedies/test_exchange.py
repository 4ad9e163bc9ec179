"""Other gains, activations and norms for a network as it is: what changes, what stays, what is refused by name."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unitgain as ug
from unitgain import InputError, remedies
from unitgain.remedies import Snapshot, exchange_activations_, exchange_norms_, set_gain_


class Functions(nn.Module):
    """Activations that are called as functions, one of them in place; a sigmoid that is a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.g = (
            nn.Linear(8, 16),
            nn.Linear(16, 16),
            nn.Linear(16, 3),
            nn.Linear(8, 16),
        )

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.a(x)) * torch.sigmoid(self.g(x))
        h = self.b(h)
        h.relu_()
        return self.c(h)


def perceptron() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3))


def normalized() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 3))


# ---- gains ---------------------------------------------------------------------------------------------------


def test_a_gain_of_1_is_a_std_of_1_over_the_root_of_fan_in_and_the_last_layer_stays() -> None:
    model = perceptron()
    head = model[4].weight.detach().clone()
    directions = [F.normalize(model[i].weight.detach().flatten(), dim=0) for i in (0, 2)]
    set_gain_(model, torch.randn(4, 8), 1.0)
    for i, fan_in, direction in ((0, 8, directions[0]), (2, 32, directions[1])):
        weight = model[i].weight.detach()
        assert float(weight.square().mean().sqrt()) * math.sqrt(fan_in) == pytest.approx(1.0, rel=1e-5)
        assert torch.allclose(F.normalize(weight.flatten(), dim=0), direction, atol=1e-6)
    assert torch.equal(model[4].weight, head)


def test_without_division_by_fan_in_the_gain_is_the_std_itself() -> None:
    model = perceptron()
    set_gain_(model, torch.randn(4, 8), 0.2, fan_in=False)
    assert float(model[2].weight.detach().square().mean().sqrt()) == pytest.approx(0.2, rel=1e-5)


def test_the_automatic_gain_is_that_of_the_activation_in_front() -> None:
    model = perceptron()
    set_gain_(model, torch.randn(4, 8))
    assert float(model[2].weight.detach().square().mean().sqrt()) * math.sqrt(32) == pytest.approx(
        math.sqrt(2), rel=1e-4
    )


def test_a_standardized_layer_has_its_gains_set_since_its_weight_has_no_scale() -> None:
    model = nn.Sequential(ug.nn.ScaledStdLinear(8, 32, gamma="relu"), nn.ReLU(), nn.Linear(32, 3))
    set_gain_(model, torch.randn(4, 8), 3.0)
    norm = model[0].standardized_weight().flatten(1).norm(dim=1)
    assert torch.allclose(norm, torch.full_like(norm, 3.0), rtol=1e-3)


@pytest.mark.parametrize("gain", [0, -1.0, math.nan, "large", None])
def test_what_is_no_gain_is_refused(gain: object) -> None:
    with pytest.raises(InputError, match="gain"):
        set_gain_(perceptron(), torch.randn(4, 8), gain)  # type: ignore[arg-type]


def test_a_single_layer_has_none_to_rescale() -> None:
    with pytest.raises(InputError, match="no layer before its last"):
        set_gain_(nn.Sequential(nn.Linear(8, 3)), torch.randn(4, 8), 1.0)


# ---- activations ---------------------------------------------------------------------------------------------


def test_functions_in_a_forward_are_exchanged_and_a_gate_stays() -> None:
    model, x = Functions(), torch.randn(5, 8)
    report = exchange_activations_(model, x, "tanh")
    h = torch.tanh(model.a(x)) * torch.sigmoid(model.g(x))
    assert torch.equal(model(x), model.c(torch.tanh(model.b(h))))
    assert any("sigmoid" in note and "gate" in note for note in report.notes)


def test_a_probe_sees_the_function_that_really_runs() -> None:
    model, x = Functions(), torch.randn(64, 8)
    exchange_activations_(model, x, "tanh")
    record = ug.check(model, (x, torch.randint(0, 3, (64,)))).record
    names = [s.name for s in record.sites("activation") if s.attributes.get("role") == "activation"]
    assert sum("tanh" in name for name in names) == 2
    assert not any("relu" in name for name in names)


def test_what_was_exchanged_is_put_back_by_a_snapshot() -> None:
    model, x = Functions(), torch.randn(5, 8)
    before, output = Snapshot(model), model(x)
    exchange_activations_(model, x, "tanh")
    assert not torch.equal(model(x), output)
    before.restore()
    assert "forward" not in vars(model)
    assert torch.equal(model(x), output)


def test_an_output_function_is_no_hidden_one() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3), nn.Sigmoid())
    exchange_activations_(model, torch.randn(4, 8), "gelu")
    assert isinstance(model[1], nn.GELU)
    assert isinstance(model[3], nn.Sigmoid)


def test_a_model_without_activations_is_told_so() -> None:
    with pytest.raises(InputError, match="no activation function"):
        exchange_activations_(nn.Sequential(nn.Linear(8, 3)), torch.randn(4, 8), "tanh")
    with pytest.raises(InputError, match="did you mean 'gelu'"):
        exchange_activations_(perceptron(), torch.randn(4, 8), "gleu")


# ---- norms ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", remedies.NORM_KINDS)
@pytest.mark.parametrize("make", [perceptron, normalized])
def test_every_norm_fits_and_the_network_trains(kind: str, make) -> None:
    model = make()
    x = torch.randn(6, 8) if make is perceptron else torch.randn(6, 1, 8, 8)
    if kind == "instance" and make is perceptron:
        with pytest.raises(InputError, match=r"instance.*no pixels"):
            exchange_norms_(model, x, kind)
        return
    exchange_norms_(model, x, kind)
    model(x).square().mean().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_what_a_norm_has_learnt_stays_when_it_no_longer_normalizes() -> None:
    model = normalized()
    nn.init.constant_(model[1].weight, 0.1)
    nn.init.constant_(model[1].bias, 2.0)
    exchange_norms_(model, torch.randn(6, 1, 8, 8), "none")
    x = torch.randn(3, 8, 6, 6)
    assert torch.allclose(model[1](x), 0.1 * x + 2.0)


def test_a_norm_of_the_same_kind_is_left_alone() -> None:
    model = normalized()
    kept = model[1]
    report = exchange_norms_(model, torch.randn(6, 1, 8, 8), "batch")
    assert model[1] is kept
    assert report.notes == ["nothing was changed: its norms are batch"]


def test_channels_on_the_last_axis_are_normalized_there() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.fc, self.head = nn.LayerNorm(16), nn.Linear(16, 16), nn.Linear(16, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.relu(self.fc(self.norm(x))))

    model = Tokens()
    exchange_norms_(model, torch.randn(3, 5, 16), "batch")
    y = model.norm(torch.randn(3, 5, 16) * 7)
    assert torch.allclose(y.flatten(0, 1).std(0, correction=0), torch.ones(16), atol=1e-3)


def test_a_norm_that_is_a_function_is_named() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return F.layer_norm(self.fc(x), (8,))

    with pytest.raises(InputError, match="layer_norm"):
        exchange_norms_(Functional(), torch.randn(3, 8), "batch")
