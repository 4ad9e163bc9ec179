"""A batch in every form that people have one, and losses by name."""

from .losses import LOSSES

__all__ = ["LOSSES"]
