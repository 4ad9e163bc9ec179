"""Pictures of a batch: images with their labels, and those that a model gets most confidently wrong."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._base import InputError
from ..nn import evaluating
from ..report import new_figure
from ._batch_augment import MEAN, STD

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = 4


def show_batch(images: Tensor, labels: Tensor, classes: Sequence[str] = (), count: int = 12) -> Figure:
    """The first images of a batch with their labels, as they enter training.

    images  (B, C, H, W) with 1 or 3 channels: uint8, float32 in 0..1, or normalized as `batch_augment.normalize`
            does (taken for that if a value lies outside 0..1)
    labels  (B,) class numbers, or (B, K) targets; of mixed ones the two largest are named with their shares
    classes names; numbers are shown where there are none

    Raises InputError for other shapes.
    """
    pixels = _pixels(images[:count])
    names = [_label(label, classes) for label in labels[: len(pixels)]]
    return _grid(pixels, names, f"{len(pixels)} images of a batch of {len(images)}")


@dataclass(frozen=True)
class Mistake:
    """image (3, H, W) normalized; confidence: the probability that the model gave to `predicted`."""

    image: Tensor
    predicted: int
    label: int
    confidence: float


@torch.no_grad()
def find_mistakes(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], count: int = 12
) -> list[Mistake]:
    """The images that are classified wrongly with most confidence, worst first. batches: (images as the model takes
    them, labels); only the worst are kept in memory. The model is in evaluation mode meanwhile."""
    worst: list[Mistake] = []
    with evaluating(model):
        for images, labels in batches:
            shares = F.softmax(model(images).float(), 1)
            confidence, predicted = shares.max(1)
            wrong = (predicted != labels).nonzero().flatten()
            for i in wrong[confidence[wrong].argsort(descending=True)[:count]].tolist():
                found = int(predicted[i]), int(labels[i]), float(confidence[i])
                worst.append(Mistake(images[i].cpu(), *found))
            worst = sorted(worst, key=lambda m: -m.confidence)[:count]
    return worst


def show_mistakes(mistakes: Sequence[Mistake], classes: Sequence[str] = ()) -> Figure:
    """What find_mistakes found: predicted class and confidence above, the label below it.

    Raises InputError if there are none.
    """
    if not mistakes:
        raise InputError("show_mistakes: there are none; the model was right about every image")
    pixels = _pixels(torch.stack([m.image for m in mistakes]))
    names = [
        f"{_name(m.predicted, classes)} {m.confidence:.0%}\nis {_name(m.label, classes)}" for m in mistakes
    ]
    return _grid(pixels, names, "Most confident mistakes: prediction and label")


def _name(index: int, classes: Sequence[str]) -> str:
    return classes[index] if index < len(classes) else str(index)


def _label(label: Tensor, classes: Sequence[str]) -> str:
    if not label.dim():
        return _name(int(label), classes)
    shares, order = label.float().topk(min(2, len(label)))
    if len(label) < 2 or shares[1] < 0.15:
        return _name(int(order[0]), classes)
    return "\n".join(f"{share:.0%} {_name(int(i), classes)}" for share, i in zip(shares.tolist(), order))


def _pixels(images: Tensor) -> Any:
    """(B, H, W, 3) or (B, H, W), 0..1"""
    if images.dim() != 4 or images.shape[1] not in (1, 3) or not len(images):
        raise InputError(f"images {tuple(images.shape)}: expected (B, C, H, W) with 1 or 3 channels")
    x = images.detach().float().cpu()
    if images.dtype == torch.uint8:
        x = x / 255
    elif float(x.min()) < 0 or float(x.max()) > 1:
        x = x * torch.tensor(STD).view(1, 3, 1, 1) + torch.tensor(MEAN).view(1, 3, 1, 1) if x.shape[1] == 3 else (
            x - x.amin()) / (x.amax() - x.amin())  # fmt: skip
    x = x.clamp(0, 1)
    return (x[:, 0] if x.shape[1] == 1 else x.permute(0, 2, 3, 1)).numpy()


def _grid(pixels: Any, names: Sequence[str], title: str) -> Figure:
    columns = min(_COLUMNS, len(pixels))
    rows = -(-len(pixels) // columns)
    figure = new_figure(1.9 * columns + 0.4, 2.25 * rows + 0.5, title)
    for place, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        axes.axis("off")
        if place < len(pixels):
            axes.imshow(pixels[place], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set_title(
                "\n".join(_short(line) for line in names[place].split("\n")), fontsize=9, parse_math=False
            )
    return figure


def _short(text: str, most: int = 26) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
