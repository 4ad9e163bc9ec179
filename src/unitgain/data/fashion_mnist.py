"""Fashion-MNIST: 70,000 grey pictures of clothes, 28 by 28 pixels, ten classes.

Source: H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine
Learning Algorithms", 2017; MIT licence.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from .._base import InputError
from .fetching import Dataset, RemoteFile, Source
from .idx import read_idx
from .places import DEBIAN_FASHION_MNIST, cache_root, data_root

CLASSES = (
    "T-shirt/top", "trouser", "pullover", "dress", "coat",
    "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
MEAN = 0.286
"""Of all training pixels, scaled to 0..1."""
STD = 0.353
"""Of all training pixels, scaled to 0..1."""

IMAGE_FILES = {"train": "train-images-idx3-ubyte", "test": "t10k-images-idx3-ubyte"}
LABEL_FILES = {"train": "train-labels-idx1-ubyte", "test": "t10k-labels-idx1-ubyte"}
FILES = tuple(file for part in ("train", "test") for file in (IMAGE_FILES[part], LABEL_FILES[part]))
_EXAMPLES = {"train": 60_000, "test": 10_000}


@dataclass(frozen=True)
class ImageSplit:
    """images: (N, 1, 28, 28) float32; labels: (N,) int64 in 0..9."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class FashionMNIST:
    """60,000 training and 10,000 test examples, the classes' names, and where the files came from."""

    train: ImageSplit
    test: ImageSplit
    classes: tuple[str, ...]
    source: str


def load_fashion_mnist(
    folder: str | os.PathLike[str] | None = None, *, normalize: bool = False, download: bool = False
) -> FashionMNIST:
    """Reads Fashion-MNIST into memory (220 MB).

    folder: where the four files are, gzipped or not. If it is not given: $UNITGAIN_DATA, the user's cache,
    Debian's folder, whichever first has all four; then, only with download=True, they are fetched into the
    cache. normalize: pixels are 0..1; with True, (pixel - 0.286) / 0.353.

    Raises InputError if files are missing, damaged, of the wrong shape, or swapped.
    """
    if folder is not None:
        place, source = Path(folder), os.fspath(folder)
        missing = [file for file in FILES if find_file(place, file) is None]
        if missing:
            raise InputError(
                f"{place}: {missing[0]}.gz is not there; the folder must hold all four files of Fashion-MNIST"
            )
    else:
        found = find_fashion_mnist()
        if found is None and download:
            found = FASHION_MNIST.fetch(), "cache"
        if found is None:
            searched = ", ".join(str(p) for p, _ in _folders())
            raise InputError(
                f"Fashion-MNIST is not on this machine (searched: {searched}); "
                "`unitgain data fetch fashion-mnist` gets it, or set UNITGAIN_DATA to its folder"
            )
        place, source = found
    return FashionMNIST(
        _read_split(place, "train", normalize), _read_split(place, "test", normalize), CLASSES, source
    )


def find_fashion_mnist() -> tuple[Path, str] | None:
    """The first folder with all four files, and a description of it; None if there is none."""
    for folder, source in _folders():
        if all(find_file(folder, file) for file in FILES):
            return folder, source
    return None


def find_file(folder: Path, file: str) -> Path | None:
    """The file, gzipped or not, if the folder has it."""
    return next((p for p in (folder / f"{file}.gz", folder / file) if p.is_file()), None)


def cache_folder() -> Path:
    return cache_root() / "fashion-mnist"


def _folders() -> list[tuple[Path, str]]:
    root = data_root()
    own = [root / "fashion-mnist", root / "FashionMNIST" / "raw", root] if root is not None else []
    return [
        *((folder, "UNITGAIN_DATA") for folder in own),
        (cache_folder(), "cache"),
        (DEBIAN_FASHION_MNIST, "Debian package dataset-fashion-mnist"),
    ]


def _read_split(folder: Path, part: str, normalize: bool) -> ImageSplit:
    image_file, label_file = find_file(folder, IMAGE_FILES[part]), find_file(folder, LABEL_FILES[part])
    assert image_file is not None
    assert label_file is not None
    count = _EXAMPLES[part]
    labels = read_idx(label_file, (count,)).long()
    if int(labels.max()) >= len(CLASSES):
        raise InputError(
            f"{label_file}: a label is {int(labels.max())}; the classes are 0 to {len(CLASSES) - 1}"
        )
    images = read_idx(image_file, (count, 28, 28)).unsqueeze(1).float().div_(255)  # (N, 1, 28, 28)
    if normalize:
        images.sub_(MEAN).div_(STD)
    return ImageSplit(images, labels)


def _look() -> Source:
    name, what, found = FASHION_MNIST.name, FASHION_MNIST.description, find_fashion_mnist()
    if found is None:
        return Source(name, what, "absent", None, "", sum(f.size for f in FASHION_MNIST.files))
    folder, source = found
    size = sum(path.stat().st_size for file in FILES if (path := find_file(folder, file)) is not None)
    return Source(name, what, "present", folder, source, size)


# The hashes are those of the unpacked files. Debian's archives differ from the project's in the file name and the time
# in the gzip header, so the archives' hashes differ. The sizes are the project's.
_SIZES = (26_421_880, 29_515, 4_422_102, 5_148)
_SHA256 = (
    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
)
FASHION_MNIST = Dataset(
    "fashion-mnist",
    "70,000 grey 28x28 pictures of clothes in 10 classes",
    tuple(
        RemoteFile(f"{file}.gz", size, sha256, gzipped=True)
        for file, size, sha256 in zip(FILES, _SIZES, _SHA256)
    ),
    (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
    cache_folder,
    _look,
)
