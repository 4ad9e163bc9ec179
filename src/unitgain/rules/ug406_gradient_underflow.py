"""UG406 gradient-underflow: gradients below the smallest normal number of their dtype.

Source: Micikevicius et al., Mixed precision training (2018), where a histogram of magnitudes shows it. The limits
are ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ._causes import no_worse, units_died
from ._rule import About, BaseEvidence, CannotJudge, Cause, Found, Threshold
from ._view import Measured, View
from ._words import MOST_KEPT, as_layer, plural

ABOUT = About(
    code="UG406",
    name="gradient-underflow",
    rank=360,
    seen="Many gradient values are too small for the dtype that holds them.",
    matters=(
        "Below the smallest normal number digits are lost, and a little further down the value is zero: those "
        "weights stop learning."
    ),
    source="Micikevicius et al., Mixed precision training, 2018.",
    measured=(
        "Fraction of non-zero magnitudes below the smallest normal number of the tensor's dtype (6.1e-5 in "
        "float16, 1.2e-38 in bfloat16 and float32): with autocast gradients of activations are in half "
        "precision, in a half-precision model those of weights too. In float32 and bfloat16 gradients of activations "
        "count only where gradients of weights underflow too: a confident softmax gives probabilities below 1e-38 to "
        "wrong classes, which is harmless. Gradients are judged as they are, so a "
        "loss scale in use counts; check itself scales nothing."
    ),
    action=(
        "Scale the loss (torch.amp.GradScaler), or compute in bfloat16, whose smallest number is float32's."
    ),
    effect="Gradient values stay within the dtype's normal range.",
    verify="Check in bfloat16, or watch a training step with the scaler in place.",
    silent=(
        "small gradients that their dtype still holds",
        "exact zeros (ReLU, masks)",
        "probabilities below float32's smallest normal number, of examples that are learnt",
    ),
)

WARNING = Threshold(
    0.2,
    "of a tensor's non-zero values: a fifth has lost digits, and the distribution's tail is zero",
)
ERROR = Threshold(0.5, "of all non-zero values: most of the gradient has lost digits")


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """Fractions of the non-zero magnitudes: overall, of the worst tensor, and of those beyond the limit."""

    overall: float
    worst: float
    sites: Mapping[str, float]


def judge(view: View) -> Iterator[Found[Evidence]]:
    rows = [m for m in [*view.gradients, *view.parameter_gradients] if not math.isnan(m["underflow"])]
    if not rows:
        raise CannotJudge("no gradient was measured that is not zero")
    low = {f"{m.site.kind} {m.name}": m["underflow"] for m in rows if m["underflow"] > WARNING}
    if not low or not (
        any(_is_half_range(m) for m in rows if m["underflow"] > WARNING) or _reaches_weights(view)
    ):
        return
    weights = np.array([math.prod(m.site.shape) for m in rows], dtype=float)
    overall = float(np.average([m["underflow"] for m in rows], weights=weights))
    worst = max(rows, key=lambda m: m["underflow"])
    half = worst.site.dtype in ("float16", "bfloat16")
    yield ABOUT.found(
        "error" if overall > ERROR else "warning",
        worst.name,
        f"{overall:.0%} of the non-zero gradient values in {worst.site.dtype} lie below its smallest normal number, "
        f"{worst['underflow']:.0%} at {worst.name} ({len(low)} of {plural(len(rows), 'tensor')} beyond {WARNING:.0%})",
        evidence=Evidence(overall, worst["underflow"], dict(list(low.items())[:MOST_KEPT])),
        cause=f"The gradients are too small for {worst.site.dtype}: such values lose digits, and smaller ones are "
        "zero.",
        remedy=""
        if half
        else f"Look for a tiny factor on the loss or in the layers after {as_layer(worst.name)}, and take it out.",
    )


def _is_half_range(measured: Measured) -> bool:
    return measured.site.dtype == "float16"


def _reaches_weights(view: View) -> bool:
    """Whether gradients of weights are too small for their type, in a model that has not learnt its batch yet."""
    return view.loss != 0 and any(m["underflow"] > WARNING for m in view.parameter_gradients)


EXPLAINED_BY = (
    Cause("UG407"),
    Cause("UG304", units_died),
    Cause("UG301", no_worse),
    Cause("UG401", no_worse),
)

BAD = """
model = nn.Sequential(nn.Linear(20, 256), nn.ReLU(), nn.Linear(256, 10))
model = model.half()
report = ug.check(model, (torch.randn(512, 20).half(), torch.randint(10, (512,))))
"""

GOOD = """
model = nn.Sequential(nn.Linear(20, 256), nn.ReLU(), nn.Linear(256, 10))
model = model.bfloat16()
report = ug.check(model, (torch.randn(512, 20).bfloat16(), torch.randint(10, (512,))))
"""
