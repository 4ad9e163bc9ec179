"""NF-ResNet, NF-RegNet, NFNet: the tables of the papers, timm's networks, and what each wiring promises."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from unitgain import InputError, models, theory
from unitgain import nn as unn
from unitgain.data import load_fashion_mnist
from unitgain.data.fashion_mnist import find_fashion_mnist
from unitgain.models.nf_regnet import VARIANTS as NF_REGNETS
from unitgain.models.nf_resnet import VARIANTS as NF_RESNETS
from unitgain.models.nfnet import VARIANTS as NFNETS
from unitgain.models.normfree import NormFreeNet
from unitgain.models.normfree_config import ACTIVATIONS

# parameters in `paper` wiring (one skip gain per block), multiply-adds in units of 10^9 at test size
PAPER = {
    "nf_resnet26": (15_995_184, 2.34), "nf_resnet50": (25_557_048, 4.09), "nf_resnet101": (44_549_193, 7.80),
    "nf_resnet152": (60_192_858, 11.51), "nf_resnet200": (64_673_898, 15.01), "nf_resnet288": (146_460_552, 21.56),
    "nf_resnet600": (300_646_896, 44.27),
    "nfnet_f0": (71_489_284, 12.38), "nfnet_f1": (132_634_256, 35.54), "nfnet_f2": (193_779_228, 62.59),
    "nfnet_f3": (254_924_200, 114.76), "nfnet_f4": (316_069_172, 215.24), "nfnet_f5": (377_214_144, 289.76),
    "nfnet_f6": (438_359_116, 377.28), "nfnet_f7": (499_504_088, 478.78),
    "dm_nfnet_f0": (71_489_284, 12.38),
}  # fmt: skip
REGNET_PAPER = {"b0": 8.595, "b1": 10.019, "b2": 13.786, "b3": 18.137, "b4": 29.316, "b5": 48.707}  # millions
TIMM = {
    "dm_nfnet_f0": 71_489_284, "nfnet_f0": 71_489_272, "nfnet_l0": 35_074_488, "eca_nfnet_l0": 24_143_924,
    "eca_nfnet_l1": 41_407_728, "eca_nfnet_l2": 56_722_348, "eca_nfnet_l3": 72_036_968,
    "nf_regnet_b0": 8_764_288, "nf_regnet_b1": 10_223_984, "nf_regnet_b2": 14_314_608, "nf_regnet_b3": 18_593_832,
    "nf_regnet_b4": 30_210_816, "nf_regnet_b5": 49_741_728,
    "nf_resnet26": 15_995_176, "nf_resnet50": 25_557_032, "nf_resnet101": 44_549_160,
    "nf_seresnet26": 17_395_976, "nf_seresnet50": 28_088_024, "nf_seresnet101": 49_326_872,
    "nf_ecaresnet26": 15_995_220, "nf_ecaresnet50": 25_557_118, "nf_ecaresnet101": 44_549_331,
}  # fmt: skip


def slow(name: str):
    return pytest.param(name, marks=pytest.mark.slow)


TINY = ("nf_resnet_tiny", "nf_regnet_tiny", "nfnet_tiny")


def meta(name: str, **options) -> nn.Module:
    with torch.device("meta"):
        return models.create(name, **options)


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def randomize(model: nn.Module) -> dict[str, Tensor]:
    """A state dict in which no gain is zero, so that every parameter matters."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for key, value in model.state_dict().items():
        draw = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        if "gain" in key:
            draw = 1 + draw.clamp(-2, 2) / 4
        elif value.dim() > 1:
            draw = draw * value[0].numel() ** -0.5
        else:
            draw = draw / 10
        state[key] = draw.to(value.dtype)
    return state


LARGE = ("nf_resnet288", "nf_resnet600", "nfnet_f4", "nfnet_f5", "nfnet_f6", "nfnet_f7")


@pytest.mark.parametrize("name", [slow(name) if name in LARGE else name for name in PAPER])
def test_parameters_of_the_papers_tables(name: str) -> None:
    assert count(meta(name, wiring="paper")) == PAPER[name][0]


def test_parameters_of_regnets_and_of_the_wider_nfnets() -> None:
    for variant, millions in REGNET_PAPER.items():
        assert round(count(meta(f"nf_regnet_{variant}", wiring="paper")) / 1e6, 3) == millions
    assert round(models.costs()["nfnet_f4_plus"].parameters / 1e6, 2) == 524.95


