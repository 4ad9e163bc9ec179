"""Entries of the rules about statistics over the batch: UG602 to UG604."""

from __future__ import annotations

from ..entry import Entry, Threshold

ENTRIES = (
    Entry(
        code="UG602",
        name="noisy-batch-statistics",
        rank=68,
        seen="BatchNorm takes statistics over very few values, or its running ones over very few batches.",
        matters=(
            "Means over n values are off by 1/sqrt(n) of a standard deviation: noise in training, and running "
            "statistics that depend on the last batches in evaluation."
        ),
        source=(
            "Wu and He, Group normalization, 2018: a ResNet-50's error rises from 8 examples per batch downwards; "
            "Ioffe, Batch renormalization, 2017."
        ),
        measured=(
            "Values per channel: examples times positions at the norm's output. Batches remembered: (2 - momentum) / "
            "momentum, the effective length of the running average. Synchronized norms see more than this process "
            "does, and are left out."
        ),
        thresholds={
            "values": Threshold(16, "per channel: means off by a quarter of a standard deviation"),
            "warning": Threshold(
                8,
                "per channel: off by more than a third. From 8 to 15 it is only mentioned: a check is often run on "
                "fewer examples than training has",
            ),
            "batches": Threshold(3, "remembered: momentum 0.5; the default of 0.1 remembers 19"),
            "remembered": Threshold(
                256, "examples in those batches: as many make even a short memory exact enough"
            ),
        },
        action=(
            "Use a larger batch, GroupNorm or LayerNorm, or convert the network to a normalizer-free one; where "
            "momentum is at fault, lower it."
        ),
        effect="The same output in training and evaluation, and less noise.",
        verify="Check again with the batch size of training.",
        silent=("feature maps of small batches: every position counts", "momentum=None (plain averages)"),
    ),
    Entry(
        code="UG603",
        name="batch-coupling",
        rank=44,
        seen="In evaluation mode an example's output depends on the other examples of its batch.",
        matters=(
            "Predictions change with the company they are made in: results cannot be reproduced one by one, metrics "
            "depend on the batch size, and information leaks between examples."
        ),
        source="PyTorch documentation: BatchNorm (track_running_stats), RNN and MultiheadAttention (batch_first).",
        measured=(
            "One example goes twice through the model, at the second place of two or four, with other mates the second "
            "time, each pass from the same state; once in evaluation and once in training mode, random numbers the "
            "same. The first module at whose output the example differs is named. Coupling by BatchNorm in training "
            "mode is by design, and is only recorded; other coupling in training mode is for information. Not judged: "
            "one example, examples that are all the same, compiled models, models that give another output each time, "
            "inputs or outputs whose axis of examples cannot be told."
        ),
        thresholds={
            "relative": Threshold(
                1e-4,
                "of the largest magnitude: float32 passes of one shape differ by 1e-6 at most, in deep networks too, "
                "and coupling changes outputs by percents (half precision: a hundred times as much)",
            ),
        },
        action=(
            "Repair the named module: the axis of its mean, softmax or reshape; batch_first=True where the examples "
            "come first; running statistics and .eval() for BatchNorm."
        ),
        effect="The same output for an example in any batch.",
        verify="Check again.",
        silent=(
            "BatchNorm in training mode",
            "dropout and other random modules",
            "contrastive models, whose output pairs the examples",
            "losses: only the output is compared",
        ),
    ),
    Entry(
        code="UG604",
        name="stale-running-statistics",
        rank=54,
        seen="BatchNorm's running statistics do not describe what goes into it.",
        matters="In evaluation mode the model normalizes with them: its outputs differ from those it was trained with.",
        source="Ioffe and Szegedy, Batch normalization, 2015, section 3.1; Wu and Johnson, Rethinking 'Batch' in "
        "BatchNorm, 2021.",
        measured=(
            "Running mean and variance against those of this batch in training mode, the typical (median) channel, as "
            "they stand before the pass. Noise of the batch's own statistics is granted, as if positions of one image "
            "said nothing new."
        ),
        thresholds={
            "mean": Threshold(0.5, "running standard deviations between the means, beyond noise"),
            "variance": Threshold(2.0, "fold between the variances, beyond noise"),
            "sigmas": Threshold(3.0, "standard errors granted to a batch of this size"),
            "apart": Threshold(
                4.0,
                "times what half of the other layers show: those see the same batch, and so its noise; a layer that "
                "far beyond them is granted no more noise than they have",
            ),
            "others": Threshold(3, "layers to compare with: fewer have no typical one"),
            "batches": Threshold(
                30,
                "seen before: with the default momentum the starting values 0 and 1 weigh 4% by then; fewer is "
                "an untrained network",
            ),
        },
        action=(
            "Recompute them over training data (unitgain.nn.calibrate_), and check that the batch is preprocessed "
            "as in training; if it recurs, raise the momentum."
        ),
        effect="Evaluation gives what training promised.",
        verify="Check again with another batch.",
        auto=True,
        silent=("networks that are not trained yet", "small batches", "frozen BatchNorm"),
    ),
)
