"""What unitgain raises. Every message names the input and says what would be right."""


class UnitgainError(Exception):
    """Base of all errors that unitgain raises on purpose."""


class InputError(UnitgainError, ValueError):
    """Something the caller gave is wrong; the command line turns it into one line and exit code 2.

    >>> raise InputError("--shape 8,x: 'x' is not a whole number; write it like 8,3,224,224")
    Traceback (most recent call last):
    unitgain._base.errors.InputError: --shape 8,x: 'x' is not a whole number; write it like 8,3,224,224
    """


class RecordError(InputError):
    """A record file cannot be read (not ours, damaged, written by a newer version) or cannot be written any more."""
