"""What a module is: a leaf or not, its role, and which axes hold channels and examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm

from .._base import original, plain_name
from .._batch import tensors_in
from . import activations

# Modules with children whose forward does not run (or fuses) them: measured as one.
_OPAQUE = (nn.MultiheadAttention, nn.RNNBase)
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_LOSSES = (nn.modules.loss._Loss,)


def is_scripted(module: nn.Module) -> bool:
    """Its inside takes no hooks."""
    return isinstance(module, torch.jit.ScriptModule)


def is_compiled(module: nn.Module) -> bool:
    """By `torch.compile` or `module.compile()`. Whoever hooks it holds compilers off (see _base/compiled.py)."""
    return original(module) is not module or getattr(module, "_compiled_call_impl", None) is not None


def named_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """As torch does, with plain names also in compiled parts."""
    return ((plain_name(name), p) for name, p in model.named_parameters())


def measured_children(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Child modules that run as part of forward, of compiled ones what they were made from; parametrizations (which
    compute weights) are not among them."""
    if isinstance(module, _OPAQUE) or is_scripted(module):
        return []
    return [(n, original(c)) for n, c in module.named_children() if n != "parametrizations"]


def walk(module: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module, bool, bool]]:
    """(path, module, is_leaf, is_block) of every module once, parents first.

    A block is a module with parts of its own that sits in a Sequential or ModuleList, as residual blocks and
    transformer layers do.
    """
    seen: set[int] = set()

    def visit(
        path: str, module: nn.Module, in_container: bool
    ) -> Iterator[tuple[str, nn.Module, bool, bool]]:
        if id(module) in seen:
            return
        seen.add(id(module))
        children = measured_children(module)
        leaf = not children and not isinstance(module, (*_CONTAINERS, nn.Identity))
        is_container = isinstance(module, _CONTAINERS)
        block = in_container and bool(children) and not is_container
        yield path, module, leaf, block
        for name, child in children:
            yield from visit(f"{path}.{name}" if path else name, child, is_container)

    yield from visit(path, module, False)


def role_of(module: nn.Module) -> str:
    """linear, norm, activation, pool, dropout, reshape, embedding, recurrent, attention, softmax, loss or other."""
    if activations.of_module(module) is not None:
        return "activation"
    for kinds, name in _ROLES:
        if isinstance(module, kinds):
            return name
    called = type(module).__name__.lower()
    for part, name in _ROLE_PARTS:
        if part in called:
            return name
    weight = getattr(module, "weight", None)
    if isinstance(weight, Tensor) and weight.dim() >= 2:
        return "linear"
    return "other"


_ROLES: tuple[tuple[Any, str], ...] = (
    ((nn.Linear, nn.Bilinear, _ConvNd), "linear"),
    ((_NormBase, nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm, nn.CrossMapLRN2d), "norm"),
    ((nn.Embedding, nn.EmbeddingBag), "embedding"),
    ((nn.RNNBase, nn.RNNCellBase), "recurrent"),
    (nn.MultiheadAttention, "attention"),
    ((nn.Softmax, nn.Softmin, nn.LogSoftmax, nn.Softmax2d), "softmax"),
    ((nn.modules.dropout._DropoutNd,), "dropout"),
    ((nn.Flatten, nn.Unflatten, nn.Identity, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle,
      nn.Upsample, nn.Fold, nn.Unfold, nn.ZeroPad2d), "reshape"),
    ((nn.modules.pooling._MaxPoolNd, nn.modules.pooling._AvgPoolNd, nn.modules.pooling._AdaptiveAvgPoolNd,
      nn.modules.pooling._AdaptiveMaxPoolNd, nn.modules.pooling._LPPoolNd), "pool"),
    (_LOSSES, "loss"),
)  # fmt: skip
_ROLE_PARTS = (
    ("norm", "norm"), ("droppath", "dropout"), ("dropout", "dropout"), ("stochasticdepth", "dropout"),
    ("embed", "embedding"), ("pool", "pool"), ("flatten", "reshape"), ("softmax", "softmax"),
    ("conv1d", "linear"),  # GPT-2's name for a linear layer with transposed weight
)  # fmt: skip


