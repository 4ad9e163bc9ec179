"""--data or --dataset -> examples to train on and examples that are held out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .._base import InputError, did_you_mean
from .._batch import map_tensors
from .batch import DATASETS, DEFAULT_BATCH, from_file, from_images, made_to_fit

_FEWEST = 10  # examples in a file: every fifth is held out
_HELD_EVERY = 5
_IMAGES = 5000  # of a folder, at most
_JUDGES = 1024  # held-out examples that judge, at most


class Source:
    """Examples in memory: batches of them, drawn at random, begin anew whenever it is read.

    batch   the first batch
    valid   examples that are held out, at most 1,024
    train, held   all of both, as they are given to the model
    count   examples in a batch
    """

    def __init__(self, train: Any, held: Any, count: int, seed: int):
        self.train, self.held, self.count, self.seed = train, held, count, seed
        self._rows = _length(train)

    def __iter__(self) -> Iterator[Any]:
        generator = torch.Generator().manual_seed(self.seed)
        while True:
            yield _rows(self.train, torch.randint(0, self._rows, (self.count,), generator=generator))

    def again(self, count: int | None = None, seed: int = 0) -> Source:
        """The same examples in batches of another size, or in the order of a further seed."""
        return Source(self.train, self.held, count or self.count, self.seed + seed)

    @property
    def batch(self) -> Any:
        return next(iter(self))

    @property
    def valid(self) -> Any:
        total = _length(self.held)
        if total <= _JUDGES:
            return self.held
        order = torch.randperm(total, generator=torch.Generator().manual_seed(0))
        return _rows(self.held, order[:_JUDGES])


def load_source(
    model: nn.Module,
    *,
    data: str | None = None,
    dataset: str | None = None,
    count: int | None = None,
    seed: int = 0,
    normalize: bool = True,
) -> Source:
    """Of a data set its training and validation (or test) examples; of a file or a folder of images every fifth example
    is held out. In a form, type and place that the model takes.

    Raises InputError for what cannot be read or has no targets, and for fewer than 10 examples.
    """
    if dataset is not None and data is not None:
        raise InputError("--data and --dataset: give only one of them")
    if dataset is not None:
        train, held = _data_set(dataset, normalize)
    elif data is None:
        raise InputError(
            "no examples: give --data FILE (.safetensors, .npz or a directory of images) or --dataset NAME"
        )
    else:
        folder = os.path.isdir(data)
        every = from_images(data, None, _IMAGES, normalize) if folder else from_file(model, data, None)
        total = _length(every)
        if total < _FEWEST:
            raise InputError(
                f"--data {data}: it holds {total} examples; at least {_FEWEST} are needed to hold some out"
            )
        held_rows = torch.arange(0, total, _HELD_EVERY)
        train_rows = torch.tensor([i for i in range(total) if i % _HELD_EVERY])
        train, held = _rows(every, train_rows), _rows(every, held_rows)
    train, held = made_to_fit(model, train), made_to_fit(model, held)
    size = count or DEFAULT_BATCH
    return Source(train, held, min(size, _length(train)) if data is not None else size, seed)


def _data_set(name: str, normalize: bool) -> tuple[Any, Any]:
    from .. import data

    if name == "names":
        names = data.load_names()
        return (names.train.x, names.train.y), (names.validation.x, names.validation.y)
    if name == "fashion-mnist":
        found = data.load_fashion_mnist(normalize=normalize)
        return (found.train.images, found.train.labels), (found.test.images, found.test.labels)
    raise InputError(f"--dataset {name}: unknown{did_you_mean(name, DATASETS)}")


def _length(examples: Any) -> int:
    first = examples
    while not isinstance(first, Tensor):
        first = next(iter(first.values())) if isinstance(first, Mapping) else first[0]
    return len(first)


def _rows(examples: Any, rows: Tensor) -> Any:
    return map_tensors(examples, lambda t: t[rows.to(t.device)] if t.dim() else t)
