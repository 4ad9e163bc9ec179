"""What a what-if may vary: the values that are understood, and what each does to a model or to its training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .._base import InputError, did_you_mean
from ..remedies import (
    ACTIVATION_MODULES,
    NORM_KINDS,
    RemedyReport,
    exchange_activations_,
    exchange_norms_,
    set_gain_,
)

AS_IS = "as-is"  # a value of every knob: nothing is changed
_ON, _OFF = ("on", "true", "yes"), ("off", "false", "no")

OPTIMIZERS: Mapping[str, tuple[float, Callable[..., torch.optim.Optimizer]]] = {
    "sgd": (0.1, torch.optim.SGD),
    "momentum": (0.1, lambda parameters, lr: torch.optim.SGD(parameters, lr=lr, momentum=0.9)),
    "adam": (1e-3, torch.optim.Adam),
    "adamw": (1e-3, torch.optim.AdamW),
    "rmsprop": (1e-3, torch.optim.RMSprop),
}
"""{name: (the rate where none is given, a function of parameters and lr=)}"""


def optimizer_of(name: str, lr: float | None = None) -> Callable[[Any], torch.optim.Optimizer]:
    """A function from parameters to an optimizer. Raises InputError for an unknown name."""
    if name not in OPTIMIZERS:
        raise InputError(f"optimizer {name!r}: unknown{did_you_mean(name, OPTIMIZERS)}")
    usual, kind = OPTIMIZERS[name]
    rate = usual if lr is None else lr
    return lambda parameters: kind(parameters, lr=rate)


@dataclass(frozen=True)
class Value:
    """One value of a knob: as it was given, and what it means. A meaning of None leaves things as they are."""

    shown: str
    meaning: Any


def read_values(knob: str, given: Any) -> list[Value]:
    """The values of one knob. Raises InputError for an unknown knob, and for a value that it does not take."""
    if knob not in _READERS:
        raise InputError(f"vary: {knob!r} cannot be varied{did_you_mean(knob, _READERS)}")
    several = [given] if isinstance(given, (str, int, float, nn.Module)) or given is None else list(given)
    if not several:
        raise InputError(f"vary: no value of {knob}; give some, like {{{knob!r}: [...]}}")
    values = []
    for one in several:
        if one is None or (isinstance(one, str) and one.strip() == AS_IS):
            values.append(Value(AS_IS, None))
        else:
            meaning = _READERS[knob](one)
            values.append(Value(one.strip() if isinstance(one, str) else _shown(one), meaning))
    names = [value.shown for value in values]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"vary: {knob}={twice} is given twice")
    return values


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:.12g}" if isinstance(value, (int, float)) else type(value).__name__


def number_of(text: Any, what: str) -> float:
    """A number above 0; texts may be fractions.

    >>> number_of("5/3", "gain"), number_of("1e-3", "lr"), number_of(2, "gain")
    (1.6666666666666667, 0.001, 2.0)
    """
    try:
        if isinstance(text, str):
            above, _, below = text.partition("/")
            value = float(above) / (float(below) if below else 1.0)
        else:
            value = float(text)
    except (TypeError, ValueError, ZeroDivisionError):
        value = math.nan
    if isinstance(text, bool) or not 0 < value < math.inf:
        raise InputError(f"vary: {what}={text}: expected a number above 0, like 0.5 or 5/3")
    return value


def _gain(value: Any) -> float | str:
    return "auto" if value == "auto" else number_of(value, "gain")


def _switch(value: Any) -> bool:
    word = str(value).lower()
    if word in _ON or word in _OFF:
        return word in _ON
    raise InputError(f"vary: fan_in={value}: expected on or off")


def _word(knob: str, known: Sequence[str]) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in known:
            raise InputError(f"vary: {knob}={value}: unknown{did_you_mean(str(value), known, most=20)}")
        return value

    return read


def _activation(value: Any) -> str | nn.Module:
    return value if isinstance(value, nn.Module) else _word("activation", [*ACTIVATION_MODULES])(value)


def _size(value: Any) -> int:
    number = number_of(value, "batch")
    if number != int(number):
        raise InputError(f"vary: batch={value}: expected a whole number of examples")
    return int(number)


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "gain": _gain,
    "fan_in": _switch,
    "activation": _activation,
    "norm": _word("norm", NORM_KINDS),
    "lr": lambda value: number_of(value, "lr"),
    "optimizer": _word("optimizer", [*OPTIMIZERS]),
    "batch": _size,
}
KNOBS = tuple(_READERS)


def change_model(model: nn.Module, batch: Any, values: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Applies what of a setting concerns the model; (what was changed, what was not), one line for each place.

    Norms come first, as they decide what stands behind a layer, gains last, so that they are what was asked for.
    Raises InputError where a value does not apply to this model.
    """
    done: list[RemedyReport] = []
    if values.get("norm") is not None:
        done.append(exchange_norms_(model, batch, values["norm"]))
    if values.get("activation") is not None:
        done.append(exchange_activations_(model, batch, values["activation"]))
    gain, scaled = values.get("gain"), values.get("fan_in")
    if gain is not None or scaled is not None:
        done.append(set_gain_(model, batch, 1.0 if gain is None else gain, fan_in=scaled is not False))
    changes = [
        f"{c.name}: {c.reason}" + (f", rms {c.before:.3g} -> {c.after:.3g}" if c.before or c.after else "")
        for report in done
        for c in report.changes
    ]
    return changes, [note for report in done for note in report.notes]


def shuffle_weights(model: nn.Module, seed: int) -> None:
    """Another draw of an untrained network's weights, whatever it was initialized with: the entries of every tensor of
    two axes or more change places within it. Zeros stay where they are."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() < 2 or not parameter.requires_grad or parameter.layout is not torch.strided:
                continue
            flat = parameter.detach().reshape(-1).clone()
            places = flat.nonzero()[:, 0]
            order = torch.randperm(len(places), generator=generator).to(places.device)
            flat[places] = flat[places[order]]
            parameter.copy_(flat.view(parameter.shape))
