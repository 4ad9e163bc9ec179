"""check() and spp(): a model and a batch in, a Report or a Record out, nothing changed."""

from .check import check
from .effort import effort_for
from .facts import target_facts
from .knobs import KNOBS, OPTIMIZERS, optimizer_of
from .proof import changes_for
from .rehearsal import Plan
from .spp import spp
from .trials import Change, Course, Difference, Trials, both, compare
from .untrained import looks_untrained
from .whatif import combinations, whatif
from .where import place_of

__all__ = [
    "KNOBS",
    "OPTIMIZERS",
    "Change",
    "Course",
    "Difference",
    "Plan",
    "Trials",
    "both",
    "changes_for",
    "check",
    "combinations",
    "compare",
    "effort_for",
    "looks_untrained",
    "optimizer_of",
    "place_of",
    "spp",
    "target_facts",
    "whatif",
]
