"""From what a user types (TARGET, --data, --dataset, --shape) to a model and a batch."""

from .batch import Batches, load_batch
from .model import load_model
from .settings import WRONG, fit, in_words, literal, parse_settings, read
from .source import Source, load_source
from .synthetic import parse_shape
from .weights import load_weights, save_weights

__all__ = [
    "WRONG",
    "Batches",
    "Source",
    "fit",
    "in_words",
    "literal",
    "load_batch",
    "load_model",
    "load_source",
    "load_weights",
    "parse_settings",
    "parse_shape",
    "read",
    "save_weights",
]
