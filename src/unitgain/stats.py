"""One tensor -> its summary, reduced on the tensor's own device.

`summarize` reads a tensor a handful of times with the fastest reductions that torch has and keeps a few small
vectors (`Partial`); `finish` turns many of them into numbers at once. Nothing waits for an accelerator until
`finish`, and no reference to the tensor is kept.

How each statistic is defined is in docs/reference/record.md. How it is computed:

- Sums and sums of squares are taken per channel in float32 (float64 for float64 tensors) and combined in
  float64. The obvious calls are the slow ones on a CPU (std, var_mean, histc, isfinite), so they are not used.
- Variance is mean of squares minus squared mean. When that would cancel (variance below 1/1000 of the mean
  square) the tensor is read again with its mean subtracted; when squares would overflow or underflow, or when
  values are not finite, it is read again in float64. Moments leave non-finite values out.
- On an accelerator these second readings would need to wait, so accumulation is in float64 from the start
  (where the device has it), and non-finite values count as zeros in min and max.
- Histograms, and the fractions of zeros of tensors that are not outputs of an activation function, come from
  a sample: runs of 16 values (one cache line), one at a quasi-random place in each of equally long stretches of
  memory. (At a constant distance they would all fall on the same few channels whenever that distance is near
  a multiple of the channels' period.)
- `limit` measures some of the examples only: 16,384 values tell a standard deviation to 0.6%, and reading 2
  million at every step would cost more than the convolution that made them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

RUN = 16  # values in one run of a sample: 64 bytes of float32
_TINY, _HUGE = 1e-15, 1e15  # outside of these, squares leave float32's range
_CANCELLATION = 1e-3
_PIECE = 1 << 14
_SPREAD_EXAMPLES, _SPREAD_FEATURES = 64, 512
_FEWEST_EXAMPLES = 2  # of a tensor of which only some are measured


@dataclass(frozen=True)
class Range:
    """What a bounded or rectifying activation function's values say about its derivative.

    saturated  (low, high): values below low or above high lie in a flat tail; None where there is no such tail
    at_bound   True: the bounds themselves count as saturated (hard functions clip to them)
    dead       (low, high): a unit whose every value lies in [low, high] has (almost) zero derivative everywhere
    dead_tails True: instead, a unit is dead whose every value lies outside of the open interval (low, high)
    """

    saturated: tuple[float | None, float | None] = (None, None)
    at_bound: bool = False
    dead: tuple[float, float] | None = None
    dead_tails: bool = False


@dataclass
class Partial:
    """Sums of one tensor, still on its device. All vectors have one entry per channel."""

    count: int
    total: Tensor  # (C,) sum of (value - shift)
    squares: Tensor  # (C,) sum of (value - shift)**2
    high: Tensor  # (C,)
    low: Tensor  # (C,)
    shift: float = 0.0
    alive: Tensor | None = None  # (C,) bool
    scalars: dict[str, Tensor | float] = field(default_factory=dict)
    sample: Tensor | None = None  # (k,) float32
    smallest_normal: float = 0.0

    @property
    def channels(self) -> int:
        return self.total.numel()

    def merge(self, other: Partial) -> None:
        """Adds what was measured on another tensor of the same site; the sample stays the first one's."""
        if other.count == 0:
            return
        if self.count == 0:
            vars(self).update(vars(other))
            return
        if self.channels != other.channels:
            self._collapse()
            other._collapse()
        mine, theirs = self._channel_counts(), other._channel_counts()
        if "channel_counts" in self.scalars or "channel_counts" in other.scalars:
            self.scalars["channel_counts"] = mine + theirs
        step, total, squares = other.shift - self.shift, other.total, other.squares
        if step:  # their sums about our shift
            squares = squares.double() + 2 * step * total.double() + theirs * step**2
            total = total.double() + theirs * step
        self.total = self.total + total
        self.squares = self.squares + squares
        self.high = torch.maximum(self.high, other.high)
        self.low = torch.minimum(self.low, other.low)
        if self.alive is not None and other.alive is not None and self.alive.shape == other.alive.shape:
            self.alive = self.alive | other.alive
        weight = other.count / max(self.count + other.count, 1)
        for name, value in other.scalars.items():
            known = self.scalars.get(name)
            if name == "channel_counts":
                continue
            if name in ("zeros", "saturated", "nonfinite"):
                self.scalars[name] = value if known is None else known + value
            elif known is None or known != known:  # undefined so far: too few examples
                self.scalars[name] = value
            elif value == value:
                self.scalars[name] = known * (1 - weight) + value * weight
        self.count += other.count

    def _channel_counts(self) -> Tensor | float:
        """Number of finite values in each channel."""
        exact = self.scalars.get("channel_counts")
        return (self.count - self.scalars.get("nonfinite", 0.0)) / self.channels if exact is None else exact

    def _collapse(self) -> None:
        """One channel, so that partials of different layout can be added."""
        self.total, self.squares = self.total.double().sum().view(1), self.squares.double().sum().view(1)
        self.high, self.low = self.high.amax().view(1), self.low.amin().view(1)
        self.scalars.pop("channel_counts", None)
        self.alive = None


