"""TARGET -> nn.Module.

    char_mlp_original             a built-in model
    package.module:callable       anything that can be imported, also from the working directory
    path/to/file.py:callable      a file; its own directory can be imported from while it loads
    timm:NAME, torchvision:NAME   untrained, from that library

The callable is an nn.Module class, a function that returns a Module, or a Module. Loading a file leaves
sys.path as it was and writes no bytecode beside it.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import nn

from .._base import InputError, described, did_you_mean, printable
from .settings import argument_types, typed

# folders of libraries: an error message names the last line of code outside of these, which its author can change
LIBRARIES = (os.path.dirname(os.path.abspath(torch.__file__)),)
_FORMS = (
    "a built-in model's name, package.module:callable, path/to/file.py:callable, timm:NAME or "
    "torchvision:NAME"
)


def load_model(target: str, settings: Mapping[str, Any] | None = None) -> nn.Module:
    """The model that TARGET names; settings become keyword arguments of its class or factory.

    Raises InputError, in one line, for a target that cannot be found, cannot be imported, raises, or is not a
    Module.

    >>> type(load_model("torch.nn:Linear", {"in_features": 3, "out_features": 2})).__name__
    'Linear'
    """
    settings = dict(settings or {})
    place, colon, name = target.rpartition(":")
    if not colon:
        return _built_in(target, settings)
    if not place or not name:
        raise InputError(
            f"target {target!r}: there is nothing {'after' if place else 'before'} the colon; give {_FORMS}"
        )
    if place == "timm":
        return _timm(target, name, settings)
    if place == "torchvision":
        return _torchvision(target, name, settings)
    try:
        return _own(target, place, name, settings)
    except InputError as error:
        if not _lacks_torchvision_operators(error):
            raise
        import_torchvision()  # timm and transformers import it, so the file may do so indirectly
        return _own(target, place, name, settings)


def _own(target: str, place: str, name: str, settings: dict[str, Any]) -> nn.Module:
    """A model from a module or file of the user."""
    is_file = place.endswith(".py") or os.sep in place or "/" in place or os.path.isfile(place)
    # the factory runs inside the context too, since it may import files beside it only when it is called
    with _importable(os.path.dirname(os.path.abspath(place)) if is_file else os.getcwd()):
        module = _import_file(target, place) if is_file else _import_module(target, place)
        return _make(target, _attribute(target, module, name), settings)


# ---- where models come from --------------------------------------------------------------------------------


def _built_in(target: str, settings: dict[str, Any]) -> nn.Module:
    from .. import models

    known = list(models.names())
    if target in known:
        types = models.option_types(target)
        return _make(target, lambda **kw: models.create(target, **kw), settings, types)
    if target.endswith(".py") and os.path.isfile(target):
        names = _top_level_names(target)
        example = f"{target}:{names[0] if names else 'make_model'}"
        raise InputError(f"target {target!r}: say which class or function of the file, for example {example}")
    if not target:
        raise InputError(f"target '': it is empty; give {_FORMS}")
    forms = f"; give {_FORMS}; unitgain check takes the folder of a run too"
    if os.path.isdir(target):
        raise InputError(f"target {target!r}: this is a folder, and no built-in model has this name{forms}")
    hint = did_you_mean(target, known, most=0)
    missing = ", and there is no such file or folder" if "/" in target and not os.path.exists(target) else ""
    raise InputError(f"target {target!r}: no built-in model has this name{missing}{hint or forms}")


def _timm(target: str, name: str, settings: dict[str, Any]) -> nn.Module:
    import_torchvision()  # timm imports it
    timm = _library("timm", target)
    if not timm.is_model(name):
        raise InputError(f"target {target!r}: timm has no such model{did_you_mean(name, timm.list_models())}")
    return _make(target, lambda **kw: timm.create_model(name, **{"pretrained": False, **kw}), settings)


def _torchvision(target: str, name: str, settings: dict[str, Any]) -> nn.Module:
    import_torchvision()
    models = _library("torchvision", target).models
    known = models.list_models()
    if name.lower() not in known:
        raise InputError(f"target {target!r}: torchvision has no such model{did_you_mean(name, known)}")
    return _make(target, lambda **kw: models.get_model(name, **{"weights": None, **kw}), settings)


def _library(name: str, target: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise InputError(
                f"target {target!r}: {name} cannot be imported: {described(error, LIBRARIES)}"
            ) from error
        raise InputError(
            f"target {target!r}: {name} is not installed; install it with: pip install {name}"
        ) from error
    except Exception as error:
        raise InputError(
            f"target {target!r}: {name} cannot be imported: {described(error, LIBRARIES)}"
        ) from error


_declared: list[torch.library.Library] = []  # a Library's operators live as long as it does


def import_torchvision() -> None:
    """Imports torchvision if it is there, also when its compiled part does not fit the installed torch.

    A torchvision built for CUDA beside a torch built without it fails on import, because it describes
    operators (nms, qnms) that its library could not register. No classifier needs them, so they are declared here and
    the import is repeated.
    """
    try:
        import torchvision  # type: ignore[import-not-found]  # noqa: F401
    except ModuleNotFoundError:
        return
    except RuntimeError as error:
        if "torchvision::" not in str(error) or _declared:
            return  # code that needs it imports it again and reports the error
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)


def _lacks_torchvision_operators(error: BaseException | None) -> bool:
    while error is not None:
        if "operator torchvision::" in printable(error) and not _declared:
            return True
        error = error.__cause__ or error.__context__
    return False


# ---- importing the user's code -------------------------------------------------------------------------


@contextmanager
def _importable(folder: str) -> Iterator[None]:
    path, bytecode = list(sys.path), sys.dont_write_bytecode
    sys.path.insert(0, folder)
    sys.dont_write_bytecode = True
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = path
        sys.dont_write_bytecode = bytecode


def _import_file(target: str, path: str) -> ModuleType:
    if not os.path.isfile(path):
        what = "is a directory; name a .py file in it" if os.path.isdir(path) else "there is no such file"
        near = (
            "" if os.path.isdir(path) else did_you_mean(os.path.basename(path), _python_files(path), most=0)
        )
        raise InputError(f"target {target!r}: {path}: {what}{near}")
    if not path.endswith(".py"):
        raise InputError(f"target {target!r}: {path} is not a Python file; its name must end in .py")
    name = f"unitgain_target_{os.path.basename(path)[:-3]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look a class's module up here
    try:
        _run(target, path, lambda: spec.loader.exec_module(module))  # type: ignore[union-attr]
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _import_module(target: str, name: str) -> ModuleType:
    if os.path.isdir(name) and not all(part.isidentifier() for part in name.split(".")):
        raise InputError(f"target {target!r}: {name} is a directory; name a .py file in it")
    try:
        return _run(target, name, lambda: importlib.import_module(name))
    except InputError as error:
        missing = error.__cause__
        own = isinstance(missing, ModuleNotFoundError) and f"{name}.".startswith(f"{missing.name}.")
        if not own:
            raise
        path = name.replace(".", "/") + ".py"
        hint = f"; did you mean {path}:{target.rpartition(':')[2]}?" if os.path.isfile(path) else ""
        raise InputError(
            f"target {target!r}: there is no module {missing.name!r} here or among the installed packages"  # type: ignore[union-attr]
            f"{hint or f'; a target is {_FORMS}'}"
        ) from missing


def _run(target: str, place: str, step: Callable[[], Any]) -> Any:
    """Runs the top-level code of a file; an exception in it becomes one line."""
    try:
        return step()
    except SyntaxError as error:
        where = f"{error.filename or place}, line {error.lineno}"
        raise InputError(f"target {target!r}: {where}: {error.msg} ({type(error).__name__})") from error
    except SystemExit as error:
        raise InputError(
            f"target {target!r}: {place} ends the program when it is imported (SystemExit); "
            "put what it does as a script under if __name__ == '__main__':"
        ) from error
    except Exception as error:
        raise InputError(
            f"target {target!r}: importing {place} raised {described(error, LIBRARIES)}"
        ) from error


def _attribute(target: str, module: ModuleType, dotted: str) -> Any:
    found: Any = module
    for name in dotted.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            owner = getattr(found, "__file__", None) or getattr(found, "__name__", type(found).__name__)
            own = (
                [n for n, v in vars(found).items() if not n.startswith("_") and callable(v)]
                if hasattr(found, "__dict__")
                else []
            )
            raise InputError(f"target {target!r}: {owner} has no {name!r}{did_you_mean(name, own)}") from None
    return found


def _make(
    target: str, source: Any, settings: dict[str, Any], types: Mapping[str, Any] | None = None
) -> nn.Module:
    if isinstance(source, nn.Module):
        if settings:
            raise InputError(
                f"target {target!r}: it is a finished model, so --set {next(iter(settings))}=... cannot "
                "apply; name its class or a function that makes it"
            )
        return source
    if not callable(source):
        raise InputError(
            f"target {target!r}: it is of type {type(source).__name__}; name an nn.Module class, "
            "a function that returns a Module, or a Module"
        )
    _check_arguments(target, source, settings)
    try:
        model = source(**typed(settings, argument_types(source) if types is None else types))
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(
            f"target {target!r}: making the model raised {described(error, LIBRARIES)}"
        ) from error
    if not isinstance(model, nn.Module):
        raise InputError(f"target {target!r}: it returned a {type(model).__name__}, not a torch.nn.Module")
    return model


def _check_arguments(target: str, source: Callable[..., Any], settings: dict[str, Any]) -> None:
    try:
        signature = inspect.signature(source)
    except (TypeError, ValueError):
        return  # some built-in callables have none; the call itself will fail
    try:
        signature.bind(**settings)
    except TypeError as error:
        parameters = signature.parameters.values()
        named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        unknown = next((k for k in settings if k not in named), None)
        if unknown is not None:
            hint = did_you_mean(unknown, named) or "; it takes no arguments by name"
            raise InputError(
                f"--set {unknown}={settings[unknown]}: {target} takes no {unknown!r}{hint}"
            ) from error
        first = next(p.name for p in parameters if p.default is p.empty and p.name not in settings)
        raise InputError(
            f"target {target!r}: it needs the argument {first!r}; give it with --set {first}=..., "
            "or name a function without arguments that makes the model"
        ) from error


def _top_level_names(path: str) -> list[str]:
    """Classes, then functions that a file defines, found without running it."""
    try:
        with open(path, encoding="utf-8") as file:
            body = ast.parse(file.read()).body
    except (OSError, SyntaxError, ValueError):
        return []
    classes = [n.name for n in body if isinstance(n, ast.ClassDef)]
    return classes + [n.name for n in body if isinstance(n, ast.FunctionDef)]


def _python_files(path: str) -> list[str]:
    folder = os.path.dirname(path) or "."
    try:
        return [f for f in os.listdir(folder) if f.endswith(".py")]
    except OSError:
        return []
