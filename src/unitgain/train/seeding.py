"""set_seed: the same random numbers and the same order of the data again."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from .._base import InputError
from .._run import seed_loader


def set_seed(seed: int, *loaders: Any) -> None:
    """Seeds Python, NumPy and torch (all devices), and the orders of loaders, so that a run repeats itself.

    loaders  DataLoaders, InMemoryLoaders, objects with `train` and `valid`: their generators start anew. One without a
             generator of its own draws its order from torch's, which is seeded anyway

    Raises InputError for a seed that is not a whole number from 0 to 2**32 - 1 (NumPy takes no other).

    >>> from unitgain.train import InMemoryLoader
    >>> loader = InMemoryLoader(torch.arange(100), batch_size=100, shuffle=True)
    >>> set_seed(1, loader)
    >>> first = next(iter(loader))[0]
    >>> set_seed(1, loader)
    >>> torch.equal(next(iter(loader))[0], first)
    True
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise InputError(f"set_seed({seed!r}): expected a whole number from 0 to 2**32 - 1")
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)
    for loader in loaders:
        parts = (
            (loader.train, loader.valid)
            if hasattr(loader, "train") and hasattr(loader, "valid")
            else (loader,)
        )
        for part in parts:
            if part is not None:
                seed_loader(part, seed)
