"""From the partial sums of one step to rows of the Record."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from .. import stats
from ..record import HISTOGRAM_BINS, LOG2_HIGH, LOG2_LOW, STATISTICS, Record, Site
from ..stats import Partial
from .dataflow import Origin
from .histogram import histograms, underflow
from .parameters import Parameter
from .sites import Draft

_HEADROOM = 1.25  # the linear histogram's range over the first sample's largest magnitude


@dataclass
class Step:
    """What has been measured in one step so far, still on its devices."""

    number: int
    partials: dict[tuple[str, str], Partial] = field(default_factory=dict)
    sums: list[tuple[Origin, Origin]] = field(default_factory=list)

    def add(self, kind: str, name: str, partial: Partial) -> None:
        """A second tensor of the same site in the same step (gradient accumulation) is merged into the first."""
        known = self.partials.get((kind, name))
        if known is None:
            self.partials[kind, name] = partial
        else:
            known.merge(partial)

    def replace(self, kind: str, name: str, partial: Partial) -> None:
        self.partials[kind, name] = partial


class StepWriter:
    """Adds sites when they first appear, keeps histogram ranges and the units that have ever been alive."""

    def __init__(self, record: Record):
        self._record = record
        self._tops: dict[int, float] = {}
        self._alive: dict[str, np.ndarray] = {}

    def write(
        self,
        step: Step,
        drafts: Mapping[str, Draft],
        inputs: Mapping[str, Draft],
        parameters: list[Parameter],
    ) -> None:
        keys, partials = list(step.partials), list(step.partials.values())
        if not keys:
            return
        by_name = {p.name: p for p in parameters}
        sites = [self._site(kind, name, inputs if kind == "input" else drafts, by_name) for kind, name in keys]
        numbers = stats.finish(partials)
        nan = np.full(len(keys), np.nan)
        columns = {name: numbers.get(name, nan) for name in STATISTICS}
        columns.update({name: nan.copy() for name in ("units", "dead", "ratio", "underflow")})
        self._add_units(keys, partials, columns)
        self._add_ratios(keys, columns)
        sampled = [i for i, p in enumerate(partials) if p.sample is not None and p.sample.numel()]
        if sampled:
            self._add_histograms(step.number, sampled, sites, partials, columns)
        table = np.stack([columns[name] for name in STATISTICS], axis=1)
        rows = [[None if math.isnan(v) else v for v in row] for row in table.tolist()]
        self._record.add_table(step.number, [s.id for s in sites], rows)

    def _site(
        self,
        kind: str,
        name: str,
        drafts: Mapping[str, Draft],
        parameters: Mapping[str, Parameter],
    ) -> Site:
        known = self._record.site(kind, name)
        if known is not None:
            return known
        if kind in ("parameter", "parameter_gradient", "update"):
            return self._parameter_site(kind, parameters[name], drafts)
        draft = drafts[name]
        return self._record.add_site(
            kind, name, position=draft.position, module=draft.module, shape=draft.shape,
            channel_axis=draft.channel_axis, dtype=draft.dtype, attributes=draft.attributes,
        )  # fmt: skip

    def _parameter_site(self, kind: str, p: Parameter, drafts: Mapping[str, Draft]) -> Site:
        owner = _owner(p.path, drafts)
        attributes = {
            "path": p.path, "role": p.role, "trainable": bool(p.tensor.requires_grad), "fan_in": p.fan_in,
            "aliases": p.aliases, "site": owner.name if owner is not None else None,
        }  # fmt: skip
        return self._record.add_site(
            kind, p.name, position=owner.position if owner is not None else 0, module=type(p.owner).__name__,
            shape=tuple(p.tensor.shape), dtype=str(p.tensor.dtype).removeprefix("torch."), attributes=attributes,
        )  # fmt: skip

    def _add_units(
        self, keys: list[tuple[str, str]], partials: list[Partial], columns: dict[str, np.ndarray]
    ) -> None:
        for i, ((kind, name), partial) in enumerate(zip(keys, partials)):
            if kind != "activation" or partial.alive is None:
                continue
            alive = partial.alive.cpu().numpy()
            before = self._alive.get(name)
            if before is not None and before.shape == alive.shape:
                alive = alive | before
            self._alive[name] = alive
            columns["units"][i], columns["dead"][i] = alive.size, alive.size - int(alive.sum())

    def _add_ratios(self, keys: list[tuple[str, str]], columns: dict[str, np.ndarray]) -> None:
        at = {key: i for i, key in enumerate(keys)}
        for i, (kind, name) in enumerate(keys):
            data = at.get(("parameter", name))
            if kind in ("parameter_gradient", "update") and data is not None:
                change, scale = columns["std"][i], columns["std"][data]
                if change > 0 and scale > 0:
                    columns["ratio"][i] = math.log10(change / scale)

    def _add_histograms(
        self, step: int, which: list[int], sites: list[Site], partials: list[Partial],
        columns: dict[str, np.ndarray],
    ) -> None:  # fmt: skip
        samples = [partials[i].sample for i in which]
        tops = [self._top(sites[i].id, columns["absmax"][i]) for i in which]
        linear, log2 = histograms(samples, tops)  # type: ignore[arg-type]
        rows = []
        for row, i in enumerate(which):
            site = sites[i]
            rows.append((site.id, "linear", 0.0, tops[row], linear[row]))
            rows.append((site.id, "log2", LOG2_LOW, LOG2_HIGH, log2[row]))
            size = samples[row].numel()  # type: ignore[union-attr]
            if math.isnan(columns["zero"][i]):
                kept = int(linear[row].sum())
                columns["zero"][i] = 1 - log2[row].sum() / kept if kept == size else math.nan
            if site.kind in ("gradient", "parameter_gradient"):
                if site.dtype in ("float16", "bfloat16"):
                    columns["underflow"][i] = underflow(samples[row], partials[i].smallest_normal)  # type: ignore[arg-type]
                elif log2[row][0] == 0:
                    columns["underflow"][i] = 0.0
                else:
                    columns["underflow"][i] = underflow(samples[row], partials[i].smallest_normal)  # type: ignore[arg-type]
        self._record.add_histograms(step, rows)

    def _top(self, site: int, largest: float) -> float:
        known = self._tops.get(site)
        if known is not None:
            return known
        if not (math.isfinite(largest) and largest > 0):
            return 1.0  # nothing to go by yet
        # a magnitude so small that 64 / top would overflow float32 is drawn in the first bin
        top = self._tops[site] = max(largest * _HEADROOM, 1e-30)
        return top


def _owner(path: str, drafts: Mapping[str, Draft]) -> Draft | None:
    """The first site of the module at path, or of the nearest module above it (attention's inner projections)."""
    while True:
        name = path or "output"
        if name in drafts and drafts[name].path == path:
            return drafts[name]
        inside = next((d for d in drafts.values() if d.path == path and path), None)
        if inside is not None:
            return inside
        if not path:
            return None
        path = path.rpartition(".")[0]


assert HISTOGRAM_BINS == 64
