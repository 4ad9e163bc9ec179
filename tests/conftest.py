"""Shared by all tests: a fixed seed, and torchvision's operators declared, so that timm imports beside a CPU torch."""

from __future__ import annotations

import os

import pytest
import torch

_LIBRARY = None

# `pytest -n N` has N processes: together, and with the processes that they start, they use each core once
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    share = max(1, (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    torch.set_num_threads(int(os.environ.setdefault("OMP_NUM_THREADS", str(share))))


@pytest.fixture(scope="session")
def torchvision_operators() -> None:
    global _LIBRARY
    if hasattr(torch.ops.torchvision, "nms"):
        return
    try:
        import torchvision  # noqa: F401
    except ModuleNotFoundError:
        return
    except RuntimeError:
        _LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            _LIBRARY.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
