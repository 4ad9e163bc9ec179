"""DeepMind's NFNet parameters (Haiku trees): read without running what is in the file, and renamed both ways.

The published files are called .npz and are pickles of {module: {parameter: array}}. A pickle names functions to
call; the reader here allows those that make NumPy arrays and containers and refuses every other name, so nothing
else can run. Nothing of a file that is refused is used.

    NFNet/~/stem_conv{k}                     stem.conv{k+1}
    NFNet/~/nf_block[_{i}]                   stages.S.B, i counting through all stages
        /~/conv0, conv1, conv1b, conv2           conv1, conv2, conv2b, conv3
        /~/conv_shortcut                         downsample.conv
        /~/squeeze_excite/~/linear, linear_1     attn_last.fc1, fc2
        skip_gain                                skipinit_gain
    NFNet/~/final_conv, NFNet/~/linear       final_conv, head.fc

Convolution weights are (H, W, I, O) there and (O, I, H, W) here, gains (O,) and (O, 1, 1, 1), linear weights
(I, O) and (O, I), those of squeeze-and-excite (O, I, 1, 1).
"""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping, Set
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._base import InputError
from .normfree_config import NormFreeConfig

Tree = Mapping[str, Mapping[str, np.ndarray]]
_CORES = ("numpy.core", "numpy._core")  # before and since NumPy 2


def read_tree(path: str | os.PathLike[str]) -> dict[str, dict[str, np.ndarray]]:
    """{module: {parameter: array}} from a pickle of that, or from an archive of arrays named "module/parameter".

    Raises InputError if the file cannot be read, names anything but NumPy arrays and containers, or holds
    anything else.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    if data[:2] == b"PK":
        return _read_archive(path, data)
    try:
        tree = _ArraysOnly(io.BytesIO(data)).load()
    except Exception as error:  # a damaged pickle can raise anything
        raise InputError(f"{path}: not a tree of NumPy arrays: {error}") from error
    return _checked(path, tree)


class _ArraysOnly(pickle.Unpickler):
    """Allows NumPy's array, data type and scalar and OrderedDict; dict, list and tuple need no name."""

    def find_class(self, module: str, name: str) -> Any:
        for core in _CORES:
            if (module, name) == (f"{core}.multiarray", "_reconstruct"):
                return _empty_array
            if (module, name) == (f"{core}.multiarray", "scalar"):
                return _scalar
            if (module, name) == (f"{core}.numeric", "_frombuffer"):
                return _frombuffer
        known = {
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): _number_type,
            ("collections", "OrderedDict"): OrderedDict,
            ("_codecs", "encode"): _latin1,
        }
        if (module, name) in known:
            return known[module, name]
        raise pickle.UnpicklingError(
            f"it names {module}.{name}, but only NumPy arrays and containers are read; nothing was run"
        )