def subtracts_mean(module: nn.Module) -> str | None:
    """ "channel" if a norm removes each channel's own mean, "group" or "layer" if a wider one, else None."""
    if isinstance(module, nn.GroupNorm):
        return "channel" if module.num_groups == module.num_channels else "group"
    if isinstance(module, nn.LayerNorm):
        return "layer"
    if isinstance(module, _InstanceNorm):
        return "channel"
    if isinstance(module, _NormBase):
        # in eval mode running statistics are subtracted: a constant, so a bias before it does something
        return "channel" if module.training or not module.track_running_stats else None
    declared = getattr(module, "subtracts_mean", None)  # our own norms say so themselves
    return declared if isinstance(declared, str) else None


def channel_axis(
    module: nn.Module | None, shape: tuple[int, ...], inherited: int | None = None
) -> int | None:
    """The axis of the channels of a module's output, checked against the sizes that the module declares.

    Convolutions, BatchNorm, GroupNorm and pools put them on axis 1, Linear, LayerNorm, Embedding, recurrent
    and attention modules on the last. Elementwise modules keep their input's axis (`inherited`). Otherwise
    the last axis of 2- and 3-D tensors and axis 1 of images.
    """
    rank = len(shape)
    if rank < 2:
        return None
    last = rank - 1
    declared, preferred = _declared_channels(module)
    if declared is not None:
        options = [preferred, 1, last] if preferred != -1 else [last, 1]
        for axis in options:
            if axis < rank and shape[axis] == declared:
                return axis
    if inherited is not None and 0 < inherited < rank:
        return inherited
    return 1 if rank >= 4 else last


def _declared_channels(module: nn.Module | None) -> tuple[int | None, int]:
    """(number of channels, axis) that a module declares; axis -1 means the last."""
    if module is None:
        return None, -1
    if isinstance(module, nn.LSTM) and module.proj_size:
        return module.proj_size * (2 if module.bidirectional else 1), -1
    if isinstance(module, nn.RNNBase):
        return module.hidden_size * (2 if module.bidirectional else 1), -1
    for name, axis in (
        ("out_channels", 1), ("num_channels", 1), ("out_features", -1), ("embedding_dim", -1),
        ("embed_dim", -1), ("hidden_size", -1), ("nf", -1),
    ):  # fmt: skip
        value = getattr(module, name, None)
        if isinstance(value, int):
            return value, axis
    if isinstance(module, _NormBase) or hasattr(module, "subtracts_mean"):  # torch's norms and our own
        features = getattr(module, "num_features", None)
        if isinstance(features, int):
            return features, 1
    shape = getattr(module, "normalized_shape", None)
    if isinstance(shape, (tuple, list)) and len(shape) == 1:
        return int(shape[0]), -1
    return None, -1


def batch_axis(module: nn.Module | None, shape: tuple[int, ...], examples: int | None) -> int | None:
    """The axis of the examples: the one whose size is the batch's, minding modules that put time first."""
    if len(shape) < 2 or examples is None:
        return None
    if module is not None and getattr(module, "batch_first", True) is False and shape[1] == examples:
        return 1
    if shape[0] == examples:
        return 0
    if len(shape) >= 3 and shape[1] == examples:
        return 1
    return None


def outputs_of(module: nn.Module, output: Any) -> Iterator[tuple[str, Tensor]]:
    """(suffix, tensor) of the floating outputs: "" for the first, then "[1]" or "[key]".

    Of recurrent and attention modules only the sequence is taken: their further outputs repeat it.
    """
    if isinstance(output, Tensor):
        yield "", output
        return
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)):
        yield from (("", t) for t in list(tensors_in(output))[:1])
        return
    if not hasattr(output, "items") and dataclasses.is_dataclass(output):
        named: Any = {f.name: getattr(output, f.name, None) for f in dataclasses.fields(output)}
        yield from outputs_of(module, named)
    elif hasattr(output, "items"):
        for i, (key, value) in enumerate(output.items()):
            if isinstance(value, Tensor) and value.is_floating_point():
                yield "" if i == 0 else f"[{key}]", value
    elif isinstance(output, (list, tuple)):
        for i, value in enumerate(output):
            for tensor in list(tensors_in(value))[:1]:
                if tensor.is_floating_point():
                    yield "" if i == 0 else f"[{i}]", tensor
