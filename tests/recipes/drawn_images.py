"""Small images of two kinds that a network can tell apart, in directories by class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


def draw(
    folder: Path, classes: tuple[str, ...], count: int, seed: int, size: tuple[int, int] = (48, 40)
) -> None:
    """`count` JPEGs per class: the k-th class's images are bright in the k-th colour, with noise on them."""
    from PIL import Image

    generator = np.random.default_rng(seed)
    for k, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = generator.integers(0, 120, (size[1], size[0], 3))
            pixels[..., k % 3] += 120
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{i:03d}.jpg", quality=90)


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """train/ and val/, classes blue-ish names in unsorted order of creation: the label is the sorted place."""
    root = tmp_path / "images"
    draw(root / "train", ("red", "green"), 12, seed=0)
    draw(root / "val", ("red", "green"), 4, seed=1)
    return root
