"""Changes to a model's structure, as data: applied by convert, and once more by the file that rebuilds the model.

kind         what becomes of the module at `paths`
identity     nn.Identity; of a norm with an activation inside (timm's BatchNormAct2d), the rest of it: `parts`
affine       ChannelAffine, and then `parts`
depthwise    the same as a plain layer of torch: a 1x1 convolution of each channel by itself, or a diagonal Linear
branch       BranchScale(alpha), and then `parts`
bias         it gets a bias, of `channels` numbers
frozen       its weight gets a FrozenScale
standardized its weight becomes scaled-standardized, with the gain `value` and a scale that is a buffer
normalized   its weight becomes NormalizedRows, likewise
plain        its parametrizations and standardization are worked out: the plain layer of the same outputs
branch_ends  the factors of our residual blocks are in their weights
code         a module of a class of ours becomes a torch.fx graph of the same layers
out_of_place an activation works in place no more: what it would overwrite is used elsewhere
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .._base import InputError
from ..nn import (
    BranchScale,
    ChannelAffine,
    FrozenScale,
    NormalizedRows,
    ScaledStd,
    merge_branch_ends,
    scaled_std_,
    without_parametrization,
)
from .plain_code import as_plain_code


@dataclass(frozen=True)
class Edit:
    """kind: see above. paths: where the module stands, more than one where it is registered more than once.

    channels  C, where something has that many numbers; rank: number of axes of its input
    parts     names of the module's own parts that stay: ("drop", "act")
    value     alpha, or the gain of an activation
    """

    kind: str
    paths: tuple[str, ...]
    channels: int = 0
    rank: int = 0
    parts: tuple[str, ...] = ()
    value: float = 1.0

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; `Edit.of` is the way back."""
        default = Edit("", ())
        return {k: v for k, v in asdict(self).items() if v != getattr(default, k)}

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Edit:
        given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}
        return cls(**given)


def paths_of(model: nn.Module, module: nn.Module) -> tuple[str, ...]:
    """Every path at which a module is registered."""
    return tuple(p for p, m in model.named_modules(remove_duplicate=False) if m is module)


def rebuild(model: nn.Module, edits: Iterable[Edit | Mapping[str, Any]]) -> nn.Module:
    """The structure that a conversion gave to a model, on another model of the same class; in place.

    edits  `ConversionReport.edits`, or the dictionaries that `unitgain normfree` writes. Load the weights afterwards.

    Returns the model, or what stands for it where it was itself replaced. Raises InputError where the model has no
    module of that name.
    """
    for row in edits:
        edit = row if isinstance(row, Edit) else Edit.of(row)
        made = apply(model, edit)
        if edit.kind in ("plain", "code") and edit.paths[0] == "" and made is not None:
            model = made
    return model


def apply(model: nn.Module, edit: Edit) -> nn.Module | None:
    """Makes one change and returns the module that carries its numbers, which still have to be set: the new affine or
    branch module, the parametrization, or the layer."""
    if edit.kind == "branch_ends":
        merge_branch_ends(model)
        return None
    try:
        module = model.get_submodule(edit.paths[0])
    except AttributeError as error:
        raise InputError(
            f"rebuild: model: it has no module {edit.paths[0]!r}; is it of the same class?"
        ) from error
    if edit.kind in ("identity", "affine", "depthwise", "branch"):
        made = _in_its_place(edit, module)
        parts = [(name, getattr(module, name)) for name in edit.parts]
        parts = [(n, p) for n, p in parts if isinstance(p, nn.Module) and not isinstance(p, nn.Identity)]
        whole: nn.Module = made
        if parts:
            first = [] if isinstance(made, nn.Identity) else [("scale", made)]
            whole = nn.Sequential()
            for name, part in [*first, *parts]:
                whole.add_module(name, part)
        whole.training = module.training
        made.training = module.training
        _put(model, edit.paths, whole)
        return made
    if edit.kind == "out_of_place":
        module.inplace = False  # type: ignore[assignment]
        return module
    if edit.kind == "bias":
        weight = weight_of(module)
        bias = nn.Parameter(torch.zeros(edit.channels, dtype=weight.dtype, device=weight.device))
        module.register_parameter("bias", bias)
        return module
    if edit.kind == "plain":
        return _plain(model, edit, module)
    if edit.kind == "code":
        code = as_plain_code(module)
        if edit.paths[0]:
            _put(model, edit.paths, code)
        return code
    step = _parametrization(edit, module)
    return step


