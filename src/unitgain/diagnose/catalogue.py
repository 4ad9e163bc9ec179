"""Codes, texts and thresholds of all rules: one Entry each.

To add a rule, add its entry here and its function to RULES in engine.py; the pages under docs/reference/rules
are built from here. `unitgain rules` prints the table of names, `unitgain rules CODE` what `explain` returns.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from ..errors import InputError
from .entry import Entry, Threshold

_GLOROT = "Glorot and Bengio, Understanding the difficulty of training deep feedforward neural networks, 2010"
_HE = "He et al., Delving deep into rectifiers, 2015"

_ENTRIES = (
    Entry(
        code="UG101",
        name="confident-at-init",
        rank=40,
        seen=(
            "A classifier's loss is well above ln(C), the loss of one that gives all C classes the same "
            "probability."
        ),
        matters=(
            "An untrained classifier cannot know anything, so every nat above ln(C) is confidence in "
            "wrong answers. The first hundreds of steps are spent on squashing the logits (the loss curve "
            "looks like a hockey stick), and large logits saturate the softmax, so most examples give "
            "hardly any gradient."
        ),
        source="Karpathy, Neural Networks: Zero to Hero, makemore part 3, 2022.",
        measured=(
            "The loss on the batch, against ln(C). The rms of the logits is the evidence. With few "
            "targets the loss itself is uncertain by rms/sqrt(targets); two of these are granted."
        ),
        thresholds={
            "warning": Threshold(
                1.2,
                (
                    "times ln(C): logits of standard deviation 1 cost about half a nat, which default "
                    "heads stay below"
                ),
            ),
            "error": Threshold(2.0, "times ln(C): worse than guessing by a whole ln(C)"),
            "noise": Threshold(
                2.0,
                ("standard errors of the mean loss, so that four unlucky targets are no finding"),
            ),
            "own_gain": Threshold(
                3.0,
                (
                    "rms of the logits over rms of what came in: below it the head is innocent and an "
                    "earlier finding explains the logits"
                ),
            ),
        },
        action="Scale the last layer's weights down (times 0.1 or less) and set its bias to zero.",
        effect="The loss starts at ln(C) and falls from the first step.",
        verify="Check again: the loss is within a few percent of ln(C).",
        auto=True,
        silent=(
            "probabilities or log-probabilities as output",
            "regression",
            "a loss above ln(C) by chance",
        ),
    ),
    Entry(
        code="UG102",
        name="constant-output",
        rank=14,
        seen=("The output is the same for every example of the batch, although the examples differ."),
        matters=(
            "The loss then depends on nothing that was put in; the best that training can do is to fit "
            "the average target."
        ),
        source="Schoenholz et al., Deep information propagation, 2017.",
        measured=(
            "spread of the output: rms over examples of the deviation from the mean example, divided by "
            "rms. The site named is the first after the last one where the examples still differed."
        ),
        thresholds={
            "spread": Threshold(
                1e-05,
                "float32 keeps seven digits; a difference in the sixth is rounding",
            ),
        },
        action=(
            "Look at the named site and what feeds it: zero weights, dead units or a norm over a single "
            "value erase the input there. Re-initialize what is in between."
        ),
        effect=(
            "Outputs differ from example to example and the loss can fall below that of a constant answer."
        ),
        verify="Check again: the output's spread is above 0.01.",
        silent=(
            "a zero-initialized head",
            "a batch whose examples are all the same",
        ),
    ),
    Entry(
        code="UG103",
        name="double-softmax",
        rank=12,
        seen=(
            "The model's outputs are probabilities (not negative, rows sum to one) and go into cross "
            "entropy, which applies a softmax itself."
        ),
        matters=(
            "The second softmax sees numbers between 0 and 1 only, so the loss cannot fall below ln(C - 1 "
            "+ e) - 1 however right the model is, and gradients shrink."
        ),
        source=(
            "PyTorch documentation of CrossEntropyLoss: the input is expected to contain unnormalized logits."
        ),
        measured="Largest deviation of a row's sum from one, where no value is negative.",
        thresholds={
            "row_sum": Threshold(
                0.001,
                "rounding of bfloat16 stays below it, chance does not come near",
            ),
        },
        action=("Drop the softmax at the end of the model (apply it only when probabilities are shown)."),
        effect="The loss can reach zero, and gradients are C times larger at the start.",
        verify="Check again: the output holds negative values and its rows no longer sum to one.",
        silent=(
            "log-softmax before cross entropy, which changes nothing",
            "a softmax inside the model",
        ),
    ),
    Entry(
        code="UG104",
        name="loss-not-finite",
        rank=4,
        seen="The loss is NaN or infinite.",
        matters="One optimizer step with it makes every weight NaN.",
        source="IEEE 754: NaN and infinity propagate through arithmetic.",
        measured=(
            "The loss on the batch; named as a consequence where an input or an activation was not finite "
            "before."
        ),
        thresholds={},
        action=(
            "Compute the loss by hand on this batch's outputs and targets: a logarithm of zero, a "
            "division by zero (an average over no target) or an overflow is in it."
        ),
        effect="A finite loss and finite gradients.",
        verify="Check again: the loss is a number.",
    ),
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
            "Theil-Sen slope of log10(rms) times the number of layers; steadiness is Kendall's tau. Left "
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
            "sites": Threshold(4, "fewer layers make no trend"),
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
        measured="As for UG301, growing.",
        thresholds={
            "warning": Threshold(10, "fold over the whole depth"),
            "error": Threshold(1000, "fold over the whole depth"),
            "steadiness": Threshold(0.6, "as for UG301"),
            "gentle": Threshold(
                1.1,
                "fold per layer: slower drift is harmless (deep BatchNorm networks, pooled noise) until it "
                "reaches the error's limit, and a warning then",
            ),
            "sites": Threshold(4, "fewer layers make no trend"),
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
            "named: its input is where to begin."
        ),
        thresholds={
            "warning": Threshold(0.15, "of all values; a unit Gaussian through tanh has 4%"),
            "error": Threshold(0.5, "of all values"),
        },
        action=(
            "Make the pre-activation smaller: scale the weights before it so that its standard deviation "
            "is about one (gain 5/3 over sqrt(fan_in) for tanh), or put a normalization layer before it."
        ),
        effect="About 5% of the values stay in the tails, and gradients reach the layers before.",
        verify="Check again: the saturated fraction is below 15%.",
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
            "alike). The spread of the layer's biases counts as something the examples share."
        ),
        thresholds={
            "warning": Threshold(0.1, "of the units, beyond chance"),
            "error": Threshold(0.5, "of the units, beyond chance"),
            "samples": Threshold(
                32,
                ("values seen per unit: a unit active one time in ten is missed by 3% of such samples"),
            ),
            "examples": Threshold(5, "different examples: fewer cannot tell dead from sparse"),
            "sigmas": Threshold(3.0, "standard errors above what chance gives"),
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
            "sites": Threshold(4, "fewer layers make no trend"),
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
        measured="As for UG401, growing.",
        thresholds={
            "warning": Threshold(100, "fold over the whole depth"),
            "error": Threshold(10000.0, "fold over the whole depth"),
            "steadiness": Threshold(0.6, "as for UG301"),
            "gentle": Threshold(
                1.1,
                "fold per layer: slower drift is harmless (deep BatchNorm networks, pooled noise) until it "
                "reaches the error's limit, and a warning then",
            ),
            "sites": Threshold(4, "fewer layers make no trend"),
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
            "error": Threshold(0.5, "of all trainable parameters affected"),
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
    Entry(
        code="UG501",
        name="updates-too-large",
        rank=34,
        seen="The optimizer changes the weights by more than a hundredth of their size per step.",
        matters=(
            "Weights are replaced rather than tuned: the loss jumps, units die, and training may diverge."
        ),
        source="Karpathy, makemore part 3, 2022 (10^-3 as a rule of thumb).",
        measured=(
            "log10(std(update)/std(weight)) for weights of two dimensions or more, where the update is "
            "what the optimizer really did; the median over the later half of the sampled steps, then "
            "over the weights. Weights that began at exactly zero have no ratio. Adam-like optimizers "
            "take full-sized first steps whatever the gradient, so they are judged from ten steps on."
        ),
        thresholds={
            "warning": Threshold(-2.0, "ten times the rule of thumb"),
            "error": Threshold(-1.0, "a hundred times the rule of thumb"),
            "target": Threshold(-3.0, "the rule of thumb that the prescribed learning rate aims at"),
            "adaptive_granted": Threshold(
                0.6,
                "decades: a rehearsal repeats one batch, and without noise in the gradient Adam's steps are "
                "sqrt((1 + beta1)/(1 - beta1)) = 4.4 times those of training",
            ),
            "adaptive_steps": Threshold(10, "sampled steps before an Adam-like optimizer is judged"),
        },
        action="Lower the learning rate.",
        effect="Updates near a thousandth of the weights, and a loss that falls smoothly.",
        verify="Check again with steps: the median log10(update:data) is near -3.",
    ),
    Entry(
        code="UG502",
        name="updates-too-small",
        rank=62,
        seen=("The optimizer changes the weights by less than a ten-thousandth of their size per step."),
        matters="Training crawls.",
        source="Karpathy, makemore part 3, 2022 (10^-3 as a rule of thumb).",
        measured="As for UG501.",
        thresholds={
            "warning": Threshold(-4.0, "a tenth of the rule of thumb"),
            "target": Threshold(-3.0, "the rule of thumb that the prescribed learning rate aims at"),
            "adaptive_granted": Threshold(
                0.6,
                "decades: a rehearsal repeats one batch, and without noise in the gradient Adam's steps are "
                "sqrt((1 + beta1)/(1 - beta1)) = 4.4 times those of training",
            ),
            "adaptive_steps": Threshold(10, "sampled steps before an Adam-like optimizer is judged"),
        },
        action="Raise the learning rate.",
        effect="Updates near a thousandth of the weights.",
        verify="Check again with steps: the median log10(update:data) is near -3.",
        silent=("a learning rate of zero at the start of a warm-up",),
    ),
    Entry(
        code="UG503",
        name="uneven-updates",
        rank=64,
        seen=("Some weights are updated at a rate that is more than two decades away from the rest."),
        matters="No single learning rate fits: some weights are thrown about or others stand still.",
        source=(
            "Karpathy, makemore part 3, 2022; You et al., Large batch training of convolutional networks, "
            "2017."
        ),
        measured=(
            "log10(std(update)/std(weight)) per weight against the median of all weights, at every "
            "sampled step. The last layer, embeddings and weights that began at zero are left out: they "
            "differ for good reasons."
        ),
        thresholds={
            "decades": Threshold(2.0, "from the median"),
            "steps": Threshold(3, "sampled steps: fewer are not sustained"),
            "sustained": Threshold(0.75, "of the sampled steps on the same side"),
            "weights": Threshold(4, "fewer have no meaningful median"),
        },
        action=(
            "Look at the scale of the named weights (initialization for their fan-in), or use an "
            "optimizer that adapts the step per parameter."
        ),
        effect="All weights learn at comparable speed.",
        verify="Check again with steps.",
    ),
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

CATALOGUE: dict[str, Entry] = {entry.code: entry for entry in _ENTRIES}


def explain(code: str) -> str:
    """What a rule sees, why it matters and what to do, as Markdown. Takes a code or a name.

    Raises InputError for one that does not exist.

    >>> print(explain("UG104").splitlines()[0])
    # UG104 loss-not-finite
    """
    known = {**CATALOGUE, **{entry.name: entry for entry in _ENTRIES}}
    entry = known.get(code) or known.get(code.upper()) or known.get(code.lower())
    if entry is None:
        raise InputError(f"rule {code!r} does not exist{_suggestion(code)}")
    return entry.page()


def resolve(words: Sequence[str], option: str) -> set[str]:
    """The codes meant by codes ("UG101"), prefixes ("UG1") and names ("saturated").

    Raises InputError, naming `option`, for a word that matches no rule.

    >>> sorted(resolve(["UG2", "saturated"], "select"))
    ['UG201', 'UG202', 'UG303']
    """
    if isinstance(words, str):
        words = [words]
    codes: set[str] = set()
    for word in words:
        prefix = word.strip().upper()
        matching = {
            code
            for code, entry in CATALOGUE.items()
            if entry.name == word.strip().lower() or (prefix.startswith("UG") and code.startswith(prefix))
        }
        if not matching:
            raise InputError(f"{option}: no rule is called {word!r}{_suggestion(word)}")
        codes |= matching
    return codes


def _suggestion(word: str) -> str:
    names = [*CATALOGUE, *(entry.name for entry in _ENTRIES)]
    close = difflib.get_close_matches(word.strip().upper(), names, n=1, cutoff=0.5)
    close = difflib.get_close_matches(word.strip().lower(), names, n=1, cutoff=0.5) or close
    return f"; did you mean {close[0]}?" if close else f" (the codes are {', '.join(CATALOGUE)})"
