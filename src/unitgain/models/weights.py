"""Pretrained weights: timm's checkpoints from the Hugging Face hub or a file, and DeepMind's Haiku trees.

    create("dm_nfnet_f0", pretrained=True)                      hub: pip install 'unitgain[hub]'
    create("nf_resnet50", pretrained="model.safetensors")       timm's names and shapes
    create("nfnet_f0", wiring="paper", pretrained="F0_haiku.npz")

.pt, .pth and .bin files are refused, because reading them can run code.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .._base import InputError, not_installed
from ..nn import ScaledStdConv2d, standardized
from .haiku import from_haiku, read_tree, require_same_names
from .normfree import NormFreeNet

HUB = {
    **{f"dm_nfnet_f{i}": "dm_in1k" for i in range(7)},
    "nfnet_l0": "ra2_in1k", "eca_nfnet_l0": "ra2_in1k", "eca_nfnet_l1": "ra2_in1k", "eca_nfnet_l2": "ra3_in1k",
    "nf_regnet_b1": "ra2_in1k", "nf_resnet50": "ra2_in1k", "test_nfnet": "r160_in1k",
    "resnet18": "a1_in1k", "resnet34": "a1_in1k", "resnet50": "a1_in1k", "resnet101": "a1h_in1k",
    "resnet152": "a1h_in1k", "resnet18d": "ra2_in1k", "resnet34d": "ra2_in1k", "resnet50d": "ra2_in1k",
    "resnet101d": "ra2_in1k", "resnet152d": "ra2_in1k", "resnetv2_50": "a1h_in1k", "resnetv2_101": "a1h_in1k",
    "resnetv2_18": "ra4_e3600_r224_in1k", "resnetv2_34": "ra4_e3600_r224_in1k",
}  # fmt: skip
"""Names with weights on the hub, and which: timm/NAME.TAG, timm's default for each."""

_PICKLES = (".pt", ".pth", ".bin", ".ckpt")


def load_pretrained(model: nn.Module, name: str, path: str | os.PathLike[str] | None = None) -> nn.Module:
    """Puts pretrained weights into a model made by create(name, ...); from the hub if no file is given.

    A classifier for another number of classes keeps its new weights. Another number of input channels: one is
    the sum over red, green and blue, which is exact for a grey image repeated three times; a multiple of three
    repeats them, divided so that the sum stays. Others are refused.

    Raises InputError if there are no weights of this name, the file cannot be read, or does not fit the model.
    """
    if isinstance(model, NormFreeNet):
        _check_wiring(model, name)
    path = _from_hub(name) if path is None else Path(path)
    load_state(model, _read(model, path), str(path))
    return model


def _check_wiring(model: NormFreeNet, name: str) -> None:
    if model.wiring == "calibrated":
        raise InputError(
            f"model {name}: pretrained weights need the constants of their training; take wiring='timm', or 'paper' "
            "for DeepMind's networks"
        )
    # NFNets with squeeze-and-excite are DeepMind's own, and their parameters fit the paper's wiring only
    if model.wiring == "paper" and not (model.config.stem == "3x3 four" and model.config.attention == "se"):
        raise InputError(
            f"model {name}: its weights were trained in timm's wiring and would compute something else in "
            "'paper'; take wiring='timm'"
        )


def _read(model: nn.Module, path: Path) -> dict[str, Tensor]:
    suffix = path.suffix.lower()
    if suffix in _PICKLES:
        raise InputError(
            f"{path}: a {suffix} file is a pickle, which can run code when it is read; convert it to .safetensors"
        )
    if suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
        except SafetensorError as error:
            raise InputError(f"{path}: damaged, or not a .safetensors file: {error}") from error
    if suffix not in (".npz", ".pkl", ".pickle"):
        raise InputError(f"{path}: weights are read from .safetensors, or from DeepMind's .npz or .pkl")
    if not isinstance(model, NormFreeNet):
        raise InputError(f"{path}: Haiku parameters are for NFNets; the model is a {type(model).__name__}")
    return from_haiku(read_tree(path), model.config)


