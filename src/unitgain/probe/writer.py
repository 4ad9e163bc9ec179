"""From the partial sums of one step to rows of the Record."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import stats
from ..graph import Graph
from ..record import LOG2_HIGH, LOG2_LOW, STATISTICS, DiedFacts, Record, Site
from ..stats import Partial
from .histogram import histograms, underflow
from .options import SELDOM
from .parameters import Parameter
from .sites import Attributes, Place
from .step import Step
from .units import Activity

_LONGEST_WAIT = 1.0  # seconds from one writing to the next, if a step is finished then
_SMALL = 1 << 17  # values: what a step holds is reduced with that of others if it is no more
_SQUARES_VANISH = 1e-15  # below, float32 squares lose digits


@dataclass(slots=True)  # thousands wait: the fewer objects, the rarer is a collection of garbage
class _Row:
    """One row of the scalar table in the making."""

    step: int
    site: Site
    partial: Partial | None = None
    held: tuple[Tensor, dict[str, Any]] | None = None  # what partial is to be made from
    flat: Tensor | None = None
    thin: int = 0  # histograms are counted from every so manieth value of flat; 0: from none
    norm: tuple[Tensor, int] | None = None
    skipped: Tensor | None = None  # above 0: the optimizer did nothing, so that there was no update

    @property
    def sample(self) -> Tensor | None:
        """What histograms are counted from."""
        if self.partial is not None:
            return self.partial.sample
        if self.flat is None or self.thin < 2:
            return self.flat if self.thin else None
        return self.flat[:: self.thin]


class StepWriter:
    """Adds sites when they first appear, and keeps the units that have ever been alive.

    Steps are turned into numbers a few at a time: the fixed cost of each array operation is then shared. A step
    waits for seven others, or for the next one that is finished more than a second after the last time; there is
    no timer.
    """

    def __init__(self, record: Record, sample: int, limited: bool):
        self._record, self._sample, self._limited = record, sample, limited
        self._alive: dict[str, np.ndarray] = {}
        self._activity: dict[str, Activity] = {}
        self._waiting: list[_Row] = []
        self._rates: dict[int, Tensor] = {}  # of the steps that wait
        self._steps_waiting = 0
        self._written_at = -math.inf
        self.last: int | None = None  # number of the last step that is in the record

    def write(
        self,
        step: Step,
        places: Mapping[str, Place],
        inputs: Mapping[str, Place],
        parameters: list[Parameter],
        graph: Callable[[], Graph],
    ) -> None:
        """Takes a finished step; it is in the record after `drain`, which this calls when it is time. graph: what is
        known of the model, asked for where a new site is to be described."""
        if not _is_small(step):
            step.reduce_held()
        attributes = functools.cache(lambda: Attributes(graph()))  # made where a site is new
        if step.rate is not None:
            self._rates[step.number] = step.rate
        by_name = {p.name: p for p in parameters}
        for (kind, name), partial in step.partials.items():
            site = self._site(kind, name, inputs if kind == "input" else places, by_name, attributes)
            self._waiting.append(_Row(step.number, site, partial=partial, skipped=_skipped(step, kind)))
        for (kind, name), held in step.held.items():
            site = self._site(kind, name, inputs if kind == "input" else places, by_name, attributes)
            self._waiting.append(_Row(step.number, site, held=held))
        for (kind, name), values in step.flat.items():
            site = self._site(kind, name, places, by_name, attributes)
            norm = step.norms.get(name) if kind == "parameter_gradient" else None
            thin = self._thinned(site, values.numel(), step.turn)
            self._waiting.append(
                _Row(step.number, site, flat=values, thin=thin, norm=norm, skipped=_skipped(step, kind))
            )
        self._steps_waiting += 1
        enough = SELDOM if self._limited else 1
        if self._steps_waiting >= enough or time.monotonic() - self._written_at > _LONGEST_WAIT:
            self.drain()

    def drain(self) -> None:
        """Writes every step that waits."""
        self._written_at = time.monotonic()
        rows, self._waiting, self._steps_waiting = self._waiting, [], 0
        rates, self._rates = self._rates, {}
        _reduce_held(rows)
        _fetch(rows, rates)
        if rates:
            self._record.add_metrics((step, "lr", float(rate)) for step, rate in rates.items())
        rows = [row for row in rows if row.skipped is None or not row.skipped > 0]
        if not rows:
            return
        self.last = rows[-1].step
        columns = self._columns(rows)
        self._add_units(rows, columns)
        self._add_ratios(rows, columns)
        self._add_histograms(rows, columns)
        table = np.stack([columns[name] for name in STATISTICS], axis=1)
        self._record.add_table(
            [r.step for r in rows], [r.site.id for r in rows], (row.tolist() for row in table)
        )

    def _thinned(self, site: Site, count: int, turn: int) -> int:
        """_Row.thin; what parameters are changes slowly, so their histograms need not come each time."""
        slow = self._limited and site.kind != "gradient"
        if not self._sample or (slow and turn and turn % SELDOM != site.id % SELDOM):
            return 0
        return max(1, count // self._sample)

    def _columns(self, rows: list[_Row]) -> dict[str, np.ndarray]:
        columns = {name: np.full(len(rows), np.nan) for name in STATISTICS}
        sums = [i for i, r in enumerate(rows) if r.partial is not None]
        flat = [i for i, r in enumerate(rows) if r.flat is not None]
        for name, values in stats.finish([r.partial for r in rows if r.partial is not None]).items():
            columns[name][sums] = values
        for name, values in stats.flat_numbers([r.flat for r in rows if r.flat is not None]).items():
            columns[name][flat] = values
        normed = [(i, *r.norm) for i, r in enumerate(rows) if r.norm is not None]
        if normed:
            norms = stats.to_host([norm for _, norm, _ in normed]).tolist()
            for (row, _, count), norm in zip(normed, norms):
                if not math.isfinite(norm):  # at least one value is not, though perhaps none of the sample
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
        places: Mapping[str, Place],
        parameters: Mapping[str, Parameter],
        attributes: Callable[[], Attributes],
    ) -> Site:
        known = self._record.site(kind, name)
        if known is not None:
            return known
        if kind in ("parameter", "parameter_gradient", "update"):
            return self._parameter_site(kind, parameters[name], places)
        place = places[name]
        node = place.node
        return self._record.add_site(
            kind, name, position=place.position, module=node.type, shape=node.shape, channel_axis=node.channel_axis,
            dtype=node.dtype, attributes=attributes().of(place),
        )  # fmt: skip

    def _parameter_site(self, kind: str, p: Parameter, places: Mapping[str, Place]) -> Site:
        owner = _owner(p.path, places)
        attributes = {
            "path": p.path, "role": p.role, "trainable": bool(p.tensor.requires_grad), "fan_in": p.fan_in,
            "aliases": p.aliases, "site": owner.node.name if owner is not None else None,
        }  # fmt: skip
        return self._record.add_site(
            kind, p.name, position=owner.position if owner is not None else 0, module=type(p.owner).__name__,
            shape=tuple(p.tensor.shape), dtype=str(p.tensor.dtype).removeprefix("torch."), attributes=attributes,
        )  # fmt: skip

    def _add_units(self, rows: list[_Row], columns: dict[str, np.ndarray]) -> None:
        for i, row in enumerate(rows):
            if row.site.kind != "activation" or row.partial is None or row.partial.alive is None:
                continue
            alive = row.partial.alive.cpu().numpy()
            activity = self._activity.setdefault(row.site.name, Activity(alive.size))
            if activity.last.size == alive.size:
                activity.saw(row.step, alive, columns["count"][i] / alive.size)
            before = self._alive.get(row.site.name)
            if before is not None and before.shape == alive.shape:
                alive = alive | before
            self._alive[row.site.name] = alive
            columns["units"][i], columns["dead"][i] = alive.size, alive.size - int(alive.sum())

    def died(self) -> dict[str, DiedFacts]:
        """{layer: its units that died}, of what has been written."""
        found = {name: activity.facts() for name, activity in self._activity.items()}
        return {name: facts for name, facts in found.items() if facts is not None}

    def _add_ratios(self, rows: list[_Row], columns: dict[str, np.ndarray]) -> None:
        data = {(r.step, r.site.name): i for i, r in enumerate(rows) if r.site.kind == "parameter"}
        pairs = [
            (i, data[r.step, r.site.name])
            for i, r in enumerate(rows)
            if r.site.kind in ("parameter_gradient", "update") and (r.step, r.site.name) in data
        ]
        if not pairs:
            return
        of, to = np.array(pairs).T
        change, size = columns["std"][of], columns["std"][to]
        both = (change > 0) & (size > 0)
        columns["ratio"][of[both]] = np.log10(change[both] / size[both])
        flat = [(i, rows[i].flat, rows[at].flat) for i, at in pairs if rows[i].site.kind == "update"]
        known = [(i, a, b) for i, a, b in flat if a is not None and b is not None and a.numel() == b.numel()]
        for numel in {a.numel() for _, a, _ in known}:
            some, changes, before = zip(*(one for one in known if one[1].numel() == numel))
            matrices = (stats.to_host(t).double().numpy().reshape(-1, numel) for t in (changes, before))
            columns["cosine"][list(some)] = _cosines(*matrices)

    def _add_histograms(self, rows: list[_Row], columns: dict[str, np.ndarray]) -> None:
        """Histograms, and what else is read off the samples: zeros where they were not counted, underflow."""
        samples = [(i, row, row.sample) for i, row in enumerate(rows)]
        taken = [(i, row, sample) for i, row, sample in samples if sample is not None and sample.numel()]
        if not taken:
            return
        counts = histograms([sample for _, _, sample in taken])
        signed = np.concatenate([counts.signed, counts.atoms], axis=1)
        nonzero, kept = counts.log2.sum(1), signed.sum(1)
        at = np.array([i for i, _, _ in taken])
        unknown = np.isnan(columns["zero"][at]) & (kept > 0)
        columns["zero"][at[unknown]] = 1 - nonzero[unknown] / kept[unknown]
        tiny, any_nonzero = (
            (counts.log2[:, 0] > 0).tolist(),
            (nonzero > 0).tolist(),
        )  # below 2**-47 there are some
        bins = signed.astype("<u4"), counts.log2.astype("<u4")
        ranges = zip(counts.low.tolist(), counts.high.tolist())
        found = []
        for k, ((i, row, sample), (low, high)) in enumerate(zip(taken, ranges)):
            site = row.site
            found.append((row.step, site.id, "signed", low, high, bins[0][k]))
            found.append((row.step, site.id, "log2", LOG2_LOW, LOG2_HIGH, bins[1][k]))
            if any_nonzero[k] and site.kind in ("gradient", "parameter_gradient"):
                if tiny[k] or site.dtype == "float16":
                    smallest = torch.finfo(getattr(torch, site.dtype)).smallest_normal
                    columns["underflow"][i] = underflow(sample, smallest)
                else:
                    columns["underflow"][i] = 0.0
        self._record.add_histograms(found)


def _cosines(changes: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Between updates and the weights before them, both (number, values); NaN where one of them is zero."""
    with np.errstate(all="ignore"):  # values that are not finite
        dot = np.einsum("ij,ij->i", changes, before)
        norms = np.sqrt(np.einsum("ij,ij->i", changes, changes)) * np.sqrt(
            np.einsum("ij,ij->i", before, before)
        )
        return np.where(norms > 0, dot / norms, np.nan)


