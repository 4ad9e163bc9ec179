"""Probe: hooks a model and its optimizer and fills a Record."""

from .optimizer import holds_any, optimizer_facts, strangers, without_optimizer
from .parameters import list_parameters, model_facts
from .probe import SIGNALS, Probe

__all__ = [
    "SIGNALS",
    "Probe",
    "holds_any",
    "list_parameters",
    "model_facts",
    "optimizer_facts",
    "strangers",
    "without_optimizer",
]
