"""How similar the examples of a batch are: cosine and spread."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .partial import Partial

_SPREAD_EXAMPLES, _SPREAD_FEATURES = 64, 512


def measure_cosine(rows: Tensor, partial: Partial) -> None:
    """Mean cosine between different examples (B, D).

    With unit vectors u_i the mean over pairs is (|sum u_i|**2 - B) / (B (B - 1)): one matrix-vector product
    instead of B**2 dot products. Examples that are zero have no direction and are not counted.
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
        value = ((square - kept) / (kept * (kept - 1))).clamp(-1, 1)
        partial.scalars["cosine"] = torch.where(kept > 1, value, math.nan)


def measure_spread(rows: Tensor, partial: Partial) -> None:
    """Deviation from the mean example (B, D), relative to rms, in float64 on at most 64 examples x 512 features.

    The products in `cosine` cannot distinguish 1 - 1e-7 from 1, but equal examples must be recognised exactly.
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
    deviation = (some - some.mean(0)).square().mean()
    spread = torch.where(square > 0, deviation / square, 0.0).sqrt()
    partial.scalars["spread"] = spread.item() if rows.device.type == "cpu" else spread
