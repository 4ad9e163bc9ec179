"""Convolutions and linear layers: y = W x + b with the weights that are there.

With u_k the layer's response to the channel means at tap k of the kernel, p_k the share of output positions at which
tap k lies inside the map, and p_kl that of taps k and l together:

    mean  = sum_k p_k u_k + b
    cov   = sum_kl p_kl lag(k - l) W_k C W_l^T  +  sum_kl (p_kl - p_k p_l) u_k u_l^T

The second part is what zero padding adds: the mean differs at the border. Nothing is assumed of the weights, so that
what standardization, orthogonality or training made of them is in the result. No covariance: C is diagonal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .signal import GRID, MOST_CHANNELS, Signal, at_points

_MOST_WORK = 2e10  # multiplications for the covariance of a layer's outputs
_MOST_PAIRS = 12_000_000  # of taps and distances
_FEW = 32  # inputs of one output below which a sum of them is not taken for normal


@dataclass(frozen=True)
class Kernel:
    """How a weight (O, C/groups, *K) goes over positions; each but groups one number per axis. before: zeros in front.

    ignores_border  what lies outside counts as more of the same, not as zeros: circular or reflected padding
    fills_up        what lies inside is scaled up to a whole kernel: an average that does not count padding
    transposed      a transposed convolution: tap k of output o sees the input at (o + before - dilation k) / stride,
                    where that is a whole number; before is what is cut off in front
    """

    stride: tuple[int, ...] = ()
    before: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    ignores_border: bool = False
    fills_up: bool = False
    transposed: bool = False


def through_weights(
    signal: Signal, weight: Tensor, bias: Tensor | None, kernel: Kernel, size: Sequence[int]
) -> Signal:
    """The Signal of the outputs. size: their positions along each axis."""
    weight = weight.detach().float()
    outputs, taps = weight.shape[0], weight.shape[2:]
    flat = weight.flatten(2) if taps else weight[:, :, None]  # (O, C/groups, K)
    single, pair = taps_inside(signal.size, tuple(size), taps, kernel, flat.device)
    lags = signal.shared_lags()
    between = _lags_between_taps(lags, signal.size, taps, kernel) if taps else flat.new_ones(1, 1)
    grouped = flat.view(kernel.groups, outputs // kernel.groups, *flat.shape[1:])  # (g, O/g, C/g, K)
    means = signal.mean.view(kernel.groups, 1, -1, 1)
    response = (grouped * means).sum(2).reshape(outputs, -1)  # u: (O, K)
    mean = response @ single + (0 if bias is None else bias.detach().float())
    border = response @ (pair - single[:, None] * single[None, :]) @ response.T if taps else None
    if flat.shape[1] == 1 and outputs == signal.channels and taps:
        var, cov, parts = _depthwise(signal, flat[:, 0], between, pair, taps, kernel)
    else:
        var, cov, parts = _dense(signal, grouped, between * pair)
    if border is not None:
        var = var + border.diagonal()
        cov = None if cov is None else cov + border
    inputs = flat.shape[1] * flat.shape[2]
    shape = _marginal_of_few(signal, flat, between) if inputs < _FEW else None
    skips = not kernel.transposed and any(step > width for step, width in zip(kernel.stride, taps))
    uneven = float(border.diagonal().sum() / var.sum().clamp_min(1e-30)) if border is not None else 0.0
    found = Signal(
        signal.examples,
        tuple(size),
        mean,
        var.clamp_min(0),
        cov,
        None,
        shape,
        of_batch=signal.of_batch and not skips,
        lags_of_batch=signal.lags_of_batch and kernel.groups == outputs,
        uneven=uneven,
    )
    if not taps:
        lags = signal.lags if signal.lags is None else signal.shared_lags()
        common = None
        if signal.common is not None and flat.shape[0] <= MOST_CHANNELS:
            common = flat[:, :, 0] @ signal.common @ flat[:, :, 0].T
        return replace(found, lags=lags, common=common)
    at_border = response[:, :, None] * response[:, None, :], single[:, None] * single[None, :]
    return found.with_lags(_lags_behind(signal, parts, at_border, taps, kernel, tuple(size)))


def _dense(signal: Signal, grouped: Tensor, factors: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
    """(var, cov, (O, K, K): W_k C W_l^T of each output). factors: p_kl lag(k - l)."""
    groups, each, fan, taps = grouped.shape
    outputs = groups * each
    weight = grouped.reshape(outputs, fan, taps)
    work = outputs * signal.channels * taps * (signal.channels / groups + outputs)
    if signal.cov is None or work > _MOST_WORK:
        scaled = grouped * signal.var.view(groups, 1, fan, 1)
        scaled = scaled.reshape(outputs, fan, taps)
        parts = torch.einsum("ock,ocl->okl", scaled, weight)
        cov = None
        if groups == 1 and outputs <= MOST_CHANNELS and outputs**2 * fan * taps < _MOST_WORK:
            cov = (scaled @ factors).flatten(1) @ weight.flatten(1).T
        return (parts * factors).sum((1, 2)), cov, parts
    if groups == 1:
        mixed = torch.einsum("ock,cd->odk", weight, signal.cov)  # W_k C: (O, C, K)
        parts = torch.einsum("odk,odl->okl", mixed, weight)
        cov = (mixed @ factors).flatten(1) @ weight.flatten(1).T
    else:
        rows = signal.cov.view(groups, fan, signal.channels)
        mixed = torch.einsum("gock,gcd->godk", grouped, rows)  # (g, O/g, C, K)
        own = torch.stack([mixed[g, :, g * fan : (g + 1) * fan] for g in range(groups)])
        parts = torch.einsum("godk,godl->gokl", own, grouped).reshape(outputs, taps, taps)
        scaled = (mixed @ factors).reshape(outputs, groups, fan * taps)
        cov = torch.einsum("ogx,gpx->ogp", scaled, grouped.flatten(2)).reshape(outputs, outputs)
    cov = (cov + cov.T) / 2
    return cov.diagonal().clone(), cov, parts


def _depthwise(
    signal: Signal, weight: Tensor, between: Tensor, pair: Tensor, taps: Sequence[int], kernel: Kernel
) -> tuple[Tensor, Tensor | None, Tensor]:
    """The same for one input per output, where every channel has an autocorrelation of its own."""
    own = between
    if signal.lags is not None and signal.lags.shape[0] > 1:
        own = _lags_between_taps(signal.lags, signal.size, taps, kernel)  # (C, K, K)
    parts = weight[:, :, None] * weight[:, None, :] * signal.var[:, None, None]
    var = (parts * own * pair).sum((1, 2))
    if signal.cov is None:
        return var, None, parts
    factors = weight @ (between * pair) @ weight.T
    cov = signal.cov * factors
    scale = (var / cov.diagonal().clamp_min(1e-30)).clamp_min(0).sqrt()
    cov = cov * scale[:, None] * scale[None, :]
    cov.diagonal().copy_(var)
    return var, cov, parts


# ---- which taps lie inside ----------------------------------------------------------------------------------


def taps_inside(
    size: tuple[int, ...], out: tuple[int, ...], taps: Sequence[int], kernel: Kernel, device: torch.device,
    profile: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(p_k, p_kl): (K,), (K, K). profile (*out,), mean 1: how much each output counts; None: all the same."""
    single, pair = torch.ones(1, device=device), torch.ones(1, 1, device=device)
    there = [_there(axis, size, out, taps, kernel).to(device) for axis in range(len(taps))]
    if profile is not None and profile.dim() == len(there) > 0:
        single = pair = profile.to(device) / profile.numel()
        for each in there:  # the first axis of positions goes, one of taps, or two, come last
            single = torch.tensordot(single.movedim(0, -1), each, 1)
            pair = torch.tensordot(pair.movedim(0, -1), each[:, :, None] * each[:, None, :], 1)
        depth, width = len(there), math.prod(taps)
        order = [2 * i for i in range(depth)] + [2 * i + 1 for i in range(depth)]
        return single.flatten(), pair.permute(order).reshape(width, width)
    for each in there:
        single = torch.kron(single, each.mean(0))
        pair = torch.kron(pair, each.T @ each / len(each))
    return single, pair


