from __future__ import annotations

import gzip
import hashlib
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from unitgain import InputError
from unitgain.data import DATASETS, fashion_mnist, load_fashion_mnist
from unitgain.data.places import DEBIAN_FASHION_MNIST, cache_root


def write(path: Path, array: np.ndarray) -> None:
    data = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(data, 1) if path.suffix == ".gz" else data)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six training and two test examples stand for the 70,000."""
    monkeypatch.setattr(fashion_mnist, "_EXAMPLES", {"train": 6, "test": 2})


def make(folder: Path, suffix: str = ".gz") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", 6), ("test", 2)):
        pixels = np.arange(count * 784, dtype=np.uint8).reshape(count, 28, 28)
        write(folder / (fashion_mnist.IMAGE_FILES[part] + suffix), pixels)
        write(folder / (fashion_mnist.LABEL_FILES[part] + suffix), np.arange(count, dtype=np.uint8))
    return folder


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("suffix", [".gz", ""])
def test_images_are_0_to_1_with_one_channel_and_labels_whole_numbers(tmp_path: Path, suffix: str) -> None:
    data = load_fashion_mnist(make(tmp_path / "d", suffix))
    assert data.train.images.shape == (6, 1, 28, 28)
    assert data.train.images.dtype == torch.float32
    assert data.train.images.min() == 0
    assert data.train.images.max() == 1
    assert data.train.images[0, 0, 0, 5] == torch.tensor(5) / 255
    assert data.train.labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert data.train.labels.dtype == torch.int64
    assert len(data.test) == 2
    assert data.classes[9] == "ankle boot"
    normal = load_fashion_mnist(tmp_path / "d", normalize=True)
    torch.testing.assert_close(normal.test.images, (data.test.images - 0.286) / 0.353)


@pytest.mark.usefixtures("small")
def test_order_of_places(own_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="unitgain data fetch fashion-mnist"):
        load_fashion_mnist()
    make(own_machine / "debian")
    assert load_fashion_mnist().source.startswith("Debian")
    make(own_machine / "cache" / "fashion-mnist")
    assert load_fashion_mnist().source == "cache"
    for layout in ("", "FashionMNIST/raw", "fashion-mnist"):
        make(own_machine / "data" / layout, "")
        monkeypatch.setenv("UNITGAIN_DATA", str(own_machine / "data"))
        assert load_fashion_mnist().source == "UNITGAIN_DATA"


@pytest.mark.usefixtures("small")
def test_an_interrupted_fetch_in_the_cache_does_not_hide_complete_files(own_machine: Path) -> None:
    make(own_machine / "debian")
    make(own_machine / "cache" / "fashion-mnist")
    next((own_machine / "cache" / "fashion-mnist").iterdir()).unlink()
    assert load_fashion_mnist().source.startswith("Debian")


@pytest.mark.usefixtures("small")
def test_a_named_folder_must_hold_all_four_files(tmp_path: Path) -> None:
    make(tmp_path / "d")
    (tmp_path / "d" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(InputError, match=r"t10k-labels-idx1-ubyte.gz is not there"):
        load_fashion_mnist(tmp_path / "d")


@pytest.mark.usefixtures("small")
def test_swapped_files_truncated_files_and_foreign_labels_are_named(tmp_path: Path) -> None:
    folder = make(tmp_path / "d")
    images, labels = (
        folder / f"{n}.gz" for n in (fashion_mnist.IMAGE_FILES["train"], fashion_mnist.LABEL_FILES["train"])
    )
    shutil.copy(images, tmp_path / "images")
    shutil.copy(labels, images)
    with pytest.raises(InputError, match=r"train-images.*swapped"):
        load_fashion_mnist(folder)
    shutil.copy(tmp_path / "images", images)
    for part in ("IMAGE_FILES", "LABEL_FILES"):
        names = getattr(fashion_mnist, part)
        (folder / f"{names['train']}.gz").write_bytes((folder / f"{names['test']}.gz").read_bytes())
    with pytest.raises(InputError, match=r"its shape is 2; expected 6"):
        load_fashion_mnist(folder)
    make(folder)
    write(labels, np.full(6, 10, dtype=np.uint8))
    with pytest.raises(InputError, match="a label is 10; the classes are 0 to 9"):
        load_fashion_mnist(folder)
    make(folder)
    images.write_bytes(images.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"train-images.*truncated"):
        load_fashion_mnist(folder)


def test_a_relative_xdg_cache_home_is_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("UNITGAIN_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_root() == tmp_path / ".cache" / "unitgain"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "xdg" / "unitgain"


@pytest.mark.skipif(
    not DEBIAN_FASHION_MNIST.is_dir(), reason="Debian's dataset-fashion-mnist is not installed"
)
def test_the_real_files_have_the_known_hashes_shapes_and_moments() -> None:
    for file in DATASETS["fashion-mnist"].files:
        content = gzip.decompress((DEBIAN_FASHION_MNIST / file.name).read_bytes())
        assert hashlib.sha256(content).hexdigest() == file.sha256, file.name
    data = load_fashion_mnist(DEBIAN_FASHION_MNIST, normalize=True)
    assert data.train.images.shape == (60_000, 1, 28, 28)
    assert data.test.images.shape == (10_000, 1, 28, 28)
    assert data.train.labels.bincount().tolist() == [6_000] * 10
    assert abs(float(data.train.images.mean())) < 2e-3
    assert abs(float(data.train.images[::7].std()) - 1) < 5e-3
