"""Images on disk: directories as ImageNet and Imagenette have them, or Hugging Face datasets, read item by item.

    letters: B images per batch, C = 3 channels, H, W positions

Memory holds only the list of names and the batches that the workers have prepared. An item is decoded with
Pillow, brought to one size (`prepare`) and passed on as uint8; augmentation works on whole batches afterwards.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .._base import InputError, not_installed
from ..data import IMAGE_SUFFIXES, need_pillow

_TRAIN, _VALID = ("train", "training"), ("val", "valid", "validation", "test")
HUB = "hf:"
Corrupt = Literal["error", "skip"]
Prepare = Callable[[Any], Any]  # a PIL image in RGB -> one of a fixed size


class Source(Protocol):
    """Where images come from. `open` gives a PIL image and may raise; `label` and `name` touch no file."""

    def __len__(self) -> int: ...
    def open(self, index: int) -> Any: ...
    def label(self, index: int) -> int: ...
    def name(self, index: int) -> str: ...


@dataclass(frozen=True)
class Split:
    """Training and validation images, and the classes' names: their index is the label."""

    train: Source
    valid: Source
    classes: tuple[str, ...]


class Files:
    """Image files with labels. Paths are kept relative, in one array, so that a million of them stay small."""

    def __init__(self, root: Path, paths: Sequence[str], labels: Sequence[int]):
        self.root = root
        self.paths = np.array(paths, dtype=np.bytes_ if all(p.isascii() for p in paths) else np.str_)
        self.labels = np.array(labels, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def open(self, index: int) -> Any:
        from PIL import Image

        return Image.open(self.name(index))

    def label(self, index: int) -> int:
        return int(self.labels[index])

    def name(self, index: int) -> str:
        path = self.paths[index]
        return str(self.root / (path.decode() if isinstance(path, bytes) else str(path)))


class HubRows:
    """One split of a Hugging Face dataset with a column of images and one of labels."""

    def __init__(self, rows: Any, image: str, label: str, title: str):
        self.rows, self.title, self.image = rows, title, image
        self.labels = np.asarray(rows[label], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def open(self, index: int) -> Any:
        return self.rows[int(index)][self.image]

    def label(self, index: int) -> int:
        return int(self.labels[index])

    def name(self, index: int) -> str:
        return f"{self.title}, row {index}"


def find_images(data: str, valid_share: float = 0.2, seed: int = 0) -> Split:
    """The images of a directory, or of a Hugging Face dataset for "hf:NAME" or a directory that `save_to_disk` wrote.

    data         train/CLASS/*.jpg beside val/, valid/ or test/, with the same classes; or CLASS/*.jpg alone, of which
                 valid_share (drawn by seed, from every class) is held out
    Raises InputError, naming the place and what would be right.
    """
    need_pillow(f"--set data={data}")
    if data.startswith(HUB) or (Path(data) / "dataset_dict.json").is_file():
        return _from_hub(data, valid_share, seed)
    root = Path(data)
    if not root.is_dir():
        raise InputError(
            f"--set data={data}: no such directory; give one with train/CLASS/*.jpg and val/CLASS/*.jpg"
        )
    train, valid = _first(root, _TRAIN), _first(root, _VALID)
    if train is None:
        return _from_one_level(root, valid_share, seed)
    if valid is None:
        raise InputError(
            f"--set data={data}: {train.name}/ is there, but none of {', '.join(f'{v}/' for v in _VALID)}"
        )
    classes = _classes(train)
    if len(classes) < 2:
        raise InputError(
            f"--set data={data}: {train.name}/ must hold a directory for each of at least two classes"
        )
    extra = [c for c in _classes(valid) if c not in classes]
    if extra:
        raise InputError(
            f"--set data={data}: class {extra[0]!r} is in {valid.name}/ but not in {train.name}/"
        )
    return Split(_files(train, classes), _files(valid, classes), tuple(classes))


def _first(root: Path, names: Sequence[str]) -> Path | None:
    return next((root / n for n in names if (root / n).is_dir()), None)


def _classes(folder: Path) -> list[str]:
    return sorted(e.name for e in os.scandir(folder) if e.is_dir() and not e.name.startswith("."))


def _files(folder: Path, classes: Sequence[str]) -> Files:
    paths, labels = [], []
    for label, name in enumerate(classes):
        place = folder / name
        for base, _, files in sorted(os.walk(place)) if place.is_dir() else []:
            inside = os.path.relpath(base, folder)
            found = sorted(f for f in files if f.lower().endswith(IMAGE_SUFFIXES) and not f.startswith("."))
            paths += [os.path.join(inside, f) for f in found]
            labels += [label] * len(found)
    if not paths:
        raise InputError(
            f"{folder}: no images in its directories; {', '.join(s[1:] for s in IMAGE_SUFFIXES)} are read"
        )
    return Files(folder, paths, labels)


def _from_one_level(root: Path, share: float, seed: int) -> Split:
    classes = _classes(root)
    if len(classes) < 2:
        raise InputError(
            f"--set data={root}: expected train/CLASS/*.jpg and val/CLASS/*.jpg, or a directory for each of at least "
            f"two classes; found {len(classes)}"
        )
    every = _files(root, classes)
    kept, held_out = _split(every.labels, share, seed)
    parts = [
        Files(root, [_text(every.paths[i]) for i in part], every.labels[part].tolist())
        for part in (kept, held_out)
    ]
    return Split(parts[0], parts[1], tuple(classes))


def _text(path: Any) -> str:
    return path.decode() if isinstance(path, bytes) else str(path)


def _split(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices that are kept and held out, in order: the same share of every class, at least one image."""
    if not 0 < share < 1:
        raise InputError(f"--set valid_share={share}: expected a share between 0 and 1")
    draw, held_out = np.random.default_rng(seed), []
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        if len(of_class) < 2:
            raise InputError(
                f"class {label} has {len(of_class)} image; at least two are needed to hold one out"
            )
        count = min(len(of_class) - 1, max(1, round(share * len(of_class))))
        held_out.append(draw.permutation(of_class)[:count])
    out = np.sort(np.concatenate(held_out))
    return np.setdiff1d(np.arange(len(labels)), out), out


def _from_hub(data: str, share: float, seed: int) -> Split:
    try:
        import datasets  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise not_installed(f"--set data={data}", "datasets", "data") from error
    try:
        name = data.removeprefix(HUB)
        found: Any = datasets.load_dataset(name) if data.startswith(HUB) else datasets.load_from_disk(name)
    except Exception as error:
        raise InputError(f"--set data={data}: it cannot be loaded: {error}") from error
    parts = dict(found)
    if "train" not in parts:
        raise InputError(f"--set data={data}: it has no split train, only {', '.join(parts)}")
    train, features = parts["train"], parts["train"].features
    image = next((n for n, f in features.items() if type(f).__name__ == "Image"), None)
    label = next((n for n, f in features.items() if type(f).__name__ == "ClassLabel"), None)
    if image is None or label is None:
        raise InputError(
            f"--set data={data}: a column of images and one of class labels are needed; it has {list(features)}"
        )
    valid = next((parts[n] for n in _VALID if n in parts), None)
    if valid is None:
        kept, held_out = _split(np.asarray(train[label]), share, seed)
        train, valid = train.select(kept), train.select(held_out)
    return Split(
        HubRows(train, image, label, f"{data} train"),
        HubRows(valid, image, label, f"{data} validation"),
        tuple(features[label].names),
    )


class ImageItems(Dataset):
    """Item i: (uint8 (3, H, W), label, i). corrupt: what is done about an image that cannot be decoded:
    "error" raises an InputError that names it, "skip" takes the next readable one instead. `unreadable` lists
    them, also those that worker processes found."""

    def __init__(self, source: Source, prepare: Prepare, corrupt: Corrupt = "error"):
        self.source, self.prepare, self.corrupt = source, prepare, corrupt
        self._bad = torch.zeros(len(source), dtype=torch.uint8).share_memory_()

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        for step in range(len(self)):
            at = (int(index) + step) % len(self)
            try:
                return self.read(at), self.source.label(at), at
            except Unreadable as error:
                if self.corrupt == "error":
                    raise
                self._bad[at] = 1
                last = error
        raise Unreadable(f"none of {len(self)} images can be read; the last: {last}")

    def read(self, index: int) -> Tensor:
        """(3, H, W) uint8. Raises Unreadable."""
        from PIL import Image

        try:
            with self.source.open(index) as image:
                pixels = np.array(self.prepare(image.convert("RGB")))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise Unreadable(
                f"{self.source.name(index)}: this image cannot be read: {error}; repair or remove it, or "
                "--set corrupt=skip"
            ) from error
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()

    @property
    def unreadable(self) -> list[str]:
        return [self.source.name(i) for i in self._bad.nonzero().flatten().tolist()]


class Unreadable(InputError):
    """An image that cannot be decoded. A DataLoader raises it again with a worker's traceback, of which only the
    last line, the message, is kept."""

    def __init__(self, text: str):
        super().__init__(text.rpartition("Unreadable: ")[2] if text.startswith("Caught ") else text)


def make_loader(
    items: ImageItems, batch_size: int, *, train: bool, workers: int, seed: int = 0
) -> DataLoader[Any]:
    """Batches (images (B, 3, H, W) uint8, labels (B,)); shuffled and without a smaller last one if train."""
    if train and len(items) < batch_size:
        raise InputError(f"--set batch_size={batch_size}: there are {len(items)} training images only")
    return DataLoader(
        items, batch_size, shuffle=train, drop_last=train, num_workers=workers, collate_fn=_collate,
        pin_memory=torch.cuda.is_available(), generator=torch.Generator().manual_seed(seed),
        prefetch_factor=2 if workers else None,
    )  # fmt: skip


def _collate(items: list[tuple[Tensor, int, int]]) -> tuple[Tensor, Tensor]:
    return torch.stack([item[0] for item in items]), torch.tensor([item[1] for item in items])


# ---- preparing an item for its batch ------------------------------------------------------------------------


@dataclass(frozen=True)
class Presize:
    """A square of `size` pixels for a batch-wise augmentation to crop from: the image's shorter side is brought to
    size, and the square lies at a random place along the longer one."""

    size: int

    def __call__(self, image: Any) -> Any:
        image = _shorter_side(image, self.size)
        left = int(torch.randint(image.width - self.size + 1, ()))
        top = int(torch.randint(image.height - self.size + 1, ()))
        return image.crop((left, top, left + self.size, top + self.size))


@dataclass(frozen=True)
class RandomCrop:
    """A part with at least `least_area` of the image's area and a width:height ratio from 3/4 to 4/3 (uniform in its
    logarithm), brought to size x size pixels; then `augment`. For recipes whose crop is of the original pixels.

    Ten draws are tried for one that fits; after that the largest square in the middle is taken.
    """

    size: int
    least_area: float = 0.08
    augment: Prepare | None = None

    def __call__(self, image: Any) -> Any:
        box = self._box(*image.size)
        image = image.resize((self.size, self.size), _bicubic(), box=box, reducing_gap=2.0)
        return image if self.augment is None else self.augment(image)

    def _box(self, width: int, height: int) -> tuple[int, int, int, int]:
        for _ in range(10):
            share, shape, across, down = torch.rand(4).tolist()
            area = (self.least_area + (1 - self.least_area) * share) * width * height
            ratio = math.exp(math.log(3 / 4) + math.log(16 / 9) * shape)
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                left, top = int(across * (width - w + 1)), int(down * (height - h + 1))
                return left, top, left + w, top + h
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        return left, top, left + side, top + side


@dataclass(frozen=True)
class CentreCrop:
    """For validation: the middle square of `size` pixels, of an image whose shorter side is size + margin; or, with
    squash, of one that has been brought to (size + margin)^2 without keeping its proportions (NFNets)."""

    size: int
    margin: int = 32
    squash: bool = False

    def __call__(self, image: Any) -> Any:
        whole = self.size + self.margin
        image = image.resize((whole, whole), _bicubic()) if self.squash else _shorter_side(image, whole)
        left, top = (image.width - self.size) // 2, (image.height - self.size) // 2
        return image.crop((left, top, left + self.size, top + self.size))


def _shorter_side(image: Any, size: int) -> Any:
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    return image.resize((width, height), _bicubic(), reducing_gap=2.0)


def _bicubic() -> Any:
    from PIL import Image

    return Image.Resampling.BICUBIC
