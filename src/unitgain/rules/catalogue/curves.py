"""Entries of the rules about the recorded loss: UG504 and UG505."""

from __future__ import annotations

from ..entry import Entry, Threshold

ENTRIES = (
    Entry(
        code="UG504",
        name="loss-diverging",
        rank=28,
        seen=(
            "The recorded training loss, or that of rehearsed steps, ends higher than it has been, by more than its "
            "noise, or is NaN or infinite."
        ),
        matters=(
            "What had been learnt is lost, and more steps do not bring it back: the weights have left the region "
            "where steps of this size lead down."
        ),
        source="Goodfellow, Bengio and Courville, Deep Learning, 2016, section 8.2.4.",
        measured=(
            "Medians over up to 40 windows of equal length. Noise: the standard error of a window's median, from the "
            "differences between neighbouring losses, or from how much the medians themselves wander if that is "
            "more. The rise is the last window's median minus the lowest one. It began after the last window that was "
            "within half the noise limit of the lowest; the learning rate there, and the site whose activations, "
            "gradients or updates grew most against their median before, are the evidence. An error where the loss is "
            "not finite or above where it began, otherwise a warning. Rehearsed steps repeat one batch, so that fewer "
            "of them show a course. A rehearsal whose loss does not fall is no finding, but never healthy either: the "
            "verdict then is that it cannot be told."
        ),
        thresholds={
            "at_once": Threshold(
                2.0, "times the first loss, that every later level lies above: the very first steps did it"
            ),
            "steps": Threshold(
                40,
                "recorded losses: fewer show no course, only a loss that is not finite or ends far above its first",
            ),
            "rehearsed": Threshold(10, "losses of a rehearsal, that take the place of those 40"),
            "rehearsal": Threshold(
                20, "rehearsed steps in which the loss of the batch that is repeated falls"
            ),
            "progress": Threshold(0.005, "of the first loss: the least fall in so many steps"),
            "far": Threshold(
                10.0,
                "times the first loss, above which all losses of the last fifth lie, or one of a rehearsal",
            ),
            "ending": Threshold(
                3,
                "losses at least, that this last fifth has: one may be a hard batch (of a rehearsal one is enough)",
            ),
            "windows": Threshold(40, "at most; enough to say when, with enough values in each"),
            "noise": Threshold(
                6.0, "standard errors: the lowest of 40 windows lies 2 below the rest by chance"
            ),
            "rise": Threshold(0.1, "of the fall before it, or of the lowest level: less is no divergence"),
            "changed": Threshold(3.0, "times its median before: growth that is named"),
        },
        action="Lower the learning rate, or clip gradients; go on from a checkpoint before that step.",
        effect="The loss goes on falling, or stays.",
        verify="Train again from there and check the record.",
        silent=(
            "a hump in the middle of a run, as a large learning rate makes that is lowered later",
            "noise of small batches",
        ),
    ),
    Entry(
        code="UG505",
        name="hockey-stick",
        rank=42,
        seen="Most of the loss's fall is in the first hundredth of the steps, from above ln(C).",
        matters=(
            "That part of the curve is spent on squashing logits that were too large from the start, which a better "
            "initialization gives for nothing; it also hides the rest of the curve."
        ),
        source="Karpathy, Neural Networks: Zero to Hero, makemore part 3, 2022.",
        measured=(
            "The first recorded loss against ln(C), and its fall up to the end of the first hundredth of the steps as "
            "a part of the fall to the median of the last tenth."
        ),
        thresholds={
            "steps": Threshold(200, "recorded losses: a hundredth of fewer is hardly a step"),
            "above": Threshold(1.2, "times ln(C), as for UG101"),
            "early": Threshold(0.01, "of the steps"),
            "part": Threshold(0.5, "of the fall: most of it"),
        },
        action="Scale the last layer's weights down (times 0.1 or less) and set its bias to zero.",
        effect="The loss starts at ln(C) and its whole curve is about learning.",
        verify="Train again: the first loss is within a few percent of ln(C).",
        auto=False,
        silent=("a loss that starts at ln(C), however fast it falls", "short runs"),
    ),
)
