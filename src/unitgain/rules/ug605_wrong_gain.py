"""UG605 wrong-gain: a weight's scale does not fit its fan-in and the functions around it.

Source: He et al., Delving deep into rectifiers (2015); gains by quadrature (unitgain.theory.gain). Deviation: both
the gain for the function before a layer and that for the function after it pass, since both are in use.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ._finding import Prescription
from ._flow import followers, next_functions, norm_follows, previous, why_trained
from ._gains import GAINS, initialization_for
from ._residual import residual_blocks
from ._rule import About, BaseEvidence, CannotJudge, Cause, Found, Threshold
from ._trend import has_default_weights
from ._view import Measured, View
from ._words import listed, plural, show

ABOUT = About(
    code="UG605",
    name="wrong-gain",
    rank=580,
    seen=(
        "A weight's scale does not fit its fan-in and activation function, and nothing normalizes it later."
    ),
    matters=(
        "The layer multiplies the scale of the signal by the wrong factor. One such layer costs little; many "
        "in a row are vanishing or exploding activations."
    ),
    source="He et al., Delving deep into rectifiers, 2015; gains by quadrature (unitgain.theory.gain).",
    measured=(
        "Gain of the weight: its rms times the root of its fan-in, against the gain that keeps the scale after the "
        "function before it, or for the function after it (both are in use; whatever lies between passes). Judged "
        "are layers that feed an activation function, in untrained models, without any norm later, whose measured "
        "output is off to the same side. PyTorch's default for Linear and Conv (uniform, a = sqrt(5)) has gain "
        "0.58, which is 0.41 of what ReLU needs. Networks of a few layers train well with it, so layers of that "
        "scale are left to UG301, which sees what they add up to. Another wrong gain alone is for information; it "
        "is a warning where a layer is off much further and its output shows it. Where the deviation adds up over "
        "depth, UG301 or UG302 says so and this is its consequence."
    ),
    action=(
        "Initialize for the activation function: Kaiming normal (gain 1.41) for ReLU, gain 1.59 for tanh, 1 "
        "for layers without one."
    ),
    effect="The layer's output has the scale of its input.",
    verify="Check again: rms near one.",
    remedies=("lsuv", "init", "init-lsuv"),
    silent=(
        "layers with a normalization somewhere after them",
        "trained weights",
        "torch's default scale of Linear and Conv",
        "standardized weights, whose stored scale has no effect",
        "the output layer, and a small one right before it, which scales the logits down",
        "small weights in a residual branch, which then adds little",
    ),
)

LOW = Threshold(0.7, "of the needed gain: half of the variance is lost in the layer")
HIGH = Threshold(1.4, "of the needed gain: the variance doubles in the layer")
SMALL = Threshold(0.5, "rms of the output (above: 2): a layer whose output has unit scale is fine as it is")
SEVERE = Threshold(
    5.0, "fold: twice as far off as PyTorch's default, with which networks of a few layers train well"
)
BEFORE_HEAD = Threshold(
    10.0,
    "fold: a layer right before the head that is smaller only scales the logits down, as 0.02 does over 64 inputs",
)
SUFFERS = Threshold(0.2, "rms of the output (above: 5): off by as much as the gain, from unit scale")

# whose weight is used as it is stored: standardized or otherwise computed weights have no scale of their own
PLAIN = ("Linear", "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d", "Conv1D",
         "Conv2dSame")  # fmt: skip


@dataclass(frozen=True)
class Gain:
    """gain: rms of the weight times the root of its fan-in; needed: what would keep the scale; rms: of the output."""

    gain: float
    needed: float
    rms: float


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """weights: of unfit gain; layers: judged in all; suffering: those whose output is far off too; per_layer: the
    largest gain over the needed one."""

    weights: Mapping[str, Gain]
    layers: int
    suffering: Sequence[str]
    per_layer: float

    @property
    def size(self) -> float:
        """Decades of the gain that is furthest off."""
        return max(abs(math.log10(g.gain / g.needed)) for g in self.weights.values())


def judge(view: View) -> Iterator[Found[Evidence]]:
    if trained := why_trained(view):
        raise CannotJudge(trained)
    found: dict[str, Gain] = {}
    judged = 0
    suffering = []
    for layer in view.activations:
        needed = _needed_gain(view, layer)
        weight = _weight(view, layer)
        if needed is None or weight is None or not weight["rms"] > 0:
            continue
        judged += 1
        has = weight["rms"] * math.sqrt(weight.site.attributes["fan_in"])
        ratio = has / min(max(has, needed[0]), needed[1])  # 1 between the two
        if (
            LOW <= ratio <= HIGH
            or not _is_off(layer["rms"], ratio, SMALL)
            or has_default_weights(view, [layer])
        ):
            continue
        found[weight.name] = Gain(has, needed[0] if ratio < 1 else needed[1], layer["rms"])
        far = max(ratio, 1 / ratio) > SEVERE and _is_off(layer["rms"], ratio, SUFFERS)
        if far and not (ratio < 1 and _may_be_small(view, layer, ratio)):
            suffering.append(weight.name)
    if not judged:
        raise CannotJudge("no layer without a normalization after it whose activation is known")
    if not found:
        return
    name = suffering[0] if suffering else next(iter(found))
    row = found[name]
    also = f" ({plural(len(found), 'such weight')} of {judged}: {listed(found)})" if len(found) > 1 else ""
    yield ABOUT.found(
        "warning" if suffering else "info",
        name,
        f"{name} has gain {show(row.gain)} (std times the root of fan-in) where {show(row.needed)} keeps the "
        f"scale, and nothing normalizes it later; its output has rms {show(row.rms)}{also}",
        evidence=Evidence(
            found, judged, suffering, max(found[w].gain / found[w].needed for w in suffering or found)
        ),
        cause="The weights were not initialized for their fan-in and activation function.",
        remedy=f"{initialization_for(view)}. (Multiply {name} by {show(row.needed / row.gain)}.)",
        prescription=Prescription(scale={n: g.needed / g.gain for n, g in found.items()}),
    )


def _may_be_small(view: View, layer: Measured, ratio: float) -> bool:
    """Whether a small layer does no harm: in a residual branch, which then adds little, or right before the output's
    layer, since small logits are a good start."""
    if any(layer.path.startswith(f"{block.path}.") for block in residual_blocks(view)):
        return True
    if ratio <= 1 / BEFORE_HEAD:
        return False
    after = [m for m in followers(view, layer) if m.role == "linear"]
    return bool(after) and all(m.is_output for m in after)


def _is_off(rms: float, ratio: float, limit: float) -> bool:
    """Whether the output's scale is off to the same side as the gain."""
    return rms < limit if ratio < 1 else rms > 1 / limit


