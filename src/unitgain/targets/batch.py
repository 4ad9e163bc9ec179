"""--data, --dataset or --shape -> the batch that check() takes.

A file's arrays become a batch like this:

- every name is an argument of the model's forward, and there is more than one: a mapping, passed by name
  (input_ids, attention_mask, labels of a Hugging Face model);
- else one of x, input, inputs, image, images, pixel_values, arr_0 is the input, and one of y, target,
  targets, label, labels, arr_1 the target (arr_0 and arr_1 are what numpy.savez(path, x, y) calls them);
- else, if there is only one array, it is the input.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from .._base import InputError, did_you_mean
from .._batch import TARGET_NAMES, Forward, map_tensors
from .files import read_arrays
from .images import read_images
from .synthetic import parse_shape, random_input, with_targets

DEFAULT_BATCH = 64
_INPUTS = ("x", "input", "inputs", "image", "images", "pixel_values", "arr_0")
_TARGETS = (*TARGET_NAMES, "arr_1")
DATASETS = ("names", "fashion-mnist")


def load_batch(
    model: nn.Module,
    *,
    data: str | None = None,
    dataset: str | None = None,
    shape: str | None = None,
    tokens: int | None = None,
    count: int | None = None,
    loss: str = "auto",
    seed: int = 0,
    normalize: bool = True,
) -> Any:
    """A tensor, an (input, target) pair or a mapping, on the model's device.

    count: rows to use. A file is used whole unless it is given; of images and data sets 64 are taken.
    normalize: give the pixels of images mean 0 and standard deviation 1 (per channel over the batch; for
    Fashion-MNIST with the training set's constants); otherwise they stay in 0..1.
    Floating tensors take the floating type of the model's parameters; targets that are whole numbers int64.

    Raises InputError for anything that cannot be read, is empty, or does not fit together.
    """
    _check_combination(data, dataset, shape, tokens, count)
    generator = torch.Generator().manual_seed(seed)
    dtype, device = _floating_type(model), _device(model)
    if data is not None and os.path.isdir(data):
        batch = from_images(data, shape, count or DEFAULT_BATCH, normalize)
    elif data is not None:
        batch = from_file(model, data, count)
    elif dataset is not None:
        batch = next(_drawn_from(dataset, count or DEFAULT_BATCH, generator, normalize))
    else:
        assert shape is not None
        inputs = random_input(parse_shape(shape), tokens, dtype, generator).to(device)
        return with_targets(model, inputs, loss, generator)
    return _fit(batch, dtype, device, embeds=_embeds(model))


class Batches:
    """Batches of a data set that follow `load_batch`'s, which had the same seed: an iterable that begins anew
    whenever it is read."""

    def __init__(
        self,
        model: nn.Module,
        dataset: str,
        *,
        count: int | None = None,
        seed: int = 0,
        normalize: bool = True,
    ):
        self._dataset, self._count, self._seed, self._normalize = (
            dataset,
            count or DEFAULT_BATCH,
            seed,
            normalize,
        )
        self._dtype, self._device = _floating_type(model), _device(model)
        self._embeds = _embeds(model)

    def __iter__(self) -> Iterator[Any]:
        generator = torch.Generator().manual_seed(self._seed)
        draw = _drawn_from(self._dataset, self._count, generator, self._normalize)
        next(draw)  # the one that is checked
        for batch in draw:
            yield _fit(batch, self._dtype, self._device, self._embeds)


def _embeds(model: nn.Module) -> bool:
    return any(isinstance(m, nn.Embedding) for m in model.modules())


def _check_combination(
    data: str | None, dataset: str | None, shape: str | None, tokens: int | None, count: int | None
) -> None:
    given = [n for n, v in (("--data", data), ("--dataset", dataset), ("--shape", shape)) if v is not None]
    if not given:
        raise InputError(
            "no batch: give --data FILE (.safetensors, .npz or a directory of images), --dataset "
            "names|fashion-mnist, or --shape 8,3,224,224 for random input"
        )
    of_images = given == ["--data", "--shape"] and os.path.isdir(str(data))
    if len(given) > 1 and not of_images:
        raise InputError(
            f"{' and '.join(given)}: give only one of them (--shape goes with --data only for a directory of "
            "images, to resize them)"
        )
    if tokens is not None:
        if "--shape" not in given or of_images:
            raise InputError(f"--tokens {tokens}: it goes with --shape, for random token numbers")
        if tokens < 1:
            raise InputError(
                f"--tokens {tokens}: the vocabulary needs at least 1 entry; give its size, like 50257"
            )
    if count is not None and count < 1:
        raise InputError(f"--batch {count}: at least 1 example is needed")
    if count is not None and shape is not None:
        raise InputError(
            f"--batch {count}: --shape already says how many examples there are: its first number"
        )
    if data is not None and not os.path.exists(data):
        folder = os.path.dirname(data) or "."
        near = os.listdir(folder) if os.path.isdir(folder) else []
        near = [
            n for n in near if n.endswith((".npz", ".safetensors")) or os.path.isdir(os.path.join(folder, n))
        ]
        hint = did_you_mean(os.path.basename(data), near, most=0)
        raise InputError(f"--data {data}: there is no such file or directory{hint}")


def from_file(model: nn.Module, path: str, count: int | None) -> Any:
    arrays = read_arrays(path, count)
    rows = {name: len(t) for name, t in arrays.items() if t.dim()}
    if len(set(rows.values())) > 1:
        counts = ", ".join(f"{name} {n}" for name, n in rows.items())
        raise InputError(f"--data {path}: the arrays differ in their number of examples: {counts}")
    if 0 in rows.values():
        raise InputError(f"--data {path}: the batch is empty; at least 1 example is needed")
    forward = Forward.of(model)
    parameters = [] if forward is None else forward.arguments
    if len(arrays) > 1 and all(name in parameters for name in arrays):
        return arrays
    inputs = [n for n in arrays if n.lower() in _INPUTS]
    targets = [n for n in arrays if n.lower() in _TARGETS]
    if len(arrays) == 1 and not targets:
        return next(iter(arrays.values()))
    if len(inputs) != 1 or len(targets) > 1 or len(inputs) + len(targets) != len(arrays):
        raise InputError(
            f"--data {path}: it holds {', '.join(arrays)}; name the arrays x (inputs) and y (targets), or "
            f"like the arguments of the model's forward ({', '.join(parameters)})"
        )
    return (arrays[inputs[0]], arrays[targets[0]]) if targets else arrays[inputs[0]]


def from_images(folder: str, shape: str | None, count: int, normalize: bool) -> Any:
    size = None
    if shape is not None:
        sizes = parse_shape(shape)
        if len(sizes) not in (3, 4):
            raise InputError(
                f"--shape {shape}: images need examples,channels,height,width, like 64,3,224,224"
            )
        size = (sizes[-3], sizes[-2], sizes[-1])
        count = sizes[0] if len(sizes) == 4 else count
    images, labels = read_images(folder, count, size)
    if normalize:
        std, mean = torch.std_mean(images, dim=(0, 2, 3), keepdim=True, correction=0)  # (1, C, 1, 1)
        images.sub_(mean).div_(std.clamp_min(1e-6))
    return images if labels is None else (images, labels)


def _drawn_from(
    name: str, count: int, generator: torch.Generator, normalize: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batch after batch of a known data set, without end."""
    from .. import data

    if name == "names":
        yield from data.load_names().train.batches(count, generator)
    elif name == "fashion-mnist":
        split = data.load_fashion_mnist(normalize=normalize).train
        while True:
            rows = torch.randint(0, len(split), (count,), generator=generator)
            yield split.images[rows], split.labels[rows]
    else:
        raise InputError(f"--dataset {name}: unknown{did_you_mean(name, DATASETS)}")


# ---- making the tensors fit the model ----------------------------------------------------------------------


def made_to_fit(model: nn.Module, batch: Any) -> Any:
    """Floating tensors of the model's type, on its device; whole numbers as int64."""
    return _fit(batch, _floating_type(model), _device(model), _embeds(model))


def _floating_type(model: nn.Module) -> torch.dtype:
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.get_default_dtype())


def _device(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def _fit(batch: Any, dtype: torch.dtype, device: torch.device, embeds: bool) -> Any:
    inputs, targets = batch if isinstance(batch, tuple) else (batch, None)
    inputs = map_tensors(inputs, lambda t: _fit_input(t, dtype, device, embeds))
    if targets is None:
        return inputs
    if targets.is_floating_point():
        targets = targets.to(dtype)
    elif targets.dtype != torch.bool:
        targets = targets.long()
    return inputs, targets.to(device)


def _fit_input(tensor: Tensor, dtype: torch.dtype, device: torch.device, embeds: bool) -> Tensor:
    """Bytes are pixels (0..255 as floats) unless they have at most two axes and the model embeds numbers."""
    if tensor.dtype == torch.uint8:
        tensor = tensor.long() if embeds and tensor.dim() <= 2 else tensor.to(dtype)
    elif tensor.is_floating_point():
        tensor = tensor.to(dtype)
    elif tensor.dtype in (torch.int8, torch.int16):
        tensor = tensor.long()
    return tensor.to(device)
