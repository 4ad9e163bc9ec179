"""Every tool that reads a model's code, on all families of ours, as they are and folded."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import unitgain as ug
from unitgain import models
from unitgain.models.nfnet import VARIANTS
from unitgain.normfree import fold, rebuild

WIRINGS = ("timm", "paper", "calibrated")
FAMILIES = [
    *((name, wiring) for name in ("nfnet_tiny", "nf_resnet_tiny", "nf_regnet_tiny") for wiring in WIRINGS),
    ("test_nfnet", "timm"), ("DeepMind's weights", None), ("resnet_tiny", None), ("resnetv2_18", None),
    ("convnet", None), ("char_mlp_batchnorm", None),
]  # fmt: skip
CASES = [pytest.param(name, wiring, id=f"{name} {wiring}") for name, wiring in FAMILIES]


def network(name: str, wiring: str | None) -> tuple[nn.Module, torch.Tensor]:
    """A model with skip gains away from 0, and a batch."""
    torch.manual_seed(0)
    if name == "DeepMind's weights":  # the wiring of the networks that they are published for, dm_nfnet_*
        model: nn.Module = models.NormFreeNet(replace(VARIANTS["nfnet_tiny"], deepmind=True), num_classes=5)
    elif name.startswith("char_mlp"):
        return models.create(name).eval(), torch.randint(0, 27, (4, 3))
    else:
        model = models.create(name, num_classes=5, **({} if wiring is None else {"wiring": wiring}))
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "gain" in key:
                parameter.fill_(0.8)
    x = torch.randn(2, 1, 28, 28) if name == "convnet" else torch.randn(2, 3, 48, 40)
    return model.eval(), x


def symbolic_trace(model: nn.Module, x: torch.Tensor) -> Callable[..., torch.Tensor]:
    return torch.fx.symbolic_trace(model)


def jit_trace(model: nn.Module, x: torch.Tensor) -> Callable[..., torch.Tensor]:
    return torch.jit.trace(model, (x,))  # type: ignore[return-value]


def export(model: nn.Module, x: torch.Tensor) -> Callable[..., torch.Tensor]:
    return torch.export.export(model, (x,)).module()


READERS = [symbolic_trace, jit_trace, export]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.jit, about itself
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(("name", "wiring"), CASES)
def test_the_model_itself(
    name: str, wiring: str | None, reader: Callable[..., Callable[..., torch.Tensor]]
) -> None:
    model, x = network(name, wiring)
    if reader is symbolic_trace and name.startswith("char_mlp"):
        pytest.skip("it looks at its inputs' values")
    read = reader(model, x)
    torch.testing.assert_close(read(x), model(x), rtol=1e-4, atol=1e-5)
    if reader is not export and x.dim() == 4 and x.shape[1] == 3:  # sizes are no constants
        other = torch.randn(3, 3, 45, 50)
        torch.testing.assert_close(read(other), model(other), rtol=1e-4, atol=1e-5)


def folded(name: str, wiring: str | None) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    model, x = network(name, wiring)
    expected = model(x).detach()
    needs = any("BatchNorm" in type(m).__name__ for m in model.modules())
    report = fold(model, x) if needs else fold(model)
    assert report.classes_left == []
    assert report.notes == []
    return report.model, x, expected


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(("name", "wiring"), [c for c in CASES if "char_mlp" not in str(c.id)])
def test_the_model_folded(
    name: str, wiring: str | None, reader: Callable[..., Callable[..., torch.Tensor]]
) -> None:
    model, x, expected = folded(name, wiring)
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)
    read = reader(model, x)
    torch.testing.assert_close(read(x), expected, rtol=1e-4, atol=1e-5)
    if reader is not export and x.shape[1] == 3:
        other = torch.randn(3, 3, 45, 50)
        torch.testing.assert_close(read(other), model(other), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The TorchScript type system:UserWarning")
@pytest.mark.parametrize("name", ["nfnet_tiny", "nf_resnet_tiny", "nf_regnet_tiny"])
def test_the_folded_model_can_be_scripted(name: str) -> None:
    model, x, expected = folded(name, "paper")
    torch.testing.assert_close(torch.jit.script(model)(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("dynamo", [True, False])
@pytest.mark.parametrize(("name", "wiring"), [c for c in CASES if "char_mlp" not in str(c.id)])
def test_onnx_of_the_model_and_of_the_folded_one(
    name: str, wiring: str | None, dynamo: bool, tmp_path: Path
) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    import onnxruntime  # pyright: ignore[reportMissingImports]

    model, x = network(name, wiring)
    expected = model(x).detach()
    for number, one in enumerate((copy.deepcopy(model), folded(name, wiring)[0])):
        path = tmp_path / f"{number}.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter, about itself
            torch.onnx.export(one, (x,), path, dynamo=dynamo, **({"verbose": False} if dynamo else {}))
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(y), expected, rtol=1e-4, atol=1e-4)


def test_a_folded_model_is_read_where_unitgain_is_not_installed(tmp_path: Path) -> None:
    model, x, expected = folded("nfnet_tiny", "paper")
    torch.save((model, x, expected), tmp_path / "model.pt")
    code = (
        "import sys, torch\n"
        "sys.modules['unitgain'] = None\n"
        f"model, x, expected = torch.load({str(tmp_path / 'model.pt')!r}, weights_only=False)\n"
        "assert torch.allclose(model(x), expected, rtol=1e-4, atol=1e-5)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("wiring", WIRINGS)
def test_a_folded_model_is_rebuilt_with_the_skip_gains_that_it_had(wiring: str) -> None:
    model, x = network("nfnet_tiny", wiring)
    report = fold(model)
    fresh = models.create("nfnet_tiny", num_classes=5, wiring=wiring)  # its skip gains are 0
    again = rebuild(fresh, [edit.to_dict() for edit in report.edits])
    again.load_state_dict(report.model.state_dict())
    assert torch.equal(again.eval()(x), report.model(x))


def test_nn_fold_keeps_the_class_and_works_in_scaled_std_and_skip_gains() -> None:
    model, x = network("nf_resnet_tiny", "paper")
    net = nn.Sequential(model, ug.nn.scaled_std_(nn.Linear(5, 3), gamma="relu"))
    expected = net(x).detach()
    assert ug.nn.fold_(net) is net
    torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-5)
    assert type(net[0]) is models.NormFreeNet
    assert not any("parametrizations" in key or "gain" in key for key in net.state_dict())
    assert type(net[1]) is nn.Linear


def test_a_layer_of_ours_inside_a_persons_network_becomes_plain_where_it_stands() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), ug.nn.GeneralReLU(0.1, 0.4), ug.nn.SkipInit(0.5), ug.nn.ScaledStdConv2d(8, 4, 3, 2, "same"),
        ug.nn.ECA(4),
    )  # fmt: skip
    x = torch.randn(2, 3, 9, 12)
    expected = net(x).detach()
    report = fold(net, x)
    assert report.model is net
    assert report.classes_left == []
    torch.testing.assert_close(net(x), expected)
    net(torch.randn(1, 3, 10, 11))


class _Looks(ug.nn.GeneralReLU):
    """Branches on a value, which torch.fx cannot record."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.mean() > 0 else super().forward(x)


