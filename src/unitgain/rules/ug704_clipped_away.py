"""UG704 clipped-away: clipping leaves so little of the gradients that the weights hardly move.

Source: Pascanu, Mikolov and Bengio, On the difficulty of training recurrent neural networks (2013); Brock et al.,
High-performance large-scale image recognition without normalization (2021). The limits are ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ._rule import About, BaseEvidence, CannotJudge, Found, Threshold
from ._updates import ADAPTIVE_GRANTED, ADAPTIVE_STEPS, TARGET, has_converged, is_adaptive, settled_updates
from ._view import View
from ._words import show

ABOUT = About(
    code="UG704",
    name="clipped-away",
    rank=610,
    seen="Clipping shrinks the gradients at nearly every step, and the weights hardly move.",
    matters=(
        "Clipping is there for rare large gradients. Where it cuts every one, it sets the size of all steps, and a "
        "limit that is too low makes training needlessly slow."
    ),
    source=(
        "Pascanu, Mikolov and Bengio, On the difficulty of training recurrent neural networks, 2013; Brock et al., "
        "High-performance large-scale image recognition without normalization, 2021."
    ),
    measured=(
        "In sampled steps: the norm of a sample of each of the largest gradients at the optimizer's step over that "
        "after backward, median over them; whatever shrinks them counts (clip_grad_norm_, clip_grad_value_, "
        "`ug.optim.AGC`). A GradScaler's division by a power of two does not. Then log10(update:data) of the weights "
        "as for UG501."
    ),
    action="Raise the limit of clipping.",
    effect="Only unusually large gradients are clipped, and updates are near a thousandth of the weights.",
    verify="Train again with a Probe: the updates are near 10^-3, and few steps are clipped.",
    needs="run",
    silent=(
        "clipping of some steps",
        "clipping of every step that leaves updates of the right size, as with SGD at a high rate in language models",
        "Adam, whose steps do not depend on the gradients' scale",
    ),
)

NEARLY_ALL = Threshold(0.9, "of the sampled steps: clipping is meant for a few")
STEPS = Threshold(5, "sampled steps: the first gradients may be the large ones")
LEFT = Threshold(0.3, "of the gradients' norm: at more, clipping is not what makes the steps small")
SLOW = Threshold(
    -3.5, "log10(update:data): a third of the rule of thumb, where unclipped steps would be larger"
)
LOSS_SCALE = Threshold(
    1e-3, "of the norm: in half precision less may be a loss scale that is taken out before clipping"
)


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """shrunk: of `judged` sampled steps; left: of the gradients' norm, median; updates: log10(update:data); raise_by:
    what to multiply the limit by; agc: the factor of adaptive clipping, if it is that."""

    shrunk: int
    judged: int
    left: float
    updates: float
    raise_by: float
    agc: float | None = None


def judge(view: View) -> Iterator[Found[Evidence]]:
    shrink = view.facts.loop.shrink
    if shrink.judged < STEPS:
        raise CannotJudge("fewer than five steps of a watched optimizer")
    if shrink.shrunk < NEARLY_ALL * shrink.judged or not shrink.factor < LEFT:
        return
    if is_adaptive(view):
        raise CannotJudge("steps of an adaptive optimizer do not depend on the gradients' scale")
    half = any(m.site.dtype == "float16" for m in view.activations)
    if half and shrink.factor < LOSS_SCALE:
        raise CannotJudge("gradients may have been divided by a loss scale")
    updates = settled_updates(view, TARGET, ADAPTIVE_GRANTED, ADAPTIVE_STEPS)
    if updates.judged >= SLOW or has_converged(view, updates.ratios):
        return
    factor = min(1 / shrink.factor, updates.factor)
    agc = None if math.isnan(shrink.agc) else shrink.agc
    known = f" from {show(agc)} to about {show(agc * factor)}" if agc else ""
    limit = f"clipping={show(agc)} of AGC" if agc else "The limit of clipping"
    yield ABOUT.found(
        "warning",
        None,
        f"gradients are shrunk to {show(shrink.factor)} of their norm before the optimizer's step in "
        f"{shrink.shrunk} of {shrink.judged} sampled steps, and the weights change by "
        f"10^{updates.median:.1f} of their size per step",
        evidence=Evidence(shrink.shrunk, shrink.judged, shrink.factor, updates.median, factor, agc),
        cause=f"{limit} lies far below the gradients' usual size.",
        remedy=f"Raise the limit of clipping{known}: multiply it by {show(factor)}, or leave clipping out.",
    )


EXPLAINED_BY = ()

BAD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
x = torch.randn(1024, 20)
y = x @ torch.randn(20, 1) / 20**0.5
with ug.Probe(model, optimizer, every=10) as probe:
    for step in range(100):
        some = torch.randint(len(x), (64,))
        loss = F.mse_loss(model(x[some]), y[some])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
        optimizer.step()
report = ug.diagnose(probe.record)
"""

GOOD = """
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
x = torch.randn(1024, 20)
y = x @ torch.randn(20, 1) / 20**0.5
with ug.Probe(model, optimizer, every=10) as probe:
    for step in range(100):
        some = torch.randint(len(x), (64,))
        loss = F.mse_loss(model(x[some]), y[some])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
report = ug.diagnose(probe.record)
"""
