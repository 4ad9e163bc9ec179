"""--shape and --tokens: a random input for a model, and targets that fit its output and the loss."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from .._base import InputError
from .._batch import Forward, find_logits
from .words import describe

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
    With loss "auto" nothing is known about the task, so there are no targets, except for models that compute their loss
    themselves: Hugging Face models, and language models whose forward takes labels or targets beside its tokens, get
    a mapping with them.
    """
    if loss == "auto":
        names = _own_target(model, inputs)
        if names is None:
            return inputs
        logits = _output(model, inputs, names[0])
        return {names[0]: inputs, names[1]: _labels(model, inputs, logits, generator)}
    output = _output(model, inputs)
    if loss in _CLASS_LOSSES:
        return inputs, _classes(inputs, output, loss, generator)
    if loss in _FLOAT_LOSSES:
        return inputs, _like(output, torch.randn(output.shape, generator=generator))
    return inputs, _like(output, torch.randint(0, 2, output.shape, generator=generator))


def _own_target(model: nn.Module, inputs: Tensor) -> tuple[str, str] | None:
    """The arguments for the input and for the target of a model that computes its own loss."""
    forward, name = Forward.of(model), getattr(model, "main_input_name", None)
    if forward is None:
        return None
    if isinstance(name, str) and {name, "labels"} <= forward.names:
        return name, "labels"
    target = forward.target_name()
    if inputs.is_floating_point() or target is None or forward.positional[:1] in ((), (target,)):
        return None
    return forward.positional[0], target


def _labels(model: nn.Module, inputs: Tensor, logits: Tensor, generator: torch.Generator) -> Tensor:
    """Targets for a model's own loss. Hugging Face's language models shift the tokens themselves, others do not."""
    by_position = (
        logits.dim() == 3 and not inputs.is_floating_point() and logits.shape[1] in (1, *inputs.shape[1:2])
    )
    if by_position:
        shifts = hasattr(model, "main_input_name") and logits.shape[2] > int(inputs.max())
        return (
            inputs.clone() if shifts else _draw(logits.shape[2], inputs.shape, logits, "its own", generator)
        )
    if logits.dim() == 2 and logits.shape[1] == 1:  # one output: Hugging Face reads it as a regression
        return _like(logits, torch.randn(len(logits), generator=generator))
    return _classes(inputs, logits, "auto", generator)


def _classes(inputs: Tensor, output: Tensor, loss: str, generator: torch.Generator) -> Tensor:
    """Class indices for (N, C), (N, C, ...), or where the inputs are tokens (N, T), for (N, T, C) and (N, 1, C): models
    that return the last position only are judged there."""
    if output.dim() < 2:
        raise InputError(
            f"--loss {loss}: the model's output has shape {tuple(output.shape)}, and classes need "
            "(examples, classes); choose --loss mse or bce_with_logits, or give the targets with --data"
        )
    positions = output.shape[:-1]
    one = inputs.dim() == 2 and positions == (len(inputs), 1)
    if (
        not inputs.is_floating_point()
        and output.dim() == inputs.dim() + 1
        and (one or positions == inputs.shape)
    ):
        return _draw(output.shape[-1], positions, output, loss, generator)
    return _draw(output.shape[1], (output.shape[0], *output.shape[2:]), output, loss, generator)


def _draw(classes: int, shape: Any, output: Tensor, loss: str, generator: torch.Generator) -> Tensor:
    if classes < 2:
        raise InputError(
            f"--loss {loss}: the model's output of shape {tuple(output.shape)} holds one class, over which this loss "
            "is 0 whatever the model does; choose --loss bce_with_logits or mse, or give the targets with --data"
        )
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
            f"--shape {shape}: the model cannot take this {_kind(model, inputs)}: {describe(error)}"
        ) from error
    finally:
        for module, flag in training.items():
            module.training = flag
    found = find_logits(output)
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
