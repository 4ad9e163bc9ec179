"""Where data files are looked for, and in which order.

1. the folder that the environment variable UNITGAIN_DATA names
2. the user's cache: $UNITGAIN_CACHE, else $XDG_CACHE_HOME/unitgain, else ~/.cache/unitgain
3. where Debian's package dataset-fashion-mnist puts its files

Downloads go to the cache and nowhere else.
"""

from __future__ import annotations

import os
from pathlib import Path

from .._base import InputError

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


def data_root() -> Path | None:
    """The folder that UNITGAIN_DATA names, or None if it is unset or empty.

    Raises InputError if it names something that is not a folder: a typing error there must not silently
    select another data set.
    """
    value = os.environ.get("UNITGAIN_DATA", "")
    if not value:
        return None
    root = Path(value).expanduser()
    if not root.is_dir():
        raise InputError(
            f"UNITGAIN_DATA={value}: not a folder; point it to the folder with the data, or unset it"
        )
    return root


def cache_root() -> Path:
    """The folder for downloads. It need not exist yet."""
    value = os.environ.get("UNITGAIN_CACHE", "")
    if value:
        return Path(value).expanduser()
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # the XDG specification: a relative path is to be ignored
    return (base if base.is_absolute() else Path("~/.cache").expanduser()) / "unitgain"
