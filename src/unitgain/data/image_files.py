"""Which files are images, and the package that reads them."""

from __future__ import annotations

from .._base import not_installed

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


def need_pillow(option: str) -> None:
    """InputError, with the option that asked for images, if Pillow is not installed."""
    try:
        import PIL  # noqa: F401
    except ModuleNotFoundError as error:
        raise not_installed(option, "pillow", "data") from error
