"""UG305 mean-shift: at most block outputs the squared mean of a channel is larger than its variance.

Source: Brock et al., Characterizing signal propagation to close the performance gap in unnormalized ResNets
(2021). The limit, and which shifts are for information only, are ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ._flow import block_ends, has_residual_branches, mean_is_subtracted_later, norm_follows
from ._loss_curve import learns_at_once
from ._rule import About, BaseEvidence, CannotJudge, Cause, Found, Threshold
from ._view import View
from ._words import listed, show

ABOUT = About(
    code="UG305",
    name="mean-shift",
    rank=660,
    seen="At most block outputs the squared mean of a channel is larger than its variance.",
    matters=(
        "What all examples share outweighs the differences between them: units of the next layer see almost the same "
        "number for every example, and training slows. BatchNorm removes such means; a network without it has "
        "to avoid them."
    ),
    source=(
        "Brock et al., Characterizing signal propagation to close the performance gap in unnormalized "
        "ResNets, 2021."
    ),
    measured=(
        "Average over channels of the squared channel mean, divided by the average channel variance, at the "
        "ends of blocks. It is judged over the whole depth: one stage behind a max pooling layer is no "
        "finding. A warning if the blocks themselves raised the ratio and no later norm subtracts it again "
        "(BatchNorm; LayerNorm and GroupNorm scale both by the same factor), and it is larger than in networks that "
        "train well; else for information."
    ),
    action=(
        "Centre the weights (scaled weight standardization), use a shifted activation whose mean is zero, or "
        "scale the residual branches down."
    ),
    effect="The squared channel mean stays below the channel variance at every block.",
    verify="Check again: signal propagation plot, squared channel mean below variance.",
    remedies=("lsuv", "init", "standardize-weights"),
    silent=(
        "ReLU outputs",
        "noise images behind max pooling",
        "class tokens that all examples share",
    ),
)

SHIFT = Threshold(
    1.0,
    "times the variance; the output of one ReLU on centred input has 0.47, a ResNet's blocks 0.3 to 1",
)
BORNE = Threshold(
    3.0,
    "times the variance at the last block, where nothing is added up: five layers of sines reach 2.4, and train well",
)
NORMALIZED = Threshold(
    10.0,
    "times the variance before a norm of another kind, which keeps both in range: PiT's last stage begins at 3",
)
SHARE = Threshold(0.5, "of the block outputs: less is one stage, not the network")
GROWN = Threshold(
    2.0,
    "times the ratio at the first block: less was brought by the data or the stem's pooling",
)
BLOCKS = Threshold(3, "block outputs: fewer show no course over depth")


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """Squared channel mean over channel variance: of every site beyond the limit, of the first block and the last."""

    sites: Mapping[str, float]
    first: float
    last: float
    normalized_later: bool

    @property
    def size(self) -> float:
        """Decades of the squared mean above the variance, at the last block."""
        return math.log10(self.last) if self.last > 0 else -math.inf


def judge(view: View) -> Iterator[Found[Evidence]]:
    ends = [m for m in block_ends(view) if m.positions * m.examples > 1 and m["channel_var"] > 0]
    ends = [m for m in ends if math.isfinite(m["sq_channel_mean"])]
    if len(ends) < BLOCKS:
        raise CannotJudge("fewer than three block outputs with channels")
    shift = [m["sq_channel_mean"] / m["channel_var"] for m in ends]
    over = [s > SHIFT for s in shift]
    if sum(over) <= SHARE * len(ends) or not over[-1]:
        return
    first = ends[over.index(True)]
    made_here = shift[-1] > GROWN * shift[0]
    limit = SHIFT if has_residual_branches(view) else BORNE
    if norm_follows(view, ends[-1]):
        limit = NORMALIZED
    subtracted = mean_is_subtracted_later(view, ends[-1])
    harmless = subtracted or learns_at_once(view, view.facts.loss_of_a_constant)
    shifted = {m.name: s for m, s, o in zip(ends, shift, over) if o}
    yield ABOUT.found(
        "warning" if made_here and not harmless and shift[-1] > limit else "info",
        first.name,
        f"the squared channel mean exceeds the channel variance at {sum(over)} of {len(ends)} block outputs "
        f"({show(shift[0])} times at {ends[0].name}, {show(shift[-1])} times at {ends[-1].name})",
        evidence=Evidence(shifted, shift[0], shift[-1], subtracted),
        cause="Activations that are never negative have a mean, weights that do not sum to zero pass it on, and "
        "shortcuts add it up."
        if made_here
        else "The mean is there before the first block (max pooling, or the data) and is passed on.",
        remedy="Centre the weights (scaled weight standardization), use a shifted activation whose mean is zero, or "
        f"scale the residual branches down, in the blocks that end at {listed(shifted)}.",
    )


EXPLAINED_BY = (Cause("UG102"), Cause("UG301"), Cause("UG302"), Cause("UG607"), Cause("UG307"))

BAD = """
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(64, 64), nn.Linear(64, 64)
        nn.init.normal_(self.down.bias, std=0.5)  # the same for every example

    def forward(self, x):
        return x + self.down(F.relu(self.up(x)))


model = nn.Sequential(*(Block() for _ in range(10)), nn.Linear(64, 10))
report = ug.check(model, (torch.randn(256, 64), torch.randint(10, (256,))))
"""

GOOD = """
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(64, 64), nn.Linear(64, 64)
        nn.init.zeros_(self.down.bias)

    def forward(self, x):
        return x + self.down(F.relu(self.up(x)))


model = nn.Sequential(*(Block() for _ in range(10)), nn.Linear(64, 10))
report = ug.check(model, (torch.randn(256, 64), torch.randint(10, (256,))))
"""
