"""unitgain keeps every layer's gain at one: measure, diagnose, fix and train networks on PyTorch.

check     one batch through a model -> Report
fix       repairs what can be repaired, measured again -> FixReport
Probe     watches training -> Record
diagnose  Record -> findings
spp       one batch through a residual network -> Record of its signal propagation plot
init_     weights that fit what is around them
lsuv_     every layer to unit variance on data
remedies  these and further changes to a model, each with a report and a way back
theory    activation function -> gain, maps, predictions
nn        activations, norms, BatchNorm calibration
models    networks to start with
optim     adaptive gradient clipping, optimizers, parameter groups
data      names, Fashion-MNIST
train     Learner, callbacks, learning-rate finder, checkpoints
plots     Record -> matplotlib Figure
"""

from . import data, models, nn, optim, remedies, theory, train
from ._base import InputError, RecordError, UnitgainError
from ._check import check, spp
from ._fix import fix
from ._version import __version__
from .probe import Probe
from .record import Record
from .remedies import init_, lsuv_
from .report import FixReport, Report, plots
from .rules import Finding, diagnose

__all__ = [
    "Finding",
    "FixReport",
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
    "fix",
    "init_",
    "lsuv_",
    "models",
    "nn",
    "optim",
    "plots",
    "remedies",
    "spp",
    "theory",
    "train",
]
