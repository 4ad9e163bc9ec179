"""Backward: mean squares of gradients (gradient.py) through the same calls, from outputs to inputs.

With the weights W that are there, p_k the share of the power that is at outputs at which tap k lies inside, and S
positions each:

    power_in = (S_out / S_in) sum_o [(1 - coherent) sum_k p_k W_k^2 + coherent sum_kl p_kl W_k W_l] power_out

where k and l of the second sum reach the same input; an average pool is a depthwise convolution. An activation
multiplies by E f'(x)^2, a batch norm by gain^2 / variance and takes away what the batch's mean held. A maximum lets the
gradient through where the values are largest, which the activation before it has to know; random maps say how large
they are, and how often one value is the largest of several windows, whose gradients then add.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import pools
from .gradient import Gradient
from .laws import average_of, kernel_of, maximum_of
from .mixing import over_channels
from .norms import spread
from .pointwise import nodes
from .signal import Signal
from .silent import Silent
from .step import Known, Step
from .weights import Kernel, taps_inside

_AS_PREDICTED = 1.05  # factor up or down within which a norm's variances are as even as predicted: chance
_ALMOST = 1.15  # the same where it is known how they differ between positions
_BENT = 0.2  # slopes and bent, geometric mean: beyond, a gradient is not taken for independent of the values
_FLAT = 0.05  # of the values that an activation gets: so many that are one value are no part of a smooth distribution
_ALIKE = 0.1  # correlation of neighbours in which a part of channels may differ from all of them
_NEAR = 0.05  # correlation of neighbours with which a gradient is not taken for independent between positions
_FEW = 0.5  # squared relative standard deviation of the power that a norm over channels divides by
_FEW_VALUES = 0.02  # the same for the variances of a batch norm, of which the smallest count most


def pull_back(step: Step, out: Signal, grad: Gradient) -> list[Gradient | None]:
    """The gradients of a call's parents that come through it; None for a parent that nothing is known of. Raises Silent
    where there is no law."""
    kind = step.value.kind
    role = step.node.role if kind == "node" and step.node is not None else kind
    if role in ("shift", "dropout", "block"):
        return [grad]
    law = _LAWS.get(role)
    if law is None and step.name == "mean":
        law = _mean
    if law is None:
        raise Silent(f"there is no law for the gradient of {step.name or 'this function'}")
    return law(step, out, grad)


def _same_channels(step: Step) -> bool:
    known = step.only()
    return step.shape[step.axis] == known.shape[known.axis]


def _weights(step: Step, out: Signal, grad: Gradient) -> list[Gradient | None]:
    weight, kernel = kernel_of(step)
    return [_through(step, grad, weight.detach().float(), kernel)]


def _through(step: Step, grad: Gradient, weight: Tensor, kernel: Kernel) -> Gradient:
    """Back through a weight (O, C/groups, *K)."""
    known = step.only_with_pads()
    taps, groups = weight.shape[2:], kernel.groups
    flat = weight.flatten(2) if taps else weight[:, :, None]  # (O, C/groups, K)
    outputs = flat.shape[0]
    power = grad.power.view(groups, outputs // groups)
    flat = flat.view(groups, outputs // groups, *flat.shape[1:])
    size = known.signal.size
    single, pair = taps_inside(size, step.positions, taps, kernel, flat.device, grad.profile)
    alone = (flat.square() * single).sum(3)  # (g, O/g, C/g)
    together = torch.einsum("goik,kl,goil->goi", flat, pair * _meet(taps, kernel, flat.device), flat)
    mixed = (1 - grad.coherent) * alone + grad.coherent * together
    places = math.prod(step.positions) / max(math.prod(size), 1) if taps else 1.0
    found = places * torch.einsum("go,goi->gi", power, mixed).reshape(-1)
    held = float(
        torch.einsum("go,goi->", power, grad.coherent * together) / found.sum().clamp_min(1e-38) * places
    )
    stride = 1 if kernel.transposed else math.prod(kernel.stride)
    profile = grad.profile
    if taps and len(size) == len(taps):
        energy = torch.einsum("go,goik->k", power, flat.square()).view(taps)
        profile = _spread_back(grad.profile, energy, step.positions, size, kernel)
    bent = grad.slopes if flat.shape[2] == 1 and outputs == known.signal.channels else 0.0
    return Gradient(found, min(held / stride, 1.0), profile=profile, bent=bent)


def _spread_back(
    profile: Tensor | None, energy: Tensor, out: tuple[int, ...], size: tuple[int, ...], kernel: Kernel
) -> Tensor:
    """(*S,): the profile in front of a convolution whose taps have this energy."""
    given = energy.new_ones(out) if profile is None else profile.to(energy)
    depth = len(size)
    options: dict[str, Any] = {"stride": kernel.stride, "dilation": kernel.dilation}
    if kernel.ignores_border:
        return energy.new_ones(size)
    if kernel.transposed:
        back = (F.conv1d, F.conv2d, F.conv3d)[depth - 1]
        found = back(given[None, None], energy[None, None], padding=kernel.before, **options)[0, 0]
        starts: tuple[int, ...] = (0,) * depth
    else:
        back = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[depth - 1]
        found, starts = back(given[None, None], energy[None, None], **options)[0, 0], kernel.before
    for axis, (start, length) in enumerate(zip(starts, size)):
        found = found.narrow(axis, start, min(length, found.shape[axis] - start))
    missing = [n for a, b in zip(reversed(size), reversed(found.shape)) for n in (0, a - b)]
    found = F.pad(found, missing)
    return found / found.mean().clamp_min(1e-38)


def _meet(taps: tuple[int, ...], kernel: Kernel, device: torch.device) -> Tensor:
    """(K, K): 1 where two taps reach the same input from two outputs."""
    if kernel.transposed:
        return torch.ones(math.prod(taps), math.prod(taps), device=device)
    found = torch.ones(1, 1)
    for width, stride, dilation in zip(taps, kernel.stride, kernel.dilation):
        at = torch.arange(width) * dilation
        found = torch.kron(found, ((at[:, None] - at[None, :]) % stride == 0).float())
    return found.to(device)


def _activation(step: Step, out: Signal, grad: Gradient) -> list[Gradient | None]:
    known = step.only()
    function = step.node.function if step.node is not None else None
    if function is None:
        raise Silent(f"{step.name} is no elementwise function")
    signal = known.signal
    _, values, weights = nodes(signal.marginal, signal.mean.device)
    tied = signal.marginal is not None
    if grad.tied:
        raise Silent("the gradient depends on the values that the activation gets", tied=tied)
    # flat parts of the marginal, but for its ends
    flat = (
        signal.marginal is not None and float((weights[1:] * (signal.marginal.diff() < 1e-5)).sum()) > _FLAT
    )
    if flat or step.zeros > _FLAT:
        raise Silent("many of its inputs are one value", tied=True)
    if grad.chosen is not None:
        weights = grad.chosen.to(weights)
    slopes_at = slope(function, signal.mean + signal.var.sqrt() * values[:, None])  # (Q, C)
    square, mean = weights @ slopes_at.square(), weights @ slopes_at
    held = float((mean.square() * grad.power).sum() / (square * grad.power).sum().clamp_min(1e-38))
    both = slopes_at.square() + slopes_at.square().flip(0)  # of x and of -x, around the mean
    mean_of_both = weights @ both
    slopes = float(
        ((weights @ both.square() / mean_of_both.square().clamp_min(1e-38)) - 1).clamp_min(0).mean().sqrt()
    )
    if grad.bent * slopes > _BENT**2:
        raise Silent("a depthwise layer ties its gradient's magnitude to that of the values")
    power, coherent = grad.power * square, grad.coherent * held
    return [Gradient(power, coherent, tied=tied, profile=grad.profile, slopes=slopes)]


def slope(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        call = function.forward if isinstance(function, nn.Module) else function
        (found,) = torch.autograd.grad(call(leaf * 1.0).sum(), leaf)
    return found.float()


def _norm(step: Step, out: Signal, grad: Gradient) -> list[Gradient | None]:
    """What the output's variance is over the input's, with the share that the norm's own mean and variance hold taken
    away."""
    known = step.only()
    signal = known.signal
    scale = out.var / signal.var.clamp_min(1e-30)
    positions = math.prod(signal.size)
    names = {c.__name__ for c in type(step.module).__mro__} if step.module is not None else {step.name}
    by_batch = bool(names & {"_BatchNorm", "batch_norm"})
    centres = bool(names & {"LayerNorm", "layer_norm"})
    over_channels = centres or bool(names & {"RMSNorm", "rms_norm"})
    known_places = over_channels and signal.places is not None
    if grad.spotty and not (over_channels and grad.profile is not None):
        raise Silent("the gradient is at few positions, whose variance may differ from the others'")
    if signal.mixed and not by_batch and not known_places:
        raise Silent("the norm divides by variances that differ between positions")
    profile = grad.profile
    if over_channels:
        lost, coherent = (1 + centres) / signal.channels, grad.coherent
        scale = _over_channels(step, centres) * _over_places(step)
        if signal.mixed and signal.places is not None:  # each position is divided by its own power
            even = torch.ones_like(signal.places) if profile is None else profile.to(signal.places)
            profile = even / signal.places.clamp_min(1e-30)
            scale, profile = scale * profile.mean(), profile / profile.mean()
    elif by_batch:
        scale = _over_batch(step, out)
        constant = step.module is not None and not step.module.training
        if (
            not constant and not signal.of_batch
        ):  # the batch's own variance differs from its expectation: E 1/var
            if (spread := 2 * signal.repeats()) > _FEW_VALUES:
                raise Silent("the batch has too few independent values for its variance")
            scale = scale / (1 - spread)
        of_mean = grad.coherent / signal.examples + (1 - grad.coherent) / (signal.examples * positions)
        lost = 0.0 if constant else of_mean + 1 / (signal.examples * positions)
        coherent = grad.coherent * (1 - (0 if constant else 1 / signal.examples)) / max(1 - lost, 1e-6)
    elif step.evenness is not None and (groups := groups_of(step)):
        if step.evenness > _AS_PREDICTED:
            raise Silent("the norm divides by variances that differ between examples")
        each = signal.channels // groups
        of_mean = (grad.coherent + (1 - grad.coherent) / positions) / each  # of a group's gradient
        lost = min(of_mean + 1 / (each * positions), 0.999)
        coherent = grad.coherent * (1 - 1 / each) / (1 - lost)
        scale = scale * step.evenness
    else:
        raise Silent(f"there is no law for the gradient of {step.name}")
    power, coherent = grad.power * scale * (1 - lost), min(coherent, 1.0)
    return [Gradient(power, coherent, profile=profile, slopes=grad.slopes)]


def groups_of(step: Step) -> int:
    """Of a group or instance norm; 0 for another one."""
    names = {c.__name__ for c in type(step.module).__mro__} if step.module is not None else {step.name}
    if names & {"GroupNorm", "group_norm"}:
        return int(step.argument(1, "num_groups") or 0)
    return step.only().signal.channels if names & {"_InstanceNorm", "instance_norm"} else 0


def _over_batch(step: Step, out: Signal) -> Tensor:
    """gain^2 / (variance + eps) of a batch norm: also of a channel that does not vary, of which its output says
    nothing."""
    signal, module = step.only().signal, step.module
    running = None if module is None or module.training else getattr(module, "running_var", None)
    var = running.detach().float() if isinstance(running, Tensor) else signal.var
    gain = step.argument(3, "weight")
    square = torch.ones_like(signal.var) if gain is None else gain.detach().float().square()
    eps = step.argument(7, "eps", 1e-5)
    return square / (var + (1e-5 if eps is None else eps))


def _over_channels(step: Step, centres: bool) -> Tensor:
    """gain^2 over the power of an average place, less its mean over channels where the norm takes that away."""
    signal = step.only().signal
    power = signal.var.mean() + signal.mean.square().mean()
    if centres:
        of_mean = signal.var.mean() / signal.channels if signal.cov is None else signal.cov.mean()
        power = power - of_mean - signal.mean.mean().square()
    gain = step.argument(2, "weight")
    square = torch.ones_like(signal.var) if gain is None else gain.detach().float().square()
    return square / power.clamp_min(1e-30)


def _over_places(step: Step) -> float:
    """E 1/q times E q of a place's power q, for normal values."""
    signal = step.only().signal
    cov = torch.diag(signal.var) if signal.cov is None else signal.cov
    found = spread(cov, signal.mean, 1)
    if found > _FEW:
        raise Silent("the norm divides by the power of few independent channels")
    expected = 1 / (1 - found)
    if signal.mixed and signal.places is not None:
        uneven = float(signal.places.clamp_min(1e-30).reciprocal().mean() * signal.places.mean())
        if step.evenness is not None and not 1 / _ALMOST < step.evenness / (uneven * expected) < _ALMOST:
            raise Silent("the norm divides by variances that differ between positions")
        return expected
    if step.evenness is not None and not 1 / _AS_PREDICTED < step.evenness / expected < _AS_PREDICTED:
        raise Silent("the norm divides by variances that differ between positions")
    return expected