def _weight(view: View, layer: Measured) -> Measured | None:
    own = view.own_parameters(layer, "weight")
    if len(own) != 1 or not own[0].site.attributes.get("fan_in") or own[0].broken or layer.broken:
        return None
    return own[0]


def _needed_gain(view: View, layer: Measured) -> tuple[float, float] | None:
    """(smallest, largest) gain that theory may ask for: that of the function before, which keeps the scale, and that
    of the function after, which most recipes use. None for a layer that is not judged: sigmoids are gates, or saturate
    by another rule, and unknown functions have no known gain."""
    if layer.role != "linear" or layer.is_output or layer.site.module not in PLAIN:
        return None
    after = next_functions(view, layer)
    if not after or any(m.role != "activation" for m in after) or norm_follows(view, layer):
        return None
    before = previous(view, layer)
    functions = [m.function for m in after]
    functions.append(before.function if before and before.role == "activation" else "linear")
    gains = [GAINS.get(function or "") for function in functions]
    known = [gain for gain in gains if gain is not None]
    return (min(known), max(known)) if len(known) == len(gains) else None


def _of_the_last_layer(cause: Found[BaseEvidence], effect: Found[Evidence], view: View) -> bool:
    """The only weight is right before a function that should not be there, for which its gain is wrong."""
    site = view.tensor(cause.site)
    before = {m.name for m in view.fed_by(site)} if site is not None else set()
    weights = [view.parameter(name) for name in effect.evidence.weights]
    return bool(weights) and all(w is not None and w.owner in before for w in weights)


EXPLAINED_BY = (
    Cause("UG108", _of_the_last_layer),
    Cause("UG115", _of_the_last_layer),
    Cause("UG301"),
    Cause("UG302"),
    Cause("UG303"),
    Cause("UG607"),
    Cause("UG401"),
    Cause("UG402"),
    Cause("UG304"),
)

BAD = """
layers = [m for _ in range(3) for m in (nn.Linear(64, 64), nn.ReLU())]
model = nn.Sequential(*layers, nn.Linear(64, 10))
for layer in layers[::2]:
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
nn.init.normal_(layers[2].weight, std=0.01)  # sqrt(2 / 64) = 0.18 is right
report = ug.check(model, (torch.randn(256, 64), torch.randint(10, (256,))))
"""

GOOD = """
layers = [m for _ in range(3) for m in (nn.Linear(64, 64), nn.ReLU())]
model = nn.Sequential(*layers, nn.Linear(64, 10))
for layer in layers[::2]:
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
report = ug.check(model, (torch.randn(256, 64), torch.randint(10, (256,))))
"""
