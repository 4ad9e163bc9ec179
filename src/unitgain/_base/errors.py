"""What unitgain raises. Every message names the input and says what would be right."""

from __future__ import annotations

from collections.abc import Iterable

from .printable import printable


class UnitgainError(Exception):
    """Base of all errors that unitgain raises on purpose.

    Messages quote file names, arguments and other people's exceptions, and Python prints an uncaught message as it is:
    therefore the text is made printable here, for every error at once.
    """

    def __str__(self) -> str:
        return printable(super().__str__(), keep_lines=True)


class InputError(UnitgainError, ValueError):
    """Something the caller gave is wrong; the command line turns it into one line and exit code 2.

    >>> raise InputError("--shape 8,x: 'x' is not a whole number; write it like 8,3,224,224")
    Traceback (most recent call last):
    unitgain._base.errors.InputError: --shape 8,x: 'x' is not a whole number; write it like 8,3,224,224
    """


def names_given(argument: str, given: object) -> tuple[str, ...]:
    """The names or patterns that an argument holds; one may stand by itself. Raises InputError for anything else.

    >>> names_given("Probe(include=...)", "layers.*")
    ('layers.*',)
    """
    names = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, Iterable) else None
    if names is None or not all(isinstance(name, str) for name in names):
        raise InputError(f"{argument}: got {printable(given, 60)}; a name, or a list of names, is right")
    return names


def not_installed(who: str, package: str, extra: str) -> InputError:
    """The error for an optional package that is needed and not there.

    >>> print(not_installed("--data photos", "pillow", "data"))
    --data photos: needs the package pillow; install it with: pip install 'unitgain[data]'
    """
    return InputError(f"{who}: needs the package {package}; install it with: pip install 'unitgain[{extra}]'")


class RecordError(InputError):
    """A record file cannot be read (not ours, damaged, written by a newer version) or can no longer be written."""


def no_module(argument: str, given: object) -> InputError:
    """The error where a model was expected and something else came, with a hint at the usual mistakes: the class in the
    place of the model, and arguments that changed places.

    >>> print(no_module("model", 3))
    model: expected an nn.Module, got int
    """
    if isinstance(given, type):
        return InputError(
            f"{argument}: got the class {given.__name__}; make a model of it: {given.__name__}(...)"
        )
    bases = {base.__name__ for base in type(given).__mro__}
    hint = "; the model comes first" if bases & {"Optimizer", "DataLoader", "Tensor", "tuple", "dict"} else ""
    return InputError(f"{argument}: expected an nn.Module, got {type(given).__name__}{hint}")
