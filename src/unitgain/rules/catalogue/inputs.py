"""Entries of the rules about the batch: UG2xx."""

from __future__ import annotations

from ..entry import Entry, Threshold

ENTRIES = (
    Entry(
        code="UG201",
        name="input-not-normalized",
        rank=60,
        seen="A floating-point input is far from mean 0 and standard deviation 1.",
        matters=(
            "Initialization assumes inputs of unit variance: pixels from 0 to 255 make the first layer's "
            "output hundreds of times too large. A mean far from zero makes all gradients of a unit's "
            "incoming weights share their sign, which slows descent."
        ),
        source="LeCun et al., Efficient BackProp, 1998.",
        measured=(
            "Mean and standard deviation over the whole input. Normalized data has varying small batches, "
            "so that the limits widen with 1/sqrt(examples), unless no value is negative: normalized data "
            "always has negative values."
        ),
        thresholds={
            "mean": Threshold(0.25, "largest magnitude of the mean"),
            "std_low": Threshold(0.5, "smallest standard deviation; pixels from 0 to 1 have about 0.3"),
            "std_high": Threshold(2.0, "largest standard deviation"),
            "slack": Threshold(2.0, "divided by sqrt(examples): widens the limits"),
            "values": Threshold(64, "fewer values than these say nothing"),
            "explains": Threshold(
                3.0,
                "rms from which the input explains large logits and saturated first layers",
            ),
        },
        action="Subtract the mean and divide by the standard deviation of the training data.",
        effect="The first layer's output has the scale that its initialization was made for.",
        verify="Check again: mean within 0.25 of zero, standard deviation between 0.5 and 2.",
        auto=True,
        silent=(
            "integers: token indices, class indices",
            "masks and one-hot inputs (all values 0 or 1)",
            ("embeddings given as input, and inputs that go straight into a normalization layer"),
            "one number per example, such as a time step",
        ),
    ),
    Entry(
        code="UG202",
        name="input-not-finite",
        rank=0,
        seen="NaN or infinity in the batch.",
        matters="It reaches every weight within one step.",
        source="IEEE 754: NaN and infinity propagate through arithmetic.",
        measured=(
            "Fraction of non-finite values in each floating-point input, and the examples that hold them."
        ),
        thresholds={},
        action=(
            "Find out where the data loader lets NaN or infinity through (a missing value, a division by "
            "a zero standard deviation, a logarithm of zero) and repair or drop these examples."
        ),
        effect="All that follows from it disappears too.",
        verify="Check again on the same examples.",
        silent=("an additive mask that holds minus infinity",),
    ),
)
