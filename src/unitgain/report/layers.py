"""A Record as rows over depth: what the table, the page and the plots have in common.

A *layer* here is one measured tensor on the way forward (an input or an activation) together with what
belongs to it: the gradient of the loss with respect to it, and the ratios of the weights that made it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..record import Record, Site
from ..rules import SEVERITIES, Finding

MEASURES = ("scale", "gradient", "saturated", "dead", "non-finite", "gradient:data", "update:data")


@dataclass(frozen=True)
class Layer:
    """One input or activation with its gradient and its weights' ratios, at one step.

    number        1, 2, ... in execution order: the x of every chart over depth
    values        the tensor's statistics by name; those that are undefined are missing
    gradient      the same for the gradient of the loss with respect to the tensor
    weight        name of the main parameter of the module, or ""
    ratios        log10 ratios of that parameter: "gradient" and "update", missing if not measured
    severity      of the worst finding about this layer, or ""
    codes         the codes of the findings about it
    """

    number: int
    site: Site
    values: Mapping[str, float]
    gradient: Mapping[str, float]
    weight: str = ""
    ratios: Mapping[str, float] = field(default_factory=dict)
    severity: str = ""
    codes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.site.name

    @property
    def key(self) -> tuple[str, str]:
        """(kind, name): in records of earlier versions an input and an activation may share a name."""
        return self.site.kind, self.site.name

    @property
    def dead_fraction(self) -> float:
        """Units never active, as a fraction of all units; NaN where units are not defined."""
        units = self.values.get("units", 0.0)
        return self.values["dead"] / units if units and "dead" in self.values else math.nan

    def concerns(self, peers: Peers) -> dict[str, float]:
        """How far each measure lies from its healthy value: 0 is fine, 1 and above is badly off.

        Only for choosing and shading. It does not judge, findings do: a scale two decades from one can be
        perfectly fine, and a tensor that is exactly zero (the end of a residual branch at the start) says
        nothing about scale.
        """
        off: dict[str, float] = {
            "scale": _decades(self.values.get("rms")) / 3,
            "gradient": _decades(self.gradient.get("rms"), peers.gradient_rms) / 3,
            "saturated": self.values.get("saturated", math.nan) / 0.5,
            "dead": self.dead_fraction / 0.5,
            "non-finite": float(self.values.get("nonfinite", 0) > 0 or self.gradient.get("nonfinite", 0) > 0),
            "gradient:data": abs(self.ratios.get("gradient", math.nan) - peers.gradient_ratio) / 2,
            "update:data": abs(self.ratios.get("update", math.nan) + 3) / 2,
        }
        return {measure: min(off[measure], 1.0) for measure in MEASURES if not math.isnan(off[measure])}


@dataclass(frozen=True)
class Peers:
    """Medians over all layers: what "usual in this network" means."""

    gradient_rms: float
    gradient_ratio: float

    @classmethod
    def of(cls, layers: Iterable[Layer]) -> Peers:
        layers = list(layers)
        return cls(
            _median([layer.gradient.get("rms", math.nan) for layer in layers]),
            _median([layer.ratios.get("gradient", math.nan) for layer in layers]),
        )


def reported_step(record: Record) -> int:
    """The step that a report is about: the first of a check (before any update), the last of a training."""
    steps = record.steps()
    if not steps:
        return 0
    return steps[-1] if record.facts.mode == "training" else steps[0]


def layers_of(record: Record, findings: Sequence[Finding] = (), step: int | None = None) -> list[Layer]:
    """The inputs and activations in execution order, each with what belongs to it."""
    step = reported_step(record) if step is None else step
    sites = record.sites("input") + record.sites("activation")  # inputs first, at any position
    values = {kind: record.values(kind, step) for kind in ("input", "activation", "gradient")}
    ratios = {
        "gradient": values_near(record, "parameter_gradient", step),
        "update": values_near(record, "update", step),
    }
    weights = main_parameters(record)
    worst, codes = _findings_by_site(record, findings)
    layers = []
    for number, site in enumerate(sites, start=1):
        weight = weights.get(site.name, "") if site.kind == "activation" else ""
        layers.append(
            Layer(
                number=number,
                site=site,
                values=_meaningful(site, values[site.kind].get(site.name, {})),
                gradient=values["gradient"].get(site.name, {}) if site.kind == "activation" else {},
                weight=weight,
                ratios={k: r[weight]["ratio"] for k, r in ratios.items() if "ratio" in r.get(weight, {})},
                severity=worst.get((site.kind, site.name), ""),
                codes=tuple(codes.get((site.kind, site.name), ())),
            )
        )  # fmt: skip
    return layers


def _meaningful(site: Site, values: Mapping[str, float]) -> Mapping[str, float]:
    """Token and class numbers are names: they have a range and a count, but no scale."""
    if not site.attributes.get("integer"):
        return values
    return {name: values[name] for name in ("count", "min", "max", "nonfinite") if name in values}


def values_near(record: Record, kind: str, step: int) -> dict[str, dict[str, float]]:
    """Values of one kind at a step, or at the last that has any: updates come after the first forward."""
    values = record.values(kind, step)
    if values or not record.sites(kind):
        return values
    for other in reversed(thin(record.steps(), 64)):
        values = record.values(kind, other)
        if values:
            break
    return values


def main_parameters(record: Record) -> dict[str, str]:
    """{activation site: the parameter that matters most for it}: its weight, else its gain, else any."""
    rank = {"weight": 0, "embedding": 1, "gain": 2, "other": 3, "bias": 4}
    best: dict[str, tuple[int, str]] = {}
    for site in record.sites("parameter"):
        owner = parameter_owner(site)
        if owner:
            candidate = (rank.get(str(site.attributes.get("role")), 3), site.name)
            best[owner] = min(best.get(owner, candidate), candidate, key=lambda pair: pair[0])
    return {owner: name for owner, (_, name) in best.items()}


def parameter_owner(site: Site) -> str:
    """Name of the activation site of the module that owns a parameter."""
    return str(site.attributes.get("site") or site.attributes.get("path") or "")


def key_of_finding(record: Record, finding: Finding) -> tuple[str, str] | None:
    """(kind, name) of the layer that a finding is about: its site, or the layer that uses the parameter it names."""
    if not finding.site:
        return None
    for kind in ("activation", "input"):
        if record.site(kind, finding.site):
            return kind, finding.site
    parameter = record.site("parameter", finding.site)
    owner = parameter_owner(parameter) if parameter else ""
    return ("activation", owner) if record.site("activation", owner) else None


def _findings_by_site(
    record: Record, findings: Sequence[Finding]
) -> tuple[dict[tuple[str, str], str], dict[tuple[str, str], list[str]]]:
    worst: dict[tuple[str, str], str] = {}
    codes: dict[tuple[str, str], list[str]] = {}
    for finding in findings:
        key = key_of_finding(record, finding)
        if key is not None:
            worst[key] = max(worst.get(key, "info"), finding.severity, key=SEVERITIES.index)
            codes.setdefault(key, []).append(finding.code)
    return worst, codes


def thin(items: Sequence[Any], limit: int) -> list[Any]:
    """At most `limit` of the items, evenly chosen, the first and the last among them.

    >>> thin(range(100), 4), thin([1, 2], 4)
    ([0, 33, 66, 99], [1, 2])
    """
    if len(items) <= limit:
        return list(items)
    return [items[round(i * (len(items) - 1) / (limit - 1))] for i in range(limit)]


def _decades(value: float | None, reference: float = 1.0) -> float:
    """Distance in powers of ten; NaN where a logarithm says nothing."""
    if value is None or not (value > 0 and reference > 0) or math.isinf(value):
        return math.nan
    return abs(math.log10(value / reference))


def _median(values: Sequence[float]) -> float:
    finite = [v for v in values if math.isfinite(v) and v != 0]
    return float(np.median(finite)) if finite else math.nan