def summarize(
    x: Tensor,
    *,
    channel_axis: int | None = None,
    batch_axis: int | None = None,
    function: Range | None = None,
    cosine: bool = False,
    spread: bool = False,
    count_zeros: bool = True,
    sample: int = 0,
    limit: int | None = None,
    turn: int = 0,
) -> Partial:
    """Reduces a tensor of any shape and dtype to a Partial.

    channel_axis  axis of the channels; None takes the whole tensor as one channel
    batch_axis    axis of the examples, for `cosine`, `spread` and `limit`
    function      set for outputs of an activation function: counts zeros, saturated values and live units
    count_zeros   whether to count zeros exactly there (else the sample tells)
    cosine        also measures how alike the examples are; needs at least two of them
    spread        also measures how far examples stray from the mean example
    sample        how many values to keep for histograms (rounded to whole runs); 0 keeps none
    limit         measure only as many examples as hold about this many values (at least 2); None all.
                  Which ones: neighbouring examples, moving on with `turn`, so that in time all are seen
    """
    x = x.detach()
    smallest_normal = torch.finfo(x.dtype).smallest_normal if x.is_floating_point() else 0.0
    if limit is not None and x.numel() > limit and x.dim() > 1:
        x = _some_examples(x, batch_axis or 0, limit, turn)
    if x.dtype is not torch.float32 or x.is_sparse:
        x = _as_float(x)
    matrix = _layout(x, channel_axis)  # (P, C, S)
    if x.numel() == 0:
        nothing = x.new_full((max(matrix.shape[1], 1),), math.nan)
        return Partial(0, nothing, nothing, nothing, nothing, scalars={"nonfinite": 0.0})

    partial = _reduce(matrix) if x.device.type == "cpu" else _reduce_without_waiting(matrix)
    partial.smallest_normal = smallest_normal
    if function is not None:
        _measure_function(matrix, function, partial, count_zeros)
    if (cosine or spread) and batch_axis is not None and x.dim() > 1 and x.shape[batch_axis] > 1:
        rows = (x.movedim(batch_axis, 0) if batch_axis else x).reshape(x.shape[batch_axis], -1)  # (B, D)
        if cosine:
            _measure_cosine(rows, partial)
        if spread:
            _measure_spread(rows, partial)
    if sample:
        partial.sample = take_sample(matrix, sample)
    return partial


