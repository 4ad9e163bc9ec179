"""Lets the tests of this folder import their architectures, and gives each of them in turn."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from architectures import ZOO


@pytest.fixture(params=ZOO)
def case(request):
    torch.manual_seed(0)
    return ZOO[request.param]()
