"""From the partial sums of one step to rows of the Record."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import stats
from ..record import HISTOGRAM_BINS, LOG2_HIGH, LOG2_LOW, STATISTICS, Record, Site
from ..stats import Partial
from .dataflow import Origin
from .histogram import histograms, underflow
from .parameters import Parameter
from .sites import Draft

SELDOM = 8  # what changes slowly is measured at every 8th sampled step, another eighth of the sites each time
_SQUARES_VANISH = 1e-15  # below, float32 squares lose digits
_HEADROOM = 1.25  # the linear histogram's range over the first sample's largest magnitude


@dataclass
class Step:
    """What has been measured in one step so far, still on its devices.

    partials  sums of whole tensors
    held      copies of some examples of activations, reduced when the step is over: one tight loop is far
              faster than as many hooks in the middle of other work
    flat      samples of what has no channels: gradients, parameters, updates
    norms     norms of whole parameter gradients of which `flat` holds a sample
    """

    number: int
    partials: dict[tuple[str, str], Partial] = field(default_factory=dict)
    held: dict[str, tuple[Tensor, dict[str, Any]]] = field(default_factory=dict)
    flat: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    norms: dict[str, tuple[Tensor, int]] = field(default_factory=dict)
    sums: list[tuple[Origin, Origin]] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        return not (self.partials or self.held or self.flat)

    def add(self, kind: str, name: str, partial: Partial) -> None:
        """A second tensor of the same site in the same step (gradient accumulation) is merged into the first."""
        known = self.partials.get((kind, name))
        if known is None:
            self.partials[kind, name] = partial
        else:
            known.merge(partial)

    def hold(self, name: str, some: Tensor, how: dict[str, Any]) -> None:
        if name in self.held:
            self._reduce(name)
            self.add("activation", name, stats.summarize(some, **how))
        elif ("activation", name) in self.partials:
            self.add("activation", name, stats.summarize(some, **how))
        else:
            self.held[name] = some, how

    def _reduce(self, name: str) -> None:
        some, how = self.held.pop(name)
        self.add("activation", name, stats.summarize(some, **how))

    def add_flat(self, kind: str, name: str, values: Tensor) -> None:
        known = self.flat.get((kind, name))
        self.flat[kind, name] = values if known is None else torch.cat([known, values])

    def reduce_held(self) -> None:
        for name in list(self.held):
            self._reduce(name)


class StepWriter:
    """Adds sites when they first appear, keeps histogram ranges and the units that have ever been alive."""

    def __init__(self, record: Record, sample: int, thrifty: bool):
        self._record, self._sample, self._thrifty = record, sample, thrifty
        self._turn = 0
        self._tops: dict[int, float] = {}
        self._alive: dict[str, np.ndarray] = {}

    def write(
        self,
        step: Step,
        drafts: Mapping[str, Draft],
        inputs: Mapping[str, Draft],
        parameters: list[Parameter],
    ) -> None:
        step.reduce_held()
        keys = [*step.partials, *step.flat]
        if not keys:
            return
        by_name = {p.name: p for p in parameters}
        sites = [
            self._site(kind, name, inputs if kind == "input" else drafts, by_name) for kind, name in keys
        ]
        columns = self._columns(step, len(keys))
        self._add_units(list(step.partials.items()), columns)
        self._add_ratios(keys, columns)
        samples = [p.sample for p in step.partials.values()]
        flat_sites = sites[len(samples) :]
        samples += [self._sample_of(*item) for item in zip(flat_sites, step.flat.values())]
        self._turn += 1
        self._add_histograms(step.number, sites, samples, columns)
        table = np.stack([columns[name] for name in STATISTICS], axis=1).astype(object)
        table[np.isnan(table.astype(np.float64))] = None
        self._record.add_table(step.number, [s.id for s in sites], table.tolist())

    def _sample_of(self, site: Site, values: Tensor) -> Tensor | None:
        """What histograms are counted from; those of parameters change slowly, so they need not come each time."""
        if not self._sample or (
            self._thrifty
            and site.kind != "gradient"
            and self._turn % SELDOM != site.id % SELDOM
            and self._turn
        ):
            return None
        return values[:: max(1, values.numel() // self._sample)]

    def _columns(self, step: Step, rows: int) -> dict[str, np.ndarray]:
        """{statistic: (rows,)}: first the partials, then the flat samples."""
        columns = {name: np.full(rows, np.nan) for name in STATISTICS}
        split = len(step.partials)
        for name, values in stats.finish(list(step.partials.values())).items():
            columns[name][:split] = values
        for name, values in stats.flat_numbers(list(step.flat.values())).items():
            columns[name][split:] = values
        at = {name: split + i for i, (kind, name) in enumerate(step.flat) if kind == "parameter_gradient"}
        names = list(step.norms)
        if names:
            norms = torch.stack([step.norms[n][0].double() for n in names]).cpu().numpy()
            for name, norm in zip(names, norms):
                row, count = at[name], step.norms[name][1]
                if math.isnan(norm):  # at least one value is
                    columns["nonfinite"][row] = max(columns["nonfinite"][row], 1 / count)
                rms = norm / math.sqrt(count)
                if not math.isfinite(rms) or rms < _SQUARES_VANISH:
                    continue  # what the sample says is better
                columns["rms"][row] = rms
                columns["std"][row] = math.sqrt(max(rms**2 - columns["mean"][row] ** 2, 0.0))
        return columns

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
        self, partials: list[tuple[tuple[str, str], Partial]], columns: dict[str, np.ndarray]
    ) -> None:
        for i, ((kind, name), partial) in enumerate(partials):
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
        self, step: int, sites: list[Site], samples: list[Tensor | None], columns: dict[str, np.ndarray]
    ) -> None:
        """Histograms, and what else is read off the samples: zeros where they were not counted, underflow."""
        which = [i for i, s in enumerate(samples) if s is not None and s.numel()]
        if not which:
            return
        taken = [samples[i] for i in which]
        tops = [self._top(sites[i].id, columns["absmax"][i]) for i in which]
        linear, log2 = histograms(taken, tops)  # type: ignore[arg-type]
        rows = []
        nonzero, kept = log2.sum(1), linear.sum(1)
        for row, i in enumerate(which):
            site = sites[i]
            rows.append((site.id, "linear", 0.0, tops[row], linear[row]))
            rows.append((site.id, "log2", LOG2_LOW, LOG2_HIGH, log2[row]))
            if columns["zero"][i] != columns["zero"][i] and kept[row]:
                columns["zero"][i] = 1 - nonzero[row] / kept[row]
            if site.kind in ("gradient", "parameter_gradient") and nonzero[row]:
                reaches = site.dtype == "float16" or log2[row, 0]  # else nothing is as small as 2**-48
                smallest = torch.finfo(getattr(torch, site.dtype)).smallest_normal
                columns["underflow"][i] = underflow(taken[row], smallest) if reaches else 0.0  # type: ignore[arg-type]
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
