"""What every room uses and none owns: the errors."""

from .errors import InputError, RecordError, UnitgainError

__all__ = ["InputError", "RecordError", "UnitgainError"]
