"""audit(): what BatchNorm does and costs in this very model, on this batch and this device."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .. import graph as graphs
from .._base import InputError, opens_compiled
from .._batch import Batch
from .._run import in_place
from ..optim import agc_
from . import folding, measuring
from .audit_report import AuditReport, NormAudit, SizeAudit
from .clipping import CLIPPING
from .edits import Edit, apply, paths_of
from .folding import Decision
from .proving import distance, outputs_of
from .reading import Reading, count_batch_norms, is_batch_norm, other_norms, read

_DEAD = 1e-9  # of the largest variance: a channel that does not vary has no noise


@opens_compiled
def audit(model: nn.Module, batch: Any, *, batches: Sequence[int] = ()) -> AuditReport:
    """Measures what normalization by batch statistics does and costs; the model is left as it was.

    batch    as for `ug.check`, of two examples or more, drawn at random: noise is estimated from how they differ
    batches  further batch sizes to measure: examples are taken from the batch, again and again where it is smaller
             (then the noise of the statistics is estimated)

    Returns an AuditReport. Raises InputError for a batch that does not fit.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    >>> report = audit(net, torch.randn(8, 3, 8, 8))
    >>> [(n.path, n.values, n.fold) for n in report.norms], report.coupling > 0
    ([('1', 288, 'absorbed')], True)
    """
    found = graphs.read("audit", model, batch)
    if any(isinstance(size, bool) or not isinstance(size, int) or size < 2 for size in batches):
        raise InputError(f"audit: batches is {list(batches)!r}; expected batch sizes of at least 2")
    report = AuditReport(type(model).__name__, found.examples, 0, left=dict(other_norms(model)))
    try:
        report.batch_norms = count_batch_norms(model, found, training=True)
    except Exception as error:
        raise InputError(f"audit: the model raised in training mode: {error}") from error
    readings = [read(model, found, training=training) for training in (False, True)]
    decisions = {d.path: d for d in folding.decide(model, readings, plain=True)}
    noise = _noise(model, found)
    for path, module in model.named_modules():
        if is_batch_norm(module):
            d = decisions[path]
            values, of_mean, of_variance = noise.get(path, (0, math.nan, math.nan))
            report.norms.append(
                NormAudit(path, type(module).__name__, values, of_mean, of_variance, d.how, d.why, d.into)
            )
    report.untrained = _untrained(model)
    stages = _stages(model, readings, list(decisions.values()))
    costs = _costs(model, found, stages)
    report.seconds, report.saved_bytes = _least(costs), _bytes(costs)
    report.time_noise = statistics.median(costs[0].seconds) / min(costs[0].seconds) - 1
    report.clipping_seconds = _clipping(model, found)
    report.coupling = measuring.coupling(model, found, training=True)
    report.coupling_eval = measuring.coupling(model, found, training=False)
    report.train_eval_gap = _gap(model, found)
    count = found.examples or 0
    for size in batches if count else ():
        some = found.select([i % count for i in range(size)])
        seconds = _least(_costs(model, some, stages))
        each = list(_noise(model, some if size <= count else found).values())
        less = (count / size) ** 0.5 if size > count else 1.0
        medians = (
            [less * float(torch.tensor([v[i] for v in each]).nanmedian()) for i in (1, 2)]
            if each
            else [math.nan] * 2
        )
        report.sizes.append(SizeAudit(size, medians[0], medians[1], *seconds, estimated=size > count))
    return report


def _untrained(model: nn.Module) -> bool:
    """Whether there are norms that count their batches, and none has seen one."""
    counts = [
        m.num_batches_tracked
        for m in model.modules()
        if isinstance(getattr(m, "num_batches_tracked", None), Tensor)
    ]
    return bool(counts) and not any(int(count) for count in counts)  # type: ignore[arg-type]


# ---- cost --------------------------------------------------------------------------------------------------


Change = Callable[[], object]


def _stages(model: nn.Module, readings: Sequence[Reading], decisions: Sequence[Decision]) -> list[Change]:
    """Changes to the model: none; fixed scales and shifts; what `preserve` makes of it."""
    fixed = [d for d in decisions if d.how != "refused"]
    preserved = [d for d in folding.decide(model, readings, plain=False) if d.how != "refused"]

    def freeze() -> None:
        for decision in fixed:
            norm = model.get_submodule(decision.path)
            affine = folding.affine_of(norm, decision.channels)
            here = paths_of(model, norm)
            made = apply(
                model, Edit("affine", here, decision.channels, decision.rank, folding.parts_of(norm))
            )
            assert made is not None
            made.get_parameter("weight").copy_(affine.scale)
            made.get_parameter("bias").copy_(affine.shift)

    return [lambda: None, freeze, lambda: folding.carry_out(model, preserved, plain=False)]


def _costs(model: nn.Module, batch: Batch, stages: Sequence[Change]) -> list[measuring.StepCost]:
    """Of each stage; without the last one if the model cannot be trained then."""
    try:
        return measuring.step_costs(model, batch, stages)
    except InputError:
        raise
    except (
        Exception
    ):  # a weight that is used otherwise than seen: `convert` takes back what does not prove right
        return measuring.step_costs(model, batch, stages[:-1])


def _least(costs: Sequence[measuring.StepCost]) -> tuple[float, float, float]:
    as_it_is, fixed, *rest = (min(cost.seconds) for cost in costs)
    return as_it_is, fixed, rest[0] if rest else math.nan


def _bytes(costs: Sequence[measuring.StepCost]) -> tuple[int, int, int]:
    as_it_is, fixed, *rest = (cost.saved_bytes for cost in costs)
    return as_it_is, fixed, rest[0] if rest else 0


def _clipping(model: nn.Module, batch: Batch) -> float:
    """Seconds of agc_ on gradients of the size of this model's, the least of three."""
    with in_place(model, batch=batch):
        for p in model.parameters():
            p.grad = torch.full_like(p, 1e-3)
        times = []
        for _ in range(3):
            start = time.perf_counter()
            clipped = agc_(model.parameters(), CLIPPING)
            int(clipped)  # waits for the device
            times.append(time.perf_counter() - start)
    return min(times)


