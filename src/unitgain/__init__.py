"""unitgain keeps every layer's gain at one: measure, diagnose, fix and train networks on PyTorch."""

from ._version import __version__
from .errors import InputError, RecordError, UnitgainError
from .probe import Probe
from .record import Record

__all__ = ["InputError", "Probe", "Record", "RecordError", "UnitgainError", "__version__"]