def _empty_array(kind: type, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    if kind is not np.ndarray or tuple(shape) != (0,):
        raise pickle.UnpicklingError("an array is built in an unknown way")
    return np.ndarray((0,), dtype="b")  # what NumPy's own does; the state that follows makes it the array


def _frombuffer(buffer: Any, dtype: Any, shape: tuple[int, ...], order: str) -> np.ndarray:
    return np.frombuffer(buffer, dtype=dtype).reshape(shape, order="F" if order == "F" else "C").copy()


def _scalar(dtype: np.dtype, data: bytes) -> np.ndarray:
    return np.frombuffer(data, dtype=dtype, count=1)[0]


def _number_type(code: Any, *flags: Any) -> np.dtype:
    dtype = np.dtype(code) if isinstance(code, str) else None
    if dtype is None or dtype.kind not in "fiub":
        raise pickle.UnpicklingError(f"it holds values of type {code!r}, not numbers")
    return dtype


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    """How protocols 0 to 2 write bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes are encoded as {encoding!r}")
    return text.encode("latin1")


def _read_archive(path: object, data: bytes) -> dict[str, dict[str, np.ndarray]]:
    tree: dict[str, dict[str, np.ndarray]] = {}
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            for name in arrays.files:
                module, _, parameter = name.rpartition("/")
                tree.setdefault(module, {})[parameter] = arrays[name]
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not an archive of NumPy arrays: {error}") from error
    return _checked(path, tree)


def _checked(path: object, tree: Any) -> dict[str, dict[str, np.ndarray]]:
    good = isinstance(tree, dict) and bool(tree)
    for module, parameters in tree.items() if good else ():
        good = good and isinstance(module, str) and isinstance(parameters, dict)
        for name, array in parameters.items() if good else ():
            good = good and isinstance(name, str) and isinstance(array, np.ndarray | np.generic)
            good = good and array.dtype.kind in "fiub"
    if not good:
        raise InputError(f"{path}: not a tree {{module: {{parameter: array of numbers}}}}")
    return tree


def haiku_names(config: NormFreeConfig) -> dict[str, tuple[str, str]]:
    """{state-dict key: (Haiku module, parameter)} of an NFNet.

    >>> from unitgain.models.nfnet import VARIANTS
    >>> haiku_names(VARIANTS["dm_nfnet_f0"])["stages.1.0.conv2b.weight"]
    ('NFNet/~/nf_block_1/~/conv1b', 'w')
    """
    if config.stem != "3x3 four" or config.attention != "se":
        raise InputError(
            "Haiku parameters: DeepMind has published them for NFNet variants; for example dm_nfnet_f0"
        )
    names: dict[str, tuple[str, str]] = {}

    def add(key: str, module: str, conv: bool = True) -> None:
        names[f"{key}.weight"] = (module, "w")
        names[f"{key}.bias"] = (module, "bias" if conv else "b")
        if conv:
            names[f"{key}.gain"] = (module, "gain")

    for k in range(4):
        add(f"stem.conv{k + 1}", f"NFNet/~/stem_conv{k}")
    index = 0
    for s, depth in enumerate(config.depths):
        for b in range(depth):
            block = "NFNet/~/nf_block" + (f"_{index}" if index else "")
            own, index = f"stages.{s}.{b}", index + 1
            for ours, theirs in (
                ("conv1", "conv0"),
                ("conv2", "conv1"),
                ("conv2b", "conv1b"),
                ("conv3", "conv2"),
            ):
                add(f"{own}.{ours}", f"{block}/~/{theirs}")
            if b == 0 and (s or config.stem_channels[-1] != config.channels[0]):
                add(f"{own}.downsample.conv", f"{block}/~/conv_shortcut")
            add(f"{own}.attn_last.fc1", f"{block}/~/squeeze_excite/~/linear", conv=False)
            add(f"{own}.attn_last.fc2", f"{block}/~/squeeze_excite/~/linear_1", conv=False)
            names[f"{own}.skipinit_gain"] = (block, "skip_gain")
    add("final_conv", "NFNet/~/final_conv")
    add("head.fc", "NFNet/~/linear", conv=False)
    return names


def require_same_names(source: str, expected: Set[str], found: Set[str]) -> None:
    """InputError, with an example of each kind, if a file's tensors are not those of the network."""
    missing, unknown = sorted(expected - found), sorted(found - expected)
    if missing or unknown:
        what = [f"lacks {len(missing)} of its tensors, for example {missing[0]}"] if missing else []
        what += [f"has {len(unknown)} others, for example {unknown[0]}"] if unknown else []
        raise InputError(f"{source}: weights of another network: it {' and '.join(what)}")


def from_haiku(tree: Tree, config: NormFreeConfig) -> dict[str, Tensor]:
    """A Haiku tree as a state dict with timm's names. Raises InputError for missing or unknown parameters."""
    names = haiku_names(config)
    present = {(module, name) for module, parameters in tree.items() for name in parameters}
    require_same_names(
        "Haiku parameters", {"/".join(n) for n in names.values()}, {"/".join(n) for n in present}
    )
    return {
        key: torch.from_numpy(_axes(key)[0](np.asarray(tree[module][name])).astype(np.float32))
        for key, (module, name) in names.items()
    }


def to_haiku(state: Mapping[str, Tensor], config: NormFreeConfig) -> dict[str, dict[str, np.ndarray]]:
    """The reverse of from_haiku."""
    tree: dict[str, dict[str, np.ndarray]] = {}
    for key, (module, name) in haiku_names(config).items():
        array = _axes(key)[1](state[key].detach().cpu().numpy())
        tree.setdefault(module, {})[name] = np.array(
            array, order="C"
        )  # ascontiguousarray would give a scalar an axis
    return tree


_Change = Callable[[np.ndarray], np.ndarray]


def _axes(key: str) -> tuple[_Change, _Change]:
    """How an array changes on its way here, and back."""
    if key.endswith(".gain"):
        return (lambda a: a.reshape(-1, 1, 1, 1)), (lambda a: a.reshape(-1))
    if not key.endswith(".weight"):
        return (lambda a: a), (lambda a: a)
    if ".attn_last." in key:
        return (lambda a: a.T[:, :, None, None]), (lambda a: a[:, :, 0, 0].T)
    if key == "head.fc.weight":
        return (lambda a: a.T), (lambda a: a.T)
    return (lambda a: a.transpose(3, 2, 0, 1)), (lambda a: a.transpose(2, 3, 1, 0))
