"""Layers: of known gain, normalizer-free, and normalization layers written as their formulas.

GeneralReLU, GainCorrected, gamma_of                     activations
ScaledStdConv1d ... 3d, ConvTranspose1d ... 3d, Linear   scaled weight standardization; fold_ for inference,
                                                         merge_branch_ends for NFBlock's factors alone
scaled_std_, remove_scaled_std_                          the same on any layer, as a parametrization
ChannelAffine, FrozenScale, NormalizedRows, BranchScale  what stands where a BatchNorm was
StdConv2d                                                plain weight standardization, for GroupNorm
SqueezeExcite, ECA                                       channel attention with its gain
NFBlock, SkipInit, StochasticDepth                       residual branches without normalization
BasicBlock, Bottleneck, PreActBlock, PooledResBlock      residual blocks with any normalization
BatchNorm, LayerNorm, InstanceNorm, GroupNorm            equal to torch's, for any number of positions
RMSNorm; DynamicTanh, DynamicErf, DynamicISRU            and pointwise functions in the place of LayerNorm
WholeLayerNorm                                           one gain and one bias for the whole layer
out_of_place_                                            for tools that do not bear in-place activations
calibrate_                                               exact statistics for BatchNorm, over data
"""

from .activations import GAMMA, GainCorrected, GeneralReLU, gamma_of
from .attention import ECA, SqueezeExcite
from .batchnorm import BatchNorm
from .calibrate import calibrate_
from .dynamic import DynamicErf, DynamicISRU, DynamicTanh, RMSNorm
from .evaluating import evaluating
from .fan_in import fan_in
from .fold import fold_, merge_branch_ends
from .frozen import BranchScale, ChannelAffine, FrozenScale, NormalizedRows, scaled_outputs
from .inplace import out_of_place_
from .nf_block import NFBlock, Shortcut, expected_stds
from .norms import GroupNorm, InstanceNorm, LayerNorm, WholeLayerNorm
from .padding import Conv2dSame, MaxPool2dSame
from .parametrize import ScaledStandardization, remove_scaled_std_, scaled_std_, without_parametrization
from .resblocks import BasicBlock, Bottleneck, Norm, PooledResBlock, PreActBlock
from .residual import SkipInit, StochasticDepth
from .scaled_std import (
    EpsMode,
    ScaledStd,
    ScaledStdConv1d,
    ScaledStdConv2d,
    ScaledStdConv3d,
    ScaledStdConvTranspose1d,
    ScaledStdConvTranspose2d,
    ScaledStdConvTranspose3d,
    ScaledStdLinear,
    standardized,
)
from .std_conv import StdConv2d

__all__ = [
    "ECA",
    "GAMMA",
    "BasicBlock",
    "BatchNorm",
    "Bottleneck",
    "BranchScale",
    "ChannelAffine",
    "Conv2dSame",
    "DynamicErf",
    "DynamicISRU",
    "DynamicTanh",
    "FrozenScale",
    "GainCorrected",
    "GeneralReLU",
    "GroupNorm",
    "InstanceNorm",
    "LayerNorm",
    "MaxPool2dSame",
    "NFBlock",
    "NormalizedRows",
    "PooledResBlock",
    "PreActBlock",
    "RMSNorm",
    "ScaledStandardization",
    "ScaledStd",
    "ScaledStdConv1d",
    "ScaledStdConv2d",
    "ScaledStdConv3d",
    "ScaledStdConvTranspose1d",
    "ScaledStdConvTranspose2d",
    "ScaledStdConvTranspose3d",
    "ScaledStdLinear",
    "SkipInit",
    "SqueezeExcite",
    "StdConv2d",
    "StochasticDepth",
    "WholeLayerNorm",
    "calibrate_",
    "expected_stds",
    "fold_",
    "gamma_of",
    "merge_branch_ends",
    "out_of_place_",
    "remove_scaled_std_",
    "scaled_std_",
    "without_parametrization",
]
