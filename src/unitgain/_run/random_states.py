"""Every random state that a model or training may draw from: python's, numpy's, torch's and each accelerator's."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def take() -> dict[str, Any]:
    """The states as they are, in numbers, strings, lists and tensors, so that they can go into a checkpoint."""
    version, internal, gauss = random.getstate()
    name, keys, at, has_gauss, cached = np.random.get_state(legacy=True)  # type: ignore[misc]  # noqa: NPY002
    state: dict[str, Any] = {
        "python": [version, list(internal), gauss],
        "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), int(at), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
    }  # fmt: skip
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state_all()
    if torch.backends.mps.is_available():
        state["mps"] = torch.mps.get_rng_state()
    if hasattr(torch, "xpu") and torch.xpu.is_available() and torch.xpu.is_initialized():
        state["xpu"] = torch.xpu.get_rng_state_all()
    return state


def of_torch(state: Mapping[str, Any]) -> list[torch.Tensor]:
    """Of `take`'s states, torch's own: the processor's first, then those of CUDA."""
    return [state["torch"], *state.get("cuda", ())]


def take_torch() -> list[torch.Tensor]:
    """What `of_torch` gives of the present states."""
    started = torch.cuda.is_available() and torch.cuda.is_initialized()
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if started else ())]


def put(state: Mapping[str, Any]) -> None:
    """Makes `take`'s states the present ones. Those of accelerators that this machine does not have are ignored."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, at, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), at, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    for kind in ("cuda", "xpu"):
        device = getattr(torch, kind, None)
        if kind in state and device is not None and device.is_available():
            for number, one in enumerate(state[kind][: device.device_count()]):
                device.set_rng_state(one, number)
    if "mps" in state and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"])


@contextmanager
def kept() -> Iterator[None]:
    """The states are afterwards what they were, also after an exception.

    >>> with kept():
    ...     first = torch.rand(3)
    >>> torch.equal(first, torch.rand(3))
    True
    """
    state = take()
    try:
        yield
    finally:
        put(state)
