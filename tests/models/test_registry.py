from __future__ import annotations

import pytest
from torch import nn

from unitgain import InputError, models

SMALL = [name for name, cost in models.costs().items() if cost.parameters < 2e6]


@pytest.mark.parametrize("name", SMALL)
def test_every_small_model_builds(name: str) -> None:
    assert isinstance(models.create(name), nn.Module)


def test_every_name_has_a_description_and_a_cost() -> None:
    assert all(models.describe(name) for name in models.names())
    assert sorted(models.costs()) == models.names()


def test_names_are_those_that_are_promised() -> None:
    variants = ("batchnorm", "deep", "deep_batchnorm", "kaiming", "original", "softmax", "tanh")
    assert models.names("c*") == [*(f"char_mlp_{v}" for v in variants), "convnet"]
    assert {"nf_resnet50", "nf_regnet_b0", "nfnet_f0", "dm_nfnet_f0", "resnet50d", "resnetv2_50"} <= set(
        models.names()
    )
    assert models.names("conv*") == ["convnet"]
    assert models.names("nothing*") == []


def test_options_reach_the_model() -> None:
    assert models.create("char_mlp_deep", hidden=(50, 50)).hidden2.weight.shape == (50, 50)
    assert models.create("convnet", num_classes=3).conv5.out_channels == 3


def test_a_mistyped_name_or_option_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'convnet'"):
        models.create("convnett")
    with pytest.raises(InputError, match=r"names\(\) lists what there is"):
        models.create("zzz")
    with pytest.raises(InputError, match="option 'num_clases' is unknown; did you mean 'num_classes'"):
        models.create("convnet", num_clases=3)
    with pytest.raises(InputError, match=r"there are context, .*vocabulary"):
        models.create("char_mlp_tanh", xyz=3)
    with pytest.raises(InputError, match="unknown"):
        models.describe("convnett")
