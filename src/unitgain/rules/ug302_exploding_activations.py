"""UG302 exploding-activations: the scale grows steadily from layer to layer.

Source: Glorot and Bengio (2010) and He et al. (2015) for what it is; how a trend is distinguished from jumps and
alternation is in _trend.py. Where the stream of a residual network multiplies from block to block, that is the
finding (UG607).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from ._gains import initialization_for
from ._rule import About, Cause, Found, Threshold
from ._scale import ScaleEvidence, ScaleTrend, scale_trend
from ._trend import GENTLE, SITES, STEADINESS, Limits, Steep
from ._view import View
from ._words import along, show
from .ug607_residual_growth import why_stream_grows

_INITIALIZE = (
    "Initialize for the activation function: Kaiming (variance 2/fan_in) for ReLU and functions like it, gain 5/3 "
    "for tanh"
)

ABOUT = About(
    code="UG302",
    name="exploding-activations",
    rank=200,
    seen="The scale of the activations grows steadily from layer to layer.",
    matters=(
        "Logits become huge, bounded functions saturate, gradients grow likewise, and half precision "
        "overflows."
    ),
    source=(
        "Glorot and Bengio, Understanding the difficulty of training deep feedforward neural networks, 2010; "
        "He et al., Delving deep into rectifiers, 2015."
    ),
    measured=(
        "As for UG301, growing; first at the outputs of the blocks of a residual network, where there are "
        "three or more: that is the stream which everything is added to."
    ),
    action=f"{_INITIALIZE}; in a residual network scale each branch or start its last layer at zero.",
    effect="rms stays near one from the first layer to the last.",
    verify="Check again: the scale-over-depth column is flat.",
    remedies=("lsuv", "scale-branches", "init", "init-scale-branches", "init-lsuv", "zero-branch-ends"),
    silent=(
        "normalization between layers",
        "residual streams that grow like the square root of depth",
        "the jump from a small embedding to a normalized one",
    ),
    judges="scale over depth",
)

WARNING = Threshold(10, "fold over the whole depth: logits ten times too large cost several nats")
STEEP = Threshold(
    1.4, "fold per layer: the gradient grows by as much again, and with it the step that a rate makes"
)
STEEP_OVER_ALL = Threshold(
    4, "fold over the whole depth, from which such growth is a warning where it never turns"
)
LARGE = Threshold(
    3.0, "rms of the last layer: growth that ends at unit scale makes up for a small first layer"
)
STEEP_SITES = Threshold(4, "layers: between three there are two steps, and one of them may be the data's")
ERROR = Threshold(
    1000, "fold over the whole depth: products of two such values leave float16's range (65504)"
)

Evidence = ScaleEvidence


def judge(view: View) -> Iterator[Found[Evidence]]:
    steep = Steep(STEEP, STEEP_OVER_ALL, STEEP_SITES)
    trend = scale_trend(view, 1, Limits(WARNING, ERROR, STEADINESS, GENTLE, SITES, steep=steep, large=LARGE))
    if trend is None:
        return
    cause, remedy = why_stream_grows(trend.blocks) if trend.blocks else _why_layers_grow(view, trend)
    yield ABOUT.found(
        trend.level,
        trend.evidence.first_site,
        f"the scale grows {trend}",
        evidence=trend.evidence,
        cause=cause,
        remedy=along(trend.evidence.first_site, trend.evidence.last_site, remedy),
    )


def _why_layers_grow(view: View, trend: ScaleTrend) -> tuple[str, str]:
    cause = (
        f"Each layer multiplies the scale by about {show(trend.per_site)}: the weights are too large for their fan-in "
        "and activation function."
    )
    branches = sum(m.ends_branch for m in view.activations)
    if not branches:
        factor = show(1 / trend.per_site)
        return (
            cause,
            f"{initialization_for(view)}. (Multiplying each layer's weights by {factor} gives a gain of one.)",
        )
    # a branch's gain is not the stream's, so that no factor for each layer is right
    scale = f"1/sqrt({branches}) = {show(1 / math.sqrt(branches))}"
    return (
        cause,
        f"{_INITIALIZE}; multiply each branch's output by about {scale}, or start its last layer at zero.",
    )


EXPLAINED_BY = (Cause("UG607"),)

BAD = """
layers = [m for _ in range(8) for m in (nn.Linear(64, 64), nn.ReLU())]
model = nn.Sequential(*layers, nn.Linear(64, 10))
for layer in layers[::2]:
    nn.init.normal_(layer.weight, std=0.5)  # 4 over sqrt(fan_in)
report = ug.check(model, (torch.randn(256, 64), torch.randint(10, (256,))))
"""

GOOD = """
layers = [m for _ in range(8) for m in (nn.Linear(64, 64), nn.ReLU())]
model = nn.Sequential(*layers, nn.Linear(64, 10))
for layer in layers[::2]:
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
report = ug.check(model, (torch.randn(256, 64), torch.randint(10, (256,))))
"""
