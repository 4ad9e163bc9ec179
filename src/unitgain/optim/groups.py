"""Parameter groups: weight decay for what multiplies many inputs, none for gains, biases and skip gains."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, cast

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from .._base import InputError, did_you_mean


def param_groups(
    model: nn.Module,
    weight_decay: float = 1e-4,
    *,
    embeddings: bool = True,
    no_decay: Sequence[str] = (),
    **options: Any,
) -> list[dict[str, Any]]:
    """Two groups for any optimizer: the weights with weight_decay, everything else with none.

    Weights are parameters with more than one axis longer than 1, and whatever Linear and convolution modules call
    `weight`. So the gains of standardized convolutions, of shape (O, 1, 1, 1), skip gains (0-dim), layer scales,
    class tokens, biases and norms' scales are not decayed, and what the model itself names in `no_weight_decay()`
    (timm) is not either. Decay would pull a gain to zero instead of regularizing a function (Brock et al. 2021 decay
    none).

    model         its trainable parameters are taken, each once
    embeddings    whether embedding tables are decayed; in language models they often are not
    no_decay      patterns of names of further parameters without decay: ("pos_embed", "*.rel_pos*")
    options       for both groups: lr, clipping, ...

    An empty group is omitted. Raises InputError for a pattern that matches no parameter, or a negative weight decay.

    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 2))
    >>> [(g["weight_decay"], g["param_names"]) for g in param_groups(model, 2e-5)]
    [(2e-05, ['0.weight', '3.weight']), (0.0, ['0.bias', '1.weight', '1.bias', '3.bias'])]
    """
    if isinstance(weight_decay, bool) or not isinstance(weight_decay, (int, float)) or not weight_decay >= 0:
        raise InputError(f"param_groups(weight_decay={weight_decay!r}): expected a number of at least 0")
    patterns = [no_decay] if isinstance(no_decay, str) else list(no_decay)
    named = list(model.named_parameters())
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name, _ in named):
            near = did_you_mean(pattern, [name for name, _ in named])
            raise InputError(f"param_groups(no_decay=...): {pattern!r} matches no parameter{near}")
    tables = {
        p for m in model.modules() if isinstance(m, (nn.Embedding, nn.EmbeddingBag)) for p in m.parameters()
    }
    norms = {p for m in model.modules() if _is_norm(m) for p in m.parameters(recurse=False)}
    layers = {_weight_of(m) for m in model.modules() if isinstance(m, (nn.Linear, _ConvNd))}
    declared = getattr(model, "no_weight_decay", None)
    exempt = set(cast("Iterable[str]", declared())) if callable(declared) else set()
    decayed: dict[str, Tensor] = {}
    plain: dict[str, Tensor] = {}
    for name, p in named:
        if not p.requires_grad:
            continue
        weight = (
            (sum(size > 1 for size in p.shape) > 1 or p in layers)
            and p not in norms
            and name not in exempt
            and not name.rpartition(".")[2].endswith("bias")
            and (embeddings or p not in tables)
            and not any(fnmatchcase(name, pattern) for pattern in patterns)
        )
        (decayed if weight else plain)[name] = p
    groups = [(decayed, float(weight_decay)), (plain, 0.0)]
    return [
        {**options, "params": list(g.values()), "param_names": list(g), "weight_decay": wd}
        for g, wd in groups
        if g
    ]


def _weight_of(module: nn.Module) -> Tensor | None:
    parametrized = getattr(module, "parametrizations", None)
    if isinstance(parametrized, nn.ModuleDict) and "weight" in parametrized:
        return next(parametrized["weight"].parameters(), None)
    return module._parameters.get("weight")


def _is_norm(module: nn.Module) -> bool:
    known = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)
    return isinstance(module, known) or "norm" in type(module).__name__.lower()
