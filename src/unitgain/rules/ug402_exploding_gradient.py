"""UG402 exploding-gradient: the gradient grows steadily on its way back from the last layer to the first.

Source: Pascanu et al. (2013); Yang et al. (2019) on deep BatchNorm networks without shortcuts. Deviation: the norm
per example is compared, in a residual network at its blocks.
"""

from __future__ import annotations

from collections.abc import Iterator

from ._flow import has_residual_branches
from ._gradient_scale import GradientEvidence, gradient_trend
from ._rule import About, Cause, Found, Threshold
from ._trend import SITES, STEADINESS, Limits
from ._view import View
from ._words import along, show
from .ug303_saturated import Evidence as Saturation
from .ug303_saturated import FunctionEvidence

ABOUT = About(
    code="UG402",
    name="exploding-gradient",
    rank=300,
    seen="The gradient grows steadily on its way back from the last layer to the first.",
    matters="Steps that suit the last layers move the first ones much too far; the loss jumps or becomes NaN.",
    source=(
        "Pascanu et al., On the difficulty of training recurrent neural networks, 2013; Yang et al., A mean "
        "field theory of batch normalization, 2019 (why deep BatchNorm networks without shortcuts do it)."
    ),
    measured=(
        "As for UG401, growing; in a residual network at the outputs of its blocks, if there are three or "
        "more: inside a block the scales alternate."
    ),
    action=(
        "Initialize so that every layer's gain is one, add residual connections, and clip the gradient's norm "
        "(1.0 is a common limit) meanwhile."
    ),
    effect="The first and the last layer learn at comparable speed.",
    verify="Check again: the gradient's scale over depth is flat.",
    remedies=("lsuv", "scale-branches", "init", "init-scale-branches", "init-lsuv", "zero-branch-ends"),
)

GENTLE = Threshold(
    1.15,
    "fold per layer: each BatchNorm multiplies the gradient by up to 1.2, and published networks of 60 such layers, "
    "whose weights have only a direction, train at 1.13",
)
WARNING = Threshold(
    100, "fold over the whole depth: no single learning rate fits the first and the last layer"
)
ERROR = Threshold(10000.0, "fold over the whole depth: steps that suit the last layer destroy the first")

Evidence = GradientEvidence


def judge(view: View) -> Iterator[Found[Evidence]]:
    trend = gradient_trend(view, 1, Limits(WARNING, ERROR, STEADINESS, GENTLE, SITES))
    if trend is None:
        return
    yield ABOUT.found(
        trend.level,
        trend.evidence.first_site,
        f"the gradient grows {trend}",
        evidence=trend.evidence,
        cause=f"Each {trend.what} multiplies the gradient by about {show(trend.per_site)}.",
        remedy=along(
            trend.evidence.first_site,
            trend.evidence.last_site,
            _RESIDUAL if has_residual_branches(view) else ABOUT.action,
        ),
    )


_RESIDUAL = (  # the usual advice, to add residual connections, has been followed there already
    "Keep the skip paths free of factors, scale the residual branches down or start their last layers at zero, "
    "and clip the gradient's norm (1.0 is a common limit) meanwhile."
)


def _weights_are_large(cause: Found[Saturation], effect: Found[Evidence], view: View) -> bool:
    """What saturates a function's values on the way forward multiplies the gradient on its way back: the weights.
    Where the pre-activation was not measured, the values in the tails show it."""
    evidence = cause.evidence
    return not (isinstance(evidence, FunctionEvidence) and evidence.preactivation_std <= 1)


EXPLAINED_BY = (Cause("UG302"), Cause("UG303", _weights_are_large))

BAD = """
layers = [m for _ in range(45) for m in (nn.Linear(48, 48, bias=False), nn.BatchNorm1d(48), nn.ReLU())]
model = nn.Sequential(*layers, nn.Linear(48, 10))  # each norm multiplies the gradient by about 1.2
report = ug.check(model, (torch.randn(64, 48), torch.randint(10, (64,))))
"""

GOOD = """
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.branch = nn.Sequential(nn.BatchNorm1d(48), nn.ReLU(), nn.Linear(48, 48))

    def forward(self, x):
        return x + self.branch(x)


model = nn.Sequential(*(Block() for _ in range(45)), nn.BatchNorm1d(48), nn.Linear(48, 10))
report = ug.check(model, (torch.randn(64, 48), torch.randint(10, (64,))))
"""
