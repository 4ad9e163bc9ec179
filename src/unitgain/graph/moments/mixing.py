"""Sums, products, concatenations, parts and views of signals.

What is added is taken for uncorrelated: variances add. A product is predicted where one factor is a gate (one value for
many positions) taken for independent of what it multiplies. Concatenated channels keep what is known of each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .norms import affine
from .signal import MOST_CHANNELS, Signal, at_points, layout, mean_over_pairs, measure
from .silent import Silent
from .step import Known, Step, positions_of
from .weights import along

_DRAWN = 65_536
_MOST_FLAT = 4096  # positions whose pairs are looked at one by one


def add(signals: Sequence[Signal], size: tuple[int, ...]) -> Signal:
    """The sum of independent signals, each of all positions or of one that stands for all."""
    wide = [_over_positions(s, size) for s in signals]
    first = wide[0]
    mean, var = sum(s.mean for s in wide), sum(s.var for s in wide)
    assert isinstance(mean, Tensor)
    assert isinstance(var, Tensor)
    covs = [torch.diag(s.var) if s.cov is None else s.cov for s in wide if len(s.mean) <= MOST_CHANNELS]
    cov = torch.stack(covs).sum(0) if len(covs) == len(wide) else None
    found = replace(
        first, size=size, examples=max(s.examples for s in wide), mean=mean, var=var, cov=cov, of_batch=False,
        magnitude=None, before=None, uneven=_uneven(wide),
        mixed=any(s.mixed for s in wide), places=_places_of_sum(wide), common=_common_of_sum(wide),
    )  # fmt: skip
    return replace(found.with_lags(_mixed_lags(wide)), marginal=_marginal_of_sum(wide))


def multiply(signal: Signal, gate: Signal, size: tuple[int, ...]) -> Signal:
    """The product with an independent gate."""
    a, b = _over_positions(signal, size), _over_positions(gate, size)
    mean = a.mean * b.mean
    var = (a.var + a.mean.square()) * (b.var + b.mean.square()) - mean.square()
    cov = None
    if a.cov is not None and b.cov is not None:
        outer = [torch.outer(s.mean, s.mean) for s in (a, b)]
        cov = (a.cov + outer[0]) * (b.cov + outer[1]) - outer[0] * outer[1]
    lags = None
    if a.lags is not None and b.lags is not None:
        ones = [1] * len(size)
        parts = [
            s.lags * s.var.view(-1, *ones) + s.mean.square().view(-1, *ones)
            for s in (a, b)
            if s.lags is not None
        ]
        lags = parts[0] * parts[1] - mean.square().view(-1, *ones)
        lags = (lags / var.clamp_min(1e-30).view(-1, *ones)).clamp(-1, 1)
    found = replace(a, mean=mean, var=var.clamp_min(0), cov=cov, of_batch=False, before=None, common=None)
    return found.with_lags(lags)


def join(signals: Sequence[Signal]) -> Signal:
    """Channels one behind the other."""
    first = signals[0]
    lags = None
    if all(s.lags is not None for s in signals):
        lags = torch.cat(
            [s.lags.expand(s.channels, *s.lags.shape[1:]) for s in signals if s.lags is not None]
        )
    channels = sum(s.channels for s in signals)
    cov = None
    if channels <= MOST_CHANNELS:
        cov = torch.block_diag(*(torch.diag(s.var) if s.cov is None else s.cov for s in signals))
    found = replace(
        first, mean=torch.cat([s.mean for s in signals]), var=torch.cat([s.var for s in signals]), cov=cov,
        marginal=_marginal_of_mixture(signals), of_batch=all(s.of_batch for s in signals),
        magnitude=_magnitude_of_mixture(signals), before=None, uneven=_uneven(signals),
        mixed=any(s.mixed for s in signals), places=_places_of_sum(signals), common=None,
    )  # fmt: skip
    return found.with_lags(lags)


def mix(signals: Sequence[Signal], shares: Sequence[float], size: tuple[int, ...]) -> Signal:
    """Positions one behind the other: a mixture in these shares."""
    mean = sum(share * s.mean for share, s in zip(shares, signals))
    assert isinstance(mean, Tensor)
    square = sum(share * (s.var + s.mean.square()) for share, s in zip(shares, signals))
    assert isinstance(square, Tensor)
    cov = None
    if all(s.channels <= MOST_CHANNELS for s in signals):
        parts = [
            share * ((torch.diag(s.var) if s.cov is None else s.cov) + torch.outer(s.mean, s.mean))
            for share, s in zip(shares, signals)
        ]
        cov = torch.stack(parts).sum(0) - torch.outer(mean, mean)
    return replace(
        signals[0], size=size, mean=mean, var=(square - mean.square()).clamp_min(0), cov=cov, lags=None,
        marginal=_marginal_of_mixture(signals, shares), of_batch=False, mixed=True, magnitude=None, before=None,
        places=_places_behind(signals, size), common=None,
    )  # fmt: skip


# ---- calls --------------------------------------------------------------------------------------------------


def shifted(step: Step) -> Signal:
    """x + c, for a number, a vector over channels, or a value for each position (a positional embedding)."""
    known, other = _signal_and_other(step)
    sign = -1.0 if step.value.name in ("sub", "subtract", "rsub") else 1.0
    sign *= float(step.call.kwargs.get("alpha", 1.0))
    if not isinstance(other, Tensor):
        return affine(known.signal, 1.0, sign * float(other))
    vector = over_channels(other, step.shape, step.axis)
    if vector is not None:
        return affine(known.signal, 1.0, sign * vector)
    constant = measure(layout(sign * other.expand(step.shape)[:1], step.axis))
    constant = replace(constant, examples=known.signal.examples)
    return add([known.signal, constant], step.positions)


def scaled(step: Step) -> Signal:
    """x times a number or a vector over channels."""
    if "dropout" in step.value.name and bool(step.call.get(2, "training", True)):
        raise Silent("dropout is on")
    factor = step.value.factors[0] if step.value.factors else None
    if factor is not None:
        return affine(step.only().signal, factor)
    known, other = _signal_and_other(step)
    vector = over_channels(other, step.shape, step.axis) if isinstance(other, Tensor) else None
    if vector is None:
        raise Silent("a factor that differs between positions")
    return affine(
        known.signal, 1 / vector if step.value.name.endswith("div") or "divide" in step.value.name else vector
    )


def over_channels(constant: Tensor, shape: tuple[int, ...], axis: int) -> Tensor | None:
    """(C,): a constant that differs between channels alone; None if it differs elsewhere too."""
    constant = constant.detach().float()
    if constant.dim() > len(shape):
        return None
    own = (1,) * (len(shape) - constant.dim()) + tuple(constant.shape)
    if any(n != 1 for i, n in enumerate(own) if i != axis):
        return None
    return constant.reshape(-1).expand(shape[axis])


def summed(step: Step) -> Signal:
    """The sum of several signals."""
    signals = []
    for known, factor in zip(step.parents, step.value.factors):
        if known is None or known.signal.pads:
            raise Silent("what is added is not known")
        if factor is None:
            raise Silent("a factor that is not one number")
        aligned = _for_all_examples(step, known) or aligned_with(known, step.shape, step.axis)
        signals.append(affine(aligned, factor) if factor != 1.0 else aligned)
    if len(signals) < 2 or len({s.channels for s in signals}) > 1:
        raise Silent("what is added has other channels")
    return add(signals, step.positions)


def _for_all_examples(step: Step, known: Known) -> Signal | None:
    """Of what has no axis of examples, as positions' embeddings (T, C) that are added to (N, T, C)."""
    if len(known.shape) >= len(step.shape) or len(known.shape) < 2:
        return None
    given = [step.call.get(0, "input"), step.call.get(1, "other")]
    tensor = next((t for t in given if isinstance(t, Tensor) and step.look_up(t) is known), None)
    if tensor is None:
        raise Silent("what is added has other axes")
    return measure(layout(tensor.expand(step.shape)[:1], step.axis))


