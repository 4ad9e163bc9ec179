"""Entries of the rules about gradients of unlike size, and too small for their dtype: UG404, UG406."""

from __future__ import annotations

from ..entry import Entry, Threshold

ENTRIES = (
    Entry(
        code="UG404",
        name="uneven-gradient",
        rank=56,
        seen="A weight gets far more or far less gradient for its size than the weights of its kind.",
        matters=(
            "With one learning rate for all, it moves too fast or hardly at all. Optimizers that divide by the "
            "gradient's size (Adam) hide it, SGD does not."
        ),
        source="You et al., Large batch training of convolutional networks (LARS), 2017: the ratio of gradient to "
        "weight differs from layer to layer and limits the learning rate.",
        measured=(
            "log10 of the gradient's std over the weight's std, against the median of the weights at the same place of "
            "repeated blocks (names that differ in numbers only, at least four). Different kinds are not compared: "
            "queries get a hundredth of what values get, gates less than what they gate. Embeddings, the head, frozen "
            "weights and zero ones are left out. Of several, one whose own scale is unlike its peers' is named first."
        ),
        thresholds={
            "fold": Threshold(
                10,
                "times the median of its kind, for information: early depthwise layers of healthy networks reach 40",
            ),
            "warning": Threshold(
                100,
                "times: beyond what was seen in sixty healthy networks, and two decades as for updates (UG503)",
            ),
            "peers": Threshold(4, "fewer have no median that one odd weight could not move"),
        },
        action="Initialize the named weight like its peers, or give it a learning rate or a scale of its own.",
        effect="Weights of one kind learn at comparable speed.",
        verify="Check again: gradient:data ratios within a factor of ten.",
        silent=("first and last stages of a network", "queries, keys and gates", "zero-initialized weights"),
    ),
    Entry(
        code="UG406",
        name="gradient-underflow",
        rank=36,
        seen="Many gradient values are too small for the dtype that holds them.",
        matters=(
            "Below the smallest normal number digits are lost, and a little further down the value is zero: those "
            "weights stop learning."
        ),
        source="Micikevicius et al., Mixed precision training, 2018.",
        measured=(
            "Fraction of non-zero magnitudes below the smallest normal number of the tensor's dtype (6.1e-5 in "
            "float16, 1.2e-38 in bfloat16 and float32): with autocast gradients of activations are in half precision, "
            "in a half-precision model those of weights too. Gradients are judged as they are, so a loss scale in use "
            "counts; check itself scales nothing."
        ),
        thresholds={
            "warning": Threshold(0.2, "of a tensor's non-zero values"),
            "error": Threshold(0.5, "of all non-zero values"),
        },
        action="Scale the loss (torch.amp.GradScaler), or compute in bfloat16, whose smallest number is float32's.",
        effect="Gradient values stay within the dtype's normal range.",
        verify="Check in bfloat16, or watch a training step with the scaler in place.",
        silent=("small gradients that their dtype still holds", "exact zeros (ReLU, masks)"),
    ),
)
