"""Lets the tests of this folder, and the processes that they start, import small_runs.py and drawn_images.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from drawn_images import image_folder

__all__ = ["image_folder"]
