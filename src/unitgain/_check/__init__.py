"""check(), spp(), whatif(), landscape(): a model and a batch in, a Report or the like out, nothing changed."""

from .check import check
from .effort import effort_for
from .facts import target_facts
from .knobs import KNOBS, OPTIMIZERS, optimizer_of
from .landscape import landscape
from .proof import changes_for
from .rehearsal import Plan
from .spp import spp
from .trials import Change, Course, Difference, Trials, both, compare, without_repeats
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
    "landscape",
    "looks_untrained",
    "optimizer_of",
    "place_of",
    "spp",
    "target_facts",
    "whatif",
    "without_repeats",
]
