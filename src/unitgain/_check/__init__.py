"""check() and spp(): a model and a batch in, a Report or a Record out, nothing changed."""

from .check import check
from .facts import target_facts
from .spp import spp

__all__ = ["check", "spp", "target_facts"]
