"""Models by name, and the parts of those that are used directly."""

from . import haiku, weights
from .calibrate import calibrate_
from .char_mlp import SEED as CHAR_MLP_SEED
from .char_mlp import VARIANTS as CHAR_MLP_VARIANTS
from .char_mlp import CharMLP, CharMLPConfig, UnbiasedBatchNorm1d, sample
from .convnet import convnet
from .cost import Cost, cost, costs
from .nf_regnet import VARIANTS as NF_REGNETS
from .nf_resnet import VARIANTS as NF_RESNETS
from .nfnet import VARIANTS as NFNETS
from .normfree import NormFreeNet
from .normfree_config import NormFreeConfig
from .registry import create, describe, names, option_types
from .resnet import ResNet, ResNetConfig

__all__ = [
    "CharMLP",
    "CharMLPConfig",
    "Cost",
    "NormFreeConfig",
    "NormFreeNet",
    "ResNet",
    "ResNetConfig",
    "UnbiasedBatchNorm1d",
    "calibrate_",
    "convnet",
    "cost",
    "costs",
    "create",
    "describe",
    "haiku",
    "names",
    "option_types",
    "sample",
    "weights",
]
