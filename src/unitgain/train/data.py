"""Data: the two iterables that training needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .._base import InputError


@dataclass
class Data:
    """train and valid: anything that can be iterated over more than once and gives batches; valid may be None."""

    train: Iterable[Any]
    valid: Iterable[Any] | None = None


def as_data(data: Any) -> Data:
    """An object with .train and .valid, a (train, valid) pair, or an iterable of batches for training alone.

    Raises InputError for anything else, and for iterators, which end after one epoch.
    """
    given: Any = data
    if hasattr(given, "train") and not isinstance(given, torch.nn.Module):
        found = Data(given.train, getattr(given, "valid", None))
    elif isinstance(data, tuple):
        if len(data) != 2:
            raise InputError(f"data: expected a (train, valid) pair, got a tuple of {len(data)}")
        found = Data(*data)
    else:
        found = Data(data)
    for name, part in (("train", found.train), ("valid", found.valid)):
        if part is None and name == "valid":
            continue
        if isinstance(part, (Tensor, Mapping, str)) or not hasattr(part, "__iter__"):
            raise InputError(
                f"data: {name} is a {type(part).__name__}; give something that can be iterated over for batches: a "
                "DataLoader, a list of batches, or InMemoryLoader((inputs, targets), batch_size=...)"
            )
        if iter_once(part):
            raise InputError(
                f"data: {name} is a {type(part).__name__} that can be read only once; give something that starts again "
                "for each epoch: a list, a DataLoader, an object with __iter__"
            )
    return found


def iter_once(part: Any) -> bool:
    return hasattr(part, "__next__")


def check_not_empty(data: Data, validate: bool, *, train: bool = True) -> None:
    """Raises InputError for loaders whose length is 0."""
    for loader, training in (
        (data.train if train else None, True),
        (data.valid if validate else None, False),
    ):
        if loader is not None and length(loader) == 0:
            raise no_batch(training)


def no_batch(training: bool) -> InputError:
    which = "training" if training else "validation"
    return InputError(
        f"data: the {which} data gave no batch; are they empty, or fewer than one batch with drop_last=True?"
    )


def length(loader: Any) -> int | None:
    """Batches in one pass, None where the loader does not know."""
    try:
        return len(loader)
    except TypeError:
        return None
