"""Probe: hooks a model and its optimizer and fills a Record."""

from .failing import never_raises, reason
from .left_behind import forget, remember, stop_left_behind
from .optimizer import count_foreign, holds_any, optimizer_facts, without_optimizer
from .options import check_every
from .parameters import list_parameters, model_facts
from .probe import SIGNALS, Probe

__all__ = [
    "SIGNALS",
    "Probe",
    "check_every",
    "count_foreign",
    "forget",
    "holds_any",
    "list_parameters",
    "model_facts",
    "never_raises",
    "optimizer_facts",
    "reason",
    "remember",
    "stop_left_behind",
    "without_optimizer",
]
