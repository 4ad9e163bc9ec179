from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def own_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without data: its own empty cache, no UNITGAIN_DATA, no Debian folder."""
    from unitgain.data import fashion_mnist

    monkeypatch.delenv("UNITGAIN_DATA", raising=False)
    monkeypatch.setenv("UNITGAIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FASHION_MNIST", tmp_path / "debian")
    return tmp_path
