"""The callbacks of a Learner."""

from .batches import BatchTransform, Device, Normalize, SingleBatch
from .checkpoints import Checkpoint
from .distributed import Distributed
from .gradients import EMA, Accumulate, Clip, MixedPrecision
from .loggers import TensorBoard, WeightsAndBiases
from .lsuv import LSUV
from .measure import ActivationStats, Hooks, NonFiniteLoss, StopOnNonFinite
from .metrics import Metrics, accuracy
from .progress import Progress
from .recorder import Recorder
from .schedule import OneCycle, Schedule

__all__ = [
    "EMA",
    "LSUV",
    "Accumulate",
    "ActivationStats",
    "BatchTransform",
    "Checkpoint",
    "Clip",
    "Device",
    "Distributed",
    "Hooks",
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
    "TensorBoard",
    "WeightsAndBiases",
    "accuracy",
]