def product(step: Step) -> Signal:
    """A signal times its gate."""
    if len(step.parents) != 2 or any(p is None or p.signal.pads for p in step.parents):
        raise Silent("a product of two signals")
    pair = [p for p in step.parents if p is not None]
    full = [p for p in pair if math.prod(p.shape) == math.prod(step.shape)]
    if len(full) != 1:
        raise Silent("a product of two signals, which may depend on each other")
    gate = pair[1] if full[0] is pair[0] else pair[0]
    aligned = aligned_with(gate, step.shape, step.axis)
    if aligned.channels != full[0].signal.channels:
        raise Silent("a gate with other channels")
    return multiply(full[0].signal, aligned, step.positions)


def concatenated(step: Step) -> Signal:
    """Of signals, and of constants among them (a class token)."""
    tensors = step.call.get(0, "tensors") or ()
    dim = step.call.get(1, "dim", 0)
    if not isinstance(dim, int) or step.value.kind == "stack":
        raise Silent("tensors are stacked")
    dim %= len(step.shape)
    found: list[Signal] = []
    shares: list[float] = []
    for tensor in tensors:
        known = step.look_up(tensor)
        if known is not None and (known.axis != step.axis or known.signal.pads):
            raise Silent("what is concatenated has its channels elsewhere")
        found.append(measure(layout(tensor, step.axis)) if known is None else known.signal)
        shares.append(tensor.shape[dim] / step.shape[dim])
    if dim == step.axis:
        return join(found)
    if dim == 0:
        raise Silent("batches are concatenated")
    return mix(found, shares, step.positions)


