"""UG804 bottleneck: a layer of one unit between wide ones.

Source: Tishby and Zaslavsky, Deep learning and the information bottleneck principle (2015), for the idea; that one
unit is rarely meant is ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ._flow import next_functions
from ._rule import About, BaseEvidence, CannotJudge, Found, Threshold
from ._view import Measured, View
from ._words import as_layer

ABOUT = About(
    code="UG804",
    name="bottleneck",
    rank=1120,
    seen="A layer of one unit stands between wide ones.",
    matters="All that the layers behind it learn of an example is one number.",
    source="Tishby and Zaslavsky, Deep learning and the information bottleneck principle, 2015.",
    measured=(
        "Linear and convolution layers with one output whose output goes, through activation functions and norms, into "
        "nothing but another such layer. Gates and attention scores, which are multiplied with something, do not count."
    ),
    action="Give the layer as many units as its neighbours, unless one number an example is what you mean.",
    effect="More than one number an example passes.",
    verify="Check again.",
    silent=(
        "the last layer",
        "gates and attention scores of one unit",
        "autoencoders with two numbers or more",
    ),
)

WIDE = Threshold(8, "units on either side: below it the layers are narrow altogether")


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """entering: values that go into each unit of the layer; leaving: units of the layer behind it."""

    entering: int
    leaving: int


def judge(view: View) -> Iterator[Found[Evidence]]:
    layers = [m for m in view.activations if m.role == "linear"]
    if not layers:
        raise CannotJudge("no linear or convolution layer was measured")
    for layer in layers:
        weight = _weight(view, layer)
        following = _behind(view, layer)
        if weight is None or weight.site.shape[0] != 1 or len(weight.site.shape) < 2 or following is None:
            continue
        behind = _weight(view, following)
        entering = weight.site.shape[1]
        if behind is None or len(behind.site.shape) < 2 or behind.site.shape[1] != 1:
            continue
        if entering >= WIDE and behind.site.shape[0] >= WIDE:
            yield ABOUT.found(
                "info",
                layer.name,
                f"{layer.name} has one unit, between {entering} values that enter it and {behind.site.shape[0]} units "
                f"of {following.name}",
                evidence=Evidence(entering, behind.site.shape[0]),
                cause="The layers behind it see one number an example.",
                remedy=f"Give {as_layer(layer.name)} as many units as its neighbours, unless one number an example is "
                "what you mean.",
            )


def _weight(view: View, layer: Measured) -> Measured | None:
    return next(iter(view.own_parameters(layer, "weight")), None)


def _behind(view: View, layer: Measured) -> Measured | None:
    """The layer that alone takes this one's output, through activation functions and norms."""
    site, seen = layer, {layer.name}
    while True:
        following = next_functions(view, site)
        if len(following) != 1 or following[0].name in seen or following[0].sources != following[0].inputs:
            return None
        site = following[0]
        seen.add(site.name)
        if site.role == "linear":
            return site
        if site.role not in ("activation", "norm"):
            return None


EXPLAINED_BY = ()

BAD = """
model = nn.Sequential(
    nn.Linear(20, 64),
    nn.LayerNorm(64),
    nn.Tanh(),
    nn.Linear(64, 1),
    nn.Tanh(),
    nn.Linear(1, 64),
    nn.LayerNorm(64),
    nn.Tanh(),
    nn.Linear(64, 10),
)
report = ug.check(model, (torch.randn(256, 20), torch.randint(10, (256,))))
"""

GOOD = """
model = nn.Sequential(
    nn.Linear(20, 64),
    nn.LayerNorm(64),
    nn.Tanh(),
    nn.Linear(64, 64),
    nn.LayerNorm(64),
    nn.Tanh(),
    nn.Linear(64, 10),
)
report = ug.check(model, (torch.randn(256, 20), torch.randint(10, (256,))))
"""
