"""From what a user types (TARGET, --data, --dataset, --shape) to a model and a batch."""

from .batch import load_batch
from .model import load_model, parse_settings
from .synthetic import parse_shape
from .weights import load_weights, save_weights

__all__ = [
    "load_batch",
    "load_model",
    "load_weights",
    "parse_settings",
    "parse_shape",
    "save_weights",
]
