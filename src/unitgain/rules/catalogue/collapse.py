"""Entries of the rules about what examples share: UG305, UG307."""

from __future__ import annotations

from ..entry import Entry, Threshold

ENTRIES = (
    Entry(
        code="UG305",
        name="mean-shift",
        rank=66,
        seen="At most block outputs the squared mean of a channel is larger than its variance.",
        matters=(
            "What all examples share outweighs what tells them apart: units of the next layer see almost the same "
            "number for every example, and training slows. BatchNorm removes such means; a network without it "
            "has to avoid them."
        ),
        source="Brock et al., Characterizing signal propagation to close the performance gap in unnormalized ResNets, "
        "2021.",
        measured=(
            "Average over channels of the squared channel mean, divided by the average channel variance, at the ends "
            "of blocks. It is judged over the whole depth: one stage behind a max pooling layer is no finding. A "
            "warning if the blocks themselves raised the ratio and no later norm subtracts it again (BatchNorm; "
            "LayerNorm and GroupNorm scale what the examples share and what tells them apart alike); else for "
            "information."
        ),
        thresholds={
            "shift": Threshold(
                1.0,
                "times the variance; the output of one ReLU on centred input has 0.47, a ResNet's blocks 0.3 to 1",
            ),
            "share": Threshold(0.5, "of the block outputs: less is one stage, not the network"),
            "grown": Threshold(
                2.0, "times the ratio at the first block: less was brought by the data or the stem's pooling"
            ),
            "blocks": Threshold(3, "fewer blocks have no depth to speak of"),
        },
        action=(
            "Centre the weights (scaled weight standardization), use a shifted activation whose mean is zero, or scale "
            "the residual branches down."
        ),
        effect="The squared channel mean stays below the channel variance at every block.",
        verify="Check again: signal propagation plot, squared channel mean below variance.",
        silent=("ReLU outputs", "noise images behind max pooling", "class tokens that all examples share"),
    ),
    Entry(
        code="UG307",
        name="collapsed-inputs",
        rank=48,
        seen="From some layer on, different examples have almost the same features.",
        matters=(
            "The layers after it cannot tell the examples apart, and the gradient that could teach them to is the "
            "difference of nearly equal terms: the network trains as if it had one example."
        ),
        source="Poole et al., Exponential expressivity in deep neural networks through transient chaos, 2016; "
        "Schoenholz et al., Deep information propagation, 2017.",
        measured=(
            "Mean cosine between different examples at block outputs, or at linear and convolution layers of networks "
            "without blocks, from the first above the limit to the last. Silent if a later norm subtracts what the "
            "batch shares. Where the shape of the stream changes the cosine has to have come near before: a stream "
            "that begins with a token common to all examples is no collapse. Gates of pooled features are left out."
        ),
        thresholds={
            "cosine": Threshold(
                0.99, "DESIGN's limit; a healthy VGG-16 reaches it on noise images, so it only informs"
            ),
            "warning": Threshold(
                0.9999,
                "a ten-thousandth of the squared norm left for differences; six layers of GELU or SiLU with torch's "
                "default initialization reach 0.9998, and learn",
            ),
            "apart": Threshold(
                0.5,
                "cosine just before: examples that become alike from one site to the next are a warning at any "
                "cosine, since the slow approach of healthy deep networks takes many layers",
            ),
            "approach": Threshold(0.9, "cosine before, where the shape of the stream changes"),
            "inputs": Threshold(0.95, "cosine of the inputs: above it the batch is at fault"),
            "sites": Threshold(3, "fewer layers are not deep"),
        },
        action=(
            "Initialize at the edge of chaos (Kaiming for ReLU, gain near 1.6 with small biases for tanh), set large "
            "biases to zero, or add residual connections with scaled branches."
        ),
        effect="Examples stay apart down to the last layer.",
        verify="Check again: cosine below 0.99 at every layer.",
        silent=(
            "the slow growth of similarity through ReLU layers",
            "pooled features and gates",
            "batches whose examples are alike",
            "class tokens before they have looked at the image",
        ),
    ),
)
