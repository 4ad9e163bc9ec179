"""Complete trainings as plain functions, each with a frozen dataclass of settings.

makemore.py, fashion_mnist.py, image_folder.py, imagenet.py, nf_vs_bn.py, own.py   the recipes
_ladders/     their variants beside published results
_lessons/     what goes wrong in a training, chapter by chapter; _lesson.py: what they have in common
_registry.py  recipes by name
_settings.py  settings from text
_runs.py      the folder of a run
_ladder.py    options and results of a ladder
_fused.py     makemore's training step, written out by hand
"""

from ._image_figures import find_mistakes, show_batch, show_mistakes
from ._ladder import LadderOptions, LadderResult, Table
from ._lesson import LessonOptions
from ._lesson import get as lesson
from ._lesson import names as lessons
from ._registry import Recipe, get, ladder, ladders, names
from ._runs import Outcome, RunFolder, processor, read_config
from ._settings import as_json, from_json, from_text

__all__ = [
    "LadderOptions",
    "LadderResult",
    "LessonOptions",
    "Outcome",
    "Recipe",
    "RunFolder",
    "Table",
    "find_mistakes",
    "get",
    "ladder",
    "ladders",
    "lesson",
    "lessons",
    "names",
    "show_batch",
    "show_mistakes",
]
