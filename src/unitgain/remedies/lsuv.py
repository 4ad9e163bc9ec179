"""lsuv_: every layer's output to unit variance on real data.

Source: Mishkin and Matas 2015 (arXiv 1511.06422). Deviations:

- One pass for all layers in place of one or more for each. A layer's output is linear in its weight and bias, so
  that its hook can work out scale and shift at once and hand the corrected output on; every later layer sees what
  it will see afterwards. A last pass measures all of them again.
- No orthonormal draw comes first: weights are scaled as they are. Call `init_` before for that.
- The mean can be set too, by the bias, as in J. Howard's lesson 17 (fast.ai), or, in a layer without one, by the
  smallest change of the weight.
- A weight that is used more than once has one scale for all its uses: their values pooled have the wanted std. Every
  change moves the later uses more than the earlier ones, so that such weights are found by secant over passes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..checkup.batch import Batch
from ..errors import InputError
from . import passes
from .lever import Lever
from .report import Change, Measured, RemedyReport, rms
from .wiring import Elementwise, Node, Wiring

_TINY = 1e-12  # of the values' rms: a std below is rounding
_STEPS = 100  # of the elementwise search for scale and shift behind an activation
_GRID = torch.linspace(-30, 30, 6001)


def lsuv_(
    model: nn.Module,
    batch: Any,
    target_std: float = 1.0,
    target_mean: float | None = 0.0,
    where: Literal["preactivation", "activation"] = "preactivation",
    bias: bool = True,
    per: Literal["layer", "channel"] = "layer",
    tol: float = 0.02,
    max_iter: int = 20,
) -> RemedyReport:
    """Scales weights (and sets biases) so that every layer's output on this batch has the wanted std and mean.

    batch        anything that `ug.check` takes; the more examples the better, some hundred values per channel are enough
    target_mean  None leaves means alone
    where        "preactivation": the output of the layer itself, which can always be reached; "activation": what comes
                 out of the activation right after it. There, a mean out of the function's reach (0 behind a ReLU)
                 is left, and behind functions too narrow for the std (tanh) the preactivation is taken: the report says so
    bias         False changes weights only, and leaves means alone
    per          "layer": one std and mean over all values; "channel": for each output channel its own
    tol          of target_std: how near is near enough, for the pooled uses of shared weights and in the report
    max_iter     the most passes for shared weights; others need one

    Measured are Linear, convolutions and the like in any order of execution, the output of MultiheadAttention, and
    products with bare parameters. Left alone, with the reason in the report: layers right before a norm, which undoes
    any scale, frozen weights, all-zero weights, recurrent modules. Embeddings are not measured. A layer that cannot
    reach the target (its output is constant, say) gives one line in `report.problems`. Dropout is off meanwhile and
    norms use the batch's statistics; flags, buffers and random states come back as they were.

    Raises InputError for a batch that does not fit and for impossible targets.

    >>> model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 4))
    >>> report = lsuv_(model, torch.randn(256, 8) * 5)
    >>> [(m.name, round(m.std_after, 3), m.status) for m in report.measured]
    [('0', 1.0, 'reached'), ('2', 1.0, 'reached')]
    """
    _check(target_std, target_mean, where, per, tol, max_iter)
    found = passes.read("lsuv_", model, batch)
    run = _Run(
        model,
        found,
        target_std,
        target_mean if bias else None,
        where == "activation",
        bias,
        per == "channel",
        tol,
    )
    with passes.at_work(model):
        return run.work(max_iter)


def _check(
    target_std: float, target_mean: float | None, where: str, per: str, tol: float, max_iter: int
) -> None:
    if not (math.isfinite(target_std) and target_std > 0):
        raise InputError(f"lsuv_: target_std is {target_std}; a positive number is right")
    if target_mean is not None and not math.isfinite(target_mean):
        raise InputError(f"lsuv_: target_mean is {target_mean}; a finite number or None is right")
    if where not in ("preactivation", "activation"):
        raise InputError(f"lsuv_: where is {where!r}; it is 'preactivation' or 'activation'")
    if per not in ("layer", "channel"):
        raise InputError(f"lsuv_: per is {per!r}; it is 'layer' or 'channel'")
    if not 0 < tol < 1:
        raise InputError(f"lsuv_: tol is {tol}; a number between 0 and 1 is right")
    if not isinstance(max_iter, int) or max_iter < 1:
        raise InputError(f"lsuv_: max_iter is {max_iter!r}; a whole number of at least 1 is right")


@dataclass
class _Use:
    """One measured use of a weight."""

    lever: Lever
    function: Elementwise | None = None  # measured behind it
    mean: float | None = None  # wanted; None: left
    skip: str | None = None
    note: str = ""
    problem: str | None = None
    shared: bool = False
    first: tuple[float, float] = (math.nan, math.nan)  # mean, std at the beginning
    last: tuple[float, float] = (math.nan, math.nan)
    worst: float = 0.0  # of the channels, how far from the target


@dataclass
class _Group:
    """The uses of one shared weight, and the search for its scale."""

    uses: list[_Use] = field(default_factory=list)
    log_scale: float = 0.0
    tried: list[tuple[float, float]] = field(default_factory=list)  # (log scale, log std)
    values: list[Tensor] = field(default_factory=list)  # count, sum, sum of squares of each use in this pass
    means: list[tuple[_Use, float]] = field(default_factory=list)


class _Run:
    def __init__(
        self, model: nn.Module, batch: Batch, std: float, mean: float | None, behind: bool, bias: bool,
        channels: bool, tol: float,
    ):  # fmt: skip
        self.model, self.batch, self.std, self.mean = model, batch, std, mean
        self.behind, self.bias, self.channels, self.tol = behind, bias, channels, tol
        self.uses: dict[str, _Use] = {}
        self.groups: list[_Group] = []
        self.phase = "look"

    def work(self, max_iter: int) -> RemedyReport:
        looked: dict[str, Tensor] = {}

        def look(node: Node, tensor: Tensor, _: Any) -> None:
            if node.role in ("linear", "attention", "recurrent"):
                looked[node.name] = tensor.detach().clone()

        wiring = passes.follow(self.model, self.batch, look)
        self._plan(wiring, looked)
        looked.clear()
        old = {n: p.detach().clone() for n, p in self.model.named_parameters()}
        self.phase = "set"
        for _ in range(max_iter):
            for group in self.groups:
                group.values.clear()
                group.means.clear()
            passes.follow(self.model, self.batch, self._visit)
            if all([self._step(group) for group in self.groups]):  # a list: every group has its step
                break
        self.phase = "verify"
        passes.follow(self.model, self.batch, self._visit)
        return self._report(old)

    # ---- what is to be done --------------------------------------------------------------------------------

    def _plan(self, wiring: Wiring, looked: dict[str, Tensor]) -> None:
        used: dict[str, int] = {}
        for node in wiring.weights():
            for name in node.parameters:
                used[name] = used.get(name, 0) + 1
        names = {id(p): n for n, p in self.model.named_parameters()}
        shared: dict[str, _Group] = {}
        for node in wiring.weights():
            if node.name not in looked:
                continue
            use = self.uses[node.name] = _Use(Lever(self.model, node))
            lever = use.lever
            use.skip = lever.blocked
            if use.skip is None and (norm := wiring.norm_after(node)) is not None:
                use.skip = f"{norm.label} follows and undoes any scale"
            if use.skip is None:
                self._aim(use, wiring)
            use.first = use.last = self._statistics(use, looked[node.name])
            if use.skip is not None:
                continue
            key = names.get(id(lever.weight), "")
            if used.get(key, 0) > 1 or node.module is None:
                use.shared = True
                shared.setdefault(key, _Group()).uses.append(use)
        self.groups = list(shared.values())

    def _aim(self, use: _Use, wiring: Wiring) -> None:
        """Which function to measure behind, and whether the mean is within reach."""
        use.mean = self.mean
        after = wiring.after(use.lever.node)
        if not self.behind or after.kind != "activation" or after.function is None:
            return
        try:
            with torch.no_grad():
                values = after.function(_GRID.clone())
            low, high = float(values.min()), float(values.max())
        except Exception:  # an activation with parameters on another device, say
            use.note = f"before {after.label}, which cannot be tried out"
            return
        if high - low < 4 * self.std:
            use.note = f"before {after.label}, whose outputs lie in {low:.3g}..{high:.3g}, too narrow for std {self.std:g}"
            return
        use.function = after.function
        if self.mean is not None and min(self.mean - low, high - self.mean) < 0.3 * self.std:
            use.mean = None
            use.note = f"std alone: a mean of {self.mean:g} is out of {after.label}'s reach"

    def _statistics(self, use: _Use, y: Tensor) -> tuple[float, float]:
        values = (use.function(y) if use.function is not None else y).float()
        return float(values.mean()), float(values.std(correction=0))

    # ---- passes --------------------------------------------------------------------------------------------

    def _visit(self, node: Node, tensor: Tensor, inputs: Any) -> Tensor | None:
        use = self.uses.get(node.name)
        if use is None:
            return None
        if self.phase == "verify":
            use.last = self._statistics(use, tensor)
            self._verify(use, tensor)
            return None
        if use.skip is not None:
            return None
        if use.shared:
            self._observe(use, tensor)
            return None
        return self._set(use, tensor, inputs)

    def _set(self, use: _Use, y: Tensor, inputs: Any) -> Tensor | None:
        """Corrects one layer for good and returns its corrected output; None if it cannot be."""
        lever, use.problem = use.lever, None
        if not bool(torch.isfinite(y).all()):
            use.problem = "its output has values that are NaN or infinite"
            return None
        per_channel = self.channels and lever.channel_axis is not None
        shifts = use.mean is not None and lever.can_shift
        if (
            use.mean is not None
            and not shifts
            and use.function is None
            and isinstance(lever.weight, nn.Parameter)
        ):
            mean = float(y.float().mean())
            if per_channel or abs(mean - use.mean) > 1e-6:
                before = lever.weight.detach().clone()
                lever.project_mean(inputs, use.mean, per_channel)
                fresh = lever.recompute(inputs)
                if _std_of(fresh) < 1e-3 * _std_of(y) or not bool(torch.isfinite(fresh).all()):
                    with torch.no_grad():
                        lever.weight.copy_(before)  # all of its output was the mean
                else:
                    y = fresh
        found = self._solve(use, y, shifts, per_channel)
        if isinstance(found, str):
            use.problem = found
            return None
        scale, shift = found
        axis = lever.channel_axis if per_channel else None
        held = None if lever.can_shift and self.bias else lever.bias  # a bias that must stay
        lever.scale(scale, bias=held is None)
        if shifts:
            lever.shift(shift)
        if held is not None or lever.parametrized:
            return lever.recompute(inputs)
        wide = y * _along(scale, axis, y.dim()).to(y.dtype)
        return wide + _along(shift, axis, y.dim()).to(y.dtype) if shifts else wide

    def _solve(self, use: _Use, y: Tensor, shifts: bool, per_channel: bool) -> tuple[Tensor, Tensor] | str:
        """Scale and shift (numbers, or one per channel) with which f(scale * y + shift) is as wanted; or why not."""
        axis = use.lever.channel_axis
        rows = (
            y.float().movedim(axis, 0).flatten(1)
            if per_channel and axis is not None
            else y.float().reshape(1, -1)
        )
        fixed = (
            use.lever.bias if use.lever.bias is not None and not (use.lever.can_shift and self.bias) else None
        )
        rest: Tensor | float = 0.0
        if fixed is not None and bool((fixed != 0).any()):
            if axis is None:
                return "its bias must stay and has no axis of its own"
            rest = _along(fixed.detach().float(), axis, y.dim()).expand_as(y)
            rest = rest.movedim(axis, 0).flatten(1) if per_channel else rest.reshape(1, -1)
            rows = rows - rest  # what scaling acts upon
        spread, size = rows.std(1, correction=0), rows.square().mean(1).sqrt()
        dead = spread <= 1e-6 * size.clamp_min(_TINY)
        if bool(dead.all()):
            return "its output is constant, so that no scale changes its std; is what comes before it dead?"
        scale = torch.ones_like(spread)
        shift = torch.zeros_like(spread)
        if use.function is None and isinstance(rest, float):  # closed form
            scale = self.std / spread
            if shifts:
                assert use.mean is not None
                shift = use.mean - scale * rows.mean(1)
        else:
            f = use.function or (lambda x: x)
            scale = self.std / spread.clamp_min(_TINY)
            shift = -scale * rows.mean(1) if shifts else shift
            for _ in range(_STEPS):
                out = f(scale[:, None] * rows + shift[:, None] + rest)
                mean, std = out.mean(1), out.std(1, correction=0)
                off = (std / self.std - 1).abs()
                if shifts:
                    off = off.maximum((mean - use.mean).abs() / self.std)
                if float(off[~dead].max()) < 1e-4:
                    break
                factor = (self.std / std.clamp_min(1e-6 * self.std)).clamp(0.25, 4.0)
                scale = scale * factor
                if shifts:
                    shift = shift * factor + (use.mean - mean) if use.mean is not None else shift
        scale = torch.where(dead, torch.ones_like(scale), scale)
        shift = torch.where(dead, torch.zeros_like(shift), shift)
        if not bool(torch.isfinite(scale).all() and torch.isfinite(shift).all()):
            return "the scale that it needs is not finite"
        return (scale, shift) if per_channel else (scale[0], shift[0])

    def _verify(self, use: _Use, y: Tensor) -> None:
        if use.skip is not None or use.shared:
            return
        values = (use.function(y) if use.function is not None else y).float()
        axis = use.lever.channel_axis
        rows = (
            values.movedim(axis, 0).flatten(1)
            if self.channels and axis is not None
            else values.reshape(1, -1)
        )
        off = (rows.std(1, correction=0) / self.std - 1).abs()
        if use.mean is not None and (use.lever.can_shift or use.function is None):
            off = off.maximum((rows.mean(1) - use.mean).abs() / self.std)
        use.worst = float(off.max())

    # ---- shared weights ------------------------------------------------------------------------------------

    def _observe(self, use: _Use, y: Tensor) -> None:
        group = next(g for g in self.groups if use in g.uses)
        values = (use.function(y) if use.function is not None else y).double()
        group.values.append(torch.stack([torch.tensor(float(values.numel()), dtype=torch.float64), values.sum().cpu(),
                                         values.square().sum().cpu()]))  # fmt: skip
        group.means.append((use, float(values.mean())))

    def _step(self, group: _Group) -> bool:
        """One secant step of a shared weight; True when its pooled uses are as wanted, or will not get there."""
        if not group.values:
            return True
        std = _pooled_std(group.values)
        if not math.isfinite(std) or std <= _TINY:
            for use in group.uses:
                use.problem = "its output is constant or not finite"
            return True
        moves = {} if std < 0.1 * self.std else self._moves(group)
        close = abs(std / self.std - 1) < self.tol
        if close and all(abs(amount) < self.tol * self.std for _, amount in moves.values()):
            return True
        if not close:
            group.tried.append((group.log_scale, math.log(std)))
            slope = 1.0
            if len(group.tried) > 1:
                (a, b), (c, d) = group.tried[-2:]
                slope = (d - b) / (c - a) if c != a else 1.0
                slope = min(max(slope, 0.5), 2.0 * len(group.uses) + 1)
            step = min(max((math.log(self.std) - math.log(std)) / slope, -2.5), 2.5)
            group.log_scale += step
            factor = torch.tensor(math.exp(step))
            group.uses[0].lever.scale(factor.to(group.uses[0].lever.weight.device), bias=False)  # type: ignore[union-attr]
        for lever, amount in moves.values():
            lever.shift(torch.tensor(amount, device=lever.bias.device))  # type: ignore[union-attr]
        return False

    @staticmethod
    def _moves(group: _Group) -> dict[int, tuple[Lever, float]]:
        """By how much each bias must move for the mean, averaged over the uses that share it."""
        wanted: dict[int, tuple[Lever, list[float]]] = {}
        for use, mean in group.means:
            if use.mean is not None and use.lever.can_shift:
                wanted.setdefault(id(use.lever.bias), (use.lever, []))[1].append(use.mean - mean)
        return {key: (lever, sum(amounts) / len(amounts)) for key, (lever, amounts) in wanted.items()}

    # ---- report --------------------------------------------------------------------------------------------

    def _report(self, old: dict[str, Tensor]) -> RemedyReport:
        where = "behind activations" if self.behind else "before activations"
        report = RemedyReport(
            f"lsuv_: std {self.std:g}"
            + (f", mean {self.mean:g}" if self.mean is not None else "")
            + f", {where}"
        )
        pooled = {id(u): (g, self._pooled_now(g)) for g in self.groups for u in g.uses}
        for name, use in self.uses.items():
            status = (
                f"skipped: {use.skip}" if use.skip is not None else self._status(use, pooled.get(id(use)))
            )
            (mean0, std0), (mean1, std1) = use.first, use.last
            report.measured.append(Measured(name, mean0, std0, mean1, std1, status))
            if status.startswith("not reached"):
                report.problems.append(f"{name}: {status.removeprefix('not reached: ')}")
        for name, parameter in self.model.named_parameters():
            if not torch.equal(old[name], parameter.detach()):
                report.changes.append(Change(name, rms(old[name]), rms(parameter), "lsuv"))
        return report

    @staticmethod
    def _pooled_now(group: _Group) -> float:
        """std over all uses in the last pass; each counts by its number of values."""
        counts = [math.prod(u.lever.node.shape) for u in group.uses]
        total = sum(counts)
        mean = sum(n * u.last[0] for n, u in zip(counts, group.uses)) / total
        square = sum(n * (u.last[0] ** 2 + u.last[1] ** 2) for n, u in zip(counts, group.uses)) / total
        return math.sqrt(max(square - mean**2, 0.0))

    def _status(self, use: _Use, shared: tuple[_Group, float] | None) -> str:
        if use.problem is not None:
            return f"not reached: {use.problem}"
        note = f" {use.note}" if use.note else ""
        if shared is not None:
            group, std = shared
            if abs(std / self.std - 1) < self.tol:
                return "reached" + (", over all uses of its weight" if len(group.uses) > 1 else "") + note
            return (
                f"not reached: the uses of its shared weight have std {std:.3g} together after the last pass"
            )
        if use.worst < self.tol:
            return "reached" + note
        if use.last == use.first:
            return f"not reached: std {use.last[1]:.3g}, and scaling its weight has no effect"
        return f"not reached: mean {use.last[0]:.3g}, std {use.last[1]:.3g}, up to {use.worst:.2g} from the target{note}"


def _std_of(y: Tensor) -> float:
    return float(y.float().std(correction=0))


def _along(values: Tensor, axis: int | None, rank: int) -> Tensor:
    """(channels,) shaped to go with a tensor of this rank; numbers as they are."""
    if values.dim() == 0 or axis is None:
        return values
    shape = [1] * rank
    shape[axis] = -1
    return values.view(shape)


def _pooled_std(values: list[Tensor]) -> float:
    count, total, squares = torch.stack(values).sum(0).tolist()
    return math.sqrt(max(squares / count - (total / count) ** 2, 0.0))