def weight_of(module: nn.Module) -> Tensor:
    """The weight as it is stored, under its parametrizations; as it is computed where it is stored in parts."""
    stack: Any = getattr(module, "parametrizations", None)
    if stack is not None and "weight" in stack and hasattr(stack.weight, "original"):
        return stack.weight.original
    weight: Any = module.weight
    return weight


def outputs_axis(layer: nn.Module) -> tuple[int, int]:
    """(axis of the output channels in the weight, groups along axis 0)."""
    if getattr(layer, "transposed", False) is True:
        return 1, int(getattr(layer, "groups", 1))
    return (1, 1) if type(layer).__name__ == "Conv1D" else (0, 1)  # transformers' Conv1D is (in, out)


def _in_its_place(edit: Edit, module: nn.Module) -> nn.Module:
    like = next(
        (t for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()), torch.zeros(())
    )
    if edit.kind == "identity":
        return nn.Identity()
    if edit.kind == "affine":
        return ChannelAffine(edit.channels).to(like)
    if edit.kind == "branch":
        return BranchScale(edit.value).to(like)
    c = edit.channels
    made: Any
    if edit.rank == 2:
        made = nn.Linear(c, c)
        nn.init.eye_(made.weight)
    else:
        kinds = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}
        made = kinds[edit.rank](c, c, 1, groups=c)
        nn.init.ones_(made.weight)
    nn.init.zeros_(made.bias)
    return made.to(like)


def _parametrization(edit: Edit, module: nn.Module) -> nn.Module:
    weight = weight_of(module)
    if edit.kind == "frozen":
        step: nn.Module = FrozenScale(edit.channels, *outputs_axis(module)).to(weight)
        parametrize.register_parametrization(module, "weight", step)
        return step
    if edit.kind == "normalized":
        step = NormalizedRows(tuple(weight.shape), edit.value).to(weight)
        parametrize.register_parametrization(module, "weight", step)
        return step
    assert edit.kind == "standardized", edit.kind
    scaled_std_(module, gamma=edit.value)
    stack: Any = module.parametrizations
    standardization: Any = stack.weight[-1]
    standardization.scale_as_buffer()
    return standardization


def _plain(model: nn.Module, edit: Edit, module: nn.Module) -> nn.Module:
    if isinstance(module, ScaledStd):
        plain = module.folded()
        if edit.paths[0]:
            _put(model, edit.paths, plain)
        return plain
    stack: Any = getattr(module, "parametrizations", None)
    for name in list(stack) if stack is not None else ():
        without_parametrization(module, name)
    for key, hook in list(module._forward_pre_hooks.items()):
        if type(hook).__name__ in ("WeightNorm", "SpectralNorm"):  # the older form of the same
            hook.remove(module)
            del module._forward_pre_hooks[key]
    return module


def needs_plain(module: nn.Module) -> bool:
    """Whether its weights are computed anew in each pass: standardized layers, parametrizations, weight norms."""
    hooks = any(
        type(h).__name__ in ("WeightNorm", "SpectralNorm") for h in module._forward_pre_hooks.values()
    )
    return isinstance(module, ScaledStd) or parametrize.is_parametrized(module) or hooks


def is_weight_normed(module: nn.Module) -> bool:
    """Whether its weight is torch's weight norm, in the older or the newer form, and nothing else."""
    stack: Any = getattr(module, "parametrizations", None)
    if stack is not None and list(stack) == ["weight"]:
        return [type(step).__name__ for step in stack.weight] == ["_WeightNorm"]
    return any(type(hook).__name__ == "WeightNorm" for hook in module._forward_pre_hooks.values())


def _put(model: nn.Module, paths: Iterable[str], module: nn.Module) -> None:
    for path in paths:
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, module)
