"""Which law holds for a call: one function that asks a table by what the call is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.instancenorm import _InstanceNorm

from . import mixing, norms, pools
from .pointwise import pointwise
from .signal import Signal
from .silent import Silent
from .step import Known, Step
from .weights import Kernel, through_weights

ELEMENTWISE = {
    "square", "exp", "abs", "clamp", "clamp_min", "clamp_max", "sqrt", "rsqrt", "sin", "cos", "erf", "pow", "log1p",
    "reciprocal", "expm1", "sign",
}  # fmt: skip


def predict(step: Step) -> Signal:
    """The Signal of the tensor that a call made, from those of its inputs. Raises Silent with the reason where there is
    no law for it."""
    kind = step.value.kind
    if kind == "node":
        role = step.node.role if step.node is not None else ""
        law = _ROLES.get(role)
        if law is None:
            raise Silent(_REASONS.get(role, f"there is no law for {step.name}"))
        return law(step)
    law = _KINDS.get(kind)
    return law(step) if law is not None else _other(step)


# ---- layers -------------------------------------------------------------------------------------------------


def _linear(step: Step) -> Signal:
    known = step.only_with_pads()
    weight, kernel = kernel_of(step)
    bias = _bias_of(step)
    if kernel.stride:
        if known.signal.lags is None:
            raise Silent("the correlation of neighbouring positions is not known")
        return through_weights(known.signal, weight, bias, kernel, step.positions)
    return replace(through_weights(known.signal, weight, bias, kernel, ()), size=known.signal.size)


def kernel_of(step: Step) -> tuple[Tensor, Kernel]:
    """(weight as (O, C/groups, *K), how it goes over positions) of a layer; K and Kernel are empty for a linear one.
    Raises Silent for what is no such layer."""
    known, module, name = step.only_with_pads(), step.module, step.name
    if isinstance(module, _ConvTransposeNd) or name.startswith("conv_transpose"):
        return _transposed(step, known)
    if isinstance(module, _ConvNd) or (name.startswith("conv") and module is None):
        return _convolution(step, known)
    if known.signal.pads:
        raise Silent("zeros were put around its input")
    if sum(p is not None for p in step.parents) > 1:
        raise Silent("a product of two signals, which may depend on each other")
    weight: Any
    if module is None:
        weight = _weight_of_product(step)
    elif isinstance(module, nn.Linear):
        weight = module.weight
    elif type(module).__name__ == "Conv1D" and isinstance(module.weight, Tensor):  # GPT-2's, (in, out)
        weight = module.weight.T
    else:
        raise Silent(f"there is no law for {name}")
    if not isinstance(weight, Tensor) or weight.dim() != 2:
        raise Silent("a product with a weight that is no matrix")
    if known.axis != len(known.shape) - 1 or step.axis != len(step.shape) - 1:
        raise Silent("it mixes positions, not channels")
    if weight.shape != (step.shape[-1], known.signal.channels):
        raise Silent("a weight of another shape")
    return weight, Kernel()


def _bias_of(step: Step) -> Tensor | None:
    if step.module is not None:
        found = getattr(step.module, "bias", None)
    elif step.name == "addmm":
        found = step.call.get(0, "input")
    elif step.name in ("matmul", "mm"):
        found = None
    else:
        found = step.call.get(2, "bias")
    return found if isinstance(found, Tensor) else None


def _weight_of_product(step: Step) -> Tensor | None:
    """(out, in), of linear, matmul and addmm."""
    second = step.call.get(1, "other")
    if step.name == "linear":
        return step.call.get(1, "weight")
    if step.name == "addmm":
        weight = step.call.get(2, "mat2")
        return weight.T if isinstance(weight, Tensor) and step.look_up(weight) is None else None
    matrix = isinstance(second, Tensor) and second.dim() == 2 and step.look_up(second) is None
    if step.name in ("matmul", "mm") and matrix:
        return second.T
    raise Silent(f"there is no law for {step.name} with these arguments")


def _convolution(step: Step, known: Known) -> tuple[Tensor, Kernel]:
    signal, weight = known.signal, step.argument(1, "weight")
    depth = weight.dim() - 2
    if len(known.shape) != depth + 2 or known.axis != 1:
        raise Silent("a convolution over other axes than positions")
    stride = several(step.argument(3, "stride", 1), depth)
    padding = step.argument(4, "padding", 0)
    dilation = several(step.argument(5, "dilation", 1), depth)
    if isinstance(padding, str):
        reach = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:])]
        before = tuple(r // 2 if padding == "same" else 0 for r in reach)
    else:
        before = several(padding, depth)
    if signal.pads:
        before = tuple(b + p[0] for b, p in zip(before, signal.pads))
    around = getattr(step.module, "padding_mode", "zeros") != "zeros"
    return weight, Kernel(stride, before, dilation, int(step.argument(6, "groups", 1)), around)


def _transposed(step: Step, known: Known) -> tuple[Tensor, Kernel]:
    if known.signal.pads:
        raise Silent("zeros were put around its input")
    weight = step.argument(1, "weight")  # (C, O/groups, *K)
    depth = weight.dim() - 2
    if len(known.shape) != depth + 2 or known.axis != 1:
        raise Silent("a convolution over other axes than positions")
    # a function's arguments stand in another order than those of a convolution
    groups = int(step.argument(6, "groups", 1))
    stride, before, dilation = (
        several(step.argument(place, name, default), depth)
        for place, name, default in ((3, "stride", 1), (4, "padding", 0), (7, "dilation", 1))
    )
    parts = weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)  # (O, C/groups, *K)
    return parts, Kernel(stride, before, dilation, groups, transposed=True)


def several(value: Any, count: int) -> tuple[int, ...]:
    """One number for each axis."""
    if isinstance(value, (list, tuple)):
        return tuple(int(v) for v in value) if len(value) == count else (int(value[0]),) * count
    return (int(value),) * count


# ---- norms --------------------------------------------------------------------------------------------------


def _norm(step: Step) -> Signal:
    signal, module, name = step.only().signal, step.module, step.name
    names = {c.__name__ for c in type(module).__mro__} if module is not None else {name}
    if isinstance(module, _BatchNorm) or name == "batch_norm":
        return _batch_norm(step, signal)
    gain, bias = step.argument(2, "weight"), step.argument(3, "bias")
    eps = step.argument(4, "eps", 1e-5)
    if names & {"RMSNorm", "rms_norm"}:
        _check_places(step)
        gain = step.argument(2, "weight")
        eps = step.argument(3, "eps", None)
        return norms.by_root_mean_square(signal, gain, 1e-7 if eps is None else eps)
    if names & {"LayerNorm", "layer_norm"}:
        shape = step.argument(1, "normalized_shape")
        if isinstance(shape, int):
            shape = (shape,)
        if len(shape) != 1 or shape[0] != signal.channels:
            raise Silent("a layer norm over positions")
        return norms.over_groups(signal, 1, gain, bias, eps, per_place=True)
    if names & {"GroupNorm", "group_norm"}:
        groups = step.argument(1, "num_groups")
    elif isinstance(module, _InstanceNorm) or names & {"InstanceNorm", "instance_norm"}:
        if getattr(module, "track_running_stats", False) and not getattr(module, "training", True):
            raise Silent("instance norm with running statistics")
        groups = signal.channels
        if module is None:
            gain, bias, eps = (step.call.get(p, n) for p, n in ((3, "weight"), (4, "bias"), (7, "eps")))
            eps = 1e-5 if eps is None else eps
    else:
        raise Silent(f"there is no law for {step.name}")
    if signal.lags is None:
        raise Silent("the correlation of neighbouring positions is not known")
    return norms.over_groups(signal, int(groups), gain, bias, eps, per_place=False)


def _check_places(step: Step) -> None:
    known = step.only()
    if known.axis != len(known.shape) - 1:
        raise Silent("a norm over other axes than channels")


def _batch_norm(step: Step, signal: Signal) -> Signal:
    module = step.module
    if isinstance(module, _BatchNorm):
        running = (module.running_mean, module.running_var)
        own = module.training or running[0] is None
        gain, bias, eps = module.weight, module.bias, module.eps
    else:
        running = (step.call.get(1, "running_mean"), step.call.get(2, "running_var"))
        gain, bias = step.call.get(3, "weight"), step.call.get(4, "bias")
        own, eps = bool(step.call.get(5, "training", False)), step.call.get(7, "eps", 1e-5)
    if own:
        return norms.over_batch(signal, gain, bias, eps)
    if running[0] is None or running[1] is None:
        raise Silent("a batch norm without statistics")
    scale = (running[1].detach().float() + eps).rsqrt()
    found = norms.affine(signal, scale, -running[0].detach().float() * scale)
    return norms.affine(found, 1.0 if gain is None else gain, 0.0 if bias is None else bias)


# ---- functions ----------------------------------------------------------------------------------------------


def _activation(step: Step) -> Signal:
    known = step.only()
    function = step.node.function if step.node is not None else None
    if function is None or known.shape != step.shape:
        raise Silent(f"{step.name} is no elementwise function")
    return pointwise(known.signal, function)


def _same(step: Step) -> Signal:
    """Dropout that is off, and the like."""
    known = step.only()
    if step.module is not None and step.module.training and float(getattr(step.module, "p", 0) or 0) > 0:
        raise Silent("dropout is on")
    if known.shape != step.shape:
        raise Silent(f"there is no law for {step.name}")
    return known.signal


def _dropout(step: Step) -> Signal:
    if step.module is None and bool(step.call.get(2, "training", True)) and step.value.kind == "node":
        raise Silent("dropout is on")
    return _same(step)


def _pool(step: Step) -> Signal:
    known, module, name = step.only(), step.module, step.name.lower()
    signal = known.signal
    if signal.lags is None:
        raise Silent("the correlation of neighbouring positions is not known")
    if known.axis != 1:
        raise Silent("a pool over other axes than positions")
    out, depth = step.positions, len(signal.size)
    if "avg" in name or "average" in name:
        single = len(step.shape) == 2 or all(n == 1 for n in out)
        if single and ("adaptive" in name or out == () or _covers(step, depth)):
            return pools.mean_over_all(signal, keeps_axes=len(step.shape) > 2)
        if "adaptive" in name:
            if out == signal.size:
                return signal
            if len(out) != depth or any(s % o for s, o in zip(signal.size, out)):
                raise Silent("an adaptive pool with windows of different size")
            window = tuple(s // o for s, o in zip(signal.size, out))
            return pools.mean_over_windows(signal, window, Kernel(window, (0,) * depth, (1,) * depth), out)
        if not isinstance(module, _AVERAGES) and module is not None:
            raise Silent(f"there is no law for {step.name}")
        window, kernel, divisor = average_of(step)
        return pools.mean_over_windows(signal, window, kernel, out, divisor)
    if "max" in name and (module is None or isinstance(module, _MAXIMA)):
        if signal.uneven > _UNEVEN:
            raise Silent("zero padding makes the mean at the border another than in the middle")
        return pools.maximum(signal, maximum_of(step))
    raise Silent(f"there is no law for {step.name}")


def maximum_of(step: Step) -> Callable[[Tensor], Tensor]:
    """The pool as a function of maps."""
    module = step.module
    if module is not None:
        return lambda maps: _first(module.forward(maps))
    rest, named = step.call.args[1:], {k: v for k, v in step.call.kwargs.items() if k != "input"}
    return lambda maps: _first(step.function(maps, *rest, **named))


def average_of(step: Step) -> tuple[tuple[int, ...], Kernel, Any]:
    """(window, how it goes over positions, divisor_override) of an average pool."""
    size = step.only().signal.size
    depth = len(size)
    window = several(step.argument(1, "kernel_size"), depth)
    stride = several(step.argument(2, "stride") or window, depth)
    before = several(step.argument(3, "padding", 0), depth)
    counted = bool(step.argument(5, "count_include_pad", True))
    reach = zip(step.positions, stride, window, size, before)
    if bool(step.argument(4, "ceil_mode", False)) and any(
        (o - 1) * t + w > s + 2 * b for o, t, w, s, b in reach
    ):
        counted = False
    return (
        window,
        Kernel(stride, before, (1,) * depth, fills_up=not counted),
        step.argument(6, "divisor_override"),
    )


def _covers(step: Step, depth: int) -> bool:
    """Whether an average pool's one window is the whole map."""
    known = step.only()
    window = step.argument(1, "kernel_size")
    return window is not None and several(window, depth) == known.signal.size


