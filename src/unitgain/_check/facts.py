"""What is known about the targets and the output of a pass, as the record's typed facts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .._batch import IGNORED_TARGET, class_axis
from ..record import UNKNOWN, OutputFacts, Record, Site, TargetFacts
from .broadcast import Stretched

_SMALLEST = 1e-30


def target_facts(
    target: Any, logits: Tensor | None, kind: str, stretched: Stretched | None = None
) -> TargetFacts:
    """kind: of the loss, as kind_of says it; stretched: what broadcast_shape says of it."""
    facts = _target_values(target, logits, kind)
    if stretched is None:
        return facts
    return replace(facts, shape=stretched.target, broadcast=stretched.over, against=stretched.outputs)


def _target_values(target: Any, logits: Tensor | None, kind: str) -> TargetFacts:
    if not isinstance(target, Tensor) or target.numel() == 0:
        return TargetFacts()
    if not target.is_floating_point():
        classes = (
            int(logits.shape[_axis(logits, target)]) if logits is not None and logits.dim() > 1 else None
        )
        return TargetFacts("class_index", classes, int((target != IGNORED_TARGET).sum()))
    probabilities = (
        logits is not None and kind == "cross_entropy" and target.shape == logits.shape and logits.dim() > 1
    )
    return TargetFacts(
        "probabilities" if probabilities else "float",
        int(target.shape[1]) if probabilities else None,
        target.numel(),
        float(target.double().mean()),
        float(target.double().std(correction=0)),
    )


def output_facts(logits: Tensor | None, target: Any, record: Record) -> OutputFacts:
    """The loss's input, reduced to what the rules ask of it."""
    if logits is None:
        return OutputFacts()
    x = logits.detach().double()
    finite = torch.where(torch.isfinite(x), x, 0.0)
    axis = _axis(logits, target) if logits.dim() > 1 else None
    examples = int(logits.shape[0]) if logits.dim() else 1
    sums = exponentials = even = UNKNOWN
    if axis is not None:
        even = float((finite.logsumexp(axis) - finite.mean(axis)).mean())
        exponentials = float((finite.clamp(max=50).exp().sum(axis) - 1).abs().max())
        if float(finite.min()) >= 0:
            sums = float((finite.sum(axis) - 1).abs().max())
    site = next((s for s in record.sites("activation") if s.attributes.get("output")), None)
    return OutputFacts(
        site=site.name if site else None,
        shape=tuple(logits.shape),
        class_axis=axis,
        row_sum_error=sums,
        exp_row_sum_error=exponentials,
        min=float(finite.min()),
        max=float(finite.max()),
        absmax=float(finite.abs().max()),
        rms=float(finite.square().mean().sqrt()),
        nonfinite=int(x.numel() - torch.isfinite(x).sum()),
        spread=spread_of(finite) if examples > 1 else UNKNOWN,
        examples=examples,
        zero_head=_is_zero_head(record, site) if site else None,
        even_loss=even,
    )


def spread_of(x: Tensor) -> float:
    """rms over examples of the deviation from the mean example, divided by rms: (N, ...)."""
    rows = (x / max(float(x.abs().max()), _SMALLEST)).reshape(
        len(x), -1
    )  # scaled, so that squares stay finite
    square = float(rows.square().mean())
    return float((rows - rows.mean(0)).square().mean().sqrt()) / square**0.5 if square > 0 else 0.0


def _axis(logits: Tensor, target: Any) -> int:
    if isinstance(target, Tensor):
        return class_axis(logits, target)
    return logits.dim() - 1


def _is_zero_head(record: Record, site: Site) -> bool:
    """Whether the weights of the module that gives the output are all zero."""
    weights = [n for n in site.attributes.get("parameters", ()) if not n.endswith("bias")]
    return bool(weights) and all(record.value("parameter", n, "absmax") == 0 for n in weights)
