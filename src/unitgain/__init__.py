"""unitgain keeps every layer's gain at one: measure, diagnose, fix and train networks on PyTorch.

check     one batch through a model -> Report
Probe     watches training -> Record
diagnose  Record -> findings
theory    activation function -> gain, maps, predictions
nn        activations, norms, BatchNorm calibration
init_     weights that fit what is around them
lsuv_     every layer to unit variance on data
remedies  these and further changes to a model, each with a report and a way back
models    networks to start with
data      names, Fashion-MNIST
plots     Record -> matplotlib Figure
"""

from . import data, models, nn, plots, remedies, theory
from ._version import __version__
from .checkup import check
from .diagnose import Finding, diagnose
from .errors import InputError, RecordError, UnitgainError
from .probe import Probe
from .record import Record
from .remedies import init_, lsuv_
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
    "init_",
    "lsuv_",
    "models",
    "nn",
    "plots",
    "remedies",
    "theory",
]
