"""unitgain keeps every layer's gain at one: measure, diagnose, fix and train networks on PyTorch.

check     one batch through a model -> Report
fix       repairs what can be repaired, measured again -> FixReport
Probe     watches training -> Record
watch     the same, with numbers for a logger and findings as they appear
diagnose  Record -> findings
whatif    a network in several settings, trained a little in each -> WhatIf
landscape the loss on a plane of random directions through the weights -> Landscape
spp       one batch through a residual network -> Record of its signal propagation plot
init_     weights that fit what is around them
lsuv_     every layer to unit variance on data
remedies  these and further changes to a model, each with a report and a way back
theory    activation function -> gain, maps, predictions
nn        activations, norms, BatchNorm calibration
models    networks to start with
normfree  BatchNorm taken out of any network
optim     adaptive gradient clipping, optimizers, parameter groups
data      names, Fashion-MNIST
train     Learner, callbacks, learning-rate finder, checkpoints
plots     Record -> matplotlib Figure

Each name loads what it needs when it is first used, so that a saved Record can be judged and reported where torch is
not installed: `from unitgain.rules import diagnose`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._base import InputError, RecordError, UnitgainError
from ._version import __version__

if TYPE_CHECKING:
    from . import data, models, nn, normfree, optim, remedies, theory, train
    from ._check import check, landscape, spp, whatif
    from ._fix import fix
    from .integrations import watch
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
    "landscape",
    "lsuv_",
    "models",
    "nn",
    "normfree",
    "optim",
    "plots",
    "remedies",
    "spp",
    "theory",
    "train",
    "watch",
    "whatif",
]

# name: the package that has it; a test compares this with the imports above
_HOMES = {
    "Finding": ".rules",
    "FixReport": ".report",
    "Probe": ".probe",
    "Record": ".record",
    "Report": ".report",
    "check": "._check",
    "diagnose": ".rules",
    "fix": "._fix",
    "init_": ".remedies",
    "landscape": "._check",
    "lsuv_": ".remedies",
    "plots": ".report.plots",
    "spp": "._check",
    "watch": ".integrations",
    "whatif": "._check",
}
_FURTHER = ("probe", "recipes", "record", "report", "rules", "stats", "targets")  # ug.rules.CATALOGUE, say


def __getattr__(name: str) -> Any:
    if name not in __all__ and name not in _FURTHER:
        raise AttributeError(f"module 'unitgain' has no attribute {name!r}")
    home = _HOMES.get(name, f".{name}")
    module = import_module(home, __name__)
    found = module if home.endswith(f".{name}") else getattr(module, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