def part(step: Step) -> Signal:
    """A range of channels."""
    known = step.only()
    if math.prod(step.shape) == math.prod(known.shape):
        return viewed(step)
    same = [i for i in range(len(step.shape)) if i < len(known.shape) and step.shape[i] != known.shape[i]]
    if len(step.shape) != len(known.shape) or same != [known.axis] or step.axis != known.axis:
        raise Silent("some positions are taken, which may differ from the others")
    if step.start is None:
        raise Silent("which channels are taken is not known")
    at = slice(step.start, step.start + step.shape[step.axis])
    s = known.signal
    return replace(
        s, mean=s.mean[at], var=s.var[at], cov=None if s.cov is None else s.cov[at, at],
        common=None if s.common is None else s.common[at, at],
        lags=s.lags if s.lags is None or s.lags.shape[0] == 1 else s.lags[at], magnitude=None, before=None,
    )  # fmt: skip


def viewed(step: Step) -> Signal:
    """The same values in another shape."""
    known = step.only()
    s, size = known.signal, step.positions
    channels = step.shape[step.axis]
    if step.shape == known.shape and step.axis == known.axis:
        return s
    if channels == s.channels:
        order_kept = _without_ones(size) == _without_ones(s.size) and step.value.name not in (
            "permute",
            "transpose",
        )
        if step.value.name in ("permute", "transpose", "movedim", "moveaxis") and len(size) == 1:
            order_kept = size == s.size
        lags = s.lags
        if not order_kept:
            moved = _permuted_positions(step, known)
            if lags is not None and moved is None:
                lags = _flattened_lags(s, size) if step.value.name not in _MOVE else None
            elif lags is not None and moved is not None:
                lags = lags.permute(0, *(1 + m for m in moved))
        if lags is not None:
            lags = lags.reshape(lags.shape[0], *(2 * n - 1 for n in size))
        kept = order_kept and s.places is not None and s.places.numel() == math.prod(size)
        same = math.prod(size) == math.prod(s.size)  # not so, windows are examples now, or were some
        return replace(
            s, examples=min(s.examples, step.shape[0]), size=size, lags=lags,
            places=s.places.reshape(size) if kept and s.places is not None else None, common=s.common if same else None,
        )  # fmt: skip
    if known.axis == 1 and len(step.shape) == 2 and channels == s.channels * math.prod(s.size):
        return _features(s)
    raise Silent("a reshape that makes other channels")


_MOVE = ("permute", "transpose", "movedim", "moveaxis", "swapaxes", "swapdims", "roll", "flip")


