"""What a shell offers when Tab is pressed: models, data sets, codes of rules, recipes, knobs, settings.

The word that `--help` shows for a value says what it is: a TARGET, a RECIPE, CODES. `offers` finds the function for it
here. A person waits for the answer, so that torch is imported only where nothing else knows it: the arguments of a
built-in model and the presets of a recipe. tab.py asks.
"""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from glob import escape, glob
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules

_ROOT = Path(__file__).parents[1]

Given = Mapping[str, list[str]]
"""What the line says already: {parameter: its values}."""
Offer = tuple[str, str]
"""(a word, a remark or nothing)"""

FILES: list[Offer] = [(":files", "")]
"""The shell itself is to offer files."""

_KNOBS = {
    "gain": ("0.5,1,5/3", "auto"),
    "fan_in": ("on,off",),
    "activation": ("relu,tanh,gelu,none",),
    "norm": ("none,batch,layer,group,scaled-ws",),
    "lr": ("0.01,0.1",),
    "optimizer": ("sgd,momentum,adam,adamw,rmsprop",),
    "batch": ("8,32",),
}


def offers(metavar: str, option: str, command: str, typed: str, given: Given) -> list[Offer]:
    """What may stand where --help of the command writes `metavar`, after this option or none; nothing where that is
    anything, a number for example."""
    name = metavar.strip("[].")
    words = {"--loss": _LOSSES, "--device": ("cpu", "cuda", "mps"), "--optimizer": _OPTIMIZERS}.get(option)
    if words is not None:
        return _beginning_with(words, typed)
    if name in ("FILE", "DIR", "RUN"):
        return FILES
    find = _FINDERS.get(f"{command} {name}") or _FINDERS.get(name)
    return [] if find is None else find(typed, given)


def _beginning_with(words: Iterable[str], typed: str) -> list[Offer]:
    return [(word, "") for word in sorted(words) if word.startswith(typed)]


def _targets(typed: str, given: Given) -> list[Offer]:
    """Built-in models, libraries, Python files, and after a file's colon what it holds."""
    libraries = [f"{name}:" for name in ("timm", "torchvision") if find_spec(name)]
    return [*_beginning_with([*_model_names(), *libraries], typed), *_in_files(typed)]


def _recipes(typed: str, given: Given) -> list[Offer]:
    """Recipes, and models of one's own."""
    return [*_beginning_with(_names_in("recipes"), typed), *_in_files(typed)]


def _known_recipes(typed: str, given: Given) -> list[Offer]:
    return _beginning_with(_names_in("recipes"), typed)


def _lessons(typed: str, given: Given) -> list[Offer]:
    return _beginning_with(_names_in("recipes/_lessons"), typed)


def _ladders(typed: str, given: Given) -> list[Offer]:
    return _beginning_with(_names_in("recipes/_ladders"), typed)


def _datasets(typed: str, given: Given) -> list[Offer]:
    return _beginning_with(("names", "fashion-mnist"), typed)


def _models(typed: str, given: Given) -> list[Offer]:
    return _beginning_with(_model_names(), typed)


def _codes(typed: str, given: Given) -> list[Offer]:
    """Codes with names, or names with codes; the last one of a list after commas. A rule's file is named after it."""
    before, comma, last = typed.rpartition(",")
    files = [m.name.partition("_") for m in iter_modules([str(_ROOT / "rules")]) if m.name.startswith("ug")]
    pairs = [(code.upper(), name.replace("_", "-")) for code, _, name in sorted(files)]
    found = [pair for pair in pairs if pair[0].startswith(last.upper())]
    found = found or [(name, code) for code, name in pairs if name.startswith(last)]
    return [(f"{before}{comma}{word}", told) for word, told in found]


def _knobs(typed: str, given: Given) -> list[Offer]:
    """What `unitgain whatif` varies, and after the = an example of its values."""
    knob, equals, _ = typed.partition("=")
    if equals:
        return _beginning_with([f"{knob}={values}" for values in _KNOBS.get(knob, ())], typed)
    return [(f"{name}=", " or ".join(values)) for name, values in _KNOBS.items() if name.startswith(typed)]


def _settings(typed: str, given: Given) -> list[Offer]:
    """The arguments of a model, or the settings of a recipe; after preset= the presets."""
    subject = next(iter(given.get("target") or given.get("recipe") or given.get("name") or []), "")
    key, equals, _ = typed.partition("=")
    if subject in _names_in("recipes"):
        if key == "preset" and equals:
            from ..recipes import get

            return _beginning_with([f"preset={name}" for name in get(subject).presets], typed)
        found = {"preset": [], **_fields_of(_ROOT / "recipes" / f"{subject.replace('-', '_')}.py")}
    elif subject in _model_names():
        from ..models import option_types

        found = {name: [] for name in option_types(subject)}
    else:
        file, _, name = subject.rpartition(":")
        found = {argument: [] for argument in _arguments_of(file, name)}
        if "recipe" in given:
            found = {"preset": [], **_fields_of(_ROOT / "recipes" / "own.py"), **found}
    if equals:
        return _beginning_with([f"{key}={value}" for value in found.get(key, ())], typed)
    return [(f"{name}=", "") for name in found if name.startswith(typed)]