def _there(
    axis: int, size: tuple[int, ...], out: tuple[int, ...], taps: Sequence[int], kernel: Kernel
) -> Tensor:
    """(positions, taps) of one axis: 1 where a tap lies inside, 0 where not."""
    if kernel.ignores_border:
        return torch.ones(out[axis], taps[axis])
    outputs, reach = torch.arange(out[axis])[:, None], torch.arange(taps[axis]) * kernel.dilation[axis]
    if kernel.transposed:
        places, stride = outputs + kernel.before[axis] - reach, kernel.stride[axis]
        return ((places >= 0) & (places < size[axis] * stride) & (places % stride == 0)).float()
    places = outputs * kernel.stride[axis] - kernel.before[axis] + reach
    there = ((places >= 0) & (places < size[axis])).float()
    return there * (taps[axis] / there.sum(1, keepdim=True).clamp_min(1)) if kernel.fills_up else there


def _lags_between_taps(
    lags: Tensor | None, size: tuple[int, ...], taps: Sequence[int], kernel: Kernel
) -> Tensor:
    """(K, K) or (C, K, K): the autocorrelation at the distance of two taps."""
    assert lags is not None, "the caller asks whether it is known"
    grids = torch.meshgrid(*(torch.arange(n) for n in taps), indexing="ij")
    index: list[Tensor] = []
    for axis, grid in enumerate(grids):
        at = grid.flatten() * kernel.dilation[axis]
        apart = at[:, None] - at[None, :]
        if kernel.transposed:  # taps of one output, of which those a stride apart see neighbours
            apart = apart.div(kernel.stride[axis], rounding_mode="floor")
        most = size[axis] - 1
        index.append((apart.clamp(-most, most) + most).to(lags.device))
    found = lags[(slice(None), *index)]
    return found[0] if lags.shape[0] == 1 else found


