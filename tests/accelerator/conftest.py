"""Lets the tests of this folder import pretended.py, and the pretended accelerator's weights be taken for a GPU's."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def weights_as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tensor classes than torch's own are standardized by composed operations."""
    from unitgain.nn import standardize_rows

    monkeypatch.setattr(standardize_rows, "_is_plain", lambda rows: True)
