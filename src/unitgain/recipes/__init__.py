"""Complete trainings as plain functions, each with a frozen dataclass of settings.

registry.py   recipes by name
makemore.py   the character MLP on names, seven variants
fused.py      its training step, written out by hand
ladder.py     rows of trainings beside published results
settings.py   settings from text
runs.py       the folder of a run
"""

from .ladder import LadderOptions, LadderResult, Table
from .registry import Recipe, get, names
from .runs import Outcome, RunFolder

__all__ = ["LadderOptions", "LadderResult", "Outcome", "Recipe", "RunFolder", "Table", "get", "names"]
