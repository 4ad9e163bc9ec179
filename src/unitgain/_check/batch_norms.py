"""BatchNorm's running statistics against those of the batch, without another look at any tensor.

A training pass moves the running statistics a known part of the way towards the batch's: what they were before and
what they are afterwards gives the batch's own, exactly enough for a comparison.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..record import UNKNOWN, BatchNormFacts

Snapshot = dict[str, tuple[Tensor, Tensor, int]]


def snapshot(model: nn.Module) -> Snapshot:
    """{path: (running mean, running variance, batches seen)} of every BatchNorm that keeps running statistics."""
    return {
        path: (mean.detach().clone(), variance.detach().clone(), int(tracked))
        for path, module in model.named_modules()
        if _is_batch_norm(module)
        for mean, variance, tracked in [_buffers(module)]
        if isinstance(mean, Tensor) and isinstance(variance, Tensor) and isinstance(tracked, Tensor)
    }


def normalize_by_batch(model: nn.Module) -> None:
    """Evaluation mode (no dropout, no stochastic depth), but for layers with running statistics, which normalize by the
    batch's: their averages may be those of other weights, or have had no time to follow."""
    model.eval()
    for module in model.modules():
        if getattr(module, "running_mean", None) is not None:
            module.train()


def batch_norm_facts(model: nn.Module, before: Snapshot) -> tuple[BatchNormFacts, ...]:
    """One row per BatchNorm. The gap and the variance are not known where the module did not run exactly once in the
    pass, or in eval mode."""
    rows = []
    for path, (mean, variance, tracked) in before.items():
        module: Any = model.get_submodule(path)
        momentum = module.momentum
        mean_after, variance_after, tracked_after = _buffers(module)
        start = bool((mean == 0).all()) and bool((variance == 1).all())
        weight = 1 / (tracked + 1) if momentum is None else float(momentum)
        if int(tracked_after) != tracked + 1 or weight <= 0:
            rows.append(BatchNormFacts(path, momentum, tracked, at_start=start))
            continue
        batch_mean = mean.double() + (mean_after.double() - mean.double()) / weight
        batch_variance = variance.double() + (variance_after.double() - variance.double()) / weight
        gap = (batch_mean - mean.double()).abs() / (variance.double() + module.eps).sqrt()
        ratio = (batch_variance.clamp(min=0) + module.eps) / (variance.double() + module.eps)
        mean_gap, log_variance = float(gap.median()), float(ratio.log().abs().median())
        finite = math.isfinite(mean_gap) and math.isfinite(log_variance)
        compared = (mean_gap, log_variance) if finite else (UNKNOWN, UNKNOWN)
        rows.append(BatchNormFacts(path, momentum, tracked, *compared, start))
    return tuple(rows)


def _is_batch_norm(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) or (
        type(module).__name__ == "BatchNorm" and hasattr(module, "momentum") and hasattr(module, "eps")
    )


def _buffers(module: Any) -> tuple[Any, Any, Any]:
    return module.running_mean, module.running_var, getattr(module, "num_batches_tracked", None)
