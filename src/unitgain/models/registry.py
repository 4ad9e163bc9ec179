"""Models by name: `create("char_mlp_deep", gain=1.0)`, `names("char*")`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from .._base import InputError, did_you_mean
from .char_mlp import DESCRIPTIONS, VARIANTS, CharMLP, CharMLPConfig
from .convnet import convnet
from .nf_regnet import VARIANTS as NF_REGNETS
from .nf_resnet import VARIANTS as NF_RESNETS
from .nfnet import VARIANTS as NFNETS
from .normfree import NormFreeConfig, NormFreeNet
from .resnet import VARIANTS as RESNETS
from .resnet import ResNet, ResNetConfig


@dataclass(frozen=True)
class Entry:
    """A model that has a name: how it is built, the keyword arguments it takes, and one line about it."""

    build: Callable[..., nn.Module]
    options: tuple[str, ...]
    description: str


def create(name: str, **options: Any) -> nn.Module:
    """A new model.

    Raises InputError if the name, an option or an option's value is unknown, and says what there is.

    >>> create("char_mlp_deep", gain=1.0).config.gain
    1.0
    >>> create("convnt")
    Traceback (most recent call last):
    unitgain._base.errors.InputError: model 'convnt' is unknown; did you mean 'convnet'?
    """
    entry = _MODELS.get(name)
    if entry is None:
        raise InputError(f"model {name!r} is unknown{_closest(name, _MODELS)}")
    for option in options:
        if option not in entry.options:
            raise InputError(f"model {name}: option {option!r} is unknown{_closest(option, entry.options)}")
    return entry.build(**options)


def names(pattern: str = "*") -> list[str]:
    """Names of the models that match an fnmatch pattern, sorted.

    >>> names("char_mlp_deep*")
    ['char_mlp_deep', 'char_mlp_deep_batchnorm']
    """
    return sorted(name for name in _MODELS if fnmatchcase(name, pattern))


def describe(name: str) -> str:
    """One line about a model."""
    if name not in _MODELS:
        raise InputError(f"model {name!r} is unknown{_closest(name, _MODELS)}")
    return _MODELS[name].description


def _closest(word: str, known: Iterable[str]) -> str:
    return did_you_mean(word, known, most=20) or "; names() lists what there is"


def _char_mlp(config: CharMLPConfig) -> Callable[..., nn.Module]:
    def build(generator: torch.Generator | None = None, **changes: Any) -> nn.Module:
        return CharMLP(replace(config, **changes), generator)

    return build


def _normfree(name: str, config: NormFreeConfig) -> Callable[..., nn.Module]:
    def build(pretrained: bool | str = False, **options: Any) -> nn.Module:
        changes = {key: options.pop(key) for key in list(options) if key in _CHANGES}
        return _with_weights(NormFreeNet(replace(config, **changes), **options), name, pretrained)

    return build


def _resnet(name: str, config: ResNetConfig) -> Callable[..., nn.Module]:
    def build(pretrained: bool | str = False, **options: Any) -> nn.Module:
        return _with_weights(ResNet(config, **options), name, pretrained)

    return build


def _with_weights(model: nn.Module, name: str, pretrained: bool | str) -> nn.Module:
    if pretrained is False:
        return model
    from .weights import load_pretrained

    return load_pretrained(model, name, None if pretrained is True else pretrained)


def _options(cls: type[nn.Module]) -> tuple[str, ...]:
    return ("pretrained", *(name for name in inspect.signature(cls).parameters if name != "config"))


_CHANGES = ("activation", "alpha", "depths")  # fields of a variant's configuration that create takes too


def _describe(config: NormFreeConfig) -> str:
    attention = {"se": ", squeeze-and-excite", "eca": ", ECA", None: ""}[config.attention]
    return (
        f"normalizer-free, {config.activation}{attention}, "
        f"{'-'.join(map(str, config.depths))} blocks, images of {config.train_size}/{config.test_size}"
    )


def _describe_resnet(config: ResNetConfig) -> str:
    kind = "bottleneck" if config.bottleneck else "basic"
    return (
        f"{'pre-activation, ' if config.preact else ''}{kind}{', d stem' if config.deep else ''}, "
        f"{'-'.join(map(str, config.depths))} blocks, images of {config.train_size}/{config.test_size}"
    )


_CHAR_MLP_OPTIONS = ("generator", *(f.name for f in fields(CharMLPConfig)))
_MODELS: dict[str, Entry] = {
    **{
        f"char_mlp_{variant}": Entry(
            _char_mlp(config), _CHAR_MLP_OPTIONS, f"character MLP on names, {DESCRIPTIONS[variant]}"
        )
        for variant, config in VARIANTS.items()
    },
    **{
        name: Entry(_normfree(name, config), (*_options(NormFreeNet), *_CHANGES), _describe(config))
        for name, config in (NF_RESNETS | NF_REGNETS | NFNETS).items()
    },
    **{
        name: Entry(_resnet(name, config), _options(ResNet), _describe_resnet(config))
        for name, config in RESNETS.items()
    },
    "convnet": Entry(
        convnet, tuple(inspect.signature(convnet).parameters), "five stride-2 convolutions for 28x28 images"
    ),
}
