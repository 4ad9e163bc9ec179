"""Partial: sums of one tensor, still on its device; `finish` turns many of them into numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .host import to_host

_TENSORS = ("total", "squares", "high", "low", "alive", "sample")  # of a Partial


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

    @property
    def channels(self) -> int:
        return self.total.numel()

    def places(self) -> list[tuple[dict[str, Any], str]]:
        """(dictionary, key) of every tensor in here, for the code that copies them all to the host at once."""
        own, scalars = vars(self), self.scalars
        found = [(own, name) for name in _TENSORS if own[name] is not None]
        return found + [(scalars, name) for name, value in scalars.items() if isinstance(value, Tensor)]

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
            else:
                self.scalars[name] = _mixed(known, value, weight)
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


def _mixed(known: Tensor | float | None, value: Tensor | float, weight: float) -> Tensor | float:
    """The weighted mean of two numbers, or the one that is defined: NaN means that there were too few examples."""
    if known is None:
        return value
    mean = known * (1 - weight) + value * weight
    if isinstance(mean, Tensor):  # without waiting for an accelerator to say which case it is
        known, value = torch.as_tensor(known).to(mean), torch.as_tensor(value).to(mean)
        return torch.where(known.isnan(), value, torch.where(value.isnan(), known, mean))
    if known != known:
        return value
    return mean if value == value else known


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


def _to_host(vectors: Sequence[Tensor]) -> np.ndarray:
    """All vectors in one float64 array."""
    if all(v.device.type == "cpu" for v in vectors):
        return np.concatenate([v.numpy() for v in vectors]).astype(np.float64)
    wide = [v if v.device.type == "mps" else v.double() for v in vectors]  # counts must not become float32
    return to_host(wide).numpy().astype(np.float64)


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
