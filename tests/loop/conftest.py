"""Lets the tests of this folder import its cases, and what cases are registered in."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
