"""UG404 uneven-gradient: a weight whose gradient:data ratio is far from that of its peers.

Source: You et al., LARS (2017), who give each layer a rate of its own. Deviation: only weights at the same place
of repeated blocks are compared, and it is the median of these that a weight is compared with.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ._rule import About, BaseEvidence, CannotJudge, Cause, Found, Threshold
from ._view import Measured, View
from ._words import listed, plural, show

ABOUT = About(
    code="UG404",
    name="uneven-gradient",
    rank=560,
    seen="A weight gets far more or far less gradient for its size than the weights of its kind.",
    matters=(
        "With one learning rate for all, it moves too fast or hardly at all. Optimizers that divide by the "
        "gradient's size (Adam) hide it, SGD does not."
    ),
    source=(
        "You et al., Large batch training of convolutional networks (LARS), 2017: the ratio of gradient to "
        "weight differs from layer to layer and limits the learning rate."
    ),
    measured=(
        "log10 of the gradient's std over the weight's std, against the median of the weights at the same place "
        "of repeated blocks (names that differ in numbers only, at least four, with numbers of inputs within a factor "
        "of eight). Different kinds are not compared: "
        "queries get a hundredth of what values get, gates less than what they gate. Embeddings, the head, frozen "
        "weights and zero ones are left out. Of several, one whose own scale differs from its peers' is named "
        "first."
    ),
    action="Initialize the named weight like its peers, or give it a learning rate or a scale of its own.",
    effect="Weights of one kind learn at comparable speed.",
    verify="Check again: gradient:data ratios within a factor of ten.",
    remedies=("lsuv", "init"),
    silent=(
        "first and last stages of a network",
        "queries, keys and gates",
        "zero-initialized weights",
    ),
)

FOLD = Threshold(
    10,
    "times the median of its kind, for information: early depthwise layers of healthy networks reach 40",
)
WARNING = Threshold(
    100,
    "times: beyond what was seen in sixty healthy networks, and two decades as for updates (UG503)",
)
PEERS = Threshold(4, "fewer have no median that one odd weight could not move")
INPUTS = Threshold(
    8.0,
    "fold of the median number of inputs: coordinates go into the first layer, hundreds of features into the next",
)
OWN_SCALE = Threshold(3.0, "times its peers' scale, from which a weight is named before others")


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """decades: log10 of the gradient:data ratio over the median of the peers, of the weights beyond the limit; std: of
    the weight that is named."""

    decades: Mapping[str, float]
    std: float

    @property
    def size(self) -> float:
        """Decades from its peers."""
        return max(map(abs, self.decades.values()))


def judge(view: View) -> Iterator[Found[Evidence]]:
    if not view.parameter_gradients:
        raise CannotJudge("no gradient was measured")
    groups = [g for g in _peers(view) if len(g) >= PEERS]
    if not groups:
        raise CannotJudge("fewer than four weights of one kind with a gradient")
    away: dict[str, float] = {}
    unusual: dict[str, float] = {}  # how far a weight's own scale is from its peers', in decades
    for group in groups:
        sizes = np.log10([size for _, size in group])
        ratios = np.array([m["ratio"] for m, _ in group])
        for (m, _), decades, size in zip(group, ratios - np.median(ratios), sizes - np.median(sizes)):
            unusual[m.name] = float(abs(size))
            if abs(decades) > math.log10(FOLD):
                away[m.name] = float(decades)
    if not away:
        return
    # a weight that is too large changes the gradient of its neighbours too: the one of unusual scale is named
    worst = max(away, key=lambda name: (unusual[name] > math.log10(OWN_SCALE), abs(away[name])))
    parameter = view.parameter(worst)
    std = parameter["std"] if parameter else math.nan
    more = away[worst] > 0
    yield ABOUT.found(
        "warning" if max(map(abs, away.values())) > math.log10(WARNING) else "info",
        worst,
        f"{worst} gets {show(10 ** abs(away[worst]))} times {'more' if more else 'less'} gradient for its size than "
        f"the weights of its kind ({plural(len(away), 'weight')} beyond {FOLD:g} times: {listed(away)})",
        evidence=Evidence(away, std),
        cause=f"{worst} is {'small' if more else 'large'} for the gradient that it gets (std {show(std)}), or the "
        f"signal that reaches it is {'larger' if more else 'smaller'} than that of its peers.",
        remedy=f"Initialize {listed(away)} like {'its' if len(away) == 1 else 'their'} peers, or use a learning rate "
        "or a scale of its own for each.",
    )


def _peers(view: View) -> list[list[tuple[Measured, float]]]:
    """(gradient, std of the weight) of weights at the same place of repeated blocks: names that differ in numbers
    only.

    Kinds cannot be compared with one another: the weights of queries get a hundredth of the gradient that those of
    values get, and gates less than the layers that they gate. Embeddings, the head and what is zero are left out.
    """
    head = {p.name for p in view.own_parameters(view.output)}
    data = {p.name: p for p in view.parameters}
    groups: dict[tuple[str, int], list[tuple[Measured, float]]] = defaultdict(list)
    for m in view.parameter_gradients:
        parameter = data.get(m.name)
        if parameter is None or m.name in head or len(m.site.shape) < 2 or not math.isfinite(m["ratio"]):
            continue
        if parameter.role == "weight" and parameter.trainable and parameter["std"] > 0:
            groups[re.sub(r"\d+", "#", m.name), len(m.site.shape)].append((m, parameter["std"]))
    return [_of_similar_width(group) for group in groups.values()]


def _of_similar_width(group: list[tuple[Measured, float]]) -> list[tuple[Measured, float]]:
    widths = np.array([math.prod(m.site.shape[1:]) for m, _ in group])
    typical = np.median(widths)
    return [row for row, width in zip(group, widths) if typical / INPUTS <= width <= typical * INPUTS]


EXPLAINED_BY = (
    Cause("UG301"),
    Cause("UG302"),
    Cause("UG303"),
    Cause("UG304"),
    Cause("UG306"),
    Cause("UG401"),
    Cause("UG402"),
    Cause("UG403"),
    Cause("UG606"),
    Cause("UG607"),
    Cause("UG605"),
    Cause("UG307"),
)

BAD = """
layers = [m for _ in range(5) for m in (nn.Linear(64, 64), nn.LayerNorm(64), nn.ReLU())]
model = nn.Sequential(*layers, nn.Linear(64, 10))
with torch.no_grad():
    model[3].weight *= 100  # the norm hides it on the way forward
report = ug.check(model, (torch.randn(256, 64), torch.randint(10, (256,))))
"""

GOOD = """
layers = [m for _ in range(5) for m in (nn.Linear(64, 64), nn.LayerNorm(64), nn.ReLU())]
model = nn.Sequential(*layers, nn.Linear(64, 10))
report = ug.check(model, (torch.randn(256, 64), torch.randint(10, (256,))))
"""
