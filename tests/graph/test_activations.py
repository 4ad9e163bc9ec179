"""Each threshold of activations.py against the derivative that autograd computes."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unitgain import Probe
from unitgain.graph.activations import ACTIVATIONS, FUNCTIONS, of_function, of_module
from unitgain.nn import GeneralReLU

DEAD = 1e-3  # magnitude of the derivative below which a value counts as dead

MODULES = {
    "tanh": nn.Tanh(), "sigmoid": nn.Sigmoid(), "softsign": nn.Softsign(), "hardtanh": nn.Hardtanh(),
    "hardsigmoid": nn.Hardsigmoid(), "relu6": nn.ReLU6(), "relu": nn.ReLU(), "hardswish": nn.Hardswish(),
    "gelu": nn.GELU(), "gelu tanh": nn.GELU(approximate="tanh"), "silu": nn.SiLU(), "mish": nn.Mish(),
    "softplus": nn.Softplus(), "softplus beta": nn.Softplus(beta=4.0), "elu": nn.ELU(), "elu alpha": nn.ELU(0.3),
    "celu": nn.CELU(), "celu alpha": nn.CELU(4.0), "selu": nn.SELU(), "hardtanh wide": nn.Hardtanh(-2.0, 5.0),
    "hardtanh as relu20": nn.Hardtanh(0.0, 20.0),
}  # fmt: skip


def values_and_derivatives(function) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x = torch.cat(
        [torch.linspace(-60, 60, 240_001, dtype=torch.float64), torch.linspace(-2e3, 2e3, 8001).double()]
    )
    x = x[
        (x + 3).abs() > 1e-9
    ]  # the kink of hardswish, where torch 2.6 has the derivative -0.5, newer ones 0
    x.requires_grad_()
    y = function(x)
    (derivative,) = torch.autograd.grad(y.sum(), x)
    return x.detach(), y.detach(), derivative


@pytest.mark.parametrize("name", MODULES)
def test_what_is_called_dead_has_no_derivative_and_little_else_is_missed(name: str) -> None:
    found = of_module(MODULES[name])
    assert found is not None
    assert found.range.dead is not None
    x, y, derivative = values_and_derivatives(MODULES[name])
    low, high = found.range.dead
    if found.range.dead_tails:
        dead = (y <= low) | (y >= high)
        flat = derivative.abs() < DEAD
        allowed = 1.05
    else:
        # a unit is off on the far left, before the dip of gelu and its like; near zero their output is small too
        dips = y.min() < min(low, -1e-3) if math.isfinite(low) else False
        before_dip = x < x[y.argmin()] if dips else torch.ones_like(x, dtype=torch.bool)
        dead = (y >= low) & (y <= high) & before_dip
        flat = (derivative.abs() < DEAD) & (x < x[derivative.abs() >= DEAD].min())
        allowed = 1.2
    assert dead.any()
    assert derivative[dead].abs().max() <= DEAD * 1.01
    strict = derivative.abs() < DEAD / allowed
    assert dead[flat & strict].all(), "flat values that are not called dead"


@pytest.mark.parametrize("name", MODULES)
def test_bounds_are_reached_and_never_passed(name: str) -> None:
    found = of_module(MODULES[name])
    _, y, _ = values_and_derivatives(MODULES[name])
    for bound, reached in zip(found.bounds, (float(y.min()), float(y.max()))):
        if bound is None:
            assert abs(reached) > 50 or reached == y.min() > -1, "a bound is not declared"
        else:
            assert reached == pytest.approx(bound, abs=2e-3 * max(1, abs(bound)))
            assert (reached >= bound - 1e-9) if reached == y.min() else (reached <= bound + 1e-9)


@pytest.mark.parametrize(
    "name", [n for n in MODULES if of_module(MODULES[n]).range.saturated != (None, None)]
)
def test_saturated_values_lie_in_the_outer_share_of_the_range(name: str) -> None:
    found = of_module(MODULES[name])
    low, high = found.bounds
    below, above = found.range.saturated
    assert low is not None
    assert high is not None
    assert above is not None
    tail = 0 if found.range.at_bound else 0.015 * (high - low)
    assert above == pytest.approx(high - tail)
    assert below is None or below == pytest.approx(low + tail)
    _, y, derivative = values_and_derivatives(MODULES[name])
    inside = (y < above) & (y > below if below is not None else y > low)
    if found.range.at_bound:
        assert derivative[~inside].abs().max() == 0
    elif name != "softsign":  # which has no exponential tails
        assert derivative[~inside].abs().max() <= 0.06 * derivative.abs().max()
    assert derivative[inside].abs().min() > 0


def test_tanh_saturates_at_097() -> None:
    assert ACTIVATIONS["tanh"].range.saturated == pytest.approx((-0.97, 0.97))
    assert ACTIVATIONS["sigmoid"].range.saturated == pytest.approx((0.015, 0.985))


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_every_activation_of_torch_is_recognised_as_module_and_function(name: str) -> None:
    classes = {n.lower(): getattr(nn, n) for n in nn.modules.activation.__all__}
    cls = classes[name.replace("_", "")]
    module = cls(0.1, 20.0) if cls is nn.Threshold else cls()
    assert of_module(module).name == name
    for spelling in (getattr(F, name, None), getattr(torch, name, None), getattr(torch.Tensor, name, None)):
        if spelling is not None:
            assert of_function(spelling).name == name
    inplace = getattr(F, name + "_", None) or getattr(torch, name + "_", None)
    assert inplace is None or of_function(inplace).name == name


def test_other_modules_are_no_activations() -> None:
    for module in (
        nn.Linear(2, 2), nn.Dropout(), nn.Identity(), nn.Softmax(-1), nn.BatchNorm1d(2), nn.Sequential(nn.ReLU()),
        nn.MultiheadAttention(4, 1), nn.LayerNorm(3), nn.Flatten(), nn.MaxPool2d(2), nn.MSELoss(),
    ):  # fmt: skip
        assert of_module(module) is None, module


def behaves_like(module: nn.Module, name: str) -> bool:
    """Whether the named function's bounds and dead values hold for what the module really computes."""
    known = of_module(module)
    y = values_and_derivatives(module)[1]
    low, high = known.bounds
    inside = (low is None or y.min() >= low - 1e-6) and (high is None or y.max() <= high + 1e-6)
    return bool(inside) and known.name == name


