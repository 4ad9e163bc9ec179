"""Saturation of recurrent layers, part of UG303: what can be said of gates that are not measured.

A fused nn.LSTM, nn.GRU or nn.RNN shows its output h only. For RNN and GRU h is (a mean of) tanh values, so that
their magnitudes show it. For an LSTM h = o * tanh(c) stays off the bounds while its gates are stuck. The gates'
pre-activation W_ih x + W_hh h + b is estimated instead, taking the terms for independent:

    var = in_features rms(W_ih)^2 rms(x)^2 + hidden rms(W_hh)^2 rms(h)^2 + rms(b_ih)^2 + rms(b_hh)^2

and of a Gaussian z with that variance the share is taken for which sigmoid(z) lies in its flat tails.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

from ._rule import Threshold
from ._view import Measured, View

TAIL = Threshold(
    0.015, "of the range at either end is flat, as for other bounded functions (tanh: magnitude above 0.97)"
)


@dataclass(frozen=True)
class Recurrent:
    """One recurrent layer: the share of outputs near -1 and 1, and what is estimated of its gates."""

    site: Measured
    outputs: float
    gate_std: float
    gates: float

    @property
    def worst(self) -> float:
        return max(self.outputs, self.gates)


def recurrent_layers(view: View) -> list[Recurrent]:
    """The recurrent layers whose output is bounded by -1 and 1, with what can be said of their saturation."""
    found = []
    flat = math.log((1 - TAIL) / TAIL)  # where a sigmoid comes within the tail of its ends
    for site in view.activations:
        if site.role != "recurrent" or site.broken or not site["absmax"] <= 1:
            continue  # a plain RNN with ReLU has no bounds
        gated = "RNN" not in site.site.module.upper()
        std = _gate_std(view, site) if gated else math.nan
        gates = math.erfc(flat / std / math.sqrt(2)) if std > 0 else 0.0
        found.append(Recurrent(site, _share_near_bounds(view, site), std, gates))
    return found


def _share_near_bounds(view: View, site: Measured) -> float:
    """Share of the values in the tails of -1 to 1, from the signed histogram; 0 without one."""
    histograms = view.record.histograms("activation", site.name, step=view.step)
    if not histograms or not histograms[0].total:
        return 0.0
    tail, top = 1 - 2 * TAIL, 2.0
    low, _, high = histograms[0].onto(np.array([-top, -tail, tail, top]))
    return float((low + high) / histograms[0].total)


def _gate_std(view: View, site: Measured) -> float:
    """The largest estimate over a module's stacked layers and directions; NaN without parameters."""
    groups: dict[str, dict[str, Measured]] = {}
    for p in view.own_parameters(site):
        place = re.search(r"((?:weight|bias)_[ih]h)(\w*)$", p.name)  # weight_ih and _l0_reverse
        if place:
            groups.setdefault(place[2], {})[place[1]] = p
    entering = max((m["rms"] for m in view.fed_by(site) if m["rms"] > 0), default=1.0)
    h = site["rms"]
    found = []
    for place, group in groups.items():
        if not {"weight_ih", "weight_hh"} <= set(group):
            continue
        first = place in ("", "_l0", "_l0_reverse")
        variance = sum(
            group[kind].site.shape[-1] * (group[kind]["rms"] * size) ** 2
            for kind, size in (("weight_ih", entering if first else h), ("weight_hh", h))
        )
        variance += sum(group[kind]["rms"] ** 2 for kind in ("bias_ih", "bias_hh") if kind in group)
        found.append(math.sqrt(variance))
    return max(found, default=math.nan)
