"""unitgain keeps every layer's gain at one: measure, diagnose, fix and train networks on PyTorch.

check     one batch through a model -> Report
Probe     watches training -> Record
diagnose  Record -> findings
theory    activation function -> gain, maps, predictions
nn        activations, norms, BatchNorm calibration
models    networks to start with
data      names, Fashion-MNIST
train     Learner, callbacks, learning-rate finder, checkpoints
plots     Record -> matplotlib Figure
"""

from . import data, models, nn, plots, theory, train
from ._version import __version__
from .checkup import check
from .diagnose import Finding, diagnose
from .errors import InputError, RecordError, UnitgainError
from .probe import Probe
from .record import Record
from .report import Report

__all__ = [
    "Finding",
    "InputError",
    "Probe",
    "Record",
    "RecordError",
    "Report",
    "UnitgainError",
    "__version__",
    "check",
    "data",
    "diagnose",
    "models",
    "nn",
    "plots",
    "theory",
    "train",
]