@pytest.mark.parametrize("name", TIMM)
def test_parameters_of_timms_variants(name: str) -> None:
    assert count(meta(name)) == TIMM[name]


def test_number_of_tensors() -> None:
    assert len(meta("dm_nfnet_f0").state_dict()) == 233
    assert len(meta("nf_resnet50").state_dict()) == 161


@pytest.mark.parametrize("name", ["nfnet_f0", "nfnet_f1", "nf_resnet50", "nf_regnet_tiny"])
def test_the_table_of_costs_is_what_is_counted(name: str) -> None:
    assert models.costs()[name] == models.cost(name)


def test_multiply_adds_of_the_papers_tables() -> None:
    costs = models.costs()
    assert sorted(costs) == models.names()
    for name, (_, giga) in PAPER.items():
        assert round((costs[name].test_macs or 0) / 1e9, 2) == giga, name
    assert round((costs["nfnet_f4_plus"].test_macs or 0) / 1e9, 1) == 333.4


def test_activation_constants_are_deepminds() -> None:
    published = {c.activation: c.theirs for c in theory.constants() if c.source == "DeepMind nfnets"}
    for name, (_, gamma) in ACTIVATIONS.items():
        assert published[name] == gamma


EQUAL = ("dm_nfnet_f0", "nfnet_f0", "nfnet_l0", "eca_nfnet_l0", "nf_resnet50", "nf_seresnet50", "nf_ecaresnet50",
         "nf_regnet_b1", "test_nfnet")  # fmt: skip


@pytest.mark.slow
@pytest.mark.reference
@pytest.mark.parametrize("name", EQUAL)
def test_outputs_and_gradients_equal_timms(name: str, torchvision_operators) -> None:
    timm = pytest.importorskip("timm")
    assert_equal(
        timm.create_model(name), models.create(name, drop_rate=0.0, stochastic_depth=0.0), x_size=(37, 40)
    )


@pytest.mark.reference
@pytest.mark.parametrize("name", EQUAL)
def test_outputs_and_gradients_of_shrunk_variants_equal_timms(name: str, torchvision_operators) -> None:
    """The same wiring, less width and depth."""
    timm = pytest.importorskip("timm")
    config = (NFNETS | NF_RESNETS | NF_REGNETS)[name]
    small = {"depths": (1, 2, 1, 1), "channels": (32, 64, 96, 96)}
    if config.group_size:
        small["group_size"] = 8
    theirs = timm.create_model(name, **small, stem_chs=64, num_features=64 if config.final_channels else 0)
    stem = (8, 16, 32, 64) if config.stem == "3x3 four" else (64,)
    final = 64 if config.final_channels else 0
    ours = NormFreeNet(
        replace(config, **small, stem_channels=stem, final_channels=final),
        drop_rate=0.0,
        stochastic_depth=0.0,
    )
    assert_equal(theirs, ours, x_size=(37, 40))


def assert_equal(theirs: nn.Module, ours: nn.Module, x_size: tuple[int, int]) -> None:
    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        k: v.shape for k, v in theirs.state_dict().items()
    }
    state = randomize(theirs)
    x = torch.randn(2, 3, *x_size)
    for model in (theirs, ours):
        model.load_state_dict(state)
        model.eval()
    expected, y = theirs(x), ours(x)
    assert (y - expected).norm() <= 1e-5 * expected.norm()
    if ours.config.activation == "relu":  # one within rounding of its kink would count as a difference
        theirs, ours, x = theirs.double(), ours.double(), x.double()
        expected, y = theirs(x), ours(x)
    keys = [k for k, _ in theirs.named_parameters()]
    wanted = dict(zip(keys, torch.autograd.grad(expected.square().mean(), list(theirs.parameters()))))
    found = torch.autograd.grad(y.square().mean(), list(ours.parameters()))
    for (key, _), gradient in zip(ours.named_parameters(), found):
        assert (gradient - wanted[key]).norm() <= 1e-4 * wanted[key].norm(), key


@pytest.mark.reference
@pytest.mark.parametrize(
    "name",
    ["dm_nfnet_f0", "nfnet_f0", *map(slow, models.names("nf*") + models.names("dm*") + models.names("eca*"))],
)
def test_keys_and_shapes_equal_timms(name: str, torchvision_operators) -> None:
    timm = pytest.importorskip("timm")
    if name not in timm.list_models():
        pytest.skip("timm has no such model")
    with torch.device("meta"):
        theirs = timm.create_model(name).state_dict()
    ours = meta(name).state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}


