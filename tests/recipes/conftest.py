"""Lets the tests of this folder, and the processes that they start, import its other files and those of _base."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "_base"))
sys.path.insert(0, str(Path(__file__).parent))

from drawn_images import image_folder

__all__ = ["image_folder"]
