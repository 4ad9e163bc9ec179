"""UG107 target-broadcast: outputs and targets have different shapes, and the loss compares all with all.

Source: PyTorch's documentation of broadcasting semantics, and the warning of torch.nn.functional.mse_loss. That `check`
also asks a loss of the caller's own, with targets in the outputs' shape, is ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ._rule import About, BaseEvidence, CannotJudge, Cause, Found
from ._view import View

ABOUT = About(
    code="UG107",
    name="target-broadcast",
    rank=80,
    exact=True,
    seen="Outputs and targets have different shapes, and the loss broadcasts them, (N, 1) with (N,) to (N, N) say.",
    matters=(
        "Every output is compared with every target, so the loss is lowest where all outputs are the mean of the "
        "targets. The model learns that, and the loss ends at the targets' variance, without an error."
    ),
    source="PyTorch documentation: broadcasting semantics; the warning of torch.nn.functional.mse_loss.",
    measured=(
        "The two shapes, for losses of torch that broadcast, and for unitgain's by name. A loss of your own is "
        "called once more with the targets in the outputs' shape, if they have as many values: another result "
        "says that it broadcasts. So is a loss function of torch that the model itself calls."
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
    ),
)


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """The shapes of outputs and targets, and the shape over which the loss compares them."""

    output_shape: Sequence[int]
    target_shape: Sequence[int]
    compared: Sequence[int]


def judge(view: View) -> Iterator[Found[Evidence]]:
    target, output = view.facts.target, view.facts.output
    given = target.against or output.shape
    if view.facts.loss.value is None or (target.kind is None and not target.broadcast):
        raise CannotJudge("no loss of outputs and targets was measured")
    if not (target.broadcast and target.shape and given):
        return
    outputs, compared = math.prod(given), math.prod(target.broadcast)
    yield ABOUT.found(
        "error",
        output.site,
        f"outputs of shape {given} and targets of shape {target.shape} are broadcast to {target.broadcast}: "
        f"the loss compares {compared:,} pairs where there are {outputs:,} outputs",
        evidence=Evidence(given, target.shape, target.broadcast),
        cause="Two shapes that differ only by axes of one are stretched over each other by the rules of broadcasting.",
        remedy="" if outputs == math.prod(target.shape) else "Give targets of the outputs' shape.",
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
