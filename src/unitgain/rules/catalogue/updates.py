"""Entries of the rules about the optimizer's steps: UG5xx."""

from __future__ import annotations

from ..entry import Entry, Threshold

ENTRIES = (
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
            "take full-sized first steps whatever the gradient, so they are judged from ten steps on. Steps of a run "
            "after its loss was lost (UG504) do not count."
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
)
