"""What code written for timm's models does with ours."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from unitgain import InputError, models

NAMES = [
    "nf_resnet_tiny",
    "nfnet_tiny",
    "nf_regnet_tiny",
    "test_nfnet",
    "resnet_tiny",
    "resnet18d",
    "resnetv2_18",
]
X = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=NAMES)
def name(request) -> str:
    return request.param


def test_features_and_head_in_two_calls_are_the_forward_pass(name: str) -> None:
    model = models.create(name, num_classes=7, drop_rate=0.0).eval()
    features = model.forward_features(X)
    assert features.shape[:2] == (2, model.num_features)
    assert torch.equal(model.forward_head(features), model(X))
    before = model.forward_head(features, pre_logits=True)
    assert before.shape == (2, model.head_hidden_size)
    assert torch.equal(before, features.mean((2, 3)))


def test_a_new_classifier_and_none(name: str) -> None:
    model = models.create(name, num_classes=7).double().eval()
    classifier = model.get_classifier()
    assert isinstance(classifier, (nn.Linear, nn.Conv2d))
    model.reset_classifier(3)
    assert model.get_classifier() is not classifier
    assert model(X.double()).shape == (2, 3)
    assert model.num_classes == 3
    model.reset_classifier(0)
    assert isinstance(model.get_classifier(), nn.Identity)
    assert model(X.double()).shape == (2, model.num_features)
    model.reset_classifier(0, "")
    assert model(X.double()).shape == model.forward_features(X.double()).shape
    model.reset_classifier(4, "avgmax")
    assert model(X.double()).shape == (2, 4)
    with pytest.raises(InputError, match="without pooling there is no classifier"):
        model.reset_classifier(4, "")


def test_no_pooling_from_the_start_and_other_pools(name: str) -> None:
    assert models.create(name, num_classes=0, global_pool="").eval()(X).dim() == 4
    model = models.create(name, num_classes=0, global_pool="max").eval()
    assert torch.equal(model(X), model.forward_features(X).amax((2, 3)))
    with pytest.raises(InputError, match="global_pool is 'mean'; expected avg, max"):
        models.create(name, global_pool="mean")


def test_checkpointing_changes_nothing_but_memory(name: str) -> None:
    model = models.create(name, num_classes=3, drop_rate=0.0, stochastic_depth=0.0)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    gradients = []
    for enable in (False, True):
        model.load_state_dict(state)
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        model.train()(X).square().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert all(torch.allclose(a, b) for a, b in zip(*gradients, strict=True))


def test_intermediates_are_the_feature_maps(name: str) -> None:
    model = models.create(name, num_classes=3).eval()
    last, maps = model.forward_intermediates(X)
    info = model.feature_info
    assert [m.shape[1] for m in maps] == info.channels()
    assert [-(-64 // m.shape[2]) for m in maps] == info.reduction()
    assert torch.equal(last, model.forward_features(X))
    some = model.forward_intermediates(X, indices=[1, -1], intermediates_only=True)
    assert all(torch.equal(a, b) for a, b in zip(some, (maps[1], maps[-1]), strict=True))
    early, one = model.forward_intermediates(X, indices=[1], stop_early=True)
    assert torch.equal(one[0], maps[1])
    assert torch.equal(early, maps[1])
    for path, channels in zip(info.module_name(), info.channels()):
        seen: list[torch.Tensor] = []
        handle = model.get_submodule(path).register_forward_hook(lambda m, i, o, seen=seen: seen.append(o))
        model(X)
        handle.remove()
        assert seen[0].shape[1] == channels


def test_only_the_maps_that_are_asked_for(name: str) -> None:
    whole = models.create(name, features_only=True).eval()
    some = models.create(name, features_only=True, out_indices=(0, 2)).eval()
    some.load_state_dict(whole.state_dict())
    maps = whole(X)
    assert all(torch.equal(a, b) for a, b in zip(some(X), (maps[0], maps[2]), strict=True))
    assert some.feature_info.channels() == whole.feature_info.channels([0, 2])
    assert some.feature_info.get_dicts(["reduction"]) == [
        {"reduction": r} for r in whole.feature_info.reduction([0, 2])
    ]
    assert len(models.create(name, features_only=True, out_indices=2)(X)) == 2
    getter = models.create(name, features_only=True, feature_cls="getter").eval()
    getter.load_state_dict(whole.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(getter(X), maps, strict=True))
    with pytest.raises(InputError, match="feature_cls is 'dict'; expected list"):
        models.create(name, features_only=True, feature_cls="dict")
    with pytest.raises(InputError, match="out_indices is"):
        models.create(name, features_only=True, out_indices=(9,))


@pytest.mark.parametrize("wiring", ["timm", "paper", "calibrated"])
@pytest.mark.parametrize("name", ["nfnet_tiny", "nf_regnet_tiny", "test_nfnet"])
@pytest.mark.parametrize("stride", [8, 16])
def test_output_stride_keeps_the_size_of_later_maps(name: str, wiring: str, stride: int) -> None:
    x = torch.randn(1, 3, 128, 128)
    model = models.create(name, features_only=True, output_stride=stride, wiring=wiring).eval()
    assert max(model.feature_info.reduction()) == stride
    assert [128 // m.shape[2] for m in model(x)] == model.feature_info.reduction()
    whole = models.create(name, num_classes=3, output_stride=stride, wiring=wiring).eval()
    assert whole.forward_features(x).shape[2] == 128 // stride


@pytest.mark.parametrize("name", ["resnet18", "resnet18d", "resnet26", "resnetv2_18", "resnetv2_18d"])
@pytest.mark.parametrize("stride", [8, 16])
def test_output_stride_of_resnets(name: str, stride: int) -> None:
    x = torch.randn(1, 3, 128, 128)
    model = models.create(name, features_only=True, output_stride=stride).eval()
    assert [128 // m.shape[2] for m in model(x)] == model.feature_info.reduction()
    with pytest.raises(InputError, match="output_stride is 12; expected 8, 16 or 32"):
        models.create(name, output_stride=12)


@pytest.mark.slow
@pytest.mark.reference
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "nf_regnet_b0", "nfnet_l0"])
@pytest.mark.parametrize("stride", [8, 16])
def test_output_stride_dilates_as_timm_does(name: str, stride: int, torchvision_operators) -> None:
    timm = pytest.importorskip("timm")
    theirs = timm.create_model(name, output_stride=stride).eval()
    ours = models.create(name, output_stride=stride).eval()
    ours.load_state_dict(theirs.state_dict())
    kernels = [[(m.stride, m.dilation) for m in one.modules() if isinstance(m, nn.Conv2d) and m.kernel_size[0] > 1]
               for one in (theirs, ours)]  # fmt: skip
    assert kernels[0] == kernels[1]


def test_timms_names_of_options() -> None:
    model = models.create("nf_resnet_tiny", in_chans=5, drop_path_rate=0.5, num_classes=3)
    assert model.in_chans == model.in_channels == 5
    assert model(torch.randn(1, 5, 32, 32)).shape == (1, 3)
    assert [m.rate for m in model.modules() if hasattr(m, "rate")][-1] == 0.5


def test_the_description_says_how_to_prepare_images(name: str) -> None:
    model = models.create(name)
    config: Any = model.pretrained_cfg
    assert config == model.default_cfg
    assert config["architecture"] == name
    keys = model.state_dict().keys()
    assert config["classifier"] + ".weight" in keys
    assert config["first_conv"] + ".weight" in keys
    assert len(config["mean"]) == len(config["std"]) == 3
    side = config["input_size"][1]
    model.eval()
    assert model.forward_features(torch.randn(1, *config["input_size"])).shape[2:] == config["pool_size"]
    assert 0 < config["crop_pct"] <= 1
    assert side <= config["test_input_size"][1]


@pytest.mark.reference
def test_the_descriptions_of_published_weights_are_timms(torchvision_operators) -> None:
    timm = pytest.importorskip("timm")
    wrong = {}
    for name, tag in models.weights.HUB.items():
        theirs = timm.models.get_pretrained_cfg(f"{name}.{tag}").to_dict()
        with torch.device("meta"):
            ours = models.create(name).pretrained_cfg
        keys = ["mean", "std", "crop_pct", "first_conv", "classifier", "interpolation"]
        keys += ["input_size", "test_input_size"] * (theirs.get("test_input_size") is not None)
        different = [(k, ours[k], theirs[k]) for k in keys if tuple_of(ours[k]) != tuple_of(theirs[k])]
        crop = theirs.get("test_crop_pct") or theirs["crop_pct"]
        if ours["test_crop_pct"] != crop:
            different.append(("test_crop_pct", ours["test_crop_pct"], crop))
        if different:
            wrong[name] = different
    # timm trained these two at larger images than the papers' variants, whose sizes are ours
    assert {k: [w[0] for w in v] for k, v in wrong.items()} == {
        "nf_regnet_b1": ["input_size", "test_input_size"], "nf_resnet50": ["input_size", "test_input_size"],
    }  # fmt: skip


def tuple_of(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def test_gelu_is_jaxs_where_deepminds_weights_are_for() -> None:
    kinds = {
        wiring: {
            m.approximate
            for m in models.create("nfnet_tiny", wiring=wiring).modules()
            if isinstance(m, nn.GELU)
        }
        for wiring in ("timm", "paper", "calibrated")
    }
    assert kinds == {"timm": {"none"}, "paper": {"tanh"}, "calibrated": {"tanh"}}


@pytest.mark.parametrize(
    ("name", "blocks"), [("nf_regnet_b6", 43), ("nf_regnet_b7", 52), ("nf_regnet_b8", 59)]
)
def test_the_largest_regnets_have_the_blocks_of_deepminds(name: str, blocks: int) -> None:
    with torch.device("meta"):
        model = models.create(name, wiring="paper")
    stages: Any = model.stages
    assert sum(len(stage) for stage in stages) == blocks
