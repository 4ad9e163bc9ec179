"""--data DIRECTORY: images, with class subfolders as labels. Needs pillow."""

from __future__ import annotations

import os
from itertools import chain, zip_longest
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._base import InputError
from ..data import IMAGE_SUFFIXES, need_pillow

_GREY = ("1", "L", "LA", "I", "I;16", "F")


def read_images(
    folder: str, count: int, size: tuple[int, int, int] | None = None
) -> tuple[Tensor, Tensor | None]:
    """Images (N, C, H, W) as float32 in 0..1 and labels (N,) int64, or None if there are no class folders.

    Names are taken in sorted order, the classes in turn, so that few images still show many classes.
    Images are resized (bilinear) to size = (C, H, W); without it, to the first image's size, grey ones with
    one channel. Images beside class folders are not read.

    Raises InputError if pillow is missing, there are no images, or one cannot be read.
    """
    need_pillow(f"--data {folder}")
    from PIL import Image

    paths, labels = _choose(folder, count)
    if size is not None and size[0] not in (1, 3):
        raise InputError(f"--shape: {size[0]} channels; images have 1 or 3")
    pixels: Tensor | None = None
    for row, path in enumerate(paths):
        try:
            with Image.open(path) as image:
                size = size or (1 if image.mode in _GREY else 3, image.height, image.width)
                array = _pixels(image, size, Image.Resampling.BILINEAR)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise InputError(f"--data {path}: this image cannot be read: {error}") from error
        if pixels is None:
            pixels = torch.empty(len(paths), *size)
        pixels[row] = torch.from_numpy(array)
    assert pixels is not None
    return pixels, None if labels is None else torch.tensor(labels)


def _pixels(image: Any, size: tuple[int, int, int], resampling: Any) -> np.ndarray:
    channels, height, width = size
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = image.resize((width, height), resampling)
    array = np.asarray(image, dtype=np.float32) / 255
    return array[None] if channels == 1 else np.ascontiguousarray(array.transpose(2, 0, 1))  # (C, H, W)


def _choose(folder: str, count: int) -> tuple[list[str], list[int] | None]:
    try:
        entries = sorted(os.listdir(folder))
        classes = [e for e in entries if os.path.isdir(os.path.join(folder, e)) and not e.startswith(".")]
        by_class = [_images_in(os.path.join(folder, c)) for c in classes]
        loose = _images_in(folder)
    except OSError as error:
        raise InputError(f"--data {folder}: cannot be read: {error.strerror or error}") from error
    if any(by_class):
        by_class = [files for files in by_class if files]
        labelled = [[(path, label) for path in files] for label, files in enumerate(by_class)]
        in_turn = [item for item in chain.from_iterable(zip_longest(*labelled)) if item is not None][:count]
        return [path for path, _ in in_turn], [label for _, label in in_turn]
    if not loose:
        raise InputError(
            f"--data {folder}: no images in it or in its subfolders; "
            f"it takes {', '.join(s[1:] for s in IMAGE_SUFFIXES)}"
        )
    return loose[:count], None


def _images_in(folder: str) -> list[str]:
    names = sorted(
        n for n in os.listdir(folder) if n.lower().endswith(IMAGE_SUFFIXES) and not n.startswith(".")
    )
    return [path for n in names if os.path.isfile(path := os.path.join(folder, n))]
