"""UG305 and UG307: examples that become alike, and means that swamp what varies."""

from __future__ import annotations

import math
from collections.abc import Iterator

from .catalogue import CATALOGUE
from .finding import Finding
from .flow import block_ends, followers
from .trend import comparable
from .view import CannotJudge, Measured, View, show

_NEARLY_ALL = 0.9  # of an output's rms, above which its bias makes it


def mean_shift(view: View) -> Iterator[Finding]:
    """UG305: channels whose mean is larger than what varies, block after block."""
    entry = CATALOGUE["UG305"]
    ends = [m for m in block_ends(view) if m.positions * m.examples > 1 and m["channel_var"] > 0]
    ends = [m for m in ends if math.isfinite(m["sq_channel_mean"])]
    if len(ends) < entry.limit("blocks"):
        raise CannotJudge("fewer than three block outputs with channels")
    shift = [m["sq_channel_mean"] / m["channel_var"] for m in ends]
    over = [s > entry.limit("shift") for s in shift]
    if sum(over) <= entry.limit("share") * len(ends) or not over[-1]:
        return
    first = ends[over.index(True)]
    made_here = shift[-1] > entry.limit("grown") * shift[0]
    moot = any(m.site.attributes.get("subtracts_mean") == "channel" for m in followers(view, ends[-1]))
    yield entry.finding(
        "warning" if made_here and not moot else "info",
        first.name,
        f"the squared channel mean exceeds the channel variance at {sum(over)} of {len(ends)} block outputs "
        f"({show(shift[0])} times at {ends[0].name}, {show(shift[-1])} times at {ends[-1].name})",
        evidence={
            "sites": {m.name: s for m, s, o in zip(ends, shift, over) if o},
            "first": shift[0],
            "last": shift[-1],
            "normalized_later": moot,
        },
        cause="Activations that are never negative have a mean, weights that do not sum to zero pass it on, and "
        "shortcuts add it up."
        if made_here
        else "The mean is there before the first block (max pooling, or the data) and is passed on.",
    )


def collapsed_inputs(view: View) -> Iterator[Finding]:
    """UG307: different examples, nearly the same features."""
    entry = CATALOGUE["UG307"]
    path = [m for m in _main_path(view) if not math.isnan(m["cosine"])]
    if len(path) < entry.limit("sites"):
        raise CannotJudge("fewer than three layers with more than one example")
    start = _cosine_of_inputs(view, path)
    if start > entry.limit("inputs"):
        raise CannotJudge("the examples are nearly alike from the start")
    apart = [i for i, m in enumerate(path) if m["cosine"] <= entry.limit("cosine")]
    onset = (apart[-1] + 1) if apart else 0
    if onset >= len(path):
        return
    first, last = path[onset], path[-1]
    if _starts_anew(path, onset) and path[onset - 1]["cosine"] < entry.limit("approach"):
        return
    if any(m.site.attributes.get("subtracts_mean") == "channel" for m in followers(view, first)):
        return  # what the examples share is subtracted again
    sudden = _sudden(view, path, onset, start)
    yield entry.finding(
        "warning" if last["cosine"] > entry.limit("warning") or sudden else "info",
        first.name,
        f"different examples look alike from {first.name} on: mean cosine {last['cosine']:.4f} at {last.name}, "
        f"{start:.2f} at the start",
        evidence={
            "cosine": last["cosine"],
            "start": start,
            "onset": first.name,
            "last_site": last.name,
            "layers": len(path),
            "sudden": sudden,
        },
        cause=_why_alike(view, first, sudden),
    )


def _main_path(view: View) -> list[Measured]:
    """The sites whose examples are compared: outputs of blocks, or layers where there are no blocks. Pooled features
    between feature maps are gates, and left out."""
    ends = block_ends(view)
    return ends if len(ends) >= 3 else comparable(view.activations, 3)


def _starts_anew(path: list[Measured], onset: int) -> bool:
    """Whether the first alike site is of another shape: a class token that all examples share enters there."""
    return onset > 0 and path[onset].role == "block" and path[onset].site.shape != path[onset - 1].site.shape


def _cosine_of_inputs(view: View, path: list[Measured]) -> float:
    """Of what goes in; of tokens, whose numbers have no likeness, what they are embedded as."""
    known = [m["cosine"] for m in view.inputs if not math.isnan(m["cosine"])]
    if known:
        return max(known)
    embedded = [m["cosine"] for m in view.activations if m.role == "embedding"]
    return min((c for c in embedded if not math.isnan(c)), default=path[0]["cosine"])


def _sudden(view: View, path: list[Measured], onset: int, start: float) -> bool:
    """Whether the examples become alike at one place, and not by an average over positions there."""
    first, before = path[onset], path[onset - 1] if onset else None
    near = before["cosine"] if before else start
    pooled = before is not None and before.positions > 1 and first.positions == 1
    return near < CATALOGUE["UG307"].limit("apart") and not pooled


def _why_alike(view: View, first: Measured, sudden: bool) -> str:
    for parameter in view.own_parameters(first):
        if (
            parameter.site.attributes.get("role") == "bias"
            and parameter["rms"] > _NEARLY_ALL * first["rms"] > 0
        ):
            return f"The bias {parameter.name} is larger than what depends on the example."
    if sudden:
        return (
            f"Before {first.name} the examples differ: what is added there to all of them alike (a bias, positions) "
            "is larger than what depends on the example."
        )
    return (
        "Each layer brings the examples a little closer: weights too small against the biases (ordered phase), or "
        "a rectifier's mean adding up over many layers."
    )
