"""Probe: hooks a model and its optimizer and fills a Record."""

from .parameters import list_parameters, model_facts, optimizer_facts
from .probe import SIGNALS, Probe

__all__ = ["SIGNALS", "Probe", "list_parameters", "model_facts", "optimizer_facts"]
