"""RandAugment: a few operations of one common magnitude, drawn for each image.

Source: Cubuk et al. 2019 (arXiv 1909.13719), whose list of 14 this is: identity, autoContrast, equalize, rotate,
solarize, color, posterize, contrast, brightness, sharpness, shear-x, shear-y, translate-x, translate-y. Ranges are
those of AutoAugment (Cubuk et al. 2018, arXiv 1805.09501) over magnitudes 0 to 10, translation as a share of the image.

Known deviations: DeepMind's and TensorFlow's lists also have invert, solarize-add and cutout; pixels that geometric
operations leave empty are grey. Operations are Pillow's, one image at a time, in the process that decoded it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from .._base import InputError

FILL = (128, 128, 128)
LARGEST = 10


@dataclass(frozen=True)
class RandAugment:
    """A PIL image in RGB -> another of the same size.

    count      operations per image, each drawn from OPERATIONS, the same may come twice
    magnitude  0 to 10; NFNets take 4 operations of 5 (F0), 10 (F1, F2) or 15: above 10 ranges continue as far as
               possible

    Drawn from torch's global generator, which DataLoader seeds in every worker.
    """

    count: int = 2
    magnitude: float = 9

    def __post_init__(self) -> None:
        if self.count < 0 or not self.magnitude >= 0:
            raise InputError(f"RandAugment({self.count}, {self.magnitude}): expected numbers of at least 0")

    def __call__(self, image: Any) -> Any:
        names = list(OPERATIONS)
        for index in torch.randint(len(names), (self.count,)).tolist():
            sign = 1 if torch.rand(()) < 0.5 else -1
            image = OPERATIONS[names[index]](image, self.magnitude / LARGEST, sign)
        return image


def _ops(name: str) -> Callable[..., Any]:
    from PIL import ImageOps

    return getattr(ImageOps, name)


def _enhance(name: str) -> Callable[[Any, float, int], Any]:
    def change(image: Any, m: float, sign: int) -> Any:
        from PIL import ImageEnhance

        return getattr(ImageEnhance, name)(image).enhance(max(0.0, 1 + sign * 0.9 * m))

    return change


def _solarize(image: Any, m: float, sign: int) -> Any:
    return _ops("solarize")(image, max(0, round(256 * (1 - m))))


def _posterize(image: Any, m: float, sign: int) -> Any:
    return _ops("posterize")(image, max(1, 8 - round(4 * m)))


def _rotate(image: Any, m: float, sign: int) -> Any:
    return image.rotate(30 * m * sign, resample=_bilinear(), fillcolor=FILL)


def _shear(x: float, y: float) -> Callable[[Any, float, int], Any]:
    def change(image: Any, m: float, sign: int) -> Any:
        a, b = 0.3 * m * sign * x, 0.3 * m * sign * y
        return _affine(image, (1, a, -a * image.height / 2, b, 1, -b * image.width / 2))  # the middle stays

    return change


def _translate(x: float, y: float) -> Callable[[Any, float, int], Any]:
    def change(image: Any, m: float, sign: int) -> Any:
        share = 0.45 * min(m, 2.0) * sign
        return _affine(image, (1, 0, share * image.width * x, 0, 1, share * image.height * y))

    return change


def _affine(image: Any, matrix: tuple[float, ...]) -> Any:
    from PIL import Image

    return image.transform(image.size, Image.Transform.AFFINE, matrix, resample=_bilinear(), fillcolor=FILL)


def _bilinear() -> Any:
    from PIL import Image

    return Image.Resampling.BILINEAR


OPERATIONS: dict[str, Callable[[Any, float, int], Any]] = {
    "identity": lambda image, m, sign: image,
    "autocontrast": lambda image, m, sign: _ops("autocontrast")(image),
    "equalize": lambda image, m, sign: _ops("equalize")(image),
    "rotate": _rotate,
    "solarize": _solarize,
    "color": _enhance("Color"),
    "posterize": _posterize,
    "contrast": _enhance("Contrast"),
    "brightness": _enhance("Brightness"),
    "sharpness": _enhance("Sharpness"),
    "shear_x": _shear(1, 0),
    "shear_y": _shear(0, 1),
    "translate_x": _translate(1, 0),
    "translate_y": _translate(0, 1),
}
"""name -> function of an image in RGB, the magnitude as a share of the largest (1 is 10), and +1 or -1 for a side."""
