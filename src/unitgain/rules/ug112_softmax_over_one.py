"""UG112 softmax-over-one: a softmax over a single value, which is one whatever goes in.

Source: arithmetic. An axis counts only if a layer with one unit made it; one key or one time step in this batch is
legal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ._rule import About, BaseEvidence, CannotJudge, Cause, Found
from ._view import View
from ._words import as_layer, listed

ABOUT = About(
    code="UG112",
    name="softmax-over-one",
    rank=50,
    exact=True,
    seen="A softmax (or log-softmax, or the one in cross entropy) is taken over the only unit of a layer.",
    matters="Its result is one (its logarithm zero) whatever goes in, so that nothing before it gets a gradient.",
    source="Arithmetic: exp(x) / exp(x) is 1.",
    measured=(
        "Axes are followed from layers with one unit through reshapes to a softmax. Of the loss: it is called on "
        "made-up outputs, and is the same for all."
    ),
    action="For one probability take a sigmoid; for attention take the softmax over the positions, not the units.",
    effect="The value depends on the input, and the layer before it learns.",
    verify="Check again.",
    remedies=("sigmoid-for-softmax",),
    silent=("attention over one key, one time step or one pixel in this batch",),
)


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """shapes: of what goes into such a softmax; empty where it is the loss's own."""

    shapes: Sequence[Sequence[int]]


def judge(view: View) -> Iterator[Found[Evidence]]:
    comparison, output = view.facts.comparison, view.facts.output
    shapes = comparison.reach.softmax_over_one
    if shapes is None and comparison.asked.constant is None:
        raise CannotJudge("the functions of the forward pass were not followed")
    if shapes:
        sites = [m.name for m in view.activations if m.role == "softmax" and m.site.shape in set(shapes)]
        yield ABOUT.found(
            "error",
            sites[0] if sites else output.site,
            "a softmax is taken over an axis of size one, of a tensor of shape "
            f"{listed(str(s) for s in dict.fromkeys(shapes))} "
            "from a layer with one unit: it gives 1 whatever goes in",
            evidence=Evidence(shapes),
            cause="A softmax shares out one among the values along its axis, and there is a single value.",
            remedy=f"At {listed(map(as_layer, sites))}: for one probability take a sigmoid; for attention take the "
            "softmax over the positions, not the units."
            if sites
            else "",
        )
    elif comparison.asked.constant and output.shape and all(size == 1 for size in output.shape[1:2]):
        yield ABOUT.found(
            "error",
            output.site,
            f"the outputs have shape {output.shape}, one class, and the loss takes a softmax over the classes: it is "
            "the same whatever the outputs are",
            evidence=Evidence(()),
            cause="A softmax shares out one among the values along its axis, and there is a single value.",
            remedy=(
                "Take binary cross entropy of logits (a sigmoid) for one output, or give the model one output for "
                "each class."
            ),
        )


EXPLAINED_BY: tuple[Cause, ...] = ()

BAD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 1), nn.Softmax(dim=1))
x = torch.randn(256, 20)
y = (x.sum(1, keepdim=True) > 0).float()
report = ug.check(model, (x, y), F.binary_cross_entropy)
"""

GOOD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 1), nn.Sigmoid())
x = torch.randn(256, 20)
y = (x.sum(1, keepdim=True) > 0).float()
report = ug.check(model, (x, y), F.binary_cross_entropy)
"""
