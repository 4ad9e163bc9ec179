"""Entries of the rules about the output and the loss: UG1xx."""

from __future__ import annotations

from ..entry import Entry, Threshold

ENTRIES = (
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
            "rounding": Threshold(
                1e-4,
                "of what goes into a norm, times its gain: below it a norm's output is rounding (1e-7) over the root "
                "of its eps (1e-5), and what depends on it is taken for constant; otherwise norms give scale one",
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
        code="UG107",
        name="target-broadcast",
        rank=8,
        seen="Outputs and targets have different shapes, and the loss broadcasts them, (N, 1) with (N,) to (N, N) say.",
        matters=(
            "Every output is compared with every target, so the loss is lowest where all outputs are the mean of the "
            "targets. The model learns that, and the loss ends at the targets' variance, without an error."
        ),
        source="PyTorch documentation: broadcasting semantics; the warning of torch.nn.functional.mse_loss.",
        measured=(
            "The two shapes, for losses of torch that broadcast, and for unitgain's by name. A loss of your own is "
            "called once more with the targets in the outputs' shape, if they have as many values: another result "
            "says that it broadcasts."
        ),
        thresholds={},
        action=(
            "Give targets of the outputs' shape: targets.reshape(outputs.shape), or .unsqueeze(-1) on the targets, or "
            ".squeeze(-1) on the outputs."
        ),
        effect="The loss compares each output with its own target, and can fall below the targets' variance.",
        verify="Check again.",
        silent=(
            "one number as the target of all outputs",
            "losses that take targets of another shape by design (cross entropy), or reshape them themselves",
        ),
    ),
)