def load_state(model: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Loads a complete state dict, with the classifier and the first convolution adapted as load_pretrained says."""
    own = model.state_dict()
    state = dict(state)
    classifier = [key for key in own if key in ("head.fc.weight", "head.fc.bias", "fc.weight", "fc.bias")]
    if any(key in state and state[key].shape != own[key].shape for key in classifier):
        for key in classifier:
            state[key] = own[key]
    if not classifier:  # features_only, or num_classes=0
        state = {key: v for key, v in state.items() if not key.startswith(("head.fc.", "fc."))}
    require_same_names(source, own.keys(), state.keys())
    first = next(key for key in own if key.endswith(".weight"))
    if state[first].shape != own[first].shape and state[first].shape[1] == 3:
        _adapt_input(model, state, first, source)
    for key, value in state.items():
        if value.shape != own[key].shape:
            raise InputError(
                f"{source}: {key} is {tuple(value.shape)} and the model's {tuple(own[key].shape)}; are these "
                "weights of another variant?"
            )
    model.load_state_dict(state)


def _adapt_input(model: nn.Module, state: dict[str, Tensor], key: str, source: str) -> None:
    """The first convolution's weights for another number of input channels, in state."""
    channels = model.state_dict()[key].shape[1]
    if channels != 1 and channels % 3:
        raise InputError(
            f"{source}: the weights have 3 input channels, the model {channels}; possible are 1 and multiples of 3"
        )
    layer = model.get_submodule(key.removesuffix(".weight"))
    weight = state[key].float()
    if isinstance(layer, ScaledStdConv2d):
        # the layer computes with the standardized weight, so that is what has to be summed
        weight = _rows(layer, weight, state[key.replace(".weight", ".gain")])
    adapted = (
        weight.sum(1, keepdim=True)
        if channels == 1
        else weight.repeat(1, channels // 3, 1, 1) / (channels // 3)
    )
    state[key] = adapted
    if isinstance(layer, ScaledStdConv2d):
        ones = torch.ones(len(adapted), 1, 1, 1)
        norm = _rows(layer, adapted, ones).flatten(1).norm(dim=1)
        gain = adapted.flatten(1).norm(dim=1) / norm.clamp_min(1e-12)
        state[key.replace(".weight", ".gain")] = gain.view(-1, 1, 1, 1)


def _rows(layer: ScaledStdConv2d, weight: Tensor, gain: Tensor) -> Tensor:
    return standardized(weight, gain * (layer.gamma * layer.input_scale), layer.eps, layer.eps_mode)


def _from_hub(name: str) -> Path:
    if name not in HUB:
        raise InputError(
            f"model {name}: no pretrained weights are published under this name; there are {', '.join(HUB)}"
        )
    try:
        import huggingface_hub as hub
    except ImportError:
        raise not_installed(
            f"model {name}: give a file (pretrained='model.safetensors'); fetching weights",
            "huggingface-hub",
            "hub",
        ) from None
    repository = f"timm/{name}.{HUB[name]}"
    try:
        path = Path(hub.hf_hub_download(repository, "model.safetensors"))
    except Exception as error:  # no network, no such file, disk full: the library has a type for each
        raise InputError(
            f"model {name}: {repository} could not be fetched ({type(error).__name__}: {error}); if you "
            "have the file, give its path: pretrained='model.safetensors'"
        ) from error
    _check_sum(path, name)
    return path


def _check_sum(path: Path, name: str) -> None:
    """The hub's cache names a large file after its SHA-256: what was fetched must still have it."""
    expected = path.resolve().name
    if len(expected) != 64 or not set(expected) <= set("0123456789abcdef"):
        return  # a cache without links, which does not keep it
    digest: Any = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 22):
            digest.update(chunk)
    if digest.hexdigest() != expected:
        raise InputError(
            f"model {name}: {path} is damaged (its SHA-256 has changed); delete it and try again"
        )
