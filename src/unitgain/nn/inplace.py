"""Activations that write into their inputs, made to leave them."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

_Module = TypeVar("_Module", bound=nn.Module)


def out_of_place_(model: _Module) -> _Module:
    """Sets `inplace=False` in every module that has it, of any library; returns the model. Outputs stay the same.

    For tools whose backward hooks do not bear it: Opacus (per-example gradients), captum and the like. Activations
    that work in place save memory, so our models have them where that is safe.

    >>> out_of_place_(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True)))[1].inplace
    False
    """
    for module in model.modules():
        if getattr(module, "inplace", False) is True:
            module.inplace = False  # type: ignore[assignment]
    return model
