"""Training: a Learner that measures while it trains, its callbacks, checkpoints, and data in memory."""

from . import checkpoint
from .callback import Callback, CancelBatch, CancelEpoch, CancelFit, CancelPass, CancelStep
from .callbacks import (
    EMA,
    LSUV,
    Accumulate,
    ActivationStats,
    BatchTransform,
    Checkpoint,
    Clip,
    Device,
    Distributed,
    Hooks,
    Metrics,
    MixedPrecision,
    NonFiniteLoss,
    Normalize,
    OneCycle,
    Progress,
    Recorder,
    Schedule,
    SingleBatch,
    StopOnNonFinite,
    TensorBoard,
    WeightsAndBiases,
    accuracy,
)
from .data import Data
from .learner import Learner
from .loader import InMemoryLoader
from .lr_finder import LRFound
from .memory import clean_memory
from .seeding import set_seed
from .summary import Summary

__all__ = [
    "EMA",
    "LSUV",
    "Accumulate",
    "ActivationStats",
    "BatchTransform",
    "Callback",
    "CancelBatch",
    "CancelEpoch",
    "CancelFit",
    "CancelPass",
    "CancelStep",
    "Checkpoint",
    "Clip",
    "Data",
    "Device",
    "Distributed",
    "Hooks",
    "InMemoryLoader",
    "LRFound",
    "Learner",
    "Metrics",
    "MixedPrecision",
    "NonFiniteLoss",
    "Normalize",
    "OneCycle",
    "Progress",
    "Recorder",
    "Schedule",
    "SingleBatch",
    "StopOnNonFinite",
    "Summary",
    "TensorBoard",
    "WeightsAndBiases",
    "accuracy",
    "clean_memory",
    "set_seed",
]
