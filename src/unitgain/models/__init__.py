"""Models by name, and the parts of those that are used directly."""

from .calibrate import calibrate_
from .char_mlp import CharMLP, CharMLPConfig, UnbiasedBatchNorm1d, sample
from .convnet import convnet
from .normfree import NormFreeConfig, NormFreeNet
from .registry import create, describe, names

__all__ = [
    "CharMLP",
    "CharMLPConfig",
    "NormFreeConfig",
    "NormFreeNet",
    "UnbiasedBatchNorm1d",
    "calibrate_",
    "convnet",
    "create",
    "describe",
    "names",
    "sample",
]