# ---- autocorrelation of the outputs -------------------------------------------------------------------------


def _lags_behind(
    signal: Signal, parts: Tensor, at_border: tuple[Tensor, Tensor], taps: Sequence[int], kernel: Kernel,
    size: tuple[int, ...],
) -> Tensor | None:  # fmt: skip
    """At distance d: sum over k and l of parts[k, l] lag(stride d + k - l) times the share of pairs of outputs at this
    distance whose taps k and l lie inside, and the same for the mean at the border; divided by that at 0.

    at_border  u_k u_l (O, K, K), and p_k p_l (K, K)
    """
    if signal.lags is None:
        return None
    rows = parts.shape[0]
    own = signal.lags.shape[0] > 1 and rows == signal.lags.shape[0] and kernel.groups == rows
    if rows * math.prod(2 * s - 1 for s in size) > 4_000_000 and not own:
        parts, at_border = parts.mean(0, keepdim=True), (at_border[0].mean(0, keepdim=True), at_border[1])
    pairs = math.prod(2 * s - 1 for s in size) * math.prod(taps) ** 2
    if pairs * (2 * rows if own else 1) <= _MOST_PAIRS * (5 if own else 1):
        out = _lags_by_pairs(signal, parts, at_border, taps, kernel, size, own)
    elif kernel.transposed:
        return None  # of maps as large as this
    else:
        out = _lags_by_convolution(signal, parts, taps, kernel, size, own)
    centre = out[(slice(None), *(length - 1 for length in size))]
    live = centre > 1e-6 * parts.abs().sum((1, 2)).clamp_min(1e-30)
    out[(slice(None), *(length - 1 for length in size))] = torch.where(live, centre, torch.ones_like(centre))
    out = out / torch.where(live, centre, torch.ones_like(centre)).view(-1, *[1] * len(taps))
    return out.clamp(-1, 1)


def _pairs_inside(
    axis: int, size: tuple[int, ...], out: tuple[int, ...], taps: Sequence[int], kernel: Kernel
) -> Tensor:
    """(2S-1, K, K) of one axis: of all pairs of outputs at a distance, the share whose taps k and l lie inside."""
    length = out[axis]
    there = _there(axis, size, out, taps, kernel)
    found = []
    for distance in range(length):
        near, far = there[: length - distance], there[distance:]
        found.append(far.T @ near / len(near))  # [k, l]: k at the further output
    backwards = [f.T for f in found[:0:-1]]
    return torch.stack([*backwards, *found])


def _lags_by_pairs(
    signal: Signal, parts: Tensor, at_border: tuple[Tensor, Tensor], taps: Sequence[int], kernel: Kernel,
    size: tuple[int, ...], own: bool,
) -> Tensor:  # fmt: skip
    """Every pair of taps at every distance."""
    lags = signal.lags if own else signal.shared_lags()
    assert lags is not None
    depth, width = len(taps), math.prod(taps)
    index: list[Tensor] = []
    share = torch.ones(1, 1, 1)
    for axis, (length, count) in enumerate(zip(size, taps)):
        distance = torch.arange(1 - length, length).view(-1, 1, 1)
        tap = torch.arange(count) * kernel.dilation[axis]
        apart = tap[:, None] - tap[None, :]
        if kernel.transposed:
            apart = (distance - apart).div(kernel.stride[axis], rounding_mode="floor")
        else:
            apart = distance * kernel.stride[axis] + apart
        most = signal.size[axis] - 1
        at = apart.clamp(-most, most) + most  # (2S-1, K, K)
        places = [1] * (3 * depth)
        for group, n in enumerate(at.shape):
            places[group * depth + axis] = n
        index.append(at.view(places).to(lags.device))
        inside = _pairs_inside(axis, signal.size, size, taps, kernel)
        share = torch.einsum("dkl,eij->dekilj", share, inside).reshape(
            share.shape[0] * inside.shape[0], share.shape[1] * count, share.shape[2] * count
        )
    share = share.to(lags.device)
    each = (
        lags[(slice(None), *index)].reshape(lags.shape[0], -1, width, width) * share
    )  # (rows or 1, D, K, K)
    if own:
        out = torch.einsum("ckl,cdkl->cd", parts, each)
    else:
        out = parts.flatten(1) @ each[0].flatten(1).T
    if not kernel.ignores_border:
        out += at_border[0].flatten(1) @ (share - at_border[1]).flatten(1).T
    return out.view(-1, *(2 * s - 1 for s in size))


