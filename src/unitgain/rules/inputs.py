"""UG201 and UG202: what the model was given."""

from __future__ import annotations

import math
from collections.abc import Iterator

from .catalogue import CATALOGUE
from .finding import Finding
from .view import CannotJudge, Measured, View, listed, show

# what a model takes as its target is no signal, though it comes in with the inputs; names as for batches
_TARGETS = tuple(
    f"input[{name}{end}" for name in ("labels", "label", "targets", "target", "y") for end in ".]"
)


def input_not_normalized(view: View) -> Iterator[Finding]:
    """UG201: an input far from mean 0 and standard deviation 1."""
    entry = CATALOGUE["UG201"]
    candidates = [m for m in view.inputs if _is_signal(view, m)]
    judged = [m for m in candidates if m["count"] >= entry.limit("values")]
    if not judged:
        reason = (
            "too few values" if candidates else "no floating-point input that normalization would apply to"
        )
        raise CannotJudge(reason)
    for measured in judged:
        mean, std = measured["mean"], measured["std"]
        # Small batches of normalized images vary; but normalized data always has negative values.
        slack = entry.limit("slack") / math.sqrt(measured.examples) if measured["min"] < 0 else 0.0
        if (
            abs(mean) <= entry.limit("mean") + slack * std
            and entry.limit("std_low") / (1 + slack) <= std <= entry.limit("std_high") * (1 + slack)
        ):  # fmt: skip
            continue
        yield entry.finding(
            "warning",
            measured.name,
            f"{measured.name} has mean {show(mean)} and standard deviation {show(std)}, expected about 0 "
            f"and 1 (values {show(measured['min'])} to {show(measured['max'])})",
            evidence={
                **{name: measured[name] for name in ("mean", "std", "rms", "min", "max")},
                "channel_mean": measured.site.attributes.get("channel_mean"),
                "channel_std": measured.site.attributes.get("channel_std"),
            },
            cause=_scale_of(measured),
            remedy=_prescription(measured),
        )


def input_not_finite(view: View) -> Iterator[Finding]:
    """UG202: NaN or infinity in the batch."""
    if not view.inputs:
        raise CannotJudge("no input was measured")
    for measured in view.inputs:
        if not measured.broken or _is_mask(measured):
            continue
        bad = list(measured.site.attributes.get("bad_examples", ()))
        which = f" (examples {listed([str(i) for i in bad])})" if bad else ""
        yield CATALOGUE["UG202"].finding(
            "error",
            measured.name,
            f"{measured.name}: {measured['nonfinite']:.2%} of the values are NaN or infinite{which}",
            evidence={"nonfinite": measured["nonfinite"], "bad_examples": bad},
            cause="The batch holds NaN or infinity before the model sees it.",
        )


def _is_mask(measured: Measured) -> bool:
    """Additive masks hold minus infinity (or the lowest number) on purpose."""
    return "mask" in measured.name.lower()


def _is_signal(view: View, measured: Measured) -> bool:
    """A floating-point input whose scale matters."""
    if measured.site.attributes.get("integer") or _is_mask(measured) or measured.broken:
        return False
    if measured.site.attributes.get("sparse"):  # a shift would fill it
        return False
    if measured.name.startswith(_TARGETS):
        return False
    if len(measured.site.shape) < 2 or "embed" in measured.name.lower():
        return False
    mean, rms = measured["mean"], measured["rms"]
    if not math.isfinite(mean) or not math.isfinite(rms):
        return False
    # x is 0 or 1 everywhere exactly if it lies in 0..1 and the mean of x equals the mean of x squared
    if measured["min"] >= 0 and measured["max"] <= 1 and abs(rms * rms - mean) <= 1e-5 * max(mean, 1e-12):
        return False
    consumers = view.feeds(measured)
    return not (consumers and all(m.role == "norm" for m in consumers))


def _scale_of(measured: Measured) -> str:
    low, high = measured["min"], measured["max"]
    if low >= 0 and 1 < high <= 255 and high > 100:
        return "These look like pixels from 0 to 255."
    if low >= 0 and high <= 1:
        return (
            "These look like pixels from 0 to 1, without subtracting the mean and dividing by the deviation."
        )
    return "The data is not normalized, or not with its own statistics."


def _prescription(measured: Measured) -> str:
    means, stds = (measured.site.attributes.get(key) for key in ("channel_mean", "channel_std"))
    if means and stds and 1 < len(means) <= 8:
        mean, std = (f"[{', '.join(show(v) for v in values)}]" for values in (means, stds))
        return f"Normalize per channel: (x - {mean}) / {std}; better, take both from the whole training set."
    if measured["std"] == 0:
        return "The input is constant: check how the batch is made."
    mean, std = show(measured["mean"]), show(measured["std"])
    return f"Normalize: (x - {mean}) / {std}; better, take both from the whole training set."
