"""The options that several commands share, and what they stand for: a model on a device, and a batch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._base import InputError, did_you_mean, note

if TYPE_CHECKING:
    from ..rules import Finding


class FailOn(str, Enum):
    error = "error"
    warning = "warning"
    never = "never"


TARGET = (
    "A built-in model (see unitgain models), package.module:callable, path/to/file.py:callable, timm:NAME or "
    "torchvision:NAME."
)
Target = Annotated[str, typer.Argument(metavar="TARGET", help=TARGET)]
Data = Annotated[
    str | None, typer.Option(metavar="FILE", help="One batch: .safetensors, .npz, or a directory of images.")
]
Dataset = Annotated[
    str | None, typer.Option(metavar="NAME", help="A known data set: names or fashion-mnist.")
]
Shape = Annotated[
    str | None,
    typer.Option(metavar="N,C,H,W", help="Random input of this shape; resizes a directory of images."),
]
Tokens = Annotated[
    int | None, typer.Option(metavar="V", max=2**31, help="With --shape: token numbers from 0 to V-1.")
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch", metavar="N", min=1, max=10**6, help="Examples to use. [default: 64; of a file, all]"
    ),
]
Normalize = Annotated[
    bool, typer.Option(help="Give image pixels mean 0 and standard deviation 1.", show_default=True)
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="An argument of the model's class or function."),
]
Weights = Annotated[
    str | None, typer.Option(metavar="FILE", help="Put these weights into the model: .safetensors.")
]
Loss = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="auto, cross_entropy, mse, bce_with_logits, nll, l1 or smooth_l1. auto: cross entropy for "
        "integer targets, mean squared error for float ones.",
        show_default=True,
    ),
]
FailOnOption = Annotated[
    FailOn, typer.Option("--fail-on", help="Exit with 1 for findings this severe.", show_default=True)
]
Html = Annotated[str | None, typer.Option(metavar="FILE", help="Write the interactive report.")]
Json = Annotated[
    str | None, typer.Option(metavar="FILE", help="Write the JSON report; - prints it instead of the text.")
]
Device = Annotated[str, typer.Option(metavar="D", help="cpu, cuda, cuda:1, mps, ...", show_default=True)]
Seed = Annotated[
    int, typer.Option(min=0, max=2**63 - 1, help="Of new weights and random input.", show_default=True)
]


def file_of(target: str) -> str:
    """The part of a target before the callable's name: a file that must not be written over."""
    return target.rpartition(":")[0]


def model_and_batch(
    target: str,
    settings: list[str] | None,
    *,
    data: str | None,
    loss: str,
    device: str,
    seed: int,
    weights: str | None = None,
    **batch: Any,
) -> tuple[Any, Any]:
    """(model on its device, batch); batch: further arguments of targets.load_batch."""
    import torch

    from .._batch import LOSSES
    from ..targets import load_batch, load_model, load_weights, parse_settings

    if loss != "auto" and loss not in LOSSES:
        raise InputError(f"--loss {loss}: unknown{did_you_mean(loss, ['auto', *LOSSES])}")
    place = _device(device)
    torch.manual_seed(seed)
    model = load_model(target, parse_settings(settings or []))
    if weights is not None:
        load_weights(model, weights)
    try:
        model.to(place)
    except (RuntimeError, NotImplementedError) as error:
        raise InputError(f"--device {device}: the model cannot be moved there: {error}") from error
    given = load_batch(model, data=data, loss=loss, seed=seed, **batch)
    if data is not None and os.path.isdir(data):
        note(f"--data {data}: {_images(given)}")
    return model, given


def _images(batch: Any) -> str:
    """What a folder turned out to hold: "64 images (3, 32, 32) of 10 classes"."""
    images, labels = batch if isinstance(batch, tuple) else (batch, None)
    classes = "without class folders" if labels is None else f"of {len(labels.unique())} classes"
    return f"{len(images)} images {tuple(images.shape[1:])} {classes}"


def _device(name: str) -> Any:
    import torch

    known = "cpu, cuda, cuda:0 or mps"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"--device {name}: unknown; it is {known}, for example") from error
    try:
        torch.zeros(1, device=device).cpu()
    except Exception as error:
        raise InputError(f"--device {name}: not available here; --device cpu always is") from error
    return device


def codes(option: str, values: list[str] | None) -> list[str] | None:
    """--select UG2,UG303 --select dead-units -> the codes of all of them; an unknown one is refused."""
    if not values:
        return None
    from ..rules.catalogue import resolve

    return sorted(resolve([word for value in values for word in value.split(",")], option))


def severe(findings: Sequence[Finding], fail_on: FailOn) -> bool:
    levels = {"error": ("error",), "warning": ("error", "warning"), "never": ()}[fail_on.value]
    return any(finding.severity in levels for finding in findings)
