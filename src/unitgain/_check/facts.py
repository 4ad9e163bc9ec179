"""What is known about a run beyond its sites: loss, target, output. Keys in docs/reference/record.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .._batch import IGNORED_TARGET, class_axis
from ..record import Record

_SMALLEST = 1e-30


def target_facts(target: Any, logits: Tensor | None, kind: str) -> dict[str, Any]:
    """{kind: "class_index" | "probabilities" | "float", classes, count, std}."""
    if not isinstance(target, Tensor) or target.numel() == 0:
        return {}
    if not target.is_floating_point():
        facts: dict[str, Any] = {"kind": "class_index", "count": int((target != IGNORED_TARGET).sum())}
        if logits is not None and logits.dim() > 1:
            facts["classes"] = int(logits.shape[_axis(logits, target)])
        return facts
    facts = {
        "kind": "float",
        "count": target.numel(),
        "mean": float(target.double().mean()),
        "std": float(target.double().std(correction=0)),
    }
    if logits is not None and kind == "cross_entropy" and target.shape == logits.shape and logits.dim() > 1:
        facts.update(kind="probabilities", classes=int(logits.shape[1]))
    return facts


def output_facts(logits: Tensor | None, target: Any, record: Record) -> dict[str, Any]:
    """The loss's input, reduced to what the rules ask of it."""
    if logits is None:
        return {}
    x = logits.detach().double()
    finite = torch.where(torch.isfinite(x), x, 0.0)
    facts: dict[str, Any] = {
        "shape": list(logits.shape),
        "examples": int(logits.shape[0]) if logits.dim() else 1,
        "min": float(finite.min()),
        "max": float(finite.max()),
        "absmax": float(finite.abs().max()),
        "rms": float(finite.square().mean().sqrt()),
        "nonfinite": int(x.numel() - torch.isfinite(x).sum()),
    }
    if logits.dim() > 1:
        axis = _axis(logits, target)
        facts["class_axis"] = axis
        facts["exp_row_sum_error"] = float((finite.clamp(max=50).exp().sum(axis) - 1).abs().max())
        if facts["min"] >= 0:
            facts["row_sum_error"] = float((finite.sum(axis) - 1).abs().max())
    if facts["examples"] > 1:
        scale = max(facts["absmax"], _SMALLEST)
        rows = (finite / scale).flatten(1) if logits.dim() > 1 else (finite / scale).unsqueeze(1)
        square = float(rows.square().mean())
        facts["spread"] = (
            float((rows - rows.mean(0)).square().mean().sqrt()) / square**0.5 if square > 0 else 0.0
        )
    site = next((s for s in record.sites("activation") if s.attributes.get("output")), None)
    if site is not None:
        facts["site"] = site.name
        facts["zero_head"] = _is_zero_head(record, site.attributes)
    return facts


def _axis(logits: Tensor, target: Any) -> int:
    if isinstance(target, Tensor):
        return class_axis(logits, target)
    return logits.dim() - 1


def _is_zero_head(record: Record, attributes: Mapping[str, Any]) -> bool:
    """Whether the weights of the module that gives the output are all zero."""
    weights = [n for n in attributes.get("parameters", ()) if not n.endswith("bias")]
    return bool(weights) and all(record.value("parameter", n, "absmax") == 0 for n in weights)
