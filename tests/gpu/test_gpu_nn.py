"""Layers and normalizer-free networks on a GPU: the CPU's float64 results, forward and backward, eager and compiled."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
from shared import close, no_waiting, on
from torch import Tensor, nn

import unitgain as ug
from unitgain.nn.scaled_std import standardized


def both(
    plain: nn.Module, x: Tensor, device: torch.device, dtype: torch.dtype = torch.float32
) -> tuple[list[Tensor], list[Tensor]]:
    """(from float64 on the CPU, from the device): the output, then the gradients of input and parameters."""
    results = []
    for place, kind in ((torch.device("cpu"), torch.float64), (device, dtype)):
        module, inputs = on(place, plain).to(kind), x.to(place, kind).requires_grad_()
        module(inputs.detach())  # workspaces and the like
        with no_waiting():
            out = module(inputs)
            weights = torch.linspace(-1, 1, out.numel(), device=place, dtype=out.dtype).view(out.shape)
            (out * weights).sum().backward()
        assert inputs.grad is not None
        results.append([out, inputs.grad, *(p.grad for p in module.parameters() if p.grad is not None)])
    return results[0], results[1]


@pytest.mark.parametrize("eps_mode", ["clamp", "additive"])
@pytest.mark.parametrize("shape", [(8, 6, 3, 3), (64, 200), (3, 5), (512, 4608)], ids=str)
def test_standardized_weights_and_gradients(
    device: torch.device, shape: tuple[int, ...], eps_mode: str
) -> None:
    generator = torch.Generator().manual_seed(0)
    weight, gain = torch.randn(shape, generator=generator) + 0.3, torch.randn(shape[0], generator=generator)
    weight[1] = 0.25  # no variance: eps decides
    direction, results = torch.randn(shape, generator=generator), []
    for place, kind in ((torch.device("cpu"), torch.float64), (device, torch.float32)):
        w, g = weight.to(place, kind).requires_grad_(), gain.to(place, kind).requires_grad_()
        way = direction.to(place, kind)
        with no_waiting():
            out = standardized(w, g, 1e-4, eps_mode)
            (out * way).sum().backward()
        results.append((out, w.grad, g.grad))
    for want, got in zip(*results):
        assert want is not None
        assert got is not None
        others = [i for i in range(shape[0]) if i != 1]
        close(got[others], want[others], 1e-4)
        close(got[1], want[1], 1e-3) if want[1].norm() > 1e-6 else close(got + 1, want + 1, 1e-3)


def test_second_derivatives_through_standardization(device: torch.device) -> None:
    generator = torch.Generator().manual_seed(0)
    w0, results = torch.randn(4, 10, generator=generator), []
    for place, kind in ((torch.device("cpu"), torch.float64), (device, torch.float32)):
        w = w0.to(place, kind).requires_grad_()
        (g,) = torch.autograd.grad(standardized(w, 1.0, 1e-4).pow(3).sum(), w, create_graph=True)
        (h,) = torch.autograd.grad(g.square().sum(), w)
        results.append(h)
    close(results[1], results[0], 1e-4)


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "conv": (lambda: ug.nn.ScaledStdConv2d(6, 8, 3, stride=2, padding="same", gamma="relu"), (4, 6, 11, 12)),
    "grouped conv": (
        lambda: ug.nn.ScaledStdConv2d(8, 8, 3, padding=1, groups=2, eps_mode="additive"),
        (4, 8, 9, 9),
    ),
    "transposed conv": (lambda: ug.nn.ScaledStdConvTranspose2d(6, 4, 4, 2, 1), (3, 6, 7, 7)),
    "linear": (lambda: ug.nn.ScaledStdLinear(20, 30, gamma="gelu"), (5, 20)),
    "std conv": (lambda: ug.nn.StdConv2d(6, 8, 3, padding="same", stride=2), (4, 6, 11, 11)),
    "BatchNorm": (lambda: ug.nn.BatchNorm(6), (8, 6, 5, 5)),
    "BatchNorm, plain average": (lambda: ug.nn.BatchNorm(6, momentum=None), (8, 6, 5, 5)),
    "LayerNorm": (lambda: ug.nn.LayerNorm(20), (8, 7, 20)),
    "GroupNorm": (lambda: ug.nn.GroupNorm(3, 6), (8, 6, 5, 5)),
    "InstanceNorm": (lambda: ug.nn.InstanceNorm(6, affine=True, track_running_stats=True), (8, 6, 5, 5)),
    "GeneralReLU": (lambda: ug.nn.GeneralReLU(0.1, 0.4, 2.0), (8, 30)),
}


@pytest.mark.parametrize("name", list(LAYERS))
def test_layers_give_the_float64_result_and_do_not_wait(device: torch.device, name: str) -> None:
    make, shape = LAYERS[name]
    torch.manual_seed(0)
    want, got = both(make(), torch.randn(shape) * 2 + 1, device)
    for a, b in zip(want, got, strict=True):
        close(b, a, 2e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["conv", "linear", "BatchNorm", "LayerNorm", "GroupNorm"])
def test_layers_in_half_precision(device: torch.device, name: str, dtype: torch.dtype) -> None:
    make, shape = LAYERS[name]
    torch.manual_seed(0)
    want, got = both(make(), torch.randn(shape), device, dtype)
    close(got[0], want[0], 2e-2)
    assert all(bool(torch.isfinite(t).all()) for t in got)


def test_channels_last_weights_are_standardized_as_they_lie(device: torch.device) -> None:
    torch.manual_seed(0)
    layer, x = ug.nn.ScaledStdConv2d(16, 32, 3, padding=1), torch.randn(2, 16, 8, 8)
    want, _ = both(layer, x, device)
    there = on(device, layer).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert there.standardized_weight().is_contiguous(memory_format=torch.channels_last)
    out = there(x.to(device, memory_format=torch.channels_last))
    close(out, want[0], 1e-4)


def test_folding_keeps_the_outputs(device: torch.device) -> None:
    torch.manual_seed(0)
    model, x = ug.models.create("nf_resnet_tiny", num_classes=5), torch.randn(2, 3, 32, 32)
    want = on(torch.device("cpu"), model).double()(x.double())
    folded = ug.nn.fold_(on(device, model))
    close(folded(x.to(device)), want, 1e-4)


# ---- networks ----------------------------------------------------------------------------------------------


def opened(name: str, wiring: str) -> nn.Module:
    """With gains that are not zero, so that every branch and its gradient count."""
    torch.manual_seed(0)
    model = ug.models.create(name, num_classes=5, wiring=wiring)
    with torch.no_grad():
        for key, p in model.named_parameters():
            if "gain" in key:
                p.fill_(0.8)
            elif key.startswith("head") and p.dim() > 1:
                p.normal_(0, 0.1)
    return model


@pytest.mark.parametrize("wiring", ["timm", "paper", "calibrated"])
@pytest.mark.parametrize("name", ["nf_resnet_tiny", "nfnet_tiny"])
def test_networks_give_the_float64_result_and_do_not_wait(
    device: torch.device, name: str, wiring: str
) -> None:
    want, got = both(opened(name, wiring), torch.randn(4, 3, 32, 32), device)
    floor = 1e-2 * max(float(t.norm()) for t in want[2:])  # a gain's gradient may be a sum that cancels
    for a, b in zip(want, got, strict=True):
        close(b, a, 1e-3, floor)


def test_calibrating_a_network_measures_what_the_cpu_measures(device: torch.device) -> None:
    torch.manual_seed(0)
    plain, x = ug.models.create("nf_resnet_tiny", wiring="calibrated"), torch.randn(16, 3, 32, 32)
    here, there = (copy.deepcopy(plain), on(device, plain))
    for model, batch in ((here, x), (there, x.to(device))):
        ug.models.calibrate_(model, batch)
    for a, b in zip(here.buffers(), there.buffers()):
        assert b.device.type == device.type
        close(b, a, 1e-3)


@pytest.mark.parametrize("name", ["nf_resnet_tiny", "nfnet_tiny"])
def test_bf16_autocast_in_channels_last_is_near_float64(device: torch.device, name: str) -> None:
    model, x = opened(name, "timm"), torch.randn(4, 3, 64, 64)
    want = on(torch.device("cpu"), model).double()(x.double())
    there = on(device, model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.autocast(device.type, torch.bfloat16):
        out = there(x.to(device, memory_format=torch.channels_last))
        out.float().square().mean().backward()
    close(out.float(), want, 5e-2)
    assert all(bool(torch.isfinite(p.grad).all()) for p in there.parameters() if p.grad is not None)


@pytest.mark.needs_cuda
@pytest.mark.parametrize("kind", ["layer", "network"])
def test_compiled_is_what_eager_is(device: torch.device, kind: str) -> None:
    """By inductor, without a graph break, with gradients."""
    torch._dynamo.reset()
    if kind == "layer":
        torch.manual_seed(0)
        plain, x = ug.nn.ScaledStdConv2d(8, 16, 3, padding=1, gamma="relu"), torch.randn(4, 8, 16, 16)
    else:
        plain, x = opened("nf_resnet_tiny", "timm"), torch.randn(4, 3, 32, 32)
    model = on(device, plain)
    twin = torch.compile(copy.deepcopy(model), fullgraph=True)
    inputs = x.to(device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the compiler, about torch itself
        got = twin(inputs)
        got.square().mean().backward()
    want = model(inputs)
    want.square().mean().backward()
    close(got, want, 1e-3)
    floor = 1e-2 * max(float(p.grad.norm()) for p in model.parameters() if p.grad is not None)
    for p, q in zip(model.parameters(), twin.parameters()):  # type: ignore[union-attr]
        assert p.grad is not None
        assert q.grad is not None
        close(q.grad, p.grad, 5e-3, floor)
