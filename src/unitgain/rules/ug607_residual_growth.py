"""UG607 residual-growth: the stream's variance multiplies from block to block instead of adding up.

Source: Zhang et al., Fixup initialization (2019); De and Smith (2020), from whom the growth that adds up is known.
The estimate by the later half of the blocks is ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ._flow import block_ends, has_residual_branches
from ._residual import Block, growth_of_stream, residual_blocks
from ._rule import About, BaseEvidence, CannotJudge, Found, Threshold
from ._trend import SITES
from ._view import View
from ._words import along, fold, show

ABOUT = About(
    code="UG607",
    name="residual-growth",
    rank=190,
    seen="The variance of a residual stream multiplies from block to block.",
    matters=(
        "Each branch adds a share of the whole stream's variance, so that it grows exponentially with depth: "
        "huge logits and gradients. Healthy streams add about the same amount per block (with normalized "
        "branches) or next to nothing (zero-initialized ones)."
    ),
    source=(
        "Zhang et al., Fixup initialization, 2019; De and Smith, Batch normalization biases residual blocks "
        "towards the identity function, 2020."
    ),
    measured=(
        "Ratio of the mean square between neighbouring block outputs of one shape. The median over the later "
        "half of the blocks is judged: where the stream adds up, the ratio is (l + 1)/l and falls to one; "
        "where it multiplies, it stays. The growth over all blocks, the smaller of what the ends show and "
        "what that ratio gives, must be large as well, so that resets between stages count and a first jump "
        "from a small embedding does not."
    ),
    action=(
        "Start the last layer of each branch at zero (or its norm's gain, or a learned scalar), or multiply "
        "each branch by 1/sqrt(number of blocks)."
    ),
    effect="The stream's variance stays within a small factor from the first block to the last.",
    verify="Check again: rms over block outputs is flat or grows like a square root.",
    remedies=("scale-branches", "lsuv", "init-lsuv", "zero-branch-ends", "init-scale-branches"),
    silent=(
        "pre-norm streams, which add one unit per block",
        "transitions between stages",
        "networks without residual branches",
    ),
)

PER_BLOCK = Threshold(1.3, "fold in variance; a sum of four or more equal blocks is below it")
TOTAL = Threshold(16, "fold in variance over all blocks: four doublings")
ERROR = Threshold(1000000.0, "fold in variance: rms a thousandfold, as for UG302")
BLOCKS = Threshold(4, "blocks: fewer ratios make no trend")
SKIP = Threshold(1.5, "times the stream: a skip path that multiplies it by more is named as the cause")
LEAST_SHARE = Threshold(
    0.1, "of the stream's variance that a block is taken to add at least, where it was not measured"
)


@dataclass(frozen=True)
class Evidence(BaseEvidence):
    """per_block: fold of the variance in the typical later block; change: fold over all."""

    per_block: float
    change: float
    blocks: int
    first_site: str
    last_site: str

    @property
    def size(self) -> float:
        """Decades of variance over all blocks."""
        return math.log10(self.change)


def judge(view: View) -> Iterator[Found[Evidence]]:
    ends = [m for m in block_ends(view) if m["rms"] > 0 and math.isfinite(m["rms"])]
    if not has_residual_branches(view) or len(ends) < BLOCKS:
        raise CannotJudge("fewer than four residual blocks")
    log = 2 * np.log10([m["rms"] for m in ends])
    steps = np.array(
        [
            after - before
            for (a, before), (b, after) in zip(zip(ends, log), zip(ends[1:], log[1:]))
            if a.site.shape == b.site.shape
        ]
    )
    if len(steps) < BLOCKS - 1:
        raise CannotJudge("too few neighbouring blocks of one shape")
    later = float(np.median(steps[len(steps) // 2 :]))
    # without a first jump from a small embedding
    total = min(float(log[-1] - log[0]), later * (len(ends) - 1))
    if later <= math.log10(PER_BLOCK) or total <= math.log10(TOTAL):
        return
    first, last = ends[0], ends[-1]
    cause, remedy = _why(view, len(ends), fold(later))
    yield ABOUT.found(
        "error" if total > math.log10(ERROR) else "warning",
        first.name,
        f"the residual stream's variance multiplies by {show(fold(later))} per block and grows "
        f"{show(fold(total))}-fold over {len(ends)} blocks: rms {show(first['rms'])} at {first.name}, "
        f"{show(last['rms'])} at {last.name}",
        evidence=Evidence(fold(later), fold(total), len(ends), first.name, last.name),
        cause=cause,
        remedy=along(first.name, last.name, remedy),
    )


def _why(view: View, blocks: int, per_block: float) -> tuple[str, str]:
    """(cause, remedy): through its branches or its skip paths, where what is added to the stream was measured."""
    found = residual_blocks(view)
    if len(found) >= SITES:
        return why_stream_grows(found)
    scale = show(1 / math.sqrt(blocks * max(per_block - 1, LEAST_SHARE)))
    return (
        "Each branch adds a share of the stream's own variance, as branches do that nothing normalizes or scales "
        "down.",
        f"{ABOUT.action} (Multiplying each branch by {scale} keeps the growth over all blocks below a factor of e.)",
    )


def why_stream_grows(blocks: Sequence[Block]) -> tuple[str, str]:
    """(cause, remedy) where a residual stream grows from block to block: through its skips or its branches."""
    number, growth = len(blocks), growth_of_stream(blocks)
    if math.isnan(growth.skip):
        factor = f"1/sqrt({number}) = {show(1 / math.sqrt(number))}"
        return (
            "Each block multiplies the stream: through what its branch adds, or through a factor on its skip path.",
            f"Multiply each branch's output by a further {factor}, or start its last layer at zero; and "
            "see that the block's input is added as it is.",
        )
    if growth.skip > SKIP:
        return (
            f"The skip path itself multiplies the stream by about {show(growth.skip)} in each block; the branches add "
            "little to that.",
            f"Add the block's input as it is: x + branch(x), without the factor of about {show(growth.skip)}.",
        )
    relative = growth.relative
    scale = min(1.0, 1 / (relative * math.sqrt(number))) if relative > 0 else 1.0
    return (
        f"What each block adds is about {show(relative)} times the stream that enters it, so that the stream "
        "multiplies from block to block.",
        f"Multiply each branch's output by about {show(scale)}, which keeps the whole growth below two over "
        f"these {number} blocks; or start its last layer at zero, or normalize what goes into the branch.",
    )


EXPLAINED_BY = ()

BAD = """
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False)
        nn.init.kaiming_normal_(self.up.weight)
        nn.init.normal_(self.down.weight, std=1 / 64**0.5)  # adds as much as is there

    def forward(self, x):
        return x + self.down(F.relu(self.up(x)))


model = nn.Sequential(*(Block() for _ in range(10)), nn.Linear(64, 10))
nn.init.normal_(model[-1].weight, std=0.001)
report = ug.check(model, (torch.randn(256, 64), torch.randint(10, (256,))))
"""

GOOD = """
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False)
        nn.init.kaiming_normal_(self.up.weight)
        nn.init.zeros_(self.down.weight)

    def forward(self, x):
        return x + self.down(F.relu(self.up(x)))


model = nn.Sequential(*(Block() for _ in range(10)), nn.Linear(64, 10))
nn.init.normal_(model[-1].weight, std=0.001)
report = ug.check(model, (torch.randn(256, 64), torch.randint(10, (256,))))
"""