def _pool(step: Step, out: Signal, grad: Gradient) -> list[Gradient | None]:
    signal, name = step.only().signal, step.name.lower()
    before, after = math.prod(signal.size), math.prod(step.positions)
    if "max" in name:
        chosen, doubled = pools.chosen_by(signal, maximum_of(step))
        if grad.near * (doubled - 1) > _NEAR:
            raise Silent("windows overlap where the gradients of neighbours agree", tied=True)
        share, factor = after / before, 1 - grad.coherent + grad.coherent * doubled
        profile = None
        if grad.profile is not None:
            profile = F.interpolate(grad.profile[None, None], signal.size, mode="nearest")[0, 0]
        power, coherent = grad.power * share * factor, grad.coherent * share / factor
        return [Gradient(power, coherent, chosen=chosen, profile=profile)]
    if after == 1:
        return [Gradient(grad.power / before**2, 1.0)]
    if "adaptive" in name:
        window = tuple(s // o for s, o in zip(signal.size, step.positions))
        if any(s % o for s, o in zip(signal.size, step.positions)):
            raise Silent("an adaptive pool with windows of different size")
        kernel = Kernel(window, (0,) * len(window), (1,) * len(window), groups=signal.channels)
    else:
        window, kernel, divisor = average_of(step)
        if (kernel.fills_up and any(kernel.before)) or divisor is not None:
            raise Silent("an average over fewer values at the border")
        kernel = replace(kernel, groups=signal.channels)
    weight = grad.power.new_full((signal.channels, 1, *window), 1 / math.prod(window))
    return [_through(step, grad, weight, kernel)]


def _mean(step: Step, out: Signal, grad: Gradient) -> list[Gradient | None]:
    before = math.prod(step.only().signal.size)
    return [Gradient(grad.power / before**2, 1.0)]


def _sum(step: Step, out: Signal, grad: Gradient) -> list[Gradient | None]:
    found: list[Gradient | None] = []
    for known, factor in zip(step.parents, step.value.factors):
        if factor is None:
            raise Silent("a factor that is not one number")
        found.append(
            None if known is None else _narrowed(replace(grad, power=grad.power * factor**2), known, step)
        )
    return found


def _narrowed(grad: Gradient, known: Known, step: Step) -> Gradient:
    """Of what was broadcast: the sum over positions."""
    times = math.prod(step.shape) / math.prod(known.shape)
    if len(known.shape) < len(step.shape):  # the same for all examples
        return Gradient(grad.power * times)
    places = math.prod(step.positions) / max(math.prod(known.signal.size), 1)
    if times != places:
        grad = replace(grad, power=grad.power * times / places)
    if places == 1:
        return grad
    return Gradient(grad.power * (places * (1 - grad.coherent) + places**2 * grad.coherent), 1.0)


def _scale(step: Step, out: Signal, grad: Gradient) -> list[Gradient | None]:
    factor = step.value.factors[0] if step.value.factors else None
    if factor is not None:
        return [replace(grad, power=grad.power * factor**2)]
    for other in (step.call.get(0, "input"), step.call.get(1, "other")):
        if (
            isinstance(other, Tensor)
            and step.look_up(other) is None
            and step.value.name in ("mul", "multiply")
        ):
            vector = over_channels(other, step.shape, step.axis)
            if vector is not None:
                return [replace(grad, power=grad.power * vector.square())]
    raise Silent("a factor that differs between positions")


def _product(step: Step, out: Signal, grad: Gradient) -> list[Gradient | None]:
    """g times the other factor. Of the gate nothing is known: the sum of g x over positions hangs on how they agree."""
    a, b = step.parents
    assert a is not None, "the forward law asked"
    assert b is not None, "the forward law asked"
    found: list[Gradient | None] = []
    for own, other in ((a, b), (b, a)):
        square = other.signal.var + other.signal.mean.square()
        whole = math.prod(own.shape) == math.prod(step.shape)
        found.append(replace(grad, power=grad.power * square) if whole else None)
    return found


def _concat(step: Step, out: Signal, grad: Gradient) -> list[Gradient | None]:
    if sum(p.signal.channels for p in step.parents if p is not None) != len(grad.power):
        raise Silent("positions are concatenated")
    found: list[Gradient | None] = []
    start = 0
    for known in step.parents:
        count = known.signal.channels if known is not None else 0
        # which values are the largest of their windows was asked of all channels together
        other = known is not None and abs(_of_neighbours(known.signal) - _of_neighbours(out)) > _ALIKE
        tied = grad.tied or (grad.chosen is not None and other)
        found.append(replace(grad, power=grad.power[start : start + count], tied=tied))
        start += count
    return found


def _of_neighbours(signal: Signal) -> float:
    """The correlation of neighbours, the mean over axes; 0 where it is not known."""
    lags = signal.shared_lags()
    if lags is None or not signal.size:
        return 0.0
    middle = [s - 1 for s in signal.size]
    found = [
        float(lags[(0, *(m + (i == axis and s > 1) for i, (m, s) in enumerate(zip(middle, signal.size))))])
        for axis, s in enumerate(signal.size) if s > 1
    ]  # fmt: skip
    return sum(found) / max(len(found), 1)


def _flattened(step: Step, out: Signal, grad: Gradient) -> list[Gradient | None]:
    known = step.only()
    size = known.signal.size
    if _same_channels(step):
        fits = grad.profile is None or grad.profile.numel() == math.prod(size)
        return [replace(grad, profile=grad.profile.view(size) if fits and grad.profile is not None else None)]
    if len(grad.power) == known.signal.channels * math.prod(size):
        each = grad.power.view(known.signal.channels, *size)
        profile = each.mean(0) / each.mean().clamp_min(1e-38)
        return [Gradient(each.flatten(1).mean(1), 0.0, profile=profile)]
    raise Silent("a reshape that makes other channels")


_LAWS: Mapping[str, Callable[[Step, Signal, Gradient], list[Gradient | None]]] = {
    "linear": _weights, "activation": _activation, "norm": _norm, "pool": _pool, "sum": _sum, "scale": _scale,
    "product": _product, "concat": _concat, "reshape": _flattened, "view": _flattened,
}  # fmt: skip
