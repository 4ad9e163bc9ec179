"""Rules over a Record: what is wrong, why, and what to do. Nothing here needs a model or torch."""

from .baseline import Accepted, load_baseline, new_findings, save_baseline
from .catalogue import CATALOGUE, explain
from .compare import Comparison, compare
from .diagnosis import Diagnosis
from .engine import RULES, diagnose
from .entry import Entry, Threshold
from .finding import SEVERITIES, Finding

__all__ = [
    "CATALOGUE",
    "RULES",
    "SEVERITIES",
    "Accepted",
    "Comparison",
    "Diagnosis",
    "Entry",
    "Finding",
    "Threshold",
    "compare",
    "diagnose",
    "explain",
    "load_baseline",
    "new_findings",
    "save_baseline",
]