def _some_examples(x: Tensor, batch_axis: int, limit: int, turn: int) -> Tensor:
    examples = x.shape[batch_axis]
    keep = max(_FEWEST_EXAMPLES, limit * examples // x.numel())
    if keep >= examples:
        return x
    return x.narrow(batch_axis, turn * keep % (examples - keep + 1), keep)


def take_examples(
    x: Tensor, channel_axis: int | None, batch_axis: int | None, limit: int, turn: int
) -> tuple[Tensor, int | None, int | None]:
    """A copy of as many examples as hold about `limit` values (see `summarize`), to be measured later.

    Returns (copy, its channel axis, its batch axis). Images are copied channels first, (C, B, H, W): each
    channel is then one stretch of memory, which is up to six times as fast to reduce.
    """
    x = x.detach()
    if x.numel() > limit and x.dim() > 1:
        x = _some_examples(x, batch_axis or 0, limit, turn)
    if x.dim() > 2 and channel_axis == 1 and batch_axis in (0, None):
        return x.transpose(0, 1).contiguous(), 0, None if batch_axis is None else 1
    return x.clone(), channel_axis, batch_axis


def flat_numbers(tensors: Sequence[Tensor]) -> dict[str, np.ndarray]:
    """{statistic: (len(tensors),) float64} of small tensors without channels, those of equal size in one go.

    Each is scaled by its largest magnitude first, so float32 is exact enough for any range.
    """
    out = {
        name: np.full(len(tensors), np.nan) for name in ("mean", "std", "rms", "min", "max", "absmax", "zero")
    }
    sizes = np.array([t.numel() for t in tensors])
    out["count"] = sizes.astype(np.float64)
    out["nonfinite"] = np.zeros(len(tensors))
    for size in np.unique(sizes[sizes > 0]):
        members = np.flatnonzero(sizes == size)
        block = torch.cat([tensors[i].reshape(-1) for i in members]).cpu()
        values = (block if block.dtype == torch.float64 else block.float()).numpy().reshape(-1, size)
        high, low = values.max(1).astype(np.float64), values.min(1).astype(np.float64)
        largest = np.maximum(np.abs(high), np.abs(low))
        good = np.isfinite(largest)
        for i in members[~good]:
            exact = finish([summarize(tensors[i])])
            for name in out:
                out[name][i] = exact.get(name, [np.nan])[0]
        if not good.all():
            members, values, high, low, largest = (v[good] for v in (members, values, high, low, largest))
        scale = np.where(largest > 0, largest, 1.0)
        scaled = values / scale[:, None].astype(values.dtype)
        mean = scaled.mean(1)
        scaled -= mean[:, None]
        variance = np.einsum("ij,ij->i", scaled, scaled) / size
        mean = mean.astype(np.float64)
        out["mean"][members] = mean * scale
        out["std"][members] = np.sqrt(variance) * scale
        out["rms"][members] = np.sqrt(variance + mean**2) * scale
        out["max"][members], out["min"][members], out["absmax"][members] = high, low, largest
        out["zero"][members] = 1 - np.count_nonzero(values, axis=1) / size
    return out


def take_sample(x: Tensor, size: int) -> Tensor:
    """About `size` values of x, as a flat copy: all if there are no more, else runs of 16 spread over the tensor.

    >>> take_sample(torch.arange(10), 100).tolist() == list(range(10))
    True
    >>> take_sample(torch.arange(100_000), 64)[::16].tolist()
    [0, 40432, 55888, 96336]
    """
    x = x.detach()
    if x.is_complex():
        x = torch.view_as_real(x.resolve_conj())
    count = x.numel()
    if count <= max(size, RUN):
        return x.reshape(-1).clone()
    if not x.is_contiguous():
        x = _dense(x)
    return x.take(_places(count, size, x.device))


@lru_cache(maxsize=4096)
def _places(count: int, size: int, device: torch.device) -> Tensor:
    """Indices of one run out of each of equally long stretches, at multiples of the golden ratio within it."""
    lines = count // RUN
    i = np.arange(min(max(size // RUN, 2), lines))
    starts, ends = i * lines // len(i), (i + 1) * lines // len(i)
    places = starts + ((i * 0.618033988749895) % 1 * (ends - starts)).astype(np.int64)
    return torch.from_numpy((places[:, None] * RUN + np.arange(RUN)).reshape(-1)).to(device)


def finish(partials: Sequence[Partial]) -> dict[str, np.ndarray]:
    """{statistic: (len(partials),) float64}, NaN where undefined. One copy from the device for all."""
    n = len(partials)
    empty = np.full(n, np.nan)
    if n == 0:
        return {}
    channels = np.array([p.channels for p in partials])
    starts = np.concatenate([[0], np.cumsum(channels)[:-1]])
    total, squares, high, low = (
        _to_host([getattr(p, name) for p in partials]) for name in ("total", "squares", "high", "low")
    )
    scalars = _scalars_to_host(partials)
    count = np.array([p.count for p in partials], dtype=np.float64)
    finite = count - np.nan_to_num(scalars.get("nonfinite", np.zeros(n)))
    shift = np.array([p.shift for p in partials])

    with np.errstate(divide="ignore", invalid="ignore"):
        per_channel = np.repeat(finite / channels, channels)
        exact = [p.scalars.get("channel_counts") for p in partials]
        for i, counts in enumerate(exact):
            if isinstance(counts, Tensor):
                per_channel[starts[i] : starts[i] + channels[i]] = counts.cpu().numpy()
        channel_mean = total / per_channel
        channel_var = np.maximum(squares / per_channel - channel_mean**2, 0)
        deviation = np.add.reduceat(total, starts) / finite
        mean = shift + deviation
        mean_of_squares = np.add.reduceat(squares, starts) / finite  # of (value - shift)
        var = np.maximum(mean_of_squares - deviation**2, 0)
        var[var < 1e-13 * mean_of_squares] = 0.0  # rounding of the two sums
        mean_square = var + mean**2
        out = {
            "count": count,
            "mean": mean,
            "std": np.sqrt(var),
            "rms": np.sqrt(mean_square),
            "max": np.maximum.reduceat(high, starts),
            "min": np.minimum.reduceat(low, starts),
            "nonfinite": (count - finite) / count,
        }
        out["absmax"] = np.maximum(np.abs(out["max"]), np.abs(out["min"]))
        with_channels = channels > 1
        shifted = channel_mean + np.repeat(shift, channels)
        seen = per_channel > 0
        live = np.maximum(np.add.reduceat(seen.astype(float), starts), 1)
        squared = np.add.reduceat(np.where(seen, shifted**2, 0), starts) / live
        variance = np.add.reduceat(np.where(seen, channel_var, 0), starts) / live
        out["sq_channel_mean"] = np.where(with_channels, squared, np.nan)
        out["channel_var"] = np.where(with_channels, variance, np.nan)
        out["zero"] = scalars.get("zeros", empty) / count
        out["saturated"] = scalars.get("saturated", empty) / count
        out["cosine"] = scalars.get("cosine", empty)
        out["spread"] = scalars.get("spread", empty)
    nothing = finite == 0
    for name, values in out.items():
        if name not in ("count", "nonfinite"):
            values[nothing] = np.nan
    return out


# ---- reading the tensor ------------------------------------------------------------------------------------


def _as_float(x: Tensor) -> Tensor:
    if x.is_sparse:
        x = x.coalesce().values()
    if x.is_quantized:
        x = x.dequantize()
    if x.is_complex():
        return x.abs()
    if x.dtype in (torch.float32, torch.float64):
        return x
    if x.is_floating_point():
        return x.float()
    return x.double() if x.device.type != "mps" else x.float()


def _dense(x: Tensor) -> Tensor:
    """The same values in a contiguous tensor, a view where the memory is dense (channels_last, transposes)."""
    order = sorted(range(x.dim()), key=lambda axis: -x.stride(axis))
    view = x.permute(order)
    return view if view.is_contiguous() else x.contiguous()


def _layout(x: Tensor, channel_axis: int | None) -> Tensor:
    """(P, C, S): channels in the middle, without a copy where memory allows."""
    if channel_axis is None or x.dim() == 0:
        return _dense(x).reshape(1, 1, -1)
    if not x.is_contiguous():
        moved = x.movedim(channel_axis, -1)
        if moved.is_contiguous():
            return moved.reshape(-1, x.shape[channel_axis], 1)
        x = x.contiguous()
    before = math.prod(x.shape[:channel_axis])
    after = math.prod(x.shape[channel_axis + 1 :])
    return x.reshape(before, x.shape[channel_axis], after)


def _sums(m: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(sum, sum of squares, max, min) per channel of (P, C, S)."""
    if m.shape[1] == 1:
        flat = m.reshape(-1)
        squares = _sum_of_squares(flat, dtype)
        return flat.sum(dtype=dtype).view(1), squares.view(1), flat.amax().view(1), flat.amin().view(1)
    if m.shape[0] == 1 and m.shape[2] > 1:
        rows = m[0]  # (C, S)
        norms = torch.linalg.vector_norm(rows, dim=1, dtype=dtype)
        return rows.sum(1, dtype=dtype), norms.square_(), rows.amax(1), rows.amin(1)
    if m.shape[2] == 1:
        rows = m.squeeze(2)  # (P, C)
        return rows.sum(0, dtype=dtype), _column_squares(rows, dtype), rows.amax(0), rows.amin(0)
    norms = torch.linalg.vector_norm(m, dim=2, dtype=dtype)  # (P, C): far faster than over (0, 2) at once
    return m.sum((0, 2), dtype=dtype), norms.square_().sum(0), m.amax((0, 2)), m.amin((0, 2))


def _sum_of_squares(flat: Tensor, dtype: torch.dtype) -> Tensor:
    """In pieces: one float32 norm over 33 million values is off by 0.2%, norms of 16,384 are not, at equal speed."""
    whole = flat.numel() - flat.numel() % _PIECE
    if whole <= _PIECE:
        return torch.linalg.vector_norm(flat, dtype=dtype).square_()
    norms = torch.linalg.vector_norm(flat[:whole].view(-1, _PIECE), dim=1, dtype=dtype)
    return norms.square_().sum() + torch.linalg.vector_norm(flat[whole:], dtype=dtype).square_()


def _column_squares(rows: Tensor, dtype: torch.dtype) -> Tensor:
    """Sum of squares of each column of (P, C), in pieces that stay in the cache."""
    if rows.device.type != "cpu":
        return torch.linalg.vector_norm(rows, dim=0, dtype=dtype).square_()
    step = max(1, (1 << 17) // rows.shape[1])
    if rows.shape[0] <= step:
        return rows.square().sum(0)
    pieces = [rows[i : i + step].square().sum(0) for i in range(0, rows.shape[0], step)]
    return torch.stack(pieces).sum(0)


def _reduce(m: Tensor) -> Partial:
    """On the CPU: the fast sums, and a second reading where they would not do."""
    total, squares, high, low = _sums(m, m.dtype)
    count = m.numel()
    if total.numel() == 1:
        q, s, top, bottom = squares.item(), total.item(), high.item(), low.item()
    else:
        q, s, top, bottom = squares.sum().item(), total.sum().item(), high.amax().item(), low.amin().item()
    largest = max(abs(top), abs(bottom))
    if not (math.isfinite(q) and math.isfinite(s)):
        return _reduce_exactly(m)
    if m.dtype is not torch.float64 and largest and not _TINY < largest < _HUGE:
        return _reduce_exactly(m)
    mean = s / count
    if mean * mean > (1 - _CANCELLATION) * q / count:
        shift = _rounded(mean, m.dtype)
        total, squares, _, _ = _sums(m - shift, m.dtype)
        return Partial(count, total, squares, high, low, shift=shift, scalars={"nonfinite": 0.0})
    return Partial(count, total, squares, high, low, scalars={"nonfinite": 0.0})


def _rounded(value: float, dtype: torch.dtype) -> float:
    """The number that was really subtracted: a Python float goes through the tensor's dtype."""
    return float(torch.tensor(value, dtype=dtype))


def _reduce_exactly(m: Tensor) -> Partial:
    """In float64, without the values that are not finite: for sick tensors only."""
    by_channel = m.movedim(1, 0).reshape(m.shape[1], -1).double()  # (C, P * S)
    finite = torch.isfinite(by_channel)
    counts = finite.sum(1)
    zeroed = torch.where(finite, by_channel, 0.0)
    mean = float(zeroed.sum() / counts.sum().clamp(min=1))
    deviation = torch.where(finite, by_channel - mean, 0.0)
    return Partial(
        m.numel(),
        deviation.sum(1),
        deviation.square().sum(1),
        torch.where(finite, by_channel, -math.inf).amax(1),
        torch.where(finite, by_channel, math.inf).amin(1),
        shift=mean,
        scalars={"nonfinite": float(m.numel() - counts.sum()), "channel_counts": counts.double()},
    )


def _reduce_without_waiting(m: Tensor) -> Partial:
    dtype = torch.float32 if m.device.type == "mps" else torch.float64
    finite = torch.isfinite(m)
    bad = m.numel() - finite.sum()
    total, squares, high, low = _sums(torch.where(finite, m, 0.0), dtype)
    return Partial(m.numel(), total, squares, high, low, scalars={"nonfinite": bad})


# ---- beyond moments ----------------------------------------------------------------------------------------


def _measure_function(m: Tensor, function: Range, partial: Partial, count_zeros: bool) -> None:
    """Zeros, saturated values and live units of an activation function's output (P, C, S)."""
    scalar = float if m.device.type == "cpu" else (lambda value: value)
    if count_zeros:
        partial.scalars["zeros"] = scalar(m.numel() - torch.count_nonzero(m))
    if function.saturated != (None, None):
        partial.scalars["saturated"] = scalar(torch.count_nonzero(saturated(m, function)))
    if function.dead is not None and m.shape[1] > 1:
        low, high = function.dead
        if function.dead_tails:
            centre, half = (low + high) / 2, (high - low) / 2
            partial.alive = ~((m - centre).abs_().amin((0, 2)) >= half)  # NaN tells nothing: not dead
        elif m.device.type == "cpu":
            partial.alive = torch.from_numpy((partial.low.numpy() < low) | (partial.high.numpy() > high))
        else:
            partial.alive = (partial.low < low) | (partial.high > high)


def saturated(x: Tensor, function: Range) -> Tensor:
    """Which values of a bounded function's output lie in its flat tails; bool, of x's shape."""
    low, high = function.saturated
    if low is not None and high is not None and not function.at_bound:
        centre, half = (low + high) / 2, (high - low) / 2
        return (x - centre if centre else x).abs() > half
    above = (
        (x >= high if function.at_bound else x > high)
        if high is not None
        else torch.zeros_like(x, dtype=torch.bool)
    )
    if low is None:
        return above
    return above | (x <= low if function.at_bound else x < low)


def _measure_cosine(rows: Tensor, partial: Partial) -> None:
    """Mean cosine between different examples (B, D).

    With unit vectors u_i the mean over pairs is (|sum u_i|**2 - B) / (B (B - 1)): one matrix-vector product
    instead of B**2 dot products. Examples that are zero have no direction and are left out.
    """
    if partial.squares.dtype == torch.float64:
        rows = rows.double()  # squares leave float32's range
    norms = torch.linalg.vector_norm(rows, dim=1)
    weights = norms.reciprocal().nan_to_num_(posinf=0.0)
    summed = weights @ rows  # (D,)
    square = summed.dot(summed)
    if rows.device.type == "cpu":
        kept = int(torch.count_nonzero(weights))
        value = (square.item() - kept) / (kept * (kept - 1)) if kept > 1 else math.nan
        partial.scalars["cosine"] = min(max(value, -1.0), 1.0) if value == value else value
    else:
        kept = torch.count_nonzero(weights).to(square.dtype)
        partial.scalars["cosine"] = ((square - kept) / (kept * (kept - 1))).clamp(-1, 1)


def _measure_spread(rows: Tensor, partial: Partial) -> None:
    """Deviation from the mean example (B, D), relative to rms, in float64 on at most 64 examples x 512 features.

    The products behind `cosine` cannot tell 1 - 1e-7 from 1; that examples are all the same must be seen exactly.
    """
    features = rows.shape[1]
    some = rows[:_SPREAD_EXAMPLES]
    if features > _SPREAD_FEATURES:
        distance = (features - 1) // _SPREAD_FEATURES | 1
        some = some[:, torch.arange(_SPREAD_FEATURES, device=rows.device) * distance % features]
    some = some.double() if rows.device.type != "mps" else some
    scale = some.abs().amax().clamp(min=torch.finfo(torch.float32).tiny)
    some = some / scale  # squares of 1e-200 must not vanish
    square = some.square().mean()
    stray = (some - some.mean(0)).square().mean()
    spread = torch.where(square > 0, stray / square, 0.0).sqrt()
    partial.scalars["spread"] = spread.item() if rows.device.type == "cpu" else spread


# ---- to the host -------------------------------------------------------------------------------------------


def _to_host(vectors: Sequence[Tensor]) -> np.ndarray:
    """All vectors in one float64 array, with one copy per device."""
    if all(v.device.type == "cpu" for v in vectors):
        return np.concatenate([v.numpy() for v in vectors]).astype(np.float64)
    by_device: dict[torch.device, list[int]] = {}
    for i, v in enumerate(vectors):
        by_device.setdefault(v.device, []).append(i)
    pieces: list[np.ndarray] = [np.empty(0)] * len(vectors)
    for members in by_device.values():
        joined = torch.cat(
            [
                vectors[i].to(torch.float32 if vectors[i].device.type == "mps" else torch.float64)
                for i in members
            ]
        )
        host, at = joined.cpu().numpy().astype(np.float64), 0
        for i in members:
            pieces[i] = host[at : at + vectors[i].numel()]
            at += vectors[i].numel()
    return np.concatenate(pieces)


def _scalars_to_host(partials: Sequence[Partial]) -> dict[str, np.ndarray]:
    out: dict[str, np.ndarray] = {}
    for name in ("zeros", "saturated", "nonfinite", "cosine", "spread"):
        values = np.full(len(partials), np.nan)
        waiting: list[int] = []
        for i, partial in enumerate(partials):
            value = partial.scalars.get(name)
            if isinstance(value, Tensor):
                waiting.append(i)
            elif value is not None:
                values[i] = value
        if waiting:
            values[waiting] = _to_host([partials[i].scalars[name].reshape(1) for i in waiting])  # type: ignore[union-attr]
        out[name] = values
    return out