def test_what_cannot_be_recorded_stays_and_is_named() -> None:
    _Looks.__module__ = "unitgain.tests"
    net = nn.Sequential(nn.Linear(3, 3), _Looks())
    report = fold(net)
    assert report.classes_left == ["_Looks"]
    assert "1: it stays a _Looks, as torch.fx cannot record it" in report.notes[0]


def test_layers_of_ours_are_traced_by_fx() -> None:
    x = torch.randn(2, 8, 6, 6)
    layers: list[nn.Module] = [
        ug.nn.ScaledStdConv2d(8, 8, 3, padding="same", stride=2), ug.nn.StdConv2d(8, 8, 3), ug.nn.ChannelAffine(8),
        ug.nn.BranchScale(0.2), ug.nn.DynamicTanh(8, channels_first=True), ug.nn.DynamicErf(6), ug.nn.RMSNorm(6),
        ug.nn.scaled_std_(nn.Conv2d(8, 8, 3)), ug.nn.SqueezeExcite(8, 4),
        ug.nn.NFBlock(8, 8, width=4, activation=lambda _: nn.ReLU()),
    ]  # fmt: skip
    for layer in layers:
        layer.eval()
        torch.testing.assert_close(torch.fx.symbolic_trace(layer)(x), layer(x))
        pickle.dump(torch.fx.symbolic_trace(layer).state_dict(), io.BytesIO())


def test_fx_traces_stochastic_depth_in_training() -> None:
    layer = ug.nn.StochasticDepth(0.5)
    traced = torch.fx.symbolic_trace(layer)
    x = torch.randn(6, 3, 2, 2)
    torch.manual_seed(0)
    expected = layer(x)
    torch.manual_seed(0)
    assert torch.equal(traced(x), expected)
