"""Entry of the rule about residual streams: UG607."""

from __future__ import annotations

from ..entry import Entry, Threshold

ENTRIES = (
    Entry(
        code="UG607",
        name="residual-growth",
        rank=19,
        seen="The variance of a residual stream multiplies from block to block.",
        matters=(
            "Each branch adds a share of the whole stream's variance, so that it grows exponentially with depth: "
            "huge logits and gradients. Healthy streams add about the same amount per block (with normalized branches) "
            "or next to nothing (zero-initialized ones)."
        ),
        source="Zhang et al., Fixup initialization, 2019; De and Smith, Batch normalization biases residual blocks "
        "towards the identity function, 2020.",
        measured=(
            "Ratio of the mean square between neighbouring block outputs of one shape. The median over the later half "
            "of the blocks is judged: where the stream adds up, the ratio is (l + 1)/l and falls to one; where it "
            "multiplies, it stays. The growth over all blocks, the smaller of what the ends show and what that ratio "
            "gives, must be large as well, so that resets between stages count and a first jump from a small embedding "
            "does not."
        ),
        thresholds={
            "per_block": Threshold(1.3, "fold in variance; a sum of four or more equal blocks is below it"),
            "total": Threshold(16, "fold in variance over all blocks: four doublings"),
            "error": Threshold(1e6, "fold in variance: rms a thousandfold, as for UG302"),
            "blocks": Threshold(4, "fewer ratios make no trend"),
        },
        action=(
            "Start the last layer of each branch at zero (or its norm's gain, or a learned scalar), or multiply each "
            "branch by 1/sqrt(number of blocks)."
        ),
        effect="The stream's variance stays within a small factor from the first block to the last.",
        verify="Check again: rms over block outputs is flat or grows like a square root.",
        auto=True,
        silent=(
            "pre-norm streams, which add one unit per block",
            "transitions between stages",
            "networks without residual branches",
        ),
    ),
)
