"""Lets the tests of this folder import the experiments, and the helpers of the recipes' tests."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "experiments"), str(ROOT / "tests" / "recipes")]
