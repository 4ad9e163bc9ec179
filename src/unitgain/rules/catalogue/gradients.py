"""Entries of the rules about gradients: UG4xx."""

from __future__ import annotations

from ..entry import Entry, Threshold

ENTRIES = (
    Entry(
        code="UG401",
        name="vanishing-gradient",
        rank=32,
        seen="The gradient falls steadily on its way back from the last layer to the first.",
        matters="The first layers learn orders of magnitude slower than the last.",
        source=(
            "Hochreiter, 1991; Glorot and Bengio, Understanding the difficulty of training deep "
            "feedforward neural networks, 2010."
        ),
        measured=(
            "Norm per example of the loss's gradient at the outputs of linear and convolution layers. The "
            "norm, not the rms: strides and pooling change the number of positions, and a layer that "
            "keeps the forward variance (fan-in initialization) keeps the norm of the gradient and not "
            "its rms; the weights' gradient follows the norm too. Trend as for UG301."
        ),
        thresholds={
            "warning": Threshold(100, "fold over the whole depth"),
            "error": Threshold(10000.0, "fold over the whole depth"),
            "steadiness": Threshold(0.6, "as for UG301"),
            "gentle": Threshold(
                1.1,
                "fold per layer: slower drift is harmless (deep BatchNorm networks, pooled noise) until it "
                "reaches the error's limit, and a warning then",
            ),
            "default": Threshold(
                2000,
                "fold: up to it for information only where the weights have torch's default scale; six such "
                "layers stay below it, strided convolutions with SiLU included",
            ),
            "sites": Threshold(3, "fewer make no trend; of three, the smaller step counts twice"),
        },
        action=(
            "Initialize so that every layer's gain is one; where depth alone does it, add residual "
            "connections or normalization layers."
        ),
        effect="The first and the last layer learn at comparable speed.",
        verify="Check again: the gradient's scale over depth is flat.",
        auto=True,
        silent=(
            "feature maps that shrink with depth",
            "zero heads and zero-initialized branches",
        ),
    ),
    Entry(
        code="UG402",
        name="exploding-gradient",
        rank=30,
        seen="The gradient grows steadily on its way back from the last layer to the first.",
        matters=(
            "Steps that suit the last layers throw the first ones far away; the loss jumps or becomes NaN."
        ),
        source=(
            "Pascanu et al., On the difficulty of training recurrent neural networks, 2013; Yang et al., "
            "A mean field theory of batch normalization, 2019 (why deep BatchNorm networks without "
            "shortcuts do it)."
        ),
        measured=(
            "As for UG401, growing; in a residual network at the outputs of its blocks, if there are three or "
            "more: inside a block the scales alternate."
        ),
        thresholds={
            "warning": Threshold(100, "fold over the whole depth"),
            "error": Threshold(10000.0, "fold over the whole depth"),
            "steadiness": Threshold(0.6, "as for UG301"),
            "gentle": Threshold(
                1.1,
                "fold per layer: slower drift is harmless (deep BatchNorm networks, pooled noise) until it "
                "reaches the error's limit, and a warning then",
            ),
            "sites": Threshold(3, "fewer make no trend; of three, the smaller step counts twice"),
        },
        action=(
            "Initialize so that every layer's gain is one, add residual connections, and clip the "
            "gradient's norm (1.0 is a common limit) meanwhile."
        ),
        effect="The first and the last layer learn at comparable speed.",
        verify="Check again: the gradient's scale over depth is flat.",
        auto=True,
    ),
    Entry(
        code="UG403",
        name="no-gradient",
        rank=24,
        seen="A trainable parameter gets no gradient, or one that is exactly zero.",
        matters=(
            "It never learns, but costs memory, optimizer state and, in data-parallel training, an error."
        ),
        source=(
            "PyTorch documentation: autograd mechanics; DistributedDataParallel, find_unused_parameters."
        ),
        measured=(
            "Parameters without a gradient after backward, or with one that is zero everywhere. The "
            "reason is read off the sites: the owner never ran; it ran, but its output has no gradient; a "
            "zero gradient came back, and from which site on. One finding per reason."
        ),
        thresholds={
            "error": Threshold(
                0.5, "of all the numbers in trainable parameters: a few biases are no disaster"
            ),
        },
        action=("Use the parameter in the forward pass and the loss, or freeze it (requires_grad=False)."),
        effect="Every trainable parameter learns.",
        verify="Check again.",
        silent=(
            "frozen parameters",
            (
                "everything before a zero-initialized head or inside a zero-initialized branch: it gets "
                "gradient after one step"
            ),
            (
                "a bias whose effect cancels (before BatchNorm, or of attention keys) while its weight "
                "gets gradient"
            ),
        ),
    ),
    Entry(
        code="UG405",
        name="gradient-not-finite",
        rank=6,
        seen="The loss is finite but a gradient is NaN or infinite.",
        matters="The next optimizer step destroys the weights.",
        source=("PyTorch documentation: gradients of functions at points where they are not differentiable."),
        measured=(
            "Non-finite values in the gradients of parameters and activations, in backward order. In a "
            "training run only if the last two sampled steps both have them, since loss scaling overflows "
            "now and then by design."
        ),
        thresholds={},
        action=(
            "Look at what lies right after the named site: a root or norm at exactly zero, a division, a "
            "logarithm, or torch.where around one of them (mask its input, not its output)."
        ),
        effect="Finite gradients.",
        verify="Check again.",
    ),
)