def _flattened_lags(s: Signal, size: tuple[int, ...]) -> Tensor | None:
    """Of positions (H, W) that are told as one row of H W: the mean over the pairs at each distance there."""
    places, lags = math.prod(s.size), s.shared_lags()
    if lags is None or len(size) != 1 or size[0] != places or places > _MOST_FLAT:
        return None
    between = position_covariance(lags, s.size)
    far = torch.arange(places, device=between.device)
    at = (far[None, :] - far[:, None] + places - 1).flatten()
    total = torch.zeros(2 * places - 1, device=between.device).index_add_(0, at, between.flatten())
    return (total / torch.bincount(at, minlength=2 * places - 1))[None]


def _features(s: Signal) -> Signal:
    """(N, C, *S) -> (N, C * S): each channel's moments at each position."""
    each = math.prod(s.size)
    cov = None
    lags = s.shared_lags()
    if s.cov is not None and lags is not None and s.channels * each <= MOST_CHANNELS:
        between = position_covariance(lags, s.size)
        cov = torch.kron(s.cov, between)
    lost = 1 / s.examples  # a feature's mean and variance are those of the examples alone
    mean = torch.where(s.mean < 0, -1.0, 1.0) * (s.mean.square() + lost * s.var).sqrt()
    return Signal(
        s.examples, (), mean.repeat_interleave(each), (1 - lost) * s.var.repeat_interleave(each),
        None if cov is None else (1 - lost) * cov, torch.ones(1, device=s.mean.device), s.marginal, of_batch=False,
        magnitude=s.magnitude,
    )  # fmt: skip


def position_covariance(lags: Tensor, size: tuple[int, ...]) -> Tensor:
    """(S, S): the autocorrelation of every pair of positions."""
    grids = torch.meshgrid(*(torch.arange(n) for n in size), indexing="ij")
    index = tuple(
        (g.flatten()[:, None] - g.flatten()[None, :] + n - 1).to(lags.device) for g, n in zip(grids, size)
    )
    return lags[0][index]


def _permuted_positions(step: Step, known: Known) -> list[int] | None:
    """Where each axis of positions was before a permute; None if that is not clear."""
    if step.value.name != "permute":
        return None
    given = step.call.get(1, "dims")
    order = list(given) if isinstance(given, (list, tuple)) else list(step.call.args[1:])
    rank = len(step.shape)
    order = [d % rank for d in order]
    before = [i for i in range(rank) if i != known.axis]
    after = [d for i, d in enumerate(order) if i != step.axis]
    if not before or after[0] != before[0]:
        return None
    return [before[1:].index(d) for d in after[1:]]


def aligned_with(known: Known, shape: tuple[int, ...], axis: int) -> Signal:
    """The signal as one of a tensor of this shape that it is broadcast to."""
    lead = len(shape) - len(known.shape)
    if lead < 0 or known.axis + lead != axis:
        raise Silent("channels on another axis")
    size = positions_of((1,) * lead + known.shape, axis)
    s = known.signal
    if size == s.size:
        return s
    lags = None if s.lags is None else s.lags.reshape(s.lags.shape[0], *(2 * n - 1 for n in size))
    return replace(s, size=size, lags=lags, places=None if s.places is None else s.places.reshape(size))


def _over_positions(s: Signal, size: tuple[int, ...]) -> Signal:
    """One value for all positions where it is broadcast."""
    if s.size == size:
        return s
    places = None if s.places is None else s.places.expand(size)
    if s.lags is None:
        return replace(s, size=size, places=places)
    s, lags = replace(s, common=None), s.lags  # one value for all: what they share has their covariance
    for axis, (own, wanted) in enumerate(zip(s.size, size), start=1):
        if own == 1 and wanted > 1:
            lags = lags.expand(*(2 * wanted - 1 if i == axis else n for i, n in enumerate(lags.shape)))
    return replace(s, size=size, lags=lags, places=places)


def _mixed_lags(signals: Sequence[Signal]) -> Tensor | None:
    if any(s.lags is None for s in signals):
        return None
    ones = [1] * len(signals[0].size)
    if all(s.lags is not None and s.lags.shape[0] == 1 for s in signals):
        weights = [s.var.mean().view(1, *ones) for s in signals]
    else:
        weights = [s.var.view(-1, *ones) for s in signals]
    total = torch.stack(weights).sum(0).clamp_min(1e-30)
    return torch.stack([w / total * s.lags for w, s in zip(weights, signals) if s.lags is not None]).sum(0)


