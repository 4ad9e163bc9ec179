"""unitgain lesson fashion-mnist: a small convolutional network on images, from torch's defaults to a good start.

The order of the first chapters is that of J. Howard, "Practical Deep Learning for Coders" part 2, lessons 17 and 18
(fast.ai); words and measurements are ours, and so is the last chapter.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import nn

from ..._base import InputError, say
from ...nn import GeneralReLU
from ...remedies import init_, lsuv_, standardize_weights_
from ...report import Lesson, Setting
from ...targets import Source, load_source
from .. import _lesson
from .._lesson import LessonOptions, Network, Plan, Trainings, most, steps_of

_STEPS = 120
_BATCH = 128
_WIDTHS = (8, 16, 32, 64)


def _shifted() -> nn.Module:
    return GeneralReLU(leak=0.1, sub=0.4)


def _network(
    source: Source, activation: Callable[[], nn.Module] = nn.ReLU, norm: bool = False
) -> nn.Sequential:
    """Four 3x3 convolutions of stride 2, (norm), activation; the mean over pixels; a linear head."""
    images, labels = source.train
    torch.manual_seed(0)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, (before, after) in enumerate(pairwise((images.shape[1], *_WIDTHS)), start=1):
        layers[f"conv{number}"] = nn.Conv2d(before, after, 3, 2, 1, bias=not norm)
        if norm:
            layers[f"norm{number}"] = nn.BatchNorm2d(after)
        layers[f"act{number}"] = activation()
    layers["pool"], layers["flatten"] = nn.AdaptiveAvgPool2d(1), nn.Flatten()
    layers["head"] = nn.Linear(_WIDTHS[-1], int(labels.max()) + 1)
    return nn.Sequential(layers)


def _drawn(
    activation: Callable[[], nn.Module] = nn.ReLU, *, norm: bool = False, then: str = ""
) -> Callable[[Source], nn.Module]:
    """The network after init_, and what is named: "lsuv", "standardized"."""

    def make(source: Source) -> nn.Module:
        model = _network(source, activation, norm)
        init_(model, batch=source.batch)
        if then == "lsuv":
            lsuv_(model, source.batch)
        elif then == "standardized":
            standardize_weights_(model, source.batch)
        return model

    return make


NETWORKS = {
    "torch's defaults": Network(_network, 0.2, "raw"),
    "init_": Network(_drawn(), 0.2, "raw"),
    "normalized": Network(_drawn(), 0.2),
    "GeneralReLU": Network(_drawn(_shifted), 0.2),
    "LSUV": Network(_drawn(_shifted, then="lsuv"), 0.2),
    "rate 3": Network(_drawn(), 3.0),
    "BatchNorm": Network(_drawn(_shifted, norm=True), 0.4),
    "standardized weights": Network(_drawn(_shifted, then="standardized"), 0.4),
}


def _faded(sick: Setting) -> str:
    rows = sick.layers()
    return (
        f"After {len(sick.losses[0])} steps the loss is still {sick.after[0]:.2f}. The gradients have std "
        f"{float(rows[-1]['gradient_std']):.1e} at the last activation and {float(rows[0]['gradient_std']):.1e} at the "
        "first."
    )


def _spread(sick: Setting) -> str:
    stds = [float(row["std"]) for row in sick.layers()]
    return (
        "A gain is right for inputs that are independent and normal. Neighbouring pixels are not: the stds "
        f"lie between {min(stds):.2f} and {max(stds):.2f}."
    )


PLANS = (
    Plan(
        "A network that does not learn", "torch's defaults", "init_", _faded,
        "Densities of the activations, one line a layer: they shrink from layer to layer.",
        "ug.init_(model, batch=batch): weights of std gain / sqrt(fan_in), each with the gain of what stands before.",
        ("activations", "gradients", "loss"), ("UG301", "UG307", "UG401"),
    ),
    Plan(
        "Inputs", "init_", "normalized",
        lambda s: "Pixels lie in 0..1: their mean is not 0 and their std not 1, so that the first layer's outputs are "
        f"off; {100 * most(s, 'zero'):.0f}% of an activation's values are zero.",
        "After, the densities reach further out, and fewer values are exactly zero (the cross at 0).",
        "Subtract the mean of the pixels and divide by their standard deviation.",
        ("activations",), ("UG201", "UG304"),
    ),
    Plan(
        "ReLU's mean", "normalized", "GeneralReLU",
        lambda s: "ReLU gives no negative value, so that every layer passes a mean on, and half of the values are "
        f"exactly zero ({100 * most(s, 'zero'):.0f}% at most).",
        "The cross at 0 marks values that are exactly zero; after, there are none, and the mean is near zero.",
        "GeneralReLU(leak=0.1, sub=0.4): it leaks a little and is shifted down.",
        ("activations",), ("UG305",),
    ),
    Plan(
        "Measure, do not guess", "GeneralReLU", "LSUV",
        _spread,
        "All layers have the same width after.",
        "ug.lsuv_(model, batch) scales every layer until its outputs have std 1 on real data.",
        ("activations",), (),
    ),
    Plan(
        "A rate that kills", "rate 3", "normalized",
        lambda s: "With a learning rate of 3 the loss explodes"
        + (f" and is not finite from step {s.stopped} on." if s.stopped is not None else
           f", and {100 * most(s, 'zero'):.0f}% of an activation's values are zero."),
        "update:data leaves the band at once; the activations after training are spread out or dead.",
        "A rate of 0.2. unitgain lr-find finds such a rate.",
        ("updates", "trained"), ("UG504", "UG501", "UG304"),
    ),
    Plan(
        "BatchNorm", "GeneralReLU", "BatchNorm",
        lambda s: "Good weights are only good at the start: training moves the scales again.",
        "Activations after training, with and without BatchNorm.",
        "BatchNorm before every activation, which also bears twice the rate.",
        ("trained", "updates"), (),
    ),
    Plan(
        "The same without BatchNorm", "BatchNorm", "standardized weights",
        lambda s: "BatchNorm couples the examples of a batch and behaves differently in evaluation.",
        "Activations after training: the weights' own scale no longer matters, with either.",
        "ug.remedies.standardize_weights_: every weight is standardized whenever it is used; no norm, the same rate.",
        ("trained", "updates", "loss"), (),
    ),
)  # fmt: skip


def run(options: LessonOptions, say: Callable[[str], None] = say) -> Lesson:
    """Fashion-MNIST, or images of one's own: options.data names a .npz or .safetensors file with images (N, C, H, W) or
    (N, H, W) and labels, or a directory of images by class."""
    raw, normalized = _sources(options.data)
    steps, seeds = steps_of(options, _STEPS)
    images = raw.train[0]
    where = options.data or "Fashion-MNIST"
    about = (
        f"{len(images):,} images {tuple(images.shape[1:])} of {int(raw.train[1].max()) + 1} classes ({where})"
    )
    say(f"lesson fashion-mnist: {about}; {steps:,} steps of SGD, {seeds} seed{'s' if seeds > 1 else ''}")
    title = "From a network that does not learn to one that needs no BatchNorm"
    return _lesson.run(
        title, about, PLANS, Trainings(NETWORKS, {"raw": raw, "": normalized}, steps, seeds), say
    )


def _sources(data: str) -> tuple[Source, Source]:
    """(pixels in 0..1, normalized ones), both in batches of 128."""
    model = nn.Conv2d(1, 1, 1)
    if not data:
        return tuple(
            load_source(model, dataset="fashion-mnist", count=_BATCH, normalize=n) for n in (False, True)
        )  # type: ignore[return-value]
    found = load_source(model, data=data, count=_BATCH, normalize=False)
    parts = []
    for part in (found.train, found.held):
        if not isinstance(part, tuple) or part[1].is_floating_point() or part[0].dim() not in (3, 4):
            raise InputError(
                f"--data {data}: this lesson needs images (N, C, H, W) or (N, H, W) with whole-number labels (N,)"
            )
        parts.append((part[0].unsqueeze(1) if part[0].dim() == 3 else part[0], part[1]))
    top = float(parts[0][0].max())
    if top > 1.5:  # bytes
        parts = [(x / 255, y) for x, y in parts]
    std, mean = torch.std_mean(parts[0][0], dim=(0, 2, 3), keepdim=True)
    scaled = [((x - mean) / std.clamp_min(1e-6), y) for x, y in parts]
    return Source(parts[0], parts[1], found.count, 0), Source(scaled[0], scaled[1], found.count, 0)