@pytest.mark.reference
@pytest.mark.parametrize("name", ["nf_regnet_b0", "test_nfnet", slow("nf_resnet26")])
def test_feature_maps_equal_timms(name: str, torchvision_operators) -> None:
    timm = pytest.importorskip("timm")
    theirs = timm.create_model(name, features_only=True).eval()
    ours = models.create(name, features_only=True).eval()
    state = randomize(ours)
    ours.load_state_dict(state)
    renamed = {k.replace("stem_", "stem.").replace("stages_", "stages."): k for k in theirs.state_dict()}
    theirs.load_state_dict({renamed[k]: v for k, v in state.items()})
    x = torch.randn(1, 3, 64, 96)
    for column in ("channels", "reduction", "module_name"):
        assert getattr(ours.feature_info, column)() == getattr(theirs.feature_info, column)()
    ours.load_state_dict(theirs.state_dict())  # with timm's flattened names
    columns = zip(ours.feature_info.channels(), ours.feature_info.reduction())
    for (channels, stride), f, g in zip(columns, ours(x), theirs(x)):
        assert f.shape == (1, channels, 64 // stride, 96 // stride)
        torch.testing.assert_close(f, g, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("wiring", ["timm", "paper", "calibrated"])
@pytest.mark.parametrize("name", TINY)
def test_any_size_channels_and_classes(name: str, wiring: str) -> None:
    for size in ((33, 47), (64, 64), (17, 5)):
        model = models.create(name, num_classes=7, in_channels=5, wiring=wiring)
        assert model(torch.randn(2, 5, *size)).shape == (2, 7)
    headless = models.create(name, num_classes=0, wiring=wiring)
    assert headless(torch.randn(2, 3, 32, 32)).shape == (2, headless.num_features)


@pytest.mark.parametrize("name", TINY)
def test_every_parameter_matters(name: str) -> None:
    model = models.create(name, num_classes=4, wiring="paper")
    model.load_state_dict(randomize(model))
    model(torch.randn(2, 3, 32, 32)).square().sum().backward()
    assert all(p.grad is not None and p.grad.norm() > 0 for p in model.parameters())


@pytest.mark.parametrize("name", TINY)
def test_checkpointing_changes_no_gradient_and_no_draw(name: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        model = models.create(
            name, num_classes=4, checkpointing=checkpointing, stochastic_depth=0.4, drop_rate=0.3
        )
        model.load_state_dict(randomize(model))
        torch.manual_seed(1)
        model(torch.ones(4, 3, 32, 32)).square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(*gradients)


def rates(model: nn.Module) -> list[float]:
    return [getattr(m.drop_path, "rate", 0.0) for m in model.modules() if isinstance(m, unn.NFBlock)]


def test_stochastic_depth_and_dropout_follow_the_tables() -> None:
    timm_like, paper = meta("nfnet_f1"), meta("nfnet_f1", wiring="paper")
    assert rates(timm_like)[0] == rates(paper)[0] == 0
    assert rates(timm_like)[-1] == pytest.approx(0.25)
    assert rates(paper)[-1] == pytest.approx(0.25 * 23 / 24)
    assert timm_like.head.drop.p == 0.3
    assert not any(
        isinstance(m, unn.StochasticDepth) for m in meta("nfnet_f1", stochastic_depth=0.0).modules()
    )


@pytest.mark.parametrize("wiring", ["timm", "paper"])
@pytest.mark.parametrize("name", TINY)
def test_blocks_without_transition_are_the_identity_at_first_and_folding_changes_nothing(
    name, wiring
) -> None:
    model = models.create(name, wiring=wiring).eval()
    blocks = [m for m in model.modules() if isinstance(m, unn.NFBlock) and m.downsample is None]
    assert blocks
    for block in blocks:
        x = torch.randn(1, block.conv1.in_channels, 4, 4)
        assert torch.equal(block(x), x)
    model.load_state_dict(randomize(model))
    x = torch.randn(2, 3, 40, 33)
    expected = model(x)
    folded = unn.fold_(model)
    assert not any(isinstance(m, unn.ScaledStdConv2d) for m in folded.modules())
    torch.testing.assert_close(folded(x), expected, rtol=1e-5, atol=1e-6)


def block_variances(model: NormFreeNet, x: Tensor) -> list[list[float]]:
    """Average channel variance after every block, by stage, with skip gains 1."""
    for module in model.modules():
        if isinstance(module, unn.NFBlock) and module.skipinit_gain is not None:
            nn.init.ones_(module.skipinit_gain)
    found = []
    with torch.no_grad():
        h = model.eval().stem(x)
        for stage in model.stages:
            found.append([])
            for block in stage.children():
                h = block(h)
                found[-1].append(h.var((0, 2, 3), correction=0).mean().item())
    return found


def network(name: str, wiring: str) -> NormFreeNet:
    model = models.create(name, wiring=wiring, num_classes=10)
    assert isinstance(model, NormFreeNet)
    return model


def assert_grows_as_predicted(variances: list[list[float]]) -> None:
    for stage in variances:
        for k, variance in enumerate(stage, start=1):
            assert variance == pytest.approx(1 + k * 0.04, rel=0.1), variances


def test_paper_wiring_of_nf_resnet_50_resets_the_variance_on_noise() -> None:
    variances = block_variances(network("nf_resnet50", "paper"), torch.randn(4, 3, 128, 128))
    assert_grows_as_predicted(variances)
    assert [stage[0] for stage in variances[:3]] == pytest.approx([1.04] * 3, abs=0.04)


def smooth_images() -> Tensor:
    """Neighbouring pixels correlate, as in photographs."""
    return nn.functional.interpolate(torch.randn(4, 3, 12, 12), size=96, mode="bicubic")


def clothes() -> Tensor:
    """Fashion-MNIST, normalized, in three channels and enlarged."""
    if find_fashion_mnist() is None:
        pytest.skip("Fashion-MNIST is not on this machine")
    images = load_fashion_mnist(normalize=True).test.images[:16].expand(-1, 3, -1, -1)
    return nn.functional.interpolate(images, size=96, mode="bicubic")


@pytest.mark.parametrize("name", [slow("nf_resnet50"), "nf_regnet_b0", slow("nfnet_f0")])
@pytest.mark.parametrize(
    "images", [lambda: torch.randn(4, 3, 96, 96), smooth_images, clothes], ids=["noise", "smooth", "clothes"]
)
def test_calibrated_wiring_resets_the_variance_on_its_kind_of_data(name: str, images) -> None:
    batch = images()
    uncalibrated, model = network(name, "paper"), network(name, "calibrated")
    assert models.calibrate_(model, batch) is model
    assert_grows_as_predicted(block_variances(model, batch))
    if images is smooth_images and name != "nf_resnet50":  # whose shortcuts do not pool
        assert block_variances(uncalibrated, batch)[-1][-1] < 0.7  # what there is to repair


def test_calibration_touches_its_constants_only_and_they_travel_with_the_weights() -> None:
    model = models.create("nfnet_tiny", wiring="calibrated", num_classes=4).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    x = torch.randn(8, 3, 64, 64)
    models.calibrate_(model, (x, torch.zeros(8)))
    after = model.state_dict()
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    constants = {k for k, _ in model.named_buffers()}
    assert changed
    assert changed <= constants
    assert all(k.endswith(("input_scale", "attn_last.gain")) for k in constants)
    assert model.training
    assert not any(m._forward_hooks for m in model.modules())
    twin = models.create("nfnet_tiny", wiring="calibrated", num_classes=4)
    twin.load_state_dict(after)
    torch.testing.assert_close(twin.eval()(x), model.eval()(x))
    torch.testing.assert_close(unn.fold_(twin)(x), model(x), rtol=1e-4, atol=1e-5)


def test_calibration_says_what_is_wrong() -> None:
    with pytest.raises(InputError, match="in 'paper' wiring"):
        models.calibrate_(models.create("nfnet_tiny", wiring="paper"))
    model = models.create("nfnet_tiny", wiring="calibrated")
    with pytest.raises(InputError, match=r"expected images \(B, 3, H, W\)"):
        models.calibrate_(model, torch.randn(4, 1, 32, 32))
    with pytest.raises(InputError, match=r"stem.conv1 has an output channel variance of 0"):
        models.calibrate_(model, torch.zeros(4, 3, 64, 64))
    assert not any(m._forward_hooks for m in model.modules())


def test_wrong_options_are_named() -> None:
    for options, message in (
        ({"wiring": "jax"}, "wiring is 'jax'; expected one of timm, paper, calibrated"),
        ({"num_classes": -1}, "num_classes is -1"),
        ({"in_channels": 0}, "in_channels is 0"),
        ({"activation": "relu7"}, "activation is 'relu7'"),
        ({"depths": (1,)}, "one number of blocks"),
    ):
        with pytest.raises(InputError, match=message):
            models.create("nf_resnet_tiny", **options)
