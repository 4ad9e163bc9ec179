"""UG307 collapsed-inputs: from some layer on, different examples have almost the same features.

Source: Poole et al. (2016) and Schoenholz et al. (2017), who compute the cosine's fixed point; here it is
measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ._causes import hides_the_examples
from ._flow import block_ends, followers, mean_is_subtracted_later
from ._rule import About, BaseEvidence, CannotJudge, Cause, Found, Threshold
from ._trend import comparable
from ._view import Measured, View
from ._words import along

ABOUT = About(
    code="UG307",
    name="collapsed-inputs",
    rank=480,
    seen="From some layer on, different examples have almost the same features.",
    matters=(
        "The layers after it cannot tell the examples apart, and the gradient that could teach them to is the "
        "difference of nearly equal terms: the network trains as if it had one example."
    ),
    source=(
        "Poole et al., Exponential expressivity in deep neural networks through transient chaos, 2016; "
        "Schoenholz et al., Deep information propagation, 2017."
    ),
    measured=(
        "Mean cosine between different examples at block outputs, or at linear and convolution layers of networks "
        "without blocks, from the first above the limit to the last. Silent if a later norm subtracts what the "
        "batch shares. Where the shape of the stream changes the cosine must have been near the limit before: a "
        "stream that begins with a token common to all examples is no collapse. Gates of pooled features are left "
        "out."
    ),
    action=(
        "Initialize at the edge of chaos (Kaiming for ReLU, gain near 1.6 with small biases for tanh), set "
        "large biases to zero, or add residual connections with scaled branches."
    ),
    effect="Examples stay apart down to the last layer.",
    verify="Check again: cosine below 0.99 at every layer.",
    remedies=("lsuv", "scale-branches", "init", "init-scale-branches", "init-lsuv", "zero-branch-ends"),
    silent=(
        "the slow growth of similarity through ReLU layers",
        "pooled features and gates",
        "batches of very similar examples",
        "class tokens before attention has mixed the image into them",
        "one of several heads that starts at a constant, as rare classes are given a bias",
    ),
)

COSINE = Threshold(0.99, "DESIGN's limit; a healthy VGG-16 reaches it on noise images, so it only informs")
WARNING = Threshold(
    0.9999,
    "a ten-thousandth of the squared norm left for differences; six layers of GELU or SiLU with torch's "
    "default initialization reach 0.9998, and learn",
)
APART = Threshold(
    0.5,
    "cosine just before: examples that become the same from one site to the next are a warning at any "
    "cosine, since the slow approach of healthy deep networks takes many layers",
)
APPROACH = Threshold(0.9, "cosine before, where the shape of the stream changes")
INPUTS = Threshold(0.95, "cosine of the inputs: above it the batch is at fault")
SITES = Threshold(3, "layers: fewer show no course over depth")
VALUES = Threshold(8, "values per example: the cosine of one number with another is 1 or -1 and says nothing")
BIAS = Threshold(0.9, "of an output's rms, above which its bias makes nearly all of it")


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """cosine: at the last site; start: of the inputs; onset: the first site above the limit; sudden: whether the cosine
    jumped there."""

    cosine: float
    start: float
    onset: str
    last_site: str
    layers: int
    sudden: bool

    @property
    def size(self) -> float:
        """The cosine itself."""
        return self.cosine


def judge(view: View) -> Iterator[Found[Evidence]]:
    path = [m for m in _main_path(view) if not math.isnan(m["cosine"]) and _values(m) >= VALUES]
    if len(path) < SITES:
        raise CannotJudge("fewer than three layers with more than one example")
    start = _cosine_of_inputs(view, path)
    if start > INPUTS:
        raise CannotJudge("the examples are nearly the same from the start")
    apart = [i for i, m in enumerate(path) if m["cosine"] <= COSINE]
    onset = (apart[-1] + 1) if apart else 0
    if onset >= len(path):
        return
    first, last = path[onset], path[-1]
    if _starts_anew(path, onset) and path[onset - 1]["cosine"] < APPROACH:
        return
    if mean_is_subtracted_later(view, first):
        return  # what the examples share is subtracted again
    if first.role == "linear" and not any(m.role in ("linear", "recurrent") for m in followers(view, first)):
        return  # one of several heads, which may start at a constant: a rare class's bias, say
    sudden = _is_sudden(path, onset, start)
    yield ABOUT.found(
        "warning" if last["cosine"] > WARNING or sudden else "info",
        first.name,
        f"different examples have almost the same features from {first.name} on: mean cosine {last['cosine']:.4f} at "
        f"{last.name}, {start:.2f} at the start",
        evidence=Evidence(last["cosine"], start, first.name, last.name, len(path), sudden),
        cause=_why(view, first, sudden),
        remedy=along(first.name, last.name, ABOUT.action),
    )


def _values(measured: Measured) -> int:
    return math.prod(measured.site.shape) // measured.examples


def _main_path(view: View) -> list[Measured]:
    """The sites whose examples are compared: outputs of blocks, or layers where there are no blocks. Pooled features
    between feature maps are gates, and left out."""
    ends = block_ends(view)
    return ends if len(ends) >= SITES else comparable(view.activations, SITES)


def _starts_anew(path: list[Measured], onset: int) -> bool:
    """Whether the first site above the limit has another shape: a class token that all examples share enters there."""
    return onset > 0 and path[onset].role == "block" and path[onset].site.shape != path[onset - 1].site.shape


def _cosine_of_inputs(view: View, path: list[Measured]) -> float:
    """Of what goes in; of tokens, whose numbers have no similarity, what they are embedded as."""
    known = [m["cosine"] for m in view.inputs if not math.isnan(m["cosine"])]
    if known:
        return max(known)
    embedded = [m["cosine"] for m in view.activations if m.role == "embedding"]
    return min((c for c in embedded if not math.isnan(c)), default=path[0]["cosine"])


def _is_sudden(path: list[Measured], onset: int, start: float) -> bool:
    """Whether the examples collapse at one place, and not by an average over positions there."""
    first, before = path[onset], path[onset - 1] if onset else None
    near = before["cosine"] if before else start
    pooled = before is not None and before.positions > 1 and first.positions == 1
    return near < APART and not pooled


def _why(view: View, first: Measured, sudden: bool) -> str:
    for parameter in view.own_parameters(first, "bias"):
        if parameter["rms"] > BIAS * first["rms"] > 0:
            return f"The bias {parameter.name} is larger than what depends on the example."
    if sudden:
        return (
            f"Before {first.name} the examples differ: what is added there to all of them (a bias, positions) is "
            "larger than what depends on the example."
        )
    return (
        "Each layer brings the examples a little closer: weights too small against the biases (ordered phase), or "
        "a rectifier's mean adding up over many layers."
    )


EXPLAINED_BY = (
    Cause("UG507"),
    Cause("UG805", hides_the_examples),
    Cause("UG102"),
    Cause("UG301"),
    Cause("UG302"),
    Cause("UG303"),
    Cause("UG304"),
    Cause("UG606"),
    Cause("UG401"),
)

BAD = """
class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(64, 64) for _ in range(4))
        self.position = nn.Parameter(100 * torch.randn(64))

    def forward(self, x):
        x = F.layer_norm(x + self.position, (64,))
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return x


model = nn.Sequential(nn.Linear(20, 64), Encoder(), nn.Linear(64, 10))
ug.init_(model, activation="tanh")
report = ug.check(model, (torch.randn(256, 20), torch.randint(10, (256,))))
"""

GOOD = """
class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(64, 64) for _ in range(4))
        self.position = nn.Parameter(0.1 * torch.randn(64))

    def forward(self, x):
        x = F.layer_norm(x + self.position, (64,))
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return x


model = nn.Sequential(nn.Linear(20, 64), Encoder(), nn.Linear(64, 10))
ug.init_(model, activation="tanh")
report = ug.check(model, (torch.randn(256, 20), torch.randint(10, (256,))))
"""
