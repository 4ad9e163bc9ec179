"""Where a loader's orders and random states are, so that what was read from it can be undone.

Loaders with `state_dict` and `load_state_dict` (InMemoryLoader, torchdata's) say it themselves. Of others it is the
states of the generators that they and their samplers draw from, beside the global one.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .._base import InputError
from . import random_states


def is_stateful(loader: Any) -> bool:
    return (
        hasattr(loader, "state_dict")
        and hasattr(loader, "load_state_dict")
        and not isinstance(loader, nn.Module)
    )


def loader_state(loader: Any) -> dict[str, Any]:
    if is_stateful(loader):
        return {"state": loader.state_dict()}
    return {"generators": generator_states(loader)}


def set_loader_state(loader: Any, state: dict[str, Any]) -> None:
    if "state" in state and is_stateful(loader):
        loader.load_state_dict(state["state"])
    else:
        set_generators(loader, state.get("generators", []))


def generator_states(loader: Any) -> list[Tensor]:
    return [g.get_state() for g in _generators(loader)]


def set_generators(loader: Any, states: list[Tensor]) -> None:
    for generator, state in zip(_generators(loader), states):
        generator.set_state(state)


def seed_loader(loader: Any, seed: int) -> None:
    """Its own generators begin anew. Those that it draws from torch's global one are seeded with that."""
    for generator in _generators(loader):
        generator.manual_seed(seed)


@contextmanager
def loaders_kept(*loaders: Any) -> Iterator[None]:
    """Puts the loaders' states back, also after an exception. The global random states are another matter."""
    states = [copy.deepcopy(loader_state(loader)) for loader in loaders]
    try:
        yield
    finally:
        for loader, state in zip(loaders, states):
            set_loader_state(loader, state)


def first_batch(loader: Any) -> Any:
    """The batch that a loader gives first. Its order and all random states are afterwards what they were.

    Raises InputError for a loader that gives none.
    """
    with random_states.kept(), loaders_kept(loader):
        iterator = iter(loader)
        try:
            return next(iterator)
        except StopIteration:
            raise InputError(
                f"batch: the {type(loader).__name__} gives no batch; is its data set empty, or smaller than one batch "
                "with drop_last=True?"
            ) from None
        finally:
            if callable(close := getattr(iterator, "close", None)):  # a generator would keep its position
                close()


class AfterFirst:
    """A loader's batches without the first one, which has been used; read again, all of them."""

    def __init__(self, loader: Any):
        self._loader, self._skip = loader, True

    def __iter__(self) -> Iterator[Any]:
        skip, self._skip = self._skip, False
        batches = itertools.islice(iter(self._loader), int(skip), None)
        second = list(itertools.islice(batches, 1))
        if skip and not second:
            return iter(self._loader)  # it has one batch
        return itertools.chain(second, batches)

    def __len__(self) -> int:
        return len(self._loader)

    def state_dict(self) -> dict[str, Any]:
        return {"skip": self._skip, "loader": loader_state(self._loader)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._skip = state["skip"]
        set_loader_state(self._loader, state["loader"])


class Replayed:
    """Batches of an iterator, which can be read once, kept so that they can be read again from the beginning."""

    def __init__(self, batches: Iterator[Any]):
        self._batches, self._seen = batches, []

    def __iter__(self) -> Iterator[Any]:
        number = 0
        while True:
            if number == len(self._seen):
                try:
                    self._seen.append(next(self._batches))
                except StopIteration:
                    return
            yield self._seen[number]
            number += 1


def _generators(loader: Any) -> list[torch.Generator]:
    sampler, batch_sampler = getattr(loader, "sampler", None), getattr(loader, "batch_sampler", None)
    holders = [
        loader,
        sampler,
        batch_sampler,
        getattr(batch_sampler, "sampler", None),
        getattr(loader, "dataset", None),
    ]
    found = [getattr(holder, "generator", None) for holder in holders]
    return list({id(g): g for g in found if isinstance(g, torch.Generator)}.values())
