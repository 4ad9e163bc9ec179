"""Models by name, and the parts of those that are used directly."""

from .char_mlp import CharMLP, CharMLPConfig, UnbiasedBatchNorm1d, sample
from .convnet import convnet
from .registry import create, describe, names

__all__ = [
    "CharMLP",
    "CharMLPConfig",
    "UnbiasedBatchNorm1d",
    "convnet",
    "create",
    "describe",
    "names",
    "sample",
]