def _marginal_of_sum(signals: Sequence[Signal]) -> Tensor | None:
    if all(s.marginal is None for s in signals):
        return None
    generator = torch.Generator().manual_seed(0)
    total = torch.zeros(_DRAWN)
    for s in signals:
        z = torch.randn(_DRAWN, generator=generator)
        shape = None if s.marginal is None else s.marginal.cpu()
        total += float(s.var.mean().sqrt()) * along(shape, z)
    return at_points(total).to(signals[0].mean.device) if float(total.std()) > 0 else None


def _marginal_of_mixture(signals: Sequence[Signal], shares: Sequence[float] | None = None) -> Tensor | None:
    if all(s.marginal is None for s in signals):
        return None
    generator = torch.Generator().manual_seed(0)
    values = []
    for i, s in enumerate(signals):
        count = shares[i] if shares is not None else s.channels / sum(t.channels for t in signals)
        z = torch.randn(max(int(_DRAWN * count), 1), generator=generator)
        values.append(along(None if s.marginal is None else s.marginal.cpu(), z))
    return at_points(torch.cat(values)).to(signals[0].mean.device)


def _common_of_sum(signals: Sequence[Signal]) -> Tensor | None:
    if all(s.common is None for s in signals):  # what they share lies in the channels that they have
        return None
    each = [c for s in signals if (c := _common_of(s)) is not None]
    return torch.stack(each).sum(0) if len(each) == len(signals) else None


def _common_of(s: Signal) -> Tensor | None:
    lags = s.shared_lags()
    if s.common is not None or lags is None:
        return s.common
    share = float(mean_over_pairs(lags, s.size).clamp(0, 1))
    return share * (torch.diag(s.var) if s.cov is None else s.cov)


def _places_of_sum(signals: Sequence[Signal]) -> Tensor | None:
    """Of signals with the same positions: each place's power, added."""
    size = signals[0].size
    if not any(s.mixed for s in signals) or any(s.mixed and s.places is None for s in signals):
        return None
    if any(s.places is not None and tuple(s.places.shape) != size for s in signals):
        return None
    total = sum((_power(s) * _even_or(s) for s in signals), torch.zeros(size))
    return total / total.mean().clamp_min(1e-30)


def _places_behind(signals: Sequence[Signal], size: tuple[int, ...]) -> Tensor | None:
    """Of positions one behind the other."""
    if len(size) != 1 or any(s.mixed and s.places is None for s in signals):
        return None
    total = torch.cat([_power(s) * _even_or(s).flatten() for s in signals])
    return total / total.mean().clamp_min(1e-30) if total.numel() == size[0] else None


def _power(s: Signal) -> float:
    return float(s.var.sum() + s.mean.square().sum())


def _even_or(s: Signal) -> Tensor:
    return torch.ones(s.size) if s.places is None else s.places.cpu()


def _uneven(signals: Sequence[Signal]) -> float:
    total = sum(float(s.var.sum()) for s in signals)
    return sum(float(s.var.sum()) * s.uneven for s in signals) / max(total, 1e-30)


def _magnitude_of_mixture(signals: Sequence[Signal]) -> float | None:
    if any(s.magnitude is None for s in signals):
        return None
    total = sum(float(s.var.sum()) for s in signals)
    return sum(float(s.var.sum()) * (s.magnitude or 0) for s in signals) / max(total, 1e-30)


def _signal_and_other(step: Step) -> tuple[Known, Any]:
    """What is known of the signal in a sum or a product with a constant, and the constant."""
    known = step.only()
    pair = [step.call.get(0, "input"), step.call.get(1, "other")]
    others = [item for item in pair if not (isinstance(item, Tensor) and step.look_up(item) is not None)]
    if len(others) != 1 or others[0] is None:
        raise Silent("what it is combined with is not known")
    return known, others[0]


def _without_ones(size: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for n in size if n != 1)
