"""What a shell offers when Tab is pressed: models, data sets, codes of rules, recipes, knobs.

A person waits for it, so that nothing here imports torch.
"""

from __future__ import annotations

import json
import os
from glob import glob
from pathlib import Path
from pkgutil import iter_modules

_ROOT = Path(__file__).parents[1]
_DATASETS = ("names", "fashion-mnist")


def _beginning_with(words: list[str], typed: str) -> list[str]:
    return sorted(word for word in words if word.startswith(typed))


def models(typed: str) -> list[str]:
    """Built-in models."""
    return _beginning_with(_model_names(), typed)


def targets(typed: str) -> list[str]:
    """Built-in models, and Python files, which a colon and a name follow."""
    return [*models(typed), *_files(typed, ".py", ":")]


def recipes(typed: str) -> list[str]:
    """Recipes, and models of one's own."""
    files = (module.name for module in iter_modules([str(_ROOT / "recipes")]))
    names = [file.replace("_", "-") for file in files if not file.startswith("_")]
    return [*_beginning_with(names, typed), *_files(typed, ".py", ":")]


def lessons(typed: str) -> list[str]:
    """Lessons."""
    files = (module.name for module in iter_modules([str(_ROOT / "recipes" / "_lessons")]))
    return _beginning_with([f.replace("_", "-") for f in files if not f.startswith("_")], typed)


def datasets(typed: str) -> list[str]:
    """Known data sets."""
    return _beginning_with(list(_DATASETS), typed)


def rule_codes(typed: str) -> list[tuple[str, str]]:
    """Codes with names; the last one of a list after commas."""
    from ..rules import CATALOGUE

    before, comma, last = typed.rpartition(",")
    pairs = [(code, rule.name) for code, rule in CATALOGUE.items()]
    found = [pair for pair in pairs if pair[0].startswith(last.upper())]
    found = found or [(name, code) for code, name in pairs if name.startswith(last)]
    return [(f"{before}{comma}{word}", told) for word, told in found]


def settings(typed: str) -> list[str]:
    """Presets of recipes are read from their names alone: `--set preset=`."""
    return _beginning_with(["preset="], typed)


def knobs(typed: str) -> list[tuple[str, str]]:
    """What `unitgain whatif` varies."""
    values = {
        "gain=": "0.5,1,5/3 or auto", "fan_in=": "on,off", "activation=": "relu,tanh,gelu,none", "lr=": "0.01,0.1",
        "norm=": "none,batch,layer,group,scaled-ws", "optimizer=": "sgd,adam", "batch=": "8,32",
    }  # fmt: skip
    return [(knob, example) for knob, example in values.items() if knob.startswith(typed)]


def _model_names() -> list[str]:
    return list(json.loads((_ROOT / "models" / "costs.json").read_text(encoding="utf-8")))


def _files(typed: str, ending: str, then: str) -> list[str]:
    found = [path + then for path in glob(typed + "*" + ending)]
    return sorted(found) + sorted(path + os.sep for path in glob(typed + "*") if os.path.isdir(path))
