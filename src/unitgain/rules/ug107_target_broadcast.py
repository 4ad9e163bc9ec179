"""UG107 target-broadcast: outputs and targets have different shapes, and the loss compares all with all.

Source: PyTorch's documentation of broadcasting semantics, and the warning of torch.nn.functional.mse_loss. That `check`
also asks a loss of the caller's own, with targets in the outputs' shape, is ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..record import CrossedFacts
from ._comparison import at
from ._rule import About, BaseEvidence, CannotJudge, Cause, Found
from ._view import View

ABOUT = About(
    code="UG107",
    name="target-broadcast",
    rank=80,
    exact=True,
    seen=(
        "Outputs and targets have different shapes, and the loss broadcasts them, (N, 1) with (N,) to (N, N) say; or "
        "each example's loss meets the weights, masks or advantages of all others."
    ),
    matters=(
        "Every output is compared with every target, so the loss is lowest where all outputs are the mean of the "
        "targets. The model learns that, and the loss ends at the targets' variance, without an error. Weights that "
        "meet all losses weigh none: the sum is that of the losses times that of the weights."
    ),
    source="PyTorch documentation: broadcasting semantics; the warning of torch.nn.functional.mse_loss.",
    measured=(
        "The two shapes, for losses of torch that broadcast, and for unitgain's by name. A loss of your own is "
        "called once more with the targets in the outputs' shape, if they have as many values: another result "
        "says that it broadcasts. So is a loss function of torch that the model itself calls. In one pass, products "
        "and sums of (N,) and (N, 1) are followed to a sum or mean of all of them, through nothing but numbers and "
        "further sums."
    ),
    action=(
        "Give targets of the outputs' shape: targets.reshape(outputs.shape), or .unsqueeze(-1) on the targets, or "
        ".squeeze(-1) on the outputs."
    ),
    effect="The loss compares each output with its own target, and can fall below the targets' variance.",
    verify="Check again.",
    silent=(
        "one number as the target of all outputs",
        "losses that take targets of another shape by design (cross entropy), or reshape them themselves",
        "rankings, distances and kernels of all pairs: what stands between the pairs and their sum is no plain sum",
        "weights that are the same for all",
    ),
)


@dataclass(frozen=True)
class Targets(BaseEvidence):
    """The shapes of outputs and targets, and the shape over which the loss compares them."""

    output_shape: Sequence[int]
    target_shape: Sequence[int]
    compared: Sequence[int]


@dataclass(frozen=True)
class Weights(BaseEvidence):
    """function: that broadcasts; one, two: the shapes of what it is given; where: the line of the caller's code."""

    function: str
    one: Sequence[int]
    two: Sequence[int]
    where: str | None


Evidence = Targets | Weights


def judge(view: View) -> Iterator[Found[Targets | Weights]]:
    target, output = view.facts.target, view.facts.output
    given = target.against or output.shape
    crossed = view.facts.comparison.reach.crossed
    measured = view.facts.loss.value is not None and (target.kind is not None or target.broadcast)
    if measured and target.broadcast and target.shape and given:
        yield _of_targets(given, target.shape, target.broadcast, output.site)
    elif crossed:
        yield _of_weights(crossed[0], output.site)
    elif not measured:
        raise CannotJudge("no loss of outputs and targets was measured")


def _of_targets(
    output: Sequence[int], target: Sequence[int], broadcast: Sequence[int], site: str | None
) -> Found[Targets]:
    outputs, compared = math.prod(output), math.prod(broadcast)
    return ABOUT.found(
        "error",
        site,
        f"outputs of shape {output} and targets of shape {target} are broadcast to {broadcast}: "
        f"the loss compares {compared:,} pairs where there are {outputs:,} outputs",
        evidence=Targets(output, target, broadcast),
        cause="Two shapes that differ only by axes of one are stretched over each other by the rules of broadcasting.",
        remedy="" if outputs == math.prod(target) else "Give targets of the outputs' shape.",
    )


def _of_weights(call: CrossedFacts, site: str | None) -> Found[Weights]:
    return ABOUT.found(
        "error",
        site,
        f"{call.function}{at(call.where)} of shapes {call.one} and {call.two} makes a value of every pair of examples, "
        f"and all of them are summed",
        evidence=Weights(call.function, call.one, call.two, call.where),
        cause="Two shapes that differ only by axes of one are stretched over each other by the rules of broadcasting: "
        "which weight, mask or advantage belongs to which example makes no difference to such a sum.",
        remedy=f"Give both one shape{at(call.where)}: .squeeze(-1) on the one with the further axis.",
    )


EXPLAINED_BY: tuple[Cause, ...] = ()

BAD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 1))
x = torch.randn(256, 20)
y = x.sum(1) / 20**0.5  # (256,), and the outputs are (256, 1)
report = ug.check(model, (x, y), "mse")
"""

GOOD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 1))
x = torch.randn(256, 20)
y = x.sum(1, keepdim=True) / 20**0.5
report = ug.check(model, (x, y), "mse")
"""
