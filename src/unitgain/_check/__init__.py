"""check() and spp(): a model and a batch in, a Report or a Record out, nothing changed."""

from .check import check
from .facts import target_facts
from .rehearsal import Plan
from .spp import spp
from .trials import Change, Course, Difference, Trials, compare
from .untrained import looks_untrained
from .where import place_of

__all__ = [
    "Change",
    "Course",
    "Difference",
    "Plan",
    "Trials",
    "check",
    "compare",
    "looks_untrained",
    "place_of",
    "spp",
    "target_facts",
]
