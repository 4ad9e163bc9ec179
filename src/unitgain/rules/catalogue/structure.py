"""Entries of the rules about how layers are put together: UG6xx."""

from __future__ import annotations

from ..entry import Entry

ENTRIES = (
    Entry(
        code="UG601",
        name="redundant-bias",
        rank=80,
        seen="A bias right before a normalization layer that subtracts each channel's mean.",
        matters=(
            "The mean takes the bias out again: it has no effect and gets no gradient. Harmless, but wasted."
        ),
        source="Ioffe and Szegedy, Batch normalization, 2015, section 3.2.",
        measured=(
            "Biases of modules whose output goes into BatchNorm or InstanceNorm and nowhere else. "
            "LayerNorm and GroupNorm subtract a mean over several channels, so that a bias before them "
            "matters."
        ),
        thresholds={},
        action="Build the layer with bias=False.",
        effect="The same function with fewer parameters.",
        verify="Check again.",
        auto=True,
        silent=(
            "biases before LayerNorm or GroupNorm",
            "frozen biases",
        ),
    ),
)
