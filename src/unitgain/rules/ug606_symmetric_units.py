"""UG606 symmetric-units: units that are copies of one another, and zero weights that nothing sets in motion.

Source: Goodfellow et al., Deep learning (2016), section 8.4. That zero-initialized ends of branches and heads are
fine, and how they are distinguished from weights that keep one another at zero, is ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..record import UnitFacts
from ._flow import followers, leaders
from ._rule import About, BaseEvidence, CannotJudge, Found, Threshold
from ._view import Measured, View
from ._words import listed, plural

ABOUT = About(
    code="UG606",
    name="symmetric-units",
    rank=180,
    seen="Units of a layer have the same weights, or weights of zero keep one another at zero.",
    matters=(
        "Units that start the same and get the same gradient stay the same: the layer has the capacity of "
        "one. Zero weights whose input or incoming gradient is zero because of other zero weights never move."
    ),
    source="Goodfellow et al., Deep learning, 2016, section 8.4.",
    measured=(
        "Rows of each weight (of recurrent layers input and hidden together) that are equal to a millionth; "
        "of these, rows whose gradient is equal too, and that of their biases. Depthwise and grouped "
        "convolutions are compared within a group. All-zero weights count only if their gradient is exactly "
        "zero and no other zero parameter before or after them is about to move: a zero-initialized end of a "
        "branch, a zero gain or a zero head opens the way by itself after one step."
    ),
    action="Initialize the layer with random weights (Kaiming or Glorot).",
    effect="Every unit learns something of its own.",
    verify="Check again.",
    remedies=("break-symmetry", "init"),
    silent=(
        "zero-initialized ends of residual branches, gates and classifiers",
        "biases, gains and embeddings",
        "depthwise filters that start the same",
        "pruned units (zero rows)",
    ),
)

SHARE = Threshold(0.1, "of the units: fewer copies are no loss of width")
ERROR = Threshold(0.5, "of the units with the same gradient: the layer cannot become what it was built for")


@dataclass(frozen=True)
class Share:
    """Of a layer's units: copies of another, and those that get the other's gradient too and stay copies for good."""

    share: float
    stay_alike: float


@dataclass(frozen=True)
class Copies(BaseEvidence):
    """weights: of the layers with copies; worst: the largest share for good."""

    weights: Mapping[str, Share]
    worst: float

    @property
    def size(self) -> float:
        """The largest share of copies."""
        return max(share.share for share in self.weights.values())


@dataclass(frozen=True)
class StuckAtZero(BaseEvidence):
    """weights: that are zero and get a gradient of exactly zero."""

    weights: Sequence[str]

    @property
    def size(self) -> float:
        """How many weights."""
        return float(len(self.weights))


Evidence = Copies | StuckAtZero


def judge(view: View) -> Iterator[Found[Evidence]]:
    if view.training:
        raise CannotJudge("units are compared by check")
    compared = view.facts.same_units
    if compared is None or not view.parameters:
        raise CannotJudge("units were not compared")
    yield from _copies(view, compared)
    yield from _stuck_at_zero(view)


def _copies(view: View, compared: Mapping[str, UnitFacts]) -> Iterator[Found[Copies]]:
    found: dict[str, Share] = {}
    for name, row in compared.items():
        parameter = view.parameter(name)
        owner = view.tensor(parameter.owner) if parameter else None
        if parameter is None or owner is None or _is_last(view, owner) or not row.units:
            continue
        if row.copies / row.units >= SHARE:
            found[name] = Share(row.copies / row.units, row.same_gradient / row.units)
    if not found:
        return
    worst = max(share.stay_alike for share in found.values())
    first = max(found, key=lambda name: (found[name].stay_alike, found[name].share))
    row = compared[first]
    also = f"; {plural(len(found), 'layer')} in all" if len(found) > 1 else ""
    yield ABOUT.found(
        "error" if worst > ERROR else "warning",
        first,
        f"{row.copies} of {row.units} units of {first} have the same weights as another unit"
        + (", and the same gradient" if row.same_gradient else "")
        + also,
        evidence=Copies(found, worst),
        cause="They compute the same and learn the same: the layer is as wide as its different units."
        if worst
        else "They compute the same now, up to a bias; only that and what comes after makes them differ, slowly.",
        remedy=f"Initialize {listed(found)} with random weights (Kaiming or Glorot).",
    )


def _stuck_at_zero(view: View) -> Iterator[Found[StuckAtZero]]:
    """Weights of zero without a gradient, where no other zero parameter before or after is about to move."""
    gradient = {m.name: m["absmax"] for m in view.parameter_gradients}
    zero = [p for p in view.parameters if p["absmax"] == 0 and p.trainable]
    stuck = []
    for weight in zero:
        owner = view.tensor(weight.owner)
        if weight.role != "weight" or owner is None or gradient.get(weight.name) != 0:
            continue
        if len(weight.site.shape) < 2 or _is_last(view, owner):
            continue
        near = {
            owner.name,
            *(m.name for m in followers(view, owner)),
            *(m.name for m in leaders(view, owner)),
        }
        # a bias that moves off zero opens nothing that weights of zero close
        opening = any(gradient.get(p.name, 0.0) > 0 and p.owner in near and p.role != "bias" for p in zero)
        if not opening:
            stuck.append(weight.name)
    if stuck:
        yield ABOUT.found(
            "error",
            stuck[0],
            f"{plural(len(stuck), 'weight')} ({listed(stuck)}) all zero, with a gradient of exactly zero that no "
            "step will change",
            evidence=StuckAtZero(stuck),
            cause="What goes in or comes back is zero because of other zero weights, which wait for these.",
            remedy=f"Initialize {listed(stuck)} with random weights (Kaiming or Glorot).",
        )


def _is_last(view: View, owner: Measured) -> bool:
    """The layer that makes the output: classes that the batch lacks get the same gradient, and zero is fine."""
    is_output = owner.is_output or owner.name == view.facts.output.site
    return is_output or next(followers(view, owner), None) is None


EXPLAINED_BY = ()

BAD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
nn.init.constant_(model[2].weight, 0.1)
report = ug.check(model, (torch.randn(256, 20), torch.randint(10, (256,))))
"""

GOOD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
nn.init.kaiming_normal_(model[2].weight, nonlinearity="relu")
report = ug.check(model, (torch.randn(256, 20), torch.randint(10, (256,))))
"""
