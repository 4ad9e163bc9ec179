"""Tests of the code on a GPU. Without one they are skipped; UNITGAIN_GPU_TESTS=cpu runs their logic on the CPU.

Numbers are compared with the CPU's, so TF32 is off, and where bits are compared algorithms are deterministic.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault(
    "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
)  # before CUDA starts: deterministic matrix products
sys.path.insert(0, str(Path(__file__).parent))

import torch
from torch import Tensor

from unitgain import stats

REHEARSED = os.environ.get("UNITGAIN_GPU_TESTS") == "cpu"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = str(Path(__file__).parent)
    for item in items:
        if not str(item.path).startswith(here):
            continue
        item.add_marker(pytest.mark.gpu)
        if not torch.cuda.is_available():
            real = item.get_closest_marker("needs_cuda") is not None
            if real or not REHEARSED:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(autouse=True)
def exact_products() -> Iterator[None]:
    """float32 products in float32."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    benchmark, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, False
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = benchmark


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lets the Probe's copies to the host through `no_waiting`, and counts: the tensors in each."""
    seen: list[int] = []
    fetch = stats.fetch

    def counted(tensors: list[Tensor]) -> list[Tensor]:
        seen.append(len(tensors))
        mode = torch.cuda.get_sync_debug_mode() if torch.cuda.is_available() else 0
        if mode:
            torch.cuda.set_sync_debug_mode(0)
        try:
            return fetch(tensors)
        finally:
            if mode:
                torch.cuda.set_sync_debug_mode(mode)

    monkeypatch.setattr(stats, "fetch", counted)
    return seen
