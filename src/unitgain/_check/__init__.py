"""check() and spp(): a model and a batch in, a Report or a Record out, nothing changed."""

from .check import check
from .effort import effort_for
from .facts import target_facts
from .proof import changes_for
from .rehearsal import Plan
from .spp import spp
from .trials import Change, Course, Difference, Trials, both, compare
from .untrained import looks_untrained
from .where import place_of

__all__ = [
    "Change",
    "Course",
    "Difference",
    "Plan",
    "Trials",
    "both",
    "changes_for",
    "check",
    "compare",
    "effort_for",
    "looks_untrained",
    "place_of",
    "spp",
    "target_facts",
]
