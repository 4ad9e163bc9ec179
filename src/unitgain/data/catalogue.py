"""The data sets that unitgain can fetch: what `unitgain data` prints and `unitgain data fetch NAME` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from .._base import InputError, did_you_mean
from .fashion_mnist import FASHION_MNIST
from .fetching import Dataset, Source
from .names import NAMES

DATASETS: dict[str, Dataset] = {dataset.name: dataset for dataset in (NAMES, FASHION_MNIST)}
"""The data sets that can be fetched, by name."""


def sources() -> list[Source]:
    """Every data set, and what of it is on this machine, by the names and sizes of files."""
    return [dataset.look() for dataset in DATASETS.values()]


def fetch(
    name: str,
    *,
    mirrors: Sequence[str] | None = None,
    timeout: float = 30.0,
    progress: Callable[[str, int, int | None], None] | None = None,
) -> Path:
    """Downloads what is missing of a data set into the user's cache, and returns its file or folder there.

    mirrors: addresses to use instead of the known ones. progress is called with a file's name, the bytes so
    far and the bytes in all (None if unknown).

    Raises InputError if the data set is unknown, no mirror gives the right files, or the cache cannot be
    written.
    """
    dataset = DATASETS.get(name)
    if dataset is None:
        raise InputError(f"data set {name!r} is unknown{did_you_mean(name, DATASETS)}")
    return dataset.fetch(mirrors=mirrors, timeout=timeout, progress=progress)
