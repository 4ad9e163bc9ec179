"""Shared by all tests: a fixed seed, and torchvision's operators declared, so that timm imports beside a CPU torch."""

from __future__ import annotations

import pytest
import torch

_LIBRARY = None


@pytest.fixture(scope="session")
def torchvision_operators() -> None:
    global _LIBRARY
    if hasattr(torch.ops.torchvision, "nms"):
        return
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        _LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            _LIBRARY.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
