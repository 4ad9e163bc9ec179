"""UG401 vanishing-gradient: the gradient falls steadily on its way back from the last layer to the first.

Source: Hochreiter (1991), Glorot and Bengio (2010). Deviation: the norm per example is compared, not the variance,
since feature maps change their size from layer to layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ._causes import is_error
from ._flow import has_residual_branches
from ._gradient_scale import GradientEvidence, gradient_trend
from ._rule import About, Cause, Found, Threshold
from ._trend import GENTLE, SITES, STEADINESS, Limits
from ._view import View
from ._words import along, show

if TYPE_CHECKING:
    from . import ug303_saturated as ug303

ABOUT = About(
    code="UG401",
    name="vanishing-gradient",
    rank=320,
    seen="The gradient falls steadily on its way back from the last layer to the first.",
    matters="The first layers learn orders of magnitude slower than the last.",
    source=(
        "Hochreiter, 1991; Glorot and Bengio, Understanding the difficulty of training deep feedforward "
        "neural networks, 2010."
    ),
    measured=(
        "Norm per example of the loss's gradient at the outputs of linear and convolution layers. The norm, "
        "not the rms: strides and pooling change the number of positions, and a layer that keeps the forward "
        "variance (fan-in initialization) keeps the norm of the gradient and not its rms; the weights' "
        "gradient follows the norm too. Trend as for UG301."
    ),
    action=(
        "Initialize so that every layer's gain is one; where depth alone does it, add residual connections or "
        "normalization layers."
    ),
    effect="The first and the last layer learn at comparable speed.",
    verify="Check again: the gradient's scale over depth is flat.",
    remedies=("lsuv", "scale-branches", "init", "init-scale-branches", "init-lsuv", "zero-branch-ends"),
    silent=(
        "feature maps that shrink with depth",
        "zero heads and zero-initialized branches",
    ),
)

WARNING = Threshold(
    100, "fold over the whole depth: no single learning rate fits the first and the last layer"
)
ERROR = Threshold(
    10000.0, "fold over the whole depth: at a rate that suits the last layer the first ones stand still"
)
DEFAULT = Threshold(
    2000,
    "fold: up to it for information only where the weights have torch's default scale; six such layers "
    "stay below it, strided convolutions with SiLU included",
)
SEVERAL = Threshold(3, "saturated layers that together weaken the gradient by orders of magnitude")

Evidence = GradientEvidence


def judge(view: View) -> Iterator[Found[Evidence]]:
    trend = gradient_trend(view, -1, Limits(WARNING, ERROR, STEADINESS, GENTLE, SITES, DEFAULT))
    if trend is None:
        return
    cause = f"Each {trend.what} multiplies the gradient by about {show(trend.per_site)}."
    if trend.level == "info":
        cause += " So does torch's default initialization in a few layers."
    yield ABOUT.found(
        trend.level,
        trend.evidence.first_site,
        f"the gradient falls {trend}",
        evidence=trend.evidence,
        cause=cause,
        remedy=along(
            trend.evidence.first_site,
            trend.evidence.last_site,
            _RESIDUAL if has_residual_branches(view) else ABOUT.action,
        ),
    )


_RESIDUAL = (  # the usual advice, to add residual connections, has been followed there already
    "Initialize so that every layer's gain is one, and see that nothing but the block's input goes through the "
    "skip paths: a factor below one, or a function on them, multiplies from block to block."
)


def _several_or_error(cause: Found[ug303.Evidence], effect: Found[Evidence], view: View) -> bool:
    """Saturated enough to weaken the gradient by orders of magnitude: badly, or in several layers."""
    return cause.severity == "error" or len(cause.evidence.sites) >= SEVERAL


EXPLAINED_BY = (Cause("UG507"), Cause("UG301"), Cause("UG303", _several_or_error), Cause("UG304", is_error))

BAD = """
layers = [m for _ in range(8) for m in (nn.Linear(64, 64), nn.Sigmoid())]  # slopes of 1/4 at most
model = nn.Sequential(*layers, nn.Linear(64, 10))
for layer in layers[::2]:
    nn.init.normal_(layer.weight, std=1 / 64**0.5)
report = ug.check(model, (torch.randn(256, 64), torch.randint(10, (256,))))
"""

GOOD = """
layers = [m for _ in range(8) for m in (nn.Linear(64, 64), nn.ReLU())]
model = nn.Sequential(*layers, nn.Linear(64, 10))
for layer in layers[::2]:
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
report = ug.check(model, (torch.randn(256, 64), torch.randint(10, (256,))))
"""
