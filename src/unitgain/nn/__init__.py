"""Layers: activations whose gain is known, and normalization layers written to be read.

GeneralReLU, GainCorrected                               activations
BatchNorm, LayerNorm, InstanceNorm, GroupNorm            equal to torch's, for any number of positions
WholeLayerNorm                                           one gain and one bias for the whole layer
calibrate_                                               exact statistics for BatchNorm, over data
"""

from .activations import GAMMA, GainCorrected, GeneralReLU
from .batchnorm import BatchNorm
from .calibrate import calibrate_
from .norms import GroupNorm, InstanceNorm, LayerNorm, WholeLayerNorm

__all__ = [
    "GAMMA",
    "BatchNorm",
    "GainCorrected",
    "GeneralReLU",
    "GroupNorm",
    "InstanceNorm",
    "LayerNorm",
    "WholeLayerNorm",
    "calibrate_",
]