def _names_in(folder: str) -> list[str]:
    files = (module.name for module in iter_modules([str(_ROOT / folder)]))
    return [file.replace("_", "-") for file in files if not file.startswith("_")]


def _model_names() -> list[str]:
    return list(json.loads((_ROOT / "models" / "costs.json").read_text(encoding="utf-8")))


def _in_files(typed: str) -> list[Offer]:
    """Python files and folders; after a file's colon the classes and functions in it."""
    file, colon, name = typed.rpartition(":")
    if colon and file.endswith(".py"):
        found = [node.name for node in _body_of(file) if isinstance(node, (ast.ClassDef, ast.FunctionDef))]
        return [(f"{file}:{one}", "") for one in found if one.startswith(name) and not one.startswith("_")]
    start = escape(typed)
    files = [path + ":" for path in glob(start + "*.py")]
    return [
        (p, "") for p in [*sorted(files), *sorted(d + os.sep for d in glob(start + "*") if os.path.isdir(d))]
    ]


def _body_of(file: str | Path) -> list[ast.stmt]:
    """The statements of a file, which is read and not run; none of one that cannot be read."""
    try:
        return ast.parse(Path(file).read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return []


def _arguments_of(file: str, name: str) -> list[str]:
    """The arguments of a function, or of a class's __init__."""
    for node in _body_of(file) if file else []:
        if getattr(node, "name", None) != name:
            continue
        inner = (
            [n for n in node.body if getattr(n, "name", "") == "__init__"]
            if isinstance(node, ast.ClassDef)
            else [node]
        )
        for function in inner:
            if isinstance(function, ast.FunctionDef):
                told = function.args
                return [a.arg for a in (*told.posonlyargs, *told.args, *told.kwonlyargs) if a.arg != "self"]
    return []


def _fields_of(file: Path) -> dict[str, list[str]]:
    """{setting: its values, where they are few} of a recipe's dataclass, which is the class *Config of its file, and of
    those that it is derived from."""
    found: dict[str, list[str]] = {}
    body = _body_of(file)
    classes = [n for n in body if isinstance(n, ast.ClassDef) and n.name.endswith("Config")]
    short = {
        n.targets[0].id: n.value
        for n in body
        if isinstance(n, ast.Assign) and isinstance(n.targets[0], ast.Name)
    }
    for kind in classes[:1]:
        for base in kind.bases:
            if isinstance(base, ast.Name) and base.id == "ImageConfig":
                found.update(_fields_of(_ROOT / "recipes" / "_image_run.py"))
        for node in kind.body:
            if (
                isinstance(node, ast.AnnAssign)
                and isinstance(node.target, ast.Name)
                and node.target.id != "preset"
            ):
                kind_of = node.annotation
                if isinstance(kind_of, ast.Name):
                    kind_of = short.get(kind_of.id, kind_of)  # Variant = Literal["tanh", "relu"]
                found[node.target.id] = list(_choices(kind_of))
    return found


def _choices(annotation: ast.expr) -> Iterator[str]:
    """The texts of a Literal[...]; true and false of a bool."""
    for node in ast.walk(annotation):
        if isinstance(node, ast.Name) and node.id == "bool":
            yield from ("true", "false")
        if (
            isinstance(node, ast.Subscript)
            and isinstance(node.value, ast.Name)
            and node.value.id == "Literal"
        ):
            yield from (
                c.value
                for c in ast.walk(node.slice)
                if isinstance(c, ast.Constant) and isinstance(c.value, str)
            )


_LOSSES = ("auto", "cross_entropy", "mse", "bce_with_logits", "nll", "l1", "smooth_l1")
_OPTIMIZERS = ("sgd", "momentum", "adam", "adamw", "rmsprop")
_FINDERS: Mapping[str, Callable[[str, Given], list[Offer]]] = {
    "TARGET": _targets,
    "RECIPE": _recipes,
    "recipes RECIPE": _known_recipes,
    "ladder RECIPE": _ladders,
    "LESSON": _lessons,
    "CODES": _codes,
    "CODE": _codes,
    "PATTERN": _models,
    "KNOB=A,B,": _knobs,
    "KEY=VALUE": _settings,
    "NAME": _datasets,
    "1|2": lambda typed, given: _beginning_with(("1", "2"), typed),
}