def _first(found: Any) -> Tensor:
    return found[0] if isinstance(found, tuple) else found


_UNEVEN = 0.1
_AVERAGES = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
_MAXIMA = (
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.MaxPool3d,
    nn.AdaptiveMaxPool1d,
    nn.AdaptiveMaxPool2d,
    nn.AdaptiveMaxPool3d,
)


def _reshape(step: Step) -> Signal:
    if step.name in ("Flatten", "Unflatten", "Identity", "flatten"):
        return mixing.viewed(step)
    raise Silent(f"there is no law for {step.name}")


def _other(step: Step) -> Signal:
    name = step.name.rstrip("_")
    if name == "mean":
        return _mean(step)
    if name == "pad":
        return _padded(step)
    if name in ELEMENTWISE and len(step.parents) == 1 and step.only().shape == step.shape:
        rest, named = step.call.args[1:], step.call.kwargs
        if not any(isinstance(v, Tensor) for v in (*rest, *named.values())):
            return pointwise(step.only().signal, lambda x: step.function(x.clone(), *rest, **named))
    raise Silent(f"there is no law for {step.name or 'this function'}")


def _mean(step: Step) -> Signal:
    known = step.only()
    if known.signal.lags is None:
        raise Silent("the correlation of positions is not known")
    dim = step.call.get(1, "dim")
    dims = {d % len(known.shape) for d in (dim if isinstance(dim, (list, tuple)) else [dim]) if d is not None}
    places = [i for i in range(len(known.shape)) if i != known.axis][1:]
    if dims != set(places):
        raise Silent("a mean over some of the positions")
    keeps = bool(step.call.get(2, "keepdim", False))
    return pools.mean_over_all(known.signal, keeps_axes=keeps)


