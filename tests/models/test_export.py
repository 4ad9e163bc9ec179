"""torch.compile, torch.export and ONNX compute what eager mode does."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from unitgain import models
from unitgain.nn.scaled_std import standardized


def network(name: str, wiring: str) -> nn.Module:
    model = models.create(name, num_classes=5, wiring=wiring).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "gain" in key:
                parameter.fill_(0.8)
            elif parameter.dim() < 2:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 10)
            elif key.startswith("head"):
                parameter.mul_(30)
    return model


CASES = [
    ("nfnet_tiny", "timm"),
    ("nfnet_tiny", "paper"),
    ("nfnet_tiny", "calibrated"),
    ("nf_resnet_tiny", "timm"),
    pytest.param("nf_resnet50", "timm", marks=pytest.mark.slow),
]
NFNET_SLOW = pytest.param("nfnet_tiny", "paper", marks=pytest.mark.slow)
X = torch.randn(2, 3, 48, 40, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("name", "wiring"), [CASES[3], CASES[4], NFNET_SLOW])
def test_compiled_without_a_graph_break_outputs_and_gradients_stay(name: str, wiring: str) -> None:
    model = network(name, wiring)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    expected = model(X)
    y = compiled(X)
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4)
    ours = torch.autograd.grad(y.square().sum(), list(model.parameters()))
    theirs = torch.autograd.grad(expected.square().sum(), list(model.parameters()))
    for a, b in zip(ours, theirs):
        assert (a - b).norm() <= 1e-4 * b.norm()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the compiler, about torch itself
@pytest.mark.parametrize("name", ["nf_resnet50", "nfnet_tiny"])
def test_compiled_by_inductor(name: str) -> None:
    model = network(name, "timm")
    torch._dynamo.reset()
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(model, fullgraph=True)(X), model(X), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "wiring"), CASES)
def test_exported(name: str, wiring: str) -> None:
    model = network(name, wiring)
    program = torch.export.export(model, (X,))
    torch.testing.assert_close(program.module()(X), model(X), rtol=1e-4, atol=1e-4)


def test_exported_for_any_batch_size() -> None:
    model = network("nfnet_tiny", "paper")
    batch = torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(model, (X,), dynamic_shapes=({0: batch},))
    x = torch.randn(7, 3, 48, 40)
    torch.testing.assert_close(program.module()(x), model(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "wiring"), [CASES[0], CASES[4]])
def test_onnx(name: str, wiring: str, tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    import onnxruntime  # pyright: ignore[reportMissingImports]

    model = network(name, wiring)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        torch.onnx.export(model, (X,), tmp_path / "model.onnx", dynamo=True, verbose=False)
        session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {session.get_inputs()[0].name: X.numpy()})
    torch.testing.assert_close(torch.from_numpy(y), model(X).detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch would rather export
@pytest.mark.filterwarnings("ignore:The TorchScript type system")  # of torch, about its own GraphModule
@pytest.mark.parametrize("wiring", ["timm", "paper", "calibrated", None])
def test_scripts_of_whole_networks_are_for_any_size(wiring: str | None) -> None:
    """torch.jit.script could not read the annotations, nor the standardization."""
    model = models.create("resnet_tiny") if wiring is None else models.create("test_nfnet", wiring=wiring)
    model.eval()
    kinds = [type(m) for m in model.modules()]
    scripted = torch.jit.script(model)
    assert [type(m) for m in model.modules()] == kinds
    for x in (torch.randn(2, 3, 64, 48), torch.randn(1, 3, 65, 33)):
        assert torch.allclose(scripted(x), model(x), atol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("groups", [0, 2])
def test_a_scripted_standardization_is_that_of_the_layer(groups: int) -> None:
    weight, gain = torch.randn(4, 6, 3, 3), torch.rand(4 if not groups else 12, 1, 1, 1)
    scripted = torch.jit.script(standardized)
    for mode in ("clamp", "additive"):
        wanted = standardized(weight, gain, 1e-4, mode, groups, 1.5)
        assert torch.allclose(scripted(weight, gain, 1e-4, mode, groups, 1.5), wanted, atol=1e-6)
