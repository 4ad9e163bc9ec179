"""Entries of the rules about activations: UG3xx."""

from __future__ import annotations

from ..entry import Entry, Threshold

_GLOROT = "Glorot and Bengio, Understanding the difficulty of training deep feedforward neural networks, 2010"
_HE = "He et al., Delving deep into rectifiers, 2015"

ENTRIES = (
    Entry(
        code="UG301",
        name="vanishing-activations",
        rank=22,
        seen="The scale of the activations falls steadily from layer to layer.",
        matters=(
            "Each layer has a gain below one, and so has the way back: early layers hardly learn, and in "
            "half precision the signal ends as zero."
        ),
        source=f"{_GLOROT}; {_HE}.",
        measured=(
            "rms of the outputs of linear and convolution layers in execution order. The change is the "
            "Theil-Sen slope of log10(rms) times the number of layers, or that between the first and the last, "
            "or that without the largest step, whichever is smallest; steadiness is Kendall's tau. Left "
            "out: the model's output, exact zeros, gates computed from pooled features. The change must "
            "exceed the limit also after what pooling layers multiplied the scale by is taken out: average "
            "pooling shrinks noise, whatever the weights."
        ),
        thresholds={
            "warning": Threshold(10, "fold over the whole depth"),
            "error": Threshold(1000, "fold over the whole depth"),
            "steadiness": Threshold(
                0.6,
                (
                    "four pairs of layers fall for each that rises; networks with normalization stay "
                    "within 0.3 of zero"
                ),
            ),
            "gentle": Threshold(
                1.1,
                "fold per layer: slower drift is harmless (deep BatchNorm networks, pooled noise) until it "
                "reaches the error's limit, and a warning then",
            ),
            "default": Threshold(
                100,
                "fold: up to it for information only where the weights have torch's default scale; six such "
                "layers stay below it",
            ),
            "sites": Threshold(3, "fewer make no trend; and without its largest step it must still be one"),
        },
        action=(
            "Initialize for the activation function: Kaiming (variance 2/fan_in) for ReLU and its kin, "
            "gain 5/3 for tanh, LeCun for SELU; or scale each layer until its output has unit variance "
            "(LSUV)."
        ),
        effect="rms stays near one from the first layer to the last.",
        verify="Check again: the scale-over-depth column is flat.",
        auto=True,
        silent=(
            "normalization between layers",
            "zero-initialized residual branches",
            "a head scaled down",
            "torch's default initialization over a few layers: it loses scale and trains (for information)",
            "embeddings of standard deviation 0.02",
        ),
    ),
    Entry(
        code="UG302",
        name="exploding-activations",
        rank=20,
        seen="The scale of the activations grows steadily from layer to layer.",
        matters=(
            "Logits become huge, bounded functions saturate, gradients grow likewise, and half precision "
            "overflows."
        ),
        source=f"{_GLOROT}; {_HE}.",
        measured=(
            "As for UG301, growing; first at the outputs of the blocks of a residual network, where there are "
            "three or more: that is the stream which everything is added to."
        ),
        thresholds={
            "warning": Threshold(10, "fold over the whole depth"),
            "error": Threshold(1000, "fold over the whole depth"),
            "steadiness": Threshold(0.6, "as for UG301"),
            "gentle": Threshold(
                1.1,
                "fold per layer: slower drift is harmless (deep BatchNorm networks, pooled noise) until it "
                "reaches the error's limit, and a warning then",
            ),
            "sites": Threshold(3, "fewer make no trend; and without its largest step it must still be one"),
        },
        action=(
            "Initialize for the activation function: Kaiming (variance 2/fan_in) for ReLU and its kin, "
            "gain 5/3 for tanh; in a residual network scale each branch or start its last layer at zero."
        ),
        effect="rms stays near one from the first layer to the last.",
        verify="Check again: the scale-over-depth column is flat.",
        auto=True,
        silent=(
            "normalization between layers",
            "residual streams that grow like the square root of depth",
            "the jump from a small embedding to a normalized one",
        ),
    ),
    Entry(
        code="UG303",
        name="saturated",
        rank=50,
        seen="Many values of a bounded activation lie in its flat tails.",
        matters=(
            "The derivative there is almost zero: these values pass no gradient to their weights or to "
            "anything before them."
        ),
        source=(
            "Glorot and Bengio, Understanding the difficulty of training deep feedforward neural "
            "networks, 2010; Karpathy, makemore part 3, 2022."
        ),
        measured=(
            "Fraction of the outputs in the outer 1.5% of the range at either end (tanh: magnitude above "
            "0.97; functions with corners: at the bound). The layers are reported together, the first one "
            "named: its input is where to begin. Of recurrent layers, whose inside is not seen: the share of outputs "
            "above 0.97, and the share of flat gate values that their weights and input imply (a warning at most)."
        ),
        thresholds={
            "info": Threshold(
                0.15, "of all values, three times what a unit Gaussian has: worth a look, no defect"
            ),
            "warning": Threshold(
                0.25,
                "of all values: tanh's recommended gain of 5/3 makes pre-activations of that std, of which 21% lie in "
                "the tails, and batches and layers scatter around that; a unit Gaussian has 4%. In a trained model "
                "for information: units that have learnt to be sure are no defect of the initialization",
            ),
            "error": Threshold(0.5, "of all values (in a trained model a warning)"),
        },
        action=(
            "Make the pre-activation smaller: scale the weights before it so that its standard deviation "
            "is about one (gain 5/3 over sqrt(fan_in) for tanh), or put a normalization layer before it."
        ),
        effect="About 5% of the values stay in the tails, and gradients reach the layers before.",
        verify="Check again: the saturated fraction is below 25%, in deeper layers near 5%.",
        auto=True,
        silent=(
            "softmax and attention probabilities",
            ("the model's output: a trained model may be sure; whether an untrained one is shows in UG101"),
            (
                "gates: a sigmoid whose output goes into arithmetic and not into a layer is meant to open "
                "and close"
            ),
            "the lower bound of ReLU6",
        ),
    ),
    Entry(
        code="UG304",
        name="dead-units",
        rank=46,
        seen="Units of an activation layer were never active for any example.",
        matters=(
            "A dead unit passes no gradient, so its weights cannot learn their way back; the layer is "
            "narrower than paid for."
        ),
        source="Lu et al., Dying ReLU and initialization, 2020; Karpathy, makemore part 3, 2022.",
        measured=(
            "Units (channels, or features) whose function was never active for any example since "
            "measuring began. What chance explains is subtracted: among n examples whose incoming vectors "
            "have mean cosine c, a random unit without bias is off for all with the probability that n "
            "equally correlated Gaussians are all negative (half of the units if all examples look "
            "alike). The spread of the layer's biases, as far as they lie on both sides of zero, counts as something "
            "the examples share."
        ),
        thresholds={
            "warning": Threshold(0.1, "of the units, beyond chance"),
            "error": Threshold(0.5, "of the units, beyond chance"),
            "samples": Threshold(
                32,
                ("values seen per unit: a unit active one time in ten is missed by 3% of such samples"),
            ),
            "examples": Threshold(5, "different examples: fewer cannot tell dead from sparse"),
            "sigmas": Threshold(4.0, "standard errors above what chance gives: a network has many layers"),
            "formula": Threshold(
                0.1,
                "of the chance itself, by which the formula fell short of default MLPs (37% where 41% were dead)",
            ),
        },
        action=(
            "Re-initialize the layer before (weights for the function, bias zero); if the units died "
            "during training, lower the learning rate or use a function with a slope on both sides."
        ),
        effect="Every unit is active for some examples.",
        verify="Check again with at least 64 examples: dead units below 10%.",
        auto=True,
        silent=(
            "sparse units: zero for most examples but not for all",
            "small batches",
            "units off for all examples because the examples are nearly alike",
            "functions fed with exact zeros",
        ),
    ),
    Entry(
        code="UG306",
        name="activation-not-finite",
        rank=2,
        seen="NaN or infinity in an activation, while what went in was finite.",
        matters="It spreads to the loss and to every weight.",
        source="IEEE 754: NaN and infinity propagate through arithmetic.",
        measured=(
            "Fraction of non-finite values per site; the first site in execution order is named. If loss "
            "and gradients are finite all the same (a masked score of minus infinity), it is only "
            "mentioned."
        ),
        thresholds={},
        action=(
            "Look at the named module: weights that are not finite, a division by zero, a logarithm or "
            "root of a negative number, or an overflow of its dtype."
        ),
        effect="A finite loss.",
        verify="Check again.",
    ),
)