def _lags_by_convolution(
    signal: Signal, parts: Tensor, taps: Sequence[int], kernel: Kernel, size: tuple[int, ...], own: bool
) -> Tensor:
    """The same for large maps, where the border counts little: pairs of taps at one distance are taken together."""
    lags = signal.lags if own else signal.shared_lags()
    assert lags is not None
    rows, depth = parts.shape[0], len(taps)
    grids = torch.meshgrid(*(torch.arange(n) for n in taps), indexing="ij")
    index = torch.zeros(math.prod(taps), math.prod(taps), dtype=torch.long)
    for axis, grid in enumerate(grids):
        at = grid.flatten()
        index = index * (2 * taps[axis] - 1) + at[:, None] - at[None, :] + taps[axis] - 1
    wide = [2 * n - 1 for n in taps]
    collected = parts.new_zeros(rows, math.prod(wide))
    collected.index_add_(1, index.flatten().to(parts.device), parts.flatten(1))
    weight = collected.view(rows, 1, *wide)
    slices, pad = [slice(None)], []
    for axis, length in enumerate(size):
        reach = kernel.stride[axis] * (length - 1) + kernel.dilation[axis] * (taps[axis] - 1)
        extra = max(reach - (signal.size[axis] - 1), 0)
        pad = [extra, extra, *pad]
        middle = signal.size[axis] - 1 + extra
        slices.append(slice(middle - reach, middle + reach + 1))
    maps = F.pad(lags[None], pad, mode="replicate")[0][tuple(slices)]  # (rows or 1, 2S-1 and more)
    convolve = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[depth]
    groups = maps.shape[0] if own else 1
    out = convolve(maps[None], weight, stride=kernel.stride, dilation=kernel.dilation, groups=groups)[0]
    for axis, length in enumerate(size):
        inside = _pairs_inside(axis, signal.size, size, taps, kernel).diagonal(dim1=1, dim2=2).mean(1)
        shape = [1] * out.dim()
        shape[axis + 1] = -1
        out = out * (inside / inside[length - 1].clamp_min(1e-6)).view(shape).to(out.device)
    return out


# ---- few inputs ---------------------------------------------------------------------------------------------


def _marginal_of_few(signal: Signal, weight: Tensor, between: Tensor) -> Tensor | None:
    """(P,): of sums over a kernel's taps and few channels, drawn: taps correlated as the lags say, channels
    independent. weight (O, C/groups, K)."""
    if signal.marginal is None:
        return None
    generator = torch.Generator().manual_seed(0)
    rows = weight[:: -(-weight.shape[0] // 64)].cpu()  # at most 64
    values, vectors = torch.linalg.eigh(between.double().cpu())
    root = (vectors * values.clamp_min(0).sqrt()).float()  # (K, K)
    z = torch.randn(2048, rows.shape[1], root.shape[0], generator=generator) @ root.T
    z = z / root.square().sum(1).clamp_min(1e-30).sqrt()
    drawn = along(signal.marginal.cpu(), z)
    sums = torch.einsum("nck,ock->on", drawn, rows)
    sums = sums - sums.mean(1, keepdim=True)
    std = sums.square().mean(1, keepdim=True).sqrt()
    sums = sums[(std > 0).squeeze(1)] / std[std > 0][:, None]
    return at_points(sums.flatten()).to(weight.device) if sums.numel() else None


def along(marginal: Tensor | None, z: Tensor) -> Tensor:
    """g(z): the values that a marginal has where a normal variable is z."""
    if marginal is None:
        return z
    place = (z - GRID[0]) / (GRID[1] - GRID[0])
    below = place.floor().clamp(0, len(GRID) - 2)
    share, index = (place - below).clamp(0, 1), below.long()
    return marginal[index] + share * (marginal[index + 1] - marginal[index])
