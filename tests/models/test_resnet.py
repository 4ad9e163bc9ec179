"""ResNets: timm's keys, outputs and gradients; any norm."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from unitgain import InputError, models

NAMES = [n for n in models.names("resnet*") if "tiny" not in n]
SMALL = ("resnet18d", "resnetv2_18d")


def randomize(model: nn.Module) -> dict[str, torch.Tensor]:
    state = {}
    for key, value in model.state_dict().items():
        if not value.is_floating_point():
            state[key] = value
        elif "running_var" in key:
            state[key] = torch.rand_like(value) + 0.5
        else:
            state[key] = torch.randn_like(value) * (value[0].numel() ** -0.5 if value.dim() > 1 else 0.3)
    return state


@pytest.mark.reference
@pytest.mark.parametrize("name", [n if "18" in n else pytest.param(n, marks=pytest.mark.slow) for n in NAMES])
def test_keys_and_shapes_equal_timms(name: str, torchvision_operators) -> None:
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        theirs, ours = timm.create_model(name), models.create(name)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        k: v.shape for k, v in theirs.state_dict().items()
    }


@pytest.mark.reference
@pytest.mark.parametrize(
    "name",
    [
        *SMALL,
        *(
            pytest.param(n, marks=pytest.mark.slow)
            for n in ("resnet18", "resnet50", "resnet50d", "resnetv2_18", "resnetv2_50")
        ),
    ],
)
def test_outputs_and_gradients_equal_timms(name: str, torchvision_operators) -> None:
    timm = pytest.importorskip("timm")
    theirs, ours = timm.create_model(name).double(), models.create(name).double()
    state = randomize(theirs)
    x = torch.randn(2, 3, 33, 40, dtype=torch.float64)
    for model in (theirs, ours):
        model.load_state_dict(state)
        model.eval()
    expected, y = theirs(x), ours(x)
    torch.testing.assert_close(y, expected, rtol=1e-8, atol=1e-10)
    keys = [k for k, _ in theirs.named_parameters()]
    wanted = dict(zip(keys, torch.autograd.grad(expected.square().mean(), list(theirs.parameters()))))
    found = torch.autograd.grad(y.square().mean(), list(ours.parameters()))
    for (key, _), gradient in zip(ours.named_parameters(), found):
        assert (gradient - wanted[key]).norm() <= 1e-8 * wanted[key].norm() + 1e-12, key


@pytest.mark.parametrize("norm", ["batch", "group", "none", nn.InstanceNorm2d])
def test_any_norm_size_channels_and_classes(norm) -> None:
    model = models.create("resnet_tiny", num_classes=5, in_channels=2, norm=norm, stochastic_depth=0.2)
    assert model(torch.randn(3, 2, 37, 50)).shape == (3, 5)
    if norm in ("group", "none"):
        assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())


def test_feature_maps_have_the_channels_and_strides_they_say() -> None:
    for name in ("resnet18", "resnetv2_18d"):
        model = models.create(name, features_only=True)
        columns = zip(model.feature_info.channels(), model.feature_info.reduction())
        for (channels, stride), f in zip(columns, model(torch.randn(1, 3, 64, 64)), strict=True):
            assert f.shape == (1, channels, 64 // stride, 64 // stride)


def test_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = models.create("resnet_tiny", norm="group", checkpointing=checkpointing, stochastic_depth=0.5)
        model(torch.randn(4, 3, 32, 32)).square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(*gradients)


def test_wrong_options_are_named() -> None:
    with pytest.raises(InputError, match="norm is 'layer'; expected one of batch, group, none"):
        models.create("resnet_tiny", norm="layer")
    with pytest.raises(InputError, match="num_classes is -1"):
        models.create("resnet_tiny", num_classes=-1)
