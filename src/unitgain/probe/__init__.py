"""Probe: hooks a model and its optimizer and fills a Record."""

from ..graph.activations import ACTIVATIONS, Activation
from .parameters import list_parameters, model_facts, optimizer_facts
from .probe import SIGNALS, Probe

__all__ = [
    "ACTIVATIONS",
    "SIGNALS",
    "Activation",
    "Probe",
    "list_parameters",
    "model_facts",
    "optimizer_facts",
]