@pytest.mark.reference
def test_activations_of_timm_are_what_their_names_say(torchvision_operators: None) -> None:
    from timm.layers import create_act_layer
    from timm.layers.create_act import _ACT_LAYER_DEFAULT

    expected = {
        "silu": "silu", "swish": "silu", "mish": "mish", "relu": "relu", "relu6": "relu6", "leaky_relu": "leaky_relu",
        "elu": "elu", "prelu": "prelu", "celu": "celu", "selu": "selu", "gelu": "gelu", "gelu_tanh": "gelu",
        "quick_gelu": "gelu", "sigmoid": "sigmoid", "tanh": "tanh", "hard_sigmoid": "hardsigmoid",
        "hard_swish": "hardswish", "hard_mish": None, "identity": None,
    }  # fmt: skip
    for name in _ACT_LAYER_DEFAULT:
        module = create_act_layer(name)
        found = of_module(module)
        if name in expected:
            assert (found.name if found else None) == expected[name], name
        if found is not None and found.bounds != (None, None):
            assert behaves_like(module, found.name), name


@pytest.mark.reference
def test_activations_of_transformers_are_what_their_names_say(torchvision_operators: None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers.activations import ACT2FN

        for name in ACT2FN:
            module = ACT2FN[name]
            found = of_module(module)
            if found is None:
                continue
            if found.bounds != (None, None):
                assert behaves_like(module, found.name), name
            if "relu" in name and found.name not in ("relu6", "leaky_relu", "prelu"):
                assert found.name == "relu", name
    assert of_module(ACT2FN["gelu_new"]).name == "gelu"
    assert of_module(ACT2FN["silu"]).name == "silu"
    assert of_module(ACT2FN["relu2"]) is None


def test_a_shifted_or_leaky_relu_of_ones_own_is_not_taken_for_relu() -> None:
    class GeneralReLU(nn.Module):
        def forward(self, x):
            return F.leaky_relu(x, 0.1) - 0.4

    class ReLUSquared(GeneralReLU):
        pass

    assert of_module(GeneralReLU()) is None
    assert of_module(ReLUSquared()) is None


def test_table_of_functions_names_only_elementwise_functions() -> None:
    x = torch.randn(3, 4)
    for function, name in FUNCTIONS.items():
        if name in ("prelu", "glu", "threshold") or function in (torch.Tensor.prelu,):
            continue
        try:
            out = function(x.clone())
        except TypeError:
            continue
        assert out.shape == x.shape
        assert math.isfinite(float(out.sum()))


def test_unitgains_own_relu_is_an_activation_with_its_own_bounds_and_dead_value() -> None:
    found = of_module(GeneralReLU(sub=0.4, maxv=2.0))
    assert (found.name, found.bounds) == ("general_relu", (-0.4, 2.0))
    assert found.range.saturated[0] is None
    leaky = of_module(GeneralReLU(leak=0.1, sub=0.4))
    assert (leaky.bounds, leaky.range.dead) == ((None, None), None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_dead_units_of_a_shifted_relu_are_seen_in_every_dtype(dtype: torch.dtype) -> None:
    class Dead(nn.Module):
        def forward(self, x):
            return x - torch.tensor([100.0, 0, 0], dtype=x.dtype)

    model = nn.Sequential(Dead(), GeneralReLU(sub=0.4, maxv=1.7))
    with Probe(model, strict=True, every=1) as probe:
        model(torch.randn(200, 3, dtype=dtype))
        probe.flush()
    assert probe.record.value("activation", "1", "dead") == 1
    assert probe.record.value("activation", "1", "saturated") > 0


def test_anyones_module_can_declare_itself_an_activation() -> None:
    class Mine(nn.Module):
        elementwise_function = "relu"

        def __init__(self):
            super().__init__()
            self.slope = nn.Parameter(torch.ones(1))  # with a parameter the name alone would not do

    assert of_module(Mine()) == ACTIVATIONS["relu"]
    Mine.elementwise_function = "snake"
    assert of_module(Mine()).name == "snake"
    Mine.elementwise_function = {"name": "capped", "bounds": (0, 2), "saturated": (None, 2), "dead": (0, 0)}
    assert of_module(Mine()).bounds == (0, 2)


@pytest.mark.parametrize(
    "wrong",
    [
        3,
        {"bounds": (0, 1)},
        {"name": "x", "bounds": 1},
        {"name": "x", "dead": (None, 0)},
        {"name": "x", "y": (0, 1)},
    ],
)
def test_a_wrong_declaration_is_named_and_stops_measuring_only(wrong: object) -> None:
    class Mine(nn.Module):
        elementwise_function = wrong

        def forward(self, x):
            return x * 1

    model = nn.Sequential(nn.Linear(2, 2), Mine())
    with Probe(model, every=1), pytest.warns(UserWarning, match=r"Mine\.elementwise_function is") as caught:
        model(torch.randn(3, 2))
    assert "defect" not in str(caught[0].message)