def _skipped(step: Step, kind: str) -> Tensor | None:
    return step.skipped if kind == "update" else None


def _is_small(step: Step) -> bool:
    """Whether what a step holds can wait for other steps'. On an accelerator nothing is gained by that."""
    held = [tensor for tensor, _ in step.held.values()]
    return sum(t.numel() for t in held) <= _SMALL and all(t.device.type == "cpu" for t in held)


def _reduce_held(rows: list[_Row]) -> None:
    holding = [(row, row.held) for row in rows if row.held is not None]
    for (row, _), partial in zip(holding, stats.summarize_many([held for _, held in holding])):
        row.partial, row.held = partial, None


def _fetch(rows: list[_Row], rates: dict[int, Tensor]) -> None:
    """Whatever the rows and rates hold, to the CPU, with one copy from each device."""
    places: list[tuple[dict[Any, Any], Any]] = [(rates, step) for step in rates]
    flat: list[tuple[_Row, Tensor]] = []
    skipped: list[tuple[_Row, Tensor]] = []
    norms: list[tuple[_Row, tuple[Tensor, int]]] = []
    for row in rows:
        if row.partial is not None and row.partial.total.device.type != "cpu":
            places += row.partial.places()
        elif row.flat is not None and row.flat.device.type != "cpu":
            flat.append((row, row.flat))
        if row.skipped is not None:
            skipped.append((row, row.skipped))
        if row.norm is not None and row.norm[0].device.type != "cpu":
            norms.append((row, row.norm))
    wanted = [holder[key] for holder, key in places] + [tensor for _, tensor in (*flat, *skipped)]
    wanted += [norm for _, (norm, _) in norms]
    if not wanted:
        return
    fetched = iter(stats.fetch(wanted))
    for holder, key in places:
        holder[key] = next(fetched)
    for row, _ in flat:
        row.flat = next(fetched)
    for row, _ in skipped:
        row.skipped = next(fetched)
    for row, (_, count) in norms:
        row.norm = next(fetched), count


def _owner(path: str, places: Mapping[str, Place]) -> Place | None:
    """The first site of the module at path, or of the nearest module above it (attention's inner projections)."""
    while True:
        if path in places:
            return places[path]
        # of the model itself not a function or an attached tensor, but its output
        own = (p for p in places.values() if p.node.path == path and (path or p.node.module is not None))
        inside = next(own, None)
        if inside is not None:
            return inside
        if not path:
            return None
        path = path.rpartition(".")[0]