def _padded(step: Step) -> Signal:
    """Zeros around the positions, kept for the convolution that follows."""
    known = step.only()
    given, depth = list(step.call.get(1, "pad")), len(known.signal.size)
    zeros = step.call.get(2, "mode", "constant") == "constant" and not step.call.get(3, "value", None)
    if known.axis != 1 or not zeros or len(given) > 2 * depth or min(given, default=0) < 0:
        raise Silent("padding with other values than zeros")
    given += [0] * (2 * depth - len(given))
    pads = tuple((given[2 * i], given[2 * i + 1]) for i in reversed(range(depth)))
    return replace(known.signal, pads=pads if any(map(any, pads)) else ())


_ROLES: Mapping[str, Callable[[Step], Signal]] = {
    "linear": _linear, "norm": _norm, "activation": _activation, "pool": _pool, "dropout": _dropout,
    "reshape": _reshape, "block": _same,
}  # fmt: skip
_REASONS = {
    "attention": "attention weighs positions by what they hold", "softmax": "softmax ties values together",
    "embedding": "what an embedding returns is data", "recurrent": "its steps depend on each other",
    "product": "a product of two signals, which may depend on each other", "mix": "it mixes positions",
    "loss": "a loss",
}  # fmt: skip
_KINDS: Mapping[str, Callable[[Step], Signal]] = {
    "view": mixing.viewed, "part": mixing.part, "scale": mixing.scaled, "shift": mixing.shifted,
    "sum": mixing.summed, "product": mixing.product, "concat": mixing.concatenated, "stack": mixing.concatenated,
}  # fmt: skip
