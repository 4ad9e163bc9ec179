"""One measured use of a weight in lsuv_: what is wanted there, and how scale and shift are found."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..graph import Elementwise
from ..stats import is_plain, stored
from .lever import Lever

_TINY = 1e-12
_CONSTANT = 1e-6  # std over rms: below it, the std is rounding
_STEPS = 100  # of the elementwise search for scale and shift behind an activation
_FAR = 1.0  # the largest step of a shared weight's log scale


@dataclass(frozen=True)
class Target:
    """std and mean (None: left) of a layer's values, per output channel or over all, to within tol * std."""

    std: float
    mean: float | None
    channels: bool
    tol: float
    bias: bool  # whether biases may be changed


@dataclass(eq=False)
class Use:
    """One use of one weight.

    target    wanted here
    function  the activation to measure behind, if any
    mean      wanted here, None if it is left or out of reach
    """

    lever: Lever
    target: Target
    function: Elementwise | None = None
    mean: float | None = None
    skip: str | None = None
    note: str = ""
    problem: str | None = None
    group: Group | None = None
    first: tuple[float, float] = (math.nan, math.nan)  # mean, std at the beginning
    last: tuple[float, float] = (math.nan, math.nan)
    off: float = 0.0  # how far the farthest channel is from the target, in target stds

    def values(self, y: Tensor) -> Tensor:
        y = self.function(y) if self.function is not None else y
        return (y if is_plain(y) else stored(y)).float()

    def statistics(self, y: Tensor) -> tuple[float, float]:
        values = self.values(y)
        return float(values.mean()), float(values.std(correction=0))

    def rows(self, values: Tensor, channels: bool) -> Tensor:
        """(channels, values), or one row of all."""
        axis = self.lever.channel_axis
        if channels and axis is not None and values.dim() > axis:
            return values.movedim(axis, 0).flatten(1)
        return values.reshape(1, -1)

    def distance(self, y: Tensor, target: Target) -> float:
        rows = self.rows(self.values(y), target.channels)
        off = (rows.std(1, correction=0) / target.std - 1).abs()
        if self.mean is not None and (self.lever.can_shift or self.function is None):
            off = off.maximum((rows.mean(1) - self.mean).abs() / target.std)
        return float(off.max())


def solve(use: Use, y: Tensor, target: Target, shifts: bool) -> tuple[Tensor, Tensor] | str:
    """Scale and shift (numbers, or one per channel) with which f(scale * y + shift) is as wanted; or why not.

    Where the layer has a bias that must stay, scale acts on y without it.
    """
    lever, axis = use.lever, use.lever.channel_axis
    per_channel = target.channels and axis is not None
    y = y.float()
    rest = torch.zeros((), device=y.device)
    stays = lever.bias is not None and not (lever.can_shift and target.bias)
    if stays and lever.bias is not None and bool((lever.bias != 0).any()):
        if axis is None:
            return "its bias must stay and has no axis of its own"
        rest = use.rows(along(lever.bias.detach().float(), axis, y.dim()).expand_as(y), per_channel)
    if _same_for_all(use.rows(y, True)):
        return "its output is constant: the same for every example. Is what comes before it dead?"
    rows = use.rows(y, per_channel) - rest
    spread, size = rows.std(1, correction=0), rows.square().mean(1).sqrt()
    dead = spread <= _CONSTANT * size.clamp_min(_TINY)
    if bool(dead.all()):
        return "its output is constant, so that no scale changes its std"
    wanted = use.mean if shifts and use.mean is not None else None
    scale = target.std / spread.clamp_min(_TINY)
    shift = wanted - scale * rows.mean(1) if wanted is not None else torch.zeros_like(scale)
    if use.function is not None or rest.dim():
        for _ in range(_STEPS):
            out = scale[:, None] * rows + shift[:, None] + rest
            out = use.function(out) if use.function is not None else out
            mean, std = out.mean(1), out.std(1, correction=0)
            off = (std / target.std - 1).abs()
            if wanted is not None:
                off = off.maximum((mean - wanted).abs() / target.std)
            if float(off[~dead].max()) < 1e-4:
                break
            factor = (target.std / std.clamp_min(1e-6 * target.std)).clamp(0.25, 4.0)
            scale = scale * factor
            if wanted is not None:
                shift = shift * factor + wanted - mean
    scale = torch.where(dead, torch.ones_like(scale), scale)
    shift = torch.where(dead, torch.zeros_like(shift), shift)
    if not bool(torch.isfinite(scale).all() and torch.isfinite(shift).all()):
        return "the scale that it needs is not finite"
    return (scale, shift) if per_channel else (scale[0], shift[0])


