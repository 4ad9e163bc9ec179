"""Entries of the rules about initialization, weight by weight: UG605, UG606."""

from __future__ import annotations

from ..entry import Entry, Threshold

ENTRIES = (
    Entry(
        code="UG605",
        name="wrong-gain",
        rank=58,
        seen="A weight's scale does not fit its fan-in and activation function, and nothing normalizes it later.",
        matters=(
            "The layer multiplies the scale of the signal by the wrong factor. One such layer costs little; many in a "
            "row are vanishing or exploding activations."
        ),
        source="He et al., Delving deep into rectifiers, 2015; gains by quadrature (unitgain.theory.gain).",
        measured=(
            "Gain of the weight: its rms times the root of its fan-in, against the gain that keeps the scale after the "
            "function before it, or for the function after it (both are in use; whatever lies between passes). Judged "
            "are layers that feed an activation function, in untrained models, without any norm later, whose measured "
            "output is off to the same side. PyTorch's default for Linear and Conv (uniform, a = sqrt(5)) has gain "
            "0.58, which is 0.41 of what ReLU needs. Networks of a few layers train well with it, so a wrong gain "
            "alone is for information; it is a warning where a layer is off much further than that and its output "
            "shows it. Where the deviation adds up over depth, UG301 or UG302 says so and this is its consequence."
        ),
        thresholds={
            "low": Threshold(0.7, "of the needed gain: half of the variance"),
            "high": Threshold(1.4, "of the needed gain: twice the variance"),
            "small": Threshold(
                0.5, "rms of the output (above: 2): a layer whose output has unit scale is fine as it is"
            ),
            "severe": Threshold(5.0, "fold: twice as far off as PyTorch's default"),
            "suffers": Threshold(
                0.2, "rms of the output (above: 5): off by as much as the gain, from unit scale"
            ),
        },
        action=(
            "Initialize for the activation function: Kaiming normal (gain 1.41) for ReLU, gain 1.59 for tanh, 1 for "
            "layers without one."
        ),
        effect="The layer's output has the scale of its input.",
        verify="Check again: rms near one.",
        auto=True,
        silent=(
            "layers with a normalization somewhere after them",
            "trained weights",
            "standardized weights, whose stored scale has no effect",
            "the output layer",
        ),
    ),
    Entry(
        code="UG606",
        name="symmetric-units",
        rank=18,
        seen="Units of a layer have the same weights, or weights of zero hold one another at zero.",
        matters=(
            "Units that start the same and get the same gradient stay the same: the layer has the capacity of one. "
            "Zero weights whose input or incoming gradient is zero because of other zero weights never move."
        ),
        source="Goodfellow et al., Deep learning, 2016, section 8.4.",
        measured=(
            "Rows of each weight (of recurrent layers input and hidden together) that are equal to a millionth; of "
            "these, rows whose gradient is equal too, and that of their biases. Depthwise and grouped convolutions are "
            "compared within a group. All-zero weights count only if their gradient is exactly zero and no other "
            "zero parameter before or after them is about to move: a zero-initialized end of a branch, a zero gain or "
            "a zero head opens the way by itself after one step."
        ),
        thresholds={
            "share": Threshold(0.1, "of the units: fewer copies are no loss of width"),
            "error": Threshold(
                0.5, "of the units with the same gradient: the layer cannot become what it was built for"
            ),
        },
        action="Initialize the layer with random weights (Kaiming or Glorot).",
        effect="Every unit learns something of its own.",
        verify="Check again.",
        auto=True,
        silent=(
            "zero-initialized ends of residual branches, gates and classifiers",
            "biases, gains and embeddings",
            "depthwise filters that start alike",
            "pruned units (zero rows)",
        ),
    ),
)
