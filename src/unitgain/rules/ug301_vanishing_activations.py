"""UG301 vanishing-activations: the scale falls steadily from layer to layer.

Source: Glorot and Bengio (2010) and He et al. (2015) for what it is; how a trend is distinguished from jumps,
alternation and pooling is in _trend.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from ._flow import has_residual_branches
from ._gains import initialization_for
from ._loss_curve import learns_at_once
from ._rule import About, BaseEvidence, Cause, Found, Threshold
from ._scale import ScaleEvidence, ScaleTrend, scale_trend
from ._trend import GENTLE, SITES, STEADINESS, Limits
from ._view import View
from ._words import along, show

ABOUT = About(
    code="UG301",
    name="vanishing-activations",
    rank=220,
    seen="The scale of the activations falls steadily from layer to layer.",
    matters=(
        "Each layer has a gain below one, and so has the way back: early layers hardly learn, and in half "
        "precision the signal ends as zero."
    ),
    source=(
        "Glorot and Bengio, Understanding the difficulty of training deep feedforward neural networks, 2010; "
        "He et al., Delving deep into rectifiers, 2015."
    ),
    measured=(
        "rms of the outputs of linear and convolution layers in execution order. The change is the Theil-Sen "
        "slope of log10(rms) times the number of layers, or that between the first and the last, or that "
        "without the largest step, whichever is smallest; steadiness is Kendall's tau. Left out: the model's "
        "output, exact zeros, gates computed from pooled features. The change must exceed the limit also "
        "after what pooling layers multiplied the scale by is taken out: average pooling shrinks noise, "
        "whatever the weights. Where all weights have torch's default scale the head counts as a layer: nobody scaled "
        "it down. Five such convolutions of stride 2 lose a factor of 20; after 300 steps of SGD their loss is 0.6, "
        "and 0.2 with Kaiming's weights."
    ),
    action=(
        "Initialize for the activation function: Kaiming (variance 2/fan_in) for ReLU and functions like it, gain "
        "5/3 for tanh, LeCun for SELU; or scale each layer until its output has unit variance (LSUV)."
    ),
    effect="rms stays near one from the first layer to the last.",
    verify="Check again: the scale-over-depth column is flat.",
    remedies=("lsuv", "scale-branches", "init", "init-scale-branches", "init-lsuv", "zero-branch-ends"),
    silent=(
        "normalization between layers",
        "zero-initialized residual branches",
        "a fall that does not keep a rehearsal on different batches from learning at once (for information)",
        "a head scaled down",
        "torch's default initialization over three or four linear layers, whose biases keep the scale",
        "embeddings of standard deviation 0.02",
    ),
    judges="scale over depth",
)

WARNING = Threshold(
    10,
    "fold over the whole depth: healthy networks stay within a few fold, and the first layers learn ten "
    "times slower",
)
ERROR = Threshold(
    1000,
    "fold over the whole depth: beside a bias of unit scale half precision (11 bits) sees no signal",
)
DEFAULT = Threshold(
    100,
    "fold, up to which linear layers of torch's default scale, as everybody trains them, are for information",
)
ABOUT_ONE = Threshold(
    0.5, "rms of the last layer: a scale that falls from a large input down to this has not vanished"
)
Evidence = ScaleEvidence


def judge(view: View) -> Iterator[Found[Evidence]]:
    trend = scale_trend(view, -1, Limits(WARNING, ERROR, STEADINESS, GENTLE, SITES))
    if trend is None:
        return
    cause, remedy = _explain(view, trend)
    usual = trend.default and trend.evidence.size <= math.log10(DEFAULT) and not _convolves(view)
    harmless = trend.level == "warning" and learns_at_once(view, view.facts.loss_of_a_constant)
    yield ABOUT.found(
        "info" if usual or harmless else trend.level,
        trend.evidence.first_site,
        f"the scale falls {trend}",
        evidence=trend.evidence,
        cause=cause,
        remedy=along(trend.evidence.first_site, trend.evidence.last_site, remedy),
    )


def _convolves(view: View) -> bool:
    """Whether most layers are convolutions. Linear layers of torch's default scale, a few of them, are what everybody
    trains; the lesson's plain convolutional network dies at its rate in one seed of three."""
    kinds = [m.site.module for m in view.activations if m.role == "linear"]
    return 2 * sum("Conv" in kind for kind in kinds) > len(kinds)


def _explain(view: View, trend: ScaleTrend) -> tuple[str, str]:
    times = f"Each layer multiplies the scale by about {show(trend.per_site)}"
    if trend.default:
        return (
            f"{times}: torch's default initialization of linear and convolution layers has a gain below one.",
            f"{initialization_for(view)}.",
        )
    cause = f"{times}: the weights are too small for their fan-in and activation function."
    if has_residual_branches(
        view
    ):  # a branch's gain is not the stream's, so that no factor for each layer is right
        return cause, f"{initialization_for(view)}."
    factor = show(1 / trend.per_site)
    return (
        cause,
        f"{initialization_for(view)}. (Multiplying each layer's weights by {factor} gives a gain of one.)",
    )


def _falls_to_one(cause: Found[BaseEvidence], effect: Found[Evidence], view: View) -> bool:
    """The input is large, and the scale falls from it to about one, beside which the layers' biases are small."""
    return cause.severity != "info" and effect.evidence.last_rms > ABOUT_ONE


EXPLAINED_BY = (
    Cause("UG507"),
    Cause("UG201", _falls_to_one),
)

BAD = """
layers = [m for _ in range(8) for m in (nn.Linear(64, 64, bias=False), nn.ReLU())]
model = nn.Sequential(*layers, nn.Linear(64, 10))
for layer in layers[::2]:
    nn.init.normal_(layer.weight, std=0.05)  # 0.4 over sqrt(fan_in)
report = ug.check(model, (torch.randn(256, 64), torch.randint(10, (256,))))
"""

GOOD = """
layers = [m for _ in range(8) for m in (nn.Linear(64, 64, bias=False), nn.ReLU())]
model = nn.Sequential(*layers, nn.Linear(64, 10))
for layer in layers[::2]:
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
report = ug.check(model, (torch.randn(256, 64), torch.randint(10, (256,))))
"""
