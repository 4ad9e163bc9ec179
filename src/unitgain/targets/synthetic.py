"""--shape and --tokens: a random input for a model, and targets that fit its output and the loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .._base import InputError, described
from .model import LIBRARIES, forward_arguments

_MOST_BYTES = 8 << 30
_CLASS_LOSSES = ("cross_entropy", "nll")
_FLOAT_LOSSES = ("mse", "l1", "smooth_l1")


def parse_shape(text: str) -> tuple[int, ...]:
    """--shape, batch first.

    >>> parse_shape("8,3,224,224")
    (8, 3, 224, 224)
    """
    example = "write it like 8,3,224,224 (examples first)"
    sizes = []
    for part in text.split(","):
        try:
            sizes.append(int(part))
        except ValueError:
            raise InputError(f"--shape {text}: {part.strip()!r} is not a whole number; {example}") from None
        if sizes[-1] < 1:
            raise InputError(f"--shape {text}: every size must be at least 1; {example}")
    if 4 * math.prod(sizes) > _MOST_BYTES:
        size = 4 * math.prod(sizes) / 2**30
        raise InputError(f"--shape {text}: that would be an input of {size:,.0f} GiB; choose a smaller one")
    return tuple(sizes)


def random_input(
    shape: tuple[int, ...], tokens: int | None, dtype: torch.dtype, generator: torch.Generator
) -> Tensor:
    """N(0, 1) of that dtype, or with tokens=V whole numbers in 0..V-1 (int64)."""
    if tokens is None:
        return torch.randn(shape, generator=generator).to(dtype)
    return torch.randint(0, tokens, shape, generator=generator)


def with_targets(model: nn.Module, inputs: Tensor, loss: str, generator: torch.Generator) -> Any:
    """A batch from random inputs: with targets that fit the loss and the model's output.

    cross_entropy, nll: classes, drawn evenly; mse, l1, smooth_l1: N(0, 1); bce_with_logits: zeros and ones.
    With loss "auto" nothing is known about the task, so there are no targets, except for models that name
    their task themselves (Hugging Face models with a `labels` argument): they get a mapping with labels.
    """
    if loss == "auto":
        name = _own_labels(model)
        if name is None:
            return inputs
        logits = _output(model, inputs, name)
        return {name: inputs, "labels": _labels(inputs, logits, generator)}
    output = _output(model, inputs)
    if loss in _CLASS_LOSSES:
        return inputs, _classes(inputs, output, loss, generator)
    if loss in _FLOAT_LOSSES:
        return inputs, _like(output, torch.randn(output.shape, generator=generator))
    return inputs, _like(output, torch.randint(0, 2, output.shape, generator=generator))


def _own_labels(model: nn.Module) -> str | None:
    """The name of the main input of a model that computes its own loss from `labels`."""
    name = getattr(model, "main_input_name", None)
    parameters = forward_arguments(model)
    return name if isinstance(name, str) and name in parameters and "labels" in parameters else None


def _labels(inputs: Tensor, logits: Tensor, generator: torch.Generator) -> Tensor:
    if logits.dim() == 3 and logits.shape[:2] == inputs.shape[:2] and not inputs.is_floating_point():
        return (
            inputs.clone()
            if logits.shape[2] > int(inputs.max())
            else _draw(logits.shape[2], inputs.shape, logits, generator)
        )
    if logits.dim() == 2 and logits.shape[1] == 1:  # one output: Hugging Face reads it as a regression
        return _like(logits, torch.randn(len(logits), generator=generator))
    return _classes(inputs, logits, "labels", generator)


def _classes(inputs: Tensor, output: Tensor, loss: str, generator: torch.Generator) -> Tensor:
    """Class indices for (N, C), (N, C, ...), or (N, T, C) when the inputs are tokens (N, T)."""
    if output.dim() < 2:
        raise InputError(
            f"--loss {loss}: the model's output has shape {tuple(output.shape)}, and classes need "
            "(examples, classes); choose --loss mse or bce_with_logits, or give the targets with --data"
        )
    tokens = not inputs.is_floating_point() and output.dim() == inputs.dim() + 1
    if tokens and output.shape[: inputs.dim()] == inputs.shape:
        return _draw(output.shape[-1], inputs.shape, output, generator)
    return _draw(output.shape[1], (output.shape[0], *output.shape[2:]), output, generator)


def _draw(classes: int, shape: Any, output: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randint(0, classes, tuple(shape), generator=generator).to(output.device)


def _like(output: Tensor, values: Tensor) -> Tensor:
    return values.to(device=output.device, dtype=output.dtype)


def _output(model: nn.Module, inputs: Tensor, name: str | None = None) -> Tensor:
    """The model's first floating output; training flags, buffers and random state stay as they are."""
    training = {module: module.training for module in model.modules()}
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            model.eval()  # so that running statistics are not updated
            output = model(inputs) if name is None else model(**{name: inputs})
    except Exception as error:
        shape = ",".join(map(str, inputs.shape))
        raise InputError(
            f"--shape {shape}: the model cannot take this {_kind(model, inputs)}: {described(error, LIBRARIES)}"
        ) from error
    finally:
        for module, flag in training.items():
            module.training = flag
    found = _first_floating(output)
    if found is None:
        kind = type(output).__name__
        raise InputError(f"the model returns a {kind} without a floating tensor; leave --loss out")
    return found


def _kind(model: nn.Module, inputs: Tensor) -> str:
    if not inputs.is_floating_point():
        return "token input"
    embeds = any(isinstance(m, nn.Embedding) for m in model.modules())
    hint = " (for token numbers add --tokens VOCABULARY)" if embeds else ""
    return f"{str(inputs.dtype).removeprefix('torch.')} input{hint}"


def _first_floating(output: Any) -> Tensor | None:
    if isinstance(output, Tensor):
        return output if output.is_floating_point() else None
    if isinstance(output, Mapping):
        if isinstance(output.get("logits"), Tensor):
            return output["logits"]
        output = list(output.values())
    if isinstance(output, (list, tuple)):
        return next((t for t in map(_first_floating, output) if t is not None), None)
    return None
