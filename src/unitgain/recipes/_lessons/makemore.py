"""unitgain lesson makemore: a character model that predicts the next letter of a name, and what keeps it from learning.

The order of the chapters is that of A. Karpathy, "Neural Networks: Zero to Hero", makemore part 3; the words, the
measurements and the last chapter are ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from torch import nn

from ..._base import say
from ...data import CHARACTERS, load_names
from ...models import CHAR_MLP_VARIANTS, CharMLP
from ...remedies import init_
from ...report import Lesson, Setting
from ...targets import Source
from .. import _lesson
from .._lesson import LessonOptions, Network, Plan, Trainings, layer, most, steps_of

_STEPS = 500
_BATCH = 32
_DEEP = CHAR_MLP_VARIANTS["deep"]
_UNSCALED = replace(_DEEP, gain=1.0, fan_in_scaling="none", output_scale=0.01)
_UNSCALED_NORM = replace(CHAR_MLP_VARIANTS["deep_batchnorm"], gain=1.0, fan_in_scaling="none")


def _variant(name: str) -> Callable[[Source], nn.Module]:
    return lambda source: CharMLP(CHAR_MLP_VARIANTS[name])


def _initialized(source: Source) -> nn.Module:
    model = CharMLP(_UNSCALED)
    init_(model, batch=source.batch)
    return model


NETWORKS = {
    "original": Network(_variant("original"), 0.1),
    "small last layer": Network(_variant("softmax"), 0.1),
    "gain 5/3": Network(_variant("kaiming"), 0.1),
    "deep, gain 0.5": Network(lambda source: CharMLP(replace(_DEEP, gain=0.5)), 0.1),
    "deep, gain 5/3": Network(lambda source: CharMLP(_DEEP), 0.1),
    "deep, rate 0.001": Network(lambda source: CharMLP(_DEEP), 0.001),
    "deep, std 1": Network(lambda source: CharMLP(_UNSCALED), 0.1),
    "std 1, BatchNorm": Network(lambda source: CharMLP(_UNSCALED_NORM), 1.0),
    "init_, no norm": Network(_initialized, 0.1),
}


def _first_loss(sick: Setting) -> str:
    loss, even = sick.losses[0][0], math.log(len(CHARACTERS))
    return (
        f"The loss begins at {loss:.1f}. A model that knows nothing and says so, with equal probabilities for "
        f"{len(CHARACTERS)} characters, has ln {len(CHARACTERS)} = {even:.2f}."
    )


def _updates(sick: Setting) -> str:
    return (
        f"The loss hardly moves: {sick.before[0]:.2f} before, {sick.after[0]:.2f} after. A step changes a weight by "
        f"10^{sick.update_ratio():.1f} of its size; 10^-3 is a good pace."
    )


PLANS = (
    Plan(
        "The first loss", "original", "small last layer", _first_loss,
        "The loss falls steeply at once, like a hockey stick: these steps only make the logits smaller.",
        "Draw the last layer 100 times smaller, with a bias of zero, so that the logits begin near zero.",
        ("loss",), ("UG101",),
    ),
    Plan(
        "Saturated units", "small last layer", "gain 5/3",
        lambda s: f"{100 * most(s, 'saturated'):.0f}% of tanh's values are above 0.97 in size. Where tanh is flat, its "
        "derivative is near zero, and so is the gradient that reaches the weights before it.",
        "The density of tanh's values: two spikes at -1 and 1 before, a broad range after.",
        "Draw the hidden weights with std 5/3 / sqrt(fan_in) and a small bias: the input of tanh gets a std near 1. In "
        "one layer of 200 units that gains little: the lecture's loss falls from 2.131 to 2.103, after 200,000 steps. "
        "Over five layers (chapters 3 and 5) it decides.",
        ("activations", "loss"), ("UG303",),
    ),
    Plan(
        "Five layers deep", "deep, gain 0.5", "deep, gain 5/3",
        lambda s: f"With gain 0.5 the activations have std {layer(s, 0, 'std'):.2f} at the first tanh and "
        f"{layer(s, -1, 'std'):.3f} at the fifth, and the gradients shrink on their way back.",
        "One line a layer: before, they become narrower from layer to layer; after, they lie over one another.",
        "Gain 5/3 makes up for what tanh takes away, at every layer.",
        ("activations", "gradients"), ("UG301", "UG401"),
    ),
    Plan(
        "How large a step is", "deep, rate 0.001", "deep, gain 5/3", _updates,
        "The lines of update:data lie below the band about 10^-3; with 100 times the rate they lie in it or above.",
        "Raise the learning rate from 0.001 to 0.1.",
        ("updates", "loss"), ("UG502",),
    ),
    Plan(
        "What BatchNorm forgives", "deep, std 1", "std 1, BatchNorm",
        lambda s: f"The weights have std 1 and are not divided by sqrt(fan_in): {100 * most(s, 'saturated'):.0f}% of "
        "tanh's values are saturated.",
        "BatchNorm brings the input of every tanh to std 1, whatever the weights are.",
        "BatchNorm after every layer, and a rate of 1: large weights need large steps.",
        ("activations", "updates"), ("UG303",),
    ),
    Plan(
        "The same without BatchNorm", "std 1, BatchNorm", "init_, no norm",
        lambda s: "BatchNorm hides the scale of the weights and does not repair it. It couples the examples of a "
        "batch, and wants another rate.",
        "The densities are as good without it, where the weights are drawn for the network that they are in.",
        "ug.init_(model, batch=batch) draws every weight with the gain of what stands before it; no norm, rate 0.1.",
        ("activations", "updates", "loss"), (),
    ),
)  # fmt: skip


def run(options: LessonOptions, say: Callable[[str], None] = say) -> Lesson:
    """Names, one a line, as in the lecture; options.data: a file of one's own."""
    names = load_names(options.data or None)
    steps, seeds = steps_of(options, _STEPS)
    source = Source((names.train.x, names.train.y), (names.validation.x, names.validation.y), _BATCH, seed=0)
    about = f"{len(names.words):,} names ({names.source}); the next character from the last three"
    say(f"lesson makemore: {about}; {steps:,} steps of SGD, {seeds} seed{'s' if seeds > 1 else ''}")
    title = "Why a small network learns names badly, and what to do about it"
    return _lesson.run(title, about, PLANS, Trainings(NETWORKS, {"": source}, steps, seeds), say)
