"""UG803 linear-network: several layers in series compute what one of them could.

Source: any textbook (Goodfellow, Bengio and Courville, Deep Learning (2016), section 6.1). The measurement, additivity
in float64 at three scales, is ours (_check/linear.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ._rule import About, BaseEvidence, CannotJudge, Cause, Found, Threshold
from ._view import View
from ._words import MOST_KEPT, as_layer, listed, plural

ABOUT = About(
    code="UG803",
    name="linear-network",
    rank=165,
    exact=True,
    seen="Two or more layers follow each other without a nonlinear function, and together compute an affine function.",
    matters="However many layers there are, the network can do no more than one linear layer can.",
    source="Goodfellow, Bengio and Courville, Deep Learning, 2016, section 6.1.",
    measured=(
        "In the graph of the pass no nonlinear function stands before any weight. Then f(a) + f(b) - f(a+b) - f(0) "
        "is computed at the output of the last weight, relative to the largest of them, in float64 and evaluation "
        "mode, for inputs of the batch's scale, ten and a hundred times as large. What comes after the last weight "
        "(a sigmoid, a softmax) does not matter. Of models that take token numbers, the embeddings are the inputs."
    ),
    action="Put an activation function (ReLU, GELU, tanh) between the layers.",
    effect="The network can fit what is not linear.",
    verify="Check again.",
    silent=(
        "one layer, or several side by side",
        "an autoencoder whose code is narrower than its ends: a factorization, principal components",
        "piecewise linear functions on one of their pieces",
    ),
)

DEVIATION = Threshold(
    1e-9,
    "relative, in float64: a hundred layers round by 1e-13, and the weakest activation function bends by more than "
    "1e-6",
)
CONSTANT = Threshold(
    1e-6, "of the largest value: an output that does not change with its input is affine, and sick otherwise"
)


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """layers: the weights in series, and how many (number); deviation: from an affine function, relative."""

    layers: Sequence[str]
    number: int
    deviation: float


def judge(view: View) -> Iterator[Found[Evidence]]:
    linear = view.facts.function.linear
    if linear.layers is None:
        return
    if linear.reason is not None:
        raise CannotJudge(f"whether the network is linear: {linear.reason}")
    if not linear.deviation < DEVIATION or not linear.change > CONSTANT:
        return
    if linear.narrow and view.facts.comparison.targets.is_input:
        return
    names = list(linear.layers)
    yield ABOUT.found(
        "warning",
        names[0],
        f"{plural(len(names), 'layer')} in series compute an affine function, as one alone could ({listed(names)})",
        evidence=Evidence(names[:MOST_KEPT], len(names), linear.deviation),
        cause=_why(view),
        remedy=f"Put an activation function (ReLU, GELU, tanh) between {listed(map(as_layer, names))}.",
    )


def _why(view: View) -> str:
    if any(m.role == "activation" for m in view.activations):
        return "The result of the activation functions is not used before a layer: x = F.relu(x), not F.relu(x) alone."
    return "forward calls no activation function between the layers."


EXPLAINED_BY = (Cause("UG810"),)

BAD = """
model = nn.Sequential(nn.Linear(20, 64), nn.Linear(64, 10))
report = ug.check(model, (torch.randn(256, 20), torch.randint(10, (256,))))
"""

GOOD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10))
report = ug.check(model, (torch.randn(256, 20), torch.randint(10, (256,))))
"""