# ---- noise -------------------------------------------------------------------------------------------------


def _noise(model: nn.Module, batch: Batch) -> dict[str, tuple[int, float, float]]:
    """{path: (values per channel, noise of the mean, noise of the log variance)}, each example left out in turn."""
    found: dict[str, tuple[int, float, float]] = {}

    def hook(path: str) -> Any:
        def see(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            x = given[0].detach()
            if path not in found and x.dim() >= 2:
                found[path] = (x.numel() // x.shape[1], *_jackknife(x.double()))

        return see

    with in_place(model, batch=batch), torch.no_grad():
        model.train()
        for path, module in model.named_modules():
            if is_batch_norm(module):
                module.register_forward_pre_hook(hook(path))
        given = batch.clone()
        model(*given.args, **given.kwargs)
    return found


def _jackknife(x: Tensor) -> tuple[float, float]:
    """(standard error of the mean over the std, standard error of the log variance), the rms over channels, of x
    (N, C, ...). The rows along N are taken for independent; of the values of a row nothing is assumed."""
    count, size = len(x), x.numel() // max(len(x) * x.shape[1], 1)
    if count < 2 or not size:
        return math.nan, math.nan
    rows = x.flatten(2) if x.dim() > 2 else x.unsqueeze(2)  # (N, C, values)
    rows = rows - rows.mean((0, 2), keepdim=True)
    sums, squares = rows.sum(2), rows.square().sum(2)  # (N, C)
    variance = squares.sum(0) / (count * size)
    alive = variance > _DEAD * variance.max()
    if not bool(alive.any()):
        return math.nan, math.nan
    rest = (count - 1) * size
    means = (sums.sum(0) - sums) / rest
    variances = (squares.sum(0) - squares) / rest - means.square()

    def error(values: Tensor) -> Tensor:
        return ((count - 1) / count * (values - values.mean(0)).square().sum(0)).sqrt()

    of_mean = (error(means) / variance.sqrt())[alive].square().mean().sqrt()
    if rest < 2:  # one value has no variance
        return float(of_mean), math.nan
    of_variance = error(variances.clamp_min(1e-30).log())[alive].square().mean().sqrt()
    return float(of_mean), float(of_variance)


def _gap(model: nn.Module, batch: Batch) -> float | None:
    with in_place(model, batch=batch):
        for module in model.modules():
            if graphs.role_of(module) == "dropout" and isinstance(getattr(module, "p", None), float):
                module.p = 0.0  # type: ignore[assignment]
        trained, evaluated = (outputs_of(model, batch, training=t) for t in (True, False))
    off = distance(trained[:1], evaluated[:1]) if evaluated and trained else float("inf")
    return off if off < float("inf") else None