def _same_for_all(rows: Tensor) -> bool:
    """(channels, values): whether no channel varies. Biases that differ make a std over all values nevertheless."""
    if rows.shape[1] < 2:
        return False
    spread, size = rows.std(1, correction=0), rows.square().mean(1).sqrt()
    return bool((spread <= _CONSTANT * size.clamp_min(_TINY)).all())


@dataclass(eq=False)
class Group:
    """The uses of one weight that is used more than once, or not by a module of its own.

    One scale serves them all: the std of their values together is brought to the target. It depends on the scale as
    a power between 1 and the number of uses in a row, which is why it is found by secant in logarithms.
    """

    uses: list[Use] = field(default_factory=list)
    log_scale: float = 0.0
    tried: list[tuple[float, float]] = field(default_factory=list)  # log scale, log of std over target
    seen: dict[str, tuple[int, float, float]] = field(default_factory=dict)  # of this pass: count, mean, std

    def observe(self, use: Use, y: Tensor) -> None:
        self.seen[use.lever.node.name] = (y.numel(), *use.statistics(y))

    def pooled_std(self) -> float:
        total = sum(n for n, _, _ in self.seen.values())
        mean = sum(n * m for n, m, _ in self.seen.values()) / total
        square = sum(n * (m * m + s * s) for n, m, s in self.seen.values()) / total
        return math.sqrt(max(square - mean * mean, 0.0)) if math.isfinite(square) else math.nan

    def step(self, target: Target, last: bool = False) -> bool:
        """One step after a pass, unless it is the last; True when nothing is left to be done."""
        if not self.seen or last:
            return True
        std = self.pooled_std()
        if not math.isfinite(std) or std <= _TINY:
            for use in self.uses:
                use.problem = "its output is constant or not finite"
            return True
        if abs(std / target.std - 1) < target.tol:
            moves = [(lever, by) for lever, by in self._moves() if abs(by) > target.tol * target.std]
            for lever, amount in moves:
                assert lever.bias is not None
                lever.shift(torch.tensor(amount, device=lever.bias.device))
                self.tried.clear()  # of another function
            return not moves
        self.tried.append((self.log_scale, math.log(std / target.std)))
        following = self._next()
        lever = self.uses[0].lever
        assert lever.weight is not None
        lever.scale(
            torch.tensor(math.exp(following - self.log_scale), device=lever.weight.device), bias=False
        )
        self.log_scale = following
        return False

    def _next(self) -> float:
        """The log scale to try: by secant, inside of the bracket if there is one; each third time its middle."""
        (now, off), power = self.tried[-1], 1.0 + 0.5 * (len(self.uses) - 1)
        if len(self.tried) > 1 and (before := self.tried[-2])[0] != now:
            power = (off - before[1]) / (now - before[0])
            power = min(max(power, 1.0), 2.0 * len(self.uses) + 1)
        following = now - min(max(off / power, -_FAR), _FAR)
        low = max((x for x, y in self.tried if y < 0), default=-math.inf)
        high = min((x for x, y in self.tried if y > 0), default=math.inf)
        bracketed = math.isfinite(high - low) and low < high
        if bracketed and (not low < following < high or len(self.tried) % 3 == 0):
            return (low + high) / 2
        return following

    def _moves(self) -> list[tuple[Lever, float]]:
        """By how much each bias must move for the mean, averaged over the uses that share it."""
        wanted: dict[int, tuple[Lever, list[float]]] = {}
        for use in self.uses:
            if use.mean is not None and use.lever.can_shift and use.lever.node.name in self.seen:
                mean = self.seen[use.lever.node.name][1]
                wanted.setdefault(id(use.lever.bias), (use.lever, []))[1].append(use.mean - mean)
        return [(lever, sum(amounts) / len(amounts)) for lever, amounts in wanted.values()]


def along(values: Tensor, axis: int | None, rank: int) -> Tensor:
    """(channels,) shaped to go with a tensor of this rank; numbers as they are."""
    if values.dim() == 0 or axis is None:
        return values
    shape = [1] * rank
    shape[axis] = -1
    return values.view(shape)
