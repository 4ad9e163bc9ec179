"""check(): a model and a batch in, a Report out, nothing changed."""

from .check import check
from .losses import LOSSES

__all__ = ["LOSSES", "check"]
