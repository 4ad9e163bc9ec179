"""Scripted, quantized, sparse, complex and other tensors and modules out of the ordinary."""

from __future__ import annotations

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .case import CLASSES, FEATURES, Body, Case, case, tokens, vectors


class Counts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls, self.log = 0, [0]
        self.fc, self.bn = nn.Linear(FEATURES, FEATURES), nn.BatchNorm1d(FEATURES)
        self.kept = torch.zeros(FEATURES)
        self.register_buffer("mean", torch.zeros(FEATURES))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.log.append(self.calls)
        self.kept = self.kept + x.detach().mean(0)
        self.mean = x.detach().mean(0)
        return self.bn(self.fc(x))


class Around(Body):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def during(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


@case
def partly_scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Around(torch.jit.script(Counts()))


@case
def partly_traced() -> nn.Module:
    inner = nn.Sequential(nn.Linear(FEATURES, FEATURES), nn.BatchNorm1d(FEATURES))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Around(torch.jit.trace(inner, torch.randn(4, FEATURES)))


@case
def compiled_part() -> nn.Module:
    return Around(torch.compile(nn.Sequential(nn.Linear(FEATURES, FEATURES), nn.Tanh()), backend="eager"))  # type: ignore[arg-type]


@case
def fake_quantized() -> nn.Module:
    """As in quantization-aware training: observers move their ranges in forward."""

    class Fake(Body):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("scale", torch.tensor([0.1]))
            self.register_buffer("zero", torch.zeros(1, dtype=torch.int32))
            self.register_buffer("low", torch.tensor([-1.0]))
            self.register_buffer("high", torch.tensor([1.0]))
            self.register_buffer("on", torch.ones(1, dtype=torch.long))

        def during(self, x: Tensor) -> Tensor:
            return torch.fused_moving_avg_obs_fake_quant(
                x, self.on, self.on, self.low, self.high, self.scale, self.zero, 0.1, 0, 255, 0
            )

    return Fake()


@case
def quantized_weights() -> nn.Module:
    class Model(Body):
        def __init__(self) -> None:
            super().__init__()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.register_buffer(
                    "codes", torch.quantize_per_tensor(torch.ones(FEATURES), 0.1, 0, torch.qint8)
                )

        def during(self, x: Tensor) -> Tensor:
            self.codes.copy_(0.9 * self.codes.dequantize())
            return x * self.codes.dequantize()

    return Model()


@case
def sparse_buffers() -> nn.Module:
    class Model(Body):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("graph", torch.eye(FEATURES).to_sparse().coalesce())
            self.plain = torch.eye(FEATURES).to_sparse()

        def during(self, x: Tensor) -> Tensor:
            self.graph.mul_(0.9)
            self.plain.add_(torch.ones(FEATURES, FEATURES).to_sparse())
            return torch.sparse.mm(self.graph, x.T).T

    return Model()


@case
def sparse_gradients() -> Case:
    model = nn.Sequential(
        nn.Embedding(10, FEATURES, sparse=True), nn.Flatten(), nn.Linear(5 * FEATURES, CLASSES)
    )
    return Case(model, tokens())


@case
def complex_weights() -> nn.Module:
    class Model(Body):
        def __init__(self) -> None:
            super().__init__()
            self.filter = nn.Parameter(torch.randn(FEATURES // 2 + 1, dtype=torch.complex64))
            self.register_buffer("phase", torch.ones(2, dtype=torch.complex64).conj())

        def during(self, x: Tensor) -> Tensor:
            self.phase.mul_(1j)
            return torch.fft.irfft(torch.fft.rfft(x) * self.filter, n=FEATURES)

    return Model()


@case
def nested_tensor_kept() -> nn.Module:
    class Model(Body):
        def __init__(self) -> None:
            super().__init__()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.parts = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])

        def during(self, x: Tensor) -> Tensor:
            self.parts.mul_(2)
            return x

    return Model()


class Wrapped(Tensor):
    """A tensor that holds another one, as those of torchao and DTensor do."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor, requires_grad: bool = False) -> Wrapped:
        return Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, inner.shape, dtype=inner.dtype, device=inner.device, requires_grad=requires_grad
        )

    def __init__(self, inner: Tensor, requires_grad: bool = False):
        self.inner = inner

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["inner"], None

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        def plain(value: Any) -> Any:
            return value.inner if isinstance(value, Wrapped) else value

        plain_args = [[plain(v) for v in a] if isinstance(a, list) else plain(a) for a in args]
        out = func(*plain_args, **{k: plain(v) for k, v in (kwargs or {}).items()})
        if func is torch.ops.aten.detach.default:
            return Wrapped(out)
        return args[0] if func._schema.is_mutable and isinstance(args[0], Wrapped) else out


@case
def tensors_of_a_class_of_their_own() -> nn.Module:
    class Model(Body):
        def __init__(self) -> None:
            super().__init__()
            self.scale = Wrapped(torch.ones(FEATURES))

        def during(self, x: Tensor) -> Tensor:
            self.scale.inner.mul_(0.9)
            return x * self.scale.inner

    return Model()


@case
def flat_memory_for_all_parameters() -> Case:
    """As FSDP and fused optimizers lay them out: every parameter is a view of one flat tensor."""
    model = Body()
    flat = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    start = 0
    for p in model.parameters():
        p.data = flat[start : start + p.numel()].view(p.shape)
        start += p.numel()
    model.flat = flat
    return Case(model, outside={"flat": flat})


@case
def expanded_and_overlapping_buffers() -> nn.Module:
    class Model(Body):
        high: Tensor
        same: Tensor

        def __init__(self) -> None:
            super().__init__()
            base = torch.arange(float(FEATURES + 2))
            self.register_buffer("low", base[:FEATURES])
            self.register_buffer("high", base[2:])
            self.register_buffer("same", torch.ones(1).expand(FEATURES))
            self.register_buffer("empty", torch.zeros(0))
            self.register_buffer("nowhere", torch.zeros(3, device="meta"))
            self.register_buffer("strange", torch.tensor([float("nan"), -0.0, float("inf")]))

        def during(self, x: Tensor) -> Tensor:
            self.low.mul_(1.1)
            self.same[:1].mul_(0.9)
            self.strange.neg_()
            return x + 0.01 * self.high * self.same

    return Model()


@case
def reentrant_checkpointing() -> nn.Module:
    class Model(Body):
        def during(self, x: Tensor) -> Tensor:
            return checkpoint(lambda v: v + torch.relu(self.norm(self.fc(v))), x, use_reentrant=True)

    return Model()


@case
def checkpointing_behind_a_frozen_trunk() -> nn.Module:
    class Model(Body):
        def during(self, x: Tensor) -> Tensor:
            return checkpoint(lambda v: v + torch.relu(self.norm(self.fc(v))), x, use_reentrant=False)

    model = Model()
    model.fc.requires_grad_(False)
    return model


@case
def functional_calls() -> nn.Module:
    class Model(Body):
        def during(self, x: Tensor) -> Tensor:
            scaled = {n: 0.5 * p for n, p in self.fc.named_parameters()}
            return x + torch.func.functional_call(self.fc, scaled, (x,))

    return Model()


@case
def half_precision() -> Case:
    model = nn.Sequential(nn.Linear(FEATURES, 8), nn.ReLU(), nn.Linear(8, CLASSES)).bfloat16()
    x, y = vectors()
    return Case(model, (x.bfloat16(), y))


@case
def inputs_that_want_gradients() -> Case:
    x, y = vectors()
    x.requires_grad_()
    x.grad = torch.ones_like(x)
    return Case(Body(), (x, y), F.cross_entropy)


@case
def tensors_of_inference_mode() -> nn.Module:
    model = Body()
    with torch.inference_mode():
        model.table = torch.ones(3)
    return model
