"""UG201 input-not-normalized: a floating-point input is far from mean 0 and standard deviation 1.

Source: LeCun et al., Efficient BackProp (1998). The allowance for small batches is ours: those of normalized data
sets have means and deviations that differ by about 0.5/sqrt(examples) from one batch to the next. So is which distance
is for information only: small networks were trained for 400 steps on inputs of other means and deviations, and those
within the wider limits reach almost the same loss (0.69 instead of 0.64 with Adam for pixels of std 0.3), those beyond
do not (1.5 instead of 0.67 with SGD for std 0.1, 1.2 for a mean of four deviations).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ._flow import followers, next_functions
from ._rule import About, BaseEvidence, CannotJudge, Cause, Found, Threshold
from ._view import Measured, View
from ._words import show

if TYPE_CHECKING:
    from . import ug203_constant_feature as ug203

ABOUT = About(
    code="UG201",
    name="input-not-normalized",
    rank=600,
    seen="A floating-point input is far from mean 0 and standard deviation 1.",
    matters=(
        "Initialization assumes inputs of unit variance: pixels from 0 to 255 make the first layer's output "
        "hundreds of times too large. A mean far from zero makes all gradients of a unit's incoming weights "
        "share their sign, which slows descent."
    ),
    source="LeCun et al., Efficient BackProp, 1998.",
    measured=(
        "Mean and standard deviation over the whole input. Normalized data has varying small batches, so that "
        "the limits widen with 1/sqrt(examples), unless no value is negative: normalized data always has "
        "negative values. It is a warning beyond the wider limits, since pixels from 0 to 1 train almost as well. "
        "Inputs that are mostly zero (counts, bags of words, adjacency matrices) have no mean to subtract and are for "
        "information unless they are large. Where a model normalizes its input itself, what reaches its first layer "
        "is worked out from that layer's output and weights, and is what counts."
    ),
    action="Subtract the mean and divide by the standard deviation of the training data.",
    effect="The first layer's output has the scale that its initialization was made for.",
    verify="Check again: mean within 0.25 of zero, standard deviation between 0.5 and 2.",
    remedies=("normalize-input",),
    silent=(
        "integers: token indices, class indices",
        "masks and one-hot inputs (all values 0 or 1)",
        "embeddings given as input, and inputs that go straight into a normalization layer",
        "one number per example, such as a time step",
        "models that normalize what they are given (division by 255, instance normalization)",
        "what another network made, which cannot be normalized",
    ),
)

MEAN = Threshold(
    0.25,
    "largest magnitude of the mean: with a mean of 0.25 standard deviations a unit's gradients still "
    "differ in sign",
)
STD_LOW = Threshold(0.5, "smallest standard deviation; pixels from 0 to 1 have about 0.3")
STD_HIGH = Threshold(
    2.0,
    "largest standard deviation: first layers made for unit variance still give pre-activations of about 2",
)
FAR_MEAN = Threshold(2.5, "standard deviations: a larger mean makes the gradients of a unit share their sign")
FAR_LOW = Threshold(
    0.1, "standard deviation: below it biases outweigh the input, and SGD learns three times slower"
)
FAR_HIGH = Threshold(
    4.0, "rms: above it the first layer's output and gradient leave the range that rates are made for"
)
ZEROS = Threshold(
    0.5, "of the values: of an input that is mostly zero, zero means that something is not there"
)
ARRIVES = Threshold(
    3.0,
    "fold, by which what reaches the first layer differs from the input at least where the model normalizes it",
)
SLACK = Threshold(
    2.0,
    "divided by sqrt(examples): normalized data sets have batches whose mean strays by "
    "0.5/sqrt(examples); four times",
)
VALUES = Threshold(64, "values: of fewer the standard deviation is uncertain by a tenth")
PIXELS = Threshold(255, "the largest value of 8-bit pixels, as image files hold them")
BRIGHT = Threshold(100, "a maximum above it, up to 255, is that of 8-bit pixels")
CHANNELS = Threshold(8, "channels at most whose means are written out one by one")
BINARY = Threshold(
    1e-5, "relative difference of the mean and the mean square, below which all values are 0 or 1"
)

# what a model takes as its target is no signal, though it comes in with the inputs; names as for batches
_TARGETS = tuple(
    f"input[{name}{end}"
    for name in ("labels", "label", "targets", "target", "future_values", "y")
    for end in ".]"
)


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """Of all values, and by channel where the input has channels."""

    mean: float
    std: float
    rms: float
    min: float
    max: float
    channel_mean: Sequence[float] | None
    channel_std: Sequence[float] | None

    @property
    def size(self) -> float:
        """Standard deviations off zero, and decades off one."""
        return abs(self.mean) / self.std + abs(math.log10(self.std)) if self.std > 0 else math.inf


def judge(view: View) -> Iterator[Found[Evidence]]:
    candidates = [m for m in view.inputs if _is_signal(view, m)]
    judged = [m for m in candidates if m["count"] >= VALUES]
    if not judged:
        raise CannotJudge(
            "too few values" if candidates else "no floating-point input that normalization would apply to"
        )
    for measured in judged:
        mean, std = measured["mean"], measured["std"]
        # small batches of normalized images vary; but normalized data always has negative values
        slack = SLACK / math.sqrt(measured.examples) if measured["min"] < 0 else 0.0
        centred = abs(mean) <= MEAN + slack * std
        if centred and STD_LOW / (1 + slack) <= std <= STD_HIGH * (1 + slack):
            continue
        if _is_normalized_inside(view, measured):
            continue
        yield ABOUT.found(
            "warning" if _is_far(measured) else "info",
            measured.name,
            f"{measured.name} has mean {show(mean)} and standard deviation {show(std)}, expected about 0 "
            f"and 1 (values {show(measured['min'])} to {show(measured['max'])})",
            evidence=Evidence(
                *(measured[name] for name in ("mean", "std", "rms", "min", "max")),
                channel_mean=measured.site.attributes.get("channel_mean"),
                channel_std=measured.site.attributes.get("channel_std"),
            ),
            cause=_scale_of(measured),
            remedy=_prescription(measured),
        )


def _is_signal(view: View, measured: Measured) -> bool:
    """A floating-point input whose scale matters."""
    if measured.site.attributes.get("integer") or measured.is_mask or measured.broken:
        return False
    if measured.is_sparse:  # a shift would fill it
        return False
    if measured.name.startswith(_TARGETS):
        return False
    if len(measured.site.shape) < 2 or "embed" in measured.name.lower():
        return False
    mean, rms = measured["mean"], measured["rms"]
    if not math.isfinite(mean) or not math.isfinite(rms):
        return False
    # x is 0 or 1 everywhere exactly if it lies in 0..1 and the mean of x equals the mean of x squared
    if measured["min"] >= 0 and measured["max"] <= 1 and abs(rms * rms - mean) <= BINARY * mean:
        return False
    if measured.site.attributes.get("computed"):
        return False
    consumers = view.feeds(measured)
    return not (consumers and all(m.role == "norm" for m in consumers))


def _is_far(measured: Measured) -> bool:
    """Whether training would show it."""
    mean, std, rms = (measured[name] for name in ("mean", "std", "rms"))
    if rms > FAR_HIGH:
        return True
    if measured["min"] >= 0 and measured["zero"] > ZEROS:
        return False
    return std < FAR_LOW or abs(mean) > FAR_MEAN * std


def _is_normalized_inside(view: View, measured: Measured) -> bool:
    """Whether the model computes something from this input that is of unit scale before its first layer.

    Of what goes into a layer with random weights, the mean square is that of its output, less that of its biases, over
    the number of inputs times the weights' mean square. Judged where no layer takes the input as it is.
    """
    if any(m.role in ("linear", "recurrent") for m in next_functions(view, measured)):
        return False
    first = next((m for m in followers(view, measured) if m.role == "linear"), None)
    if first is None:
        return False
    weights, biases = view.own_parameters(first, "weight"), view.own_parameters(first, "bias")
    fan_in = weights[0].site.attributes.get("fan_in") if len(weights) == 1 else None
    if not fan_in or not weights[0]["rms"] > 0:
        return False
    square = first["rms"] ** 2 - sum(b["rms"] ** 2 for b in biases)
    arrives = math.sqrt(max(square, 0.0) / fan_in) / weights[0]["rms"]
    fold = arrives / measured["rms"] if measured["rms"] > 0 else math.inf
    return 1 / FAR_HIGH < arrives < FAR_HIGH and not 1 / ARRIVES < fold < ARRIVES


def _scale_of(measured: Measured) -> str:
    low, high = measured["min"], measured["max"]
    if low >= 0 and BRIGHT < high <= PIXELS:
        return "These look like pixels from 0 to 255."
    if low >= 0 and high <= 1:
        return (
            "These look like pixels from 0 to 1, without subtracting the mean and dividing by the deviation."
        )
    return "The data is not normalized, or not with its own statistics."


def _prescription(measured: Measured) -> str:
    means, stds = (measured.site.attributes.get(key) for key in ("channel_mean", "channel_std"))
    if means and stds and 1 < len(means) <= CHANNELS:
        mean, std = (f"[{', '.join(show(v) for v in values)}]" for values in (means, stds))
        return f"Normalize per channel: (x - {mean}) / {std}; better, take both from the whole training set."
    if measured["std"] == 0:
        return "The input is constant: check how the batch is made."
    mean, std = show(measured["mean"]), show(measured["std"])
    return f"Normalize: (x - {mean}) / {std}; better, take both from the whole training set."


def _is_constant(cause: Found[ug203.Evidence], effect: Found[Evidence], view: View) -> bool:
    return cause.evidence.whole and cause.site == effect.site


EXPLAINED_BY = (Cause("UG203", _is_constant),)

BAD = """
model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 64), nn.ReLU(), nn.Linear(64, 10))
images = torch.randint(256, (128, 3, 8, 8)).float()  # pixels from 0 to 255
report = ug.check(model, (images, torch.randint(10, (128,))))
"""

GOOD = """
model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 64), nn.ReLU(), nn.Linear(64, 10))
images = torch.randint(256, (128, 3, 8, 8)).float()
images = (images - images.mean((0, 2, 3), keepdim=True)) / images.std((0, 2, 3), keepdim=True)
report = ug.check(model, (images, torch.randint(10, (128,))))
"""
