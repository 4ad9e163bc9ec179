"""Models that a run could leave a trace in, each the smallest of its kind."""

from . import exotic, holding, mutating, outside, plain
from .case import CASES, Case

__all__ = ["CASES", "Case", "exotic", "holding", "mutating", "outside", "plain"]
