"""Probe: hooks a model and its optimizer and fills a Record."""

from .functions import ACTIVATIONS, Activation
from .parameters import model_facts, optimizer_facts
from .probe import SIGNALS, Probe

__all__ = ["ACTIVATIONS", "SIGNALS", "Activation", "Probe", "model_facts", "optimizer_facts"]
