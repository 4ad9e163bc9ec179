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
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .. import graph as graphs
from .._base import InputError, opens_compiled
from .._batch import Batch
from ..graph import Graph, Neighbour, Node
from ..stats import is_plain
from .lever import Lever
from .report import Change, Measured, RemedyReport, rms
from .residual import end_of
from .uses import Group, Target, Use, along, solve


@opens_compiled
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
    *,
    branch_std: float | None = None,
) -> RemedyReport:
    """Scales weights (and sets biases) so that every layer's output on this batch has the wanted std and mean.

    batch        anything that `ug.check` takes; some hundred values for each channel are enough
    target_mean  None leaves means alone
    where        "preactivation": the output of the layer itself, which can always be reached; "activation": what comes
                 out of the activation right after it. There, a mean out of the function's reach (0 behind a ReLU)
                 is left, and behind functions too narrow for the std (tanh) the preactivation is taken; it is said
    bias         False changes weights only, and leaves means alone
    per          "layer": one std and mean over all values; "channel": for each output channel its own
    tol          of target_std: how near is near enough, for the pooled uses of shared weights and in the report
    branch_std   for what ends a residual branch: 1/sqrt(number of branches) keeps the sum of all of them at the
                 scale of one. None: target_std, as everywhere
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
    if branch_std is not None and not (math.isfinite(branch_std) and branch_std > 0):
        raise InputError(f"lsuv_: branch_std is {branch_std}; a positive number is right, or None")
    _check(target_std, target_mean, where, per, tol, max_iter)
    found = graphs.read("lsuv_", model, batch)
    target = Target(target_std, target_mean if bias else None, per == "channel", tol, bias)
    with graphs.undisturbed(model, found, sets_parameters=True):
        return _Run(model, found, target, where == "activation", branch_std).work(max_iter)


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


class _Run:
    def __init__(
        self, model: nn.Module, batch: Batch, target: Target, behind: bool, branch_std: float | None
    ):
        self.model, self.batch, self.target, self.behind = model, batch, target, behind
        self.branch_std = branch_std
        self.uses: dict[str, Use] = {}
        self.groups: list[Group] = []

    def work(self, max_iter: int) -> RemedyReport:
        raw: dict[str, tuple[float, float]] = {}

        def measure_raw(node: Node, y: Tensor, _: Any) -> None:
            if node.role in ("linear", "attention", "recurrent"):
                raw[node.name] = Use(Lever(self.model, node), self.target).statistics(y)
                if not is_plain(y):
                    odd.add(node.name)

        odd: set[str] = set()
        self._plan(graphs.follow(self.model, self.batch, measure_raw), raw, odd)
        if any(use.function is not None for use in self.uses.values()):
            graphs.follow(self.model, self.batch, self._look)
        old = {n: p.detach().clone() for n, p in self.model.named_parameters()}
        for number in range(max_iter):
            for group in self.groups:
                group.seen.clear()
            graphs.follow(self.model, self.batch, self._set)
            last = number == max_iter - 1  # what comes after a shared weight was set to its present scale
            steps = [group.step(group.uses[0].target, last) for group in self.groups]
            if all(steps):
                break
        for group in self.groups:
            group.seen.clear()
        graphs.follow(self.model, self.batch, self._verify)
        return self._report(old)

    # ---- what is to be done --------------------------------------------------------------------------------

    def _plan(self, graph: Graph, raw: dict[str, tuple[float, float]], odd: set[str]) -> None:
        used: dict[str, int] = {}
        weights = graph.weights()
        for weight in weights:
            for name in weight.node.parameters:
                used[name] = used.get(name, 0) + 1
        names = {id(p): n for n, p in self.model.named_parameters()}
        branches = graph.branches if self.branch_std is not None else ()
        ends = {end.name for b in branches if (end := end_of(graph, b)) is not None}
        shared: dict[str, Group] = {}
        for weight in weights:
            node = weight.node
            if node.name not in raw:
                continue
            target = replace(self.target, std=self.branch_std) if node.name in ends else self.target
            use = self.uses[node.name] = Use(Lever(self.model, node), target)
            use.first = use.last = raw[node.name]
            use.skip = use.lever.blocked or ("its output is sparse or nested" if node.name in odd else None)
            if use.skip is None and weight.norm is not None:
                use.skip = f"{weight.norm.label} follows and undoes any scale"
            if use.skip is not None:
                continue
            self._aim(use, weight.after)
            key = names.get(id(use.lever.weight), "")
            if used.get(key, 0) > 1 or node.module is None:
                use.group = shared.setdefault(key, Group())
                use.group.uses.append(use)
        self.groups = list(shared.values())

    def _aim(self, use: Use, after: Neighbour) -> None:
        """Which function to measure behind, and whether the mean is within reach."""
        mean, std = use.target.mean, use.target.std
        use.mean = mean
        if not self.behind or after.kind != "activation" or after.function is None:
            return
        device = use.lever.weight.device if use.lever.weight is not None else None
        try:
            values = after.function(torch.linspace(-30, 30, 6001, device=device))
            low, high = float(values.min()), float(values.max())
        except Exception:  # whatever an activation with parameters for each channel raises
            use.note = f"before {after.label}, which treats channels differently"
            return
        if high - low < 4 * std:
            use.note = (
                f"before {after.label}, whose range {low:.3g}..{high:.3g} is too narrow for std {std:g}"
            )
            return
        use.function = after.function
        if mean is not None and min(mean - low, high - mean) < 0.3 * std:
            use.mean = None
            use.note = f"std alone: a mean of {mean:g} is out of {after.label}'s reach"

    # ---- passes --------------------------------------------------------------------------------------------

    def _look(self, node: Node, y: Tensor, _: Any) -> None:
        if (use := self.uses.get(node.name)) is not None:
            use.first = use.last = use.statistics(y)

    def _verify(self, node: Node, y: Tensor, _: Any) -> None:
        if (use := self.uses.get(node.name)) is None:
            return
        use.last, use.off = use.statistics(y), use.distance(y, use.target)
        if use.group is not None:
            use.group.observe(use, y)

    def _set(self, node: Node, y: Tensor, inputs: Any) -> Tensor | None:
        """Corrects a layer for good and returns its corrected output; None if it stays as it is for now."""
        use = self.uses.get(node.name)
        if use is None or use.skip is not None:
            return None
        if use.group is not None:
            use.group.observe(use, y)
            return None
        lever, use.problem = use.lever, None
        if not bool(torch.isfinite(y).all()):
            use.problem = "its output has values that are NaN or infinite"
            return None
        shifts = use.mean is not None and lever.can_shift
        if use.mean is not None and not shifts and use.function is None:
            y = self._shift_by_weight(use, y, inputs)
        found = solve(use, y, use.target, shifts)
        if isinstance(found, str):
            use.problem = found
            return None
        scale, shift = found
        stays = lever.bias is not None and not (lever.can_shift and self.target.bias)
        before = None if lever.linear else [t.detach().clone() for t in lever.tensors()]
        lever.scale(scale, bias=not stays)
        if shifts:
            lever.shift(shift)
        if stays or lever.parametrized or before is not None:
            fresh = lever.recompute(inputs)
            if before is not None and use.distance(fresh, self.target) > 0.9 * use.distance(y, self.target):
                for tensor, value in zip(lever.tensors(), before):
                    tensor.copy_(value)
                use.skip = "scaling its weight does not scale its output (is it standardized in forward?)"
                return None
            return fresh
        axis = lever.channel_axis
        y = y * along(scale, axis, y.dim()).to(y.dtype)
        return y + along(shift, axis, y.dim()).to(y.dtype) if shifts else y

    def _shift_by_weight(self, use: Use, y: Tensor, inputs: Any) -> Tensor:
        """The output with its mean set by a change of the weight; as it was, if next to nothing else would be left."""
        weight = use.lever.weight
        if not isinstance(weight, nn.Parameter) or use.mean is None or use.lever.standardized:
            return y  # standardized rows sum to zero, so that no change of them shifts the mean
        if not self.target.channels and abs(float(y.float().mean()) - use.mean) < 1e-6:
            return y
        before = weight.detach().clone()
        use.lever.project_mean(inputs, use.mean, self.target.channels)
        fresh = use.lever.recompute(inputs)
        if float(fresh.float().std(correction=0)) > 1e-3 * float(y.float().std(correction=0)):
            return fresh
        weight.copy_(before)
        return y

    # ---- report --------------------------------------------------------------------------------------------

    def _report(self, old: dict[str, Tensor]) -> RemedyReport:
        mean = "" if self.target.mean is None else f", mean {self.target.mean:g}"
        where = "behind activations" if self.behind else "before activations"
        report = RemedyReport(f"lsuv_: std {self.target.std:g}{mean}, {where}")
        for name, use in self.uses.items():
            status = self._status(use)
            report.measured.append(Measured(name, *use.first, *use.last, status))
            if status.startswith("not reached"):
                report.problems.append(f"{name}: {status.removeprefix('not reached: ')}")
        for name, parameter in self.model.named_parameters():
            if not torch.equal(old[name], parameter.detach()):
                report.changes.append(Change(name, rms(old[name]), rms(parameter), "lsuv"))
        return report

    def _status(self, use: Use) -> str:
        if use.skip is not None:
            return f"skipped: {use.skip}"
        if use.problem is not None:
            return f"not reached: {use.problem}"
        note = f" {use.note}" if use.note else ""
        if use.group is not None:
            std = use.group.pooled_std()
            if abs(std / use.target.std - 1) < use.target.tol:
                return "reached" + (", over all uses of its weight" if len(use.group.uses) > 1 else "") + note
            return (
                f"not reached: the uses of its shared weight have std {std:.3g} together after the last pass"
            )
        mean, std = use.last
        if use.off < use.target.tol:
            return "reached" + note
        if use.last == use.first:
            return f"not reached: std {std:.3g}, and scaling its weight has no effect"
        return f"not reached: mean {mean:.3g}, std {std:.3g}, {use.off:.2g} target stds away{note}"
