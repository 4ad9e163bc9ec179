"""What users of timm expect of an image model: its methods, attributes and the description of its feature maps.

A class of networks gives `feature_maps(x, last)`, `final(x)`, a `head` and a `pretrained_cfg`; the rest is here.
Names and meanings are timm's (timm/models/_features.py, the classifier methods of its resnet.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args

import torch.nn.functional as F
from torch import Tensor, fx, nn

from .._base import InputError

GlobalPool = Literal["avg", "max", "avgmax", ""]
FeatureClass = Literal["list", "getter", "hook", "fx"]
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


class FeatureInfo(list[dict[str, Any]]):
    """One row for each feature map, finest first: num_chs, reduction (its stride), module (what computes it), index.

    >>> info = FeatureInfo([{"num_chs": 8, "reduction": 2, "module": "stem"}])
    >>> info.channels(), info.reduction(), info.module_name()
    ([8], [2], ['stem'])
    """

    def channels(self, idx: int | Sequence[int] | None = None) -> Any:
        return self._column("num_chs", idx)

    def reduction(self, idx: int | Sequence[int] | None = None) -> Any:
        return self._column("reduction", idx)

    def module_name(self, idx: int | Sequence[int] | None = None) -> Any:
        return self._column("module", idx)

    def get_dicts(
        self, keys: Iterable[str] | None = None, idx: Sequence[int] | None = None
    ) -> list[dict[str, Any]]:
        rows = list(self) if idx is None else [self[i] for i in idx]
        return [dict(row) if keys is None else {k: row[k] for k in keys} for row in rows]

    def _column(self, key: str, idx: int | Sequence[int] | None) -> Any:
        if isinstance(idx, int):
            return self[idx][key]
        return [row[key] for row in (self if idx is None else [self[i] for i in idx])]


def chosen(count: int, indices: int | Sequence[int] | None, what: str) -> list[int]:
    """Numbers of feature maps: all for None, the last n for a number n, negative ones from the end.

    Raises InputError for numbers that are none of a map.
    """
    if indices is None:
        return list(range(count))
    wanted = list(range(count - indices, count)) if isinstance(indices, int) else list(indices)
    found = [i + count if i < 0 else i for i in wanted]
    if not found or any(not 0 <= i < count for i in found):
        raise InputError(f"{what} is {indices!r}; the network has {count} feature maps, 0 to {count - 1}")
    return sorted(dict.fromkeys(found))


def pooled(x: Tensor, kind: str) -> Tensor:
    """(B, C, H, W) -> (B, C); "" leaves it as it is."""
    if kind == "":
        return x
    if kind == "avg":
        return x.mean((2, 3))
    largest = F.adaptive_max_pool2d(x, 1).flatten(1)
    return largest if kind == "max" else 0.5 * (x.mean((2, 3)) + largest)


def check_pool(global_pool: str, num_classes: int) -> None:
    if global_pool not in ("avg", "max", "avgmax", ""):
        raise InputError(f"global_pool is {global_pool!r}; expected avg, max, avgmax or '' for none")
    if global_pool == "" and num_classes:
        raise InputError("global_pool is '': without pooling there is no classifier; take num_classes=0")


def check_feature_class(feature_cls: str) -> None:
    """timm's ways to make feature maps: here they are a list whichever is asked for."""
    if feature_cls not in get_args(FeatureClass):
        raise InputError(
            f"feature_cls is {feature_cls!r}; expected list, getter, hook or fx, which all give a list of maps"
        )


class ImageModel(nn.Module):
    """Methods of every image network. Options that only have timm's other name: in_chans, drop_path_rate."""

    feature_info: FeatureInfo
    num_classes: int
    num_features: int
    global_pool: str
    checkpointing: bool
    out_indices: tuple[int, ...] | None
    architecture: str | None = None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        # torch.fx copies annotations into its graphs: torch.jit.script cannot read a string, nor one type or another
        cls.forward.__annotations__ = {"x": Tensor}

    def __prepare_scriptable__(self) -> nn.Module:
        """What torch.jit.script compiles: the steps of a forward pass in the present mode, as torch.fx records them."""
        return fx.symbolic_trace(self)

    # ---- to be given by the class

    def feature_maps(self, x: Tensor, last: int | None = None) -> list[Tensor]:
        """The feature maps up to number `last`."""
        raise NotImplementedError

    def final(self, x: Tensor) -> Tensor:
        """What comes between the last feature map and the head."""
        return x

    def _config(self) -> dict[str, Any]:
        """first_conv, classifier, sizes, crop and so on."""
        raise NotImplementedError

    def _new_classifier(self, num_classes: int) -> None:
        raise NotImplementedError

    # ---- timm's methods

    @property
    def head_hidden_size(self) -> int:
        return self.num_features

    @property
    def in_chans(self) -> int:
        return int(getattr(self, "in_channels"))  # noqa: B009

    def features(self, x: Tensor) -> list[Tensor]:
        """The feature maps of features_only."""
        wanted = self.out_indices
        found = self.feature_maps(x, None if wanted is None else wanted[-1])
        return found if wanted is None else [found[i] for i in wanted]

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> the last map (B, C, H/32, W/32), what the head takes."""
        return self.final(self.feature_maps(x)[-1])

    def get_classifier(self) -> nn.Module:
        """The last linear layer, or nn.Identity for num_classes=0."""
        return self.get_submodule(self._config()["classifier"])

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new classifier for num_classes; 0 for the pooled features, and with global_pool="" the last map."""
        if not isinstance(num_classes, int) or num_classes < 0:
            raise InputError(f"num_classes is {num_classes!r}; expected a whole number of at least 0")
        check_pool(self.global_pool if global_pool is None else global_pool, num_classes)
        like = next(self.parameters())
        self.num_classes = num_classes
        self.global_pool = self.global_pool if global_pool is None else global_pool
        self._new_classifier(num_classes)
        self.get_classifier().to(like)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in the backward pass instead of keeping its activations."""
        self.checkpointing = enable

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """(the last map, feature maps), or the maps alone.

        indices     which maps: None for all, n for the last n, or numbers
        norm        of the last map: after the network's final norm and activation, where it has them
        stop_early  compute no more than the maps that are asked for
        """
        if output_fmt != "NCHW":
            raise InputError(f"output_fmt is {output_fmt!r}; maps of convolutional networks are NCHW")
        wanted = chosen(len(self.feature_info), indices, "indices")
        found = self.feature_maps(x, wanted[-1] if stop_early else None)
        whole = len(found) == len(self.feature_info)
        last = self.final(found[-1]) if whole else found[-1]
        if norm and whole:
            found[-1] = last
        maps = [found[i] for i in wanted]
        return maps if intermediates_only else (last, maps)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns of parameter names for learning rates by layer, as timm's optimizer factory takes them."""
        stage = r"^(?:stages\.|layer)(\d+)"
        return {
            "stem": r"^(?:stem|conv1|bn1)",
            "blocks": stage if coarse else [(stage + r"(?:\.blocks)?\.(\d+)", None)],
        }

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """How images are to be prepared, and where the first and last layer are; timm's keys."""
        config = self._config()
        train, test = config.pop("train_size"), config.pop("test_size")
        side = -(-train // self._stride())
        return {
            "architecture": self.architecture,
            "num_classes": 1000,
            "input_size": (3, train, train),
            "test_input_size": (3, test, test),
            "pool_size": (side, side),
            "interpolation": "bicubic",
            "fixed_input_size": False,
            **config,
        }

    default_cfg = pretrained_cfg

    def _stride(self) -> int:
        return int(self.feature_info.reduction()[-1])


def resolve_names(
    in_channels: int, in_chans: int | None, rate: Any, drop_path_rate: float | None
) -> tuple[int, Any]:
    """The number of input channels and the rate of stochastic depth, from either of their two names."""
    return (
        in_channels if in_chans is None else in_chans,
        rate if drop_path_rate is None else drop_path_rate,
    )


def keys_of_timms_feature_maps(state: dict[str, Any]) -> None:
    """timm's features_only networks flatten their names: "stem_conv.weight", "stages_0.0..."; in place."""
    for key in [key for key in state if key.startswith(("stem_", "stages_"))]:
        outer, _, rest = key.partition("_")
        state[f"{outer}.{rest}"] = state.pop(key)


def dilate_(
    stages: Sequence[tuple[Iterable[nn.Module], int]], output_stride: int, stem_stride: int
) -> list[int]:
    """Stages that would exceed the output stride keep their size: stride 1, and dilated kernels behind; in place.

    stages  (blocks, the stride of the first block), coarse ones last. Returns the strides of the maps.

    Raises InputError for an output stride other than 8, 16 and 32.
    """
    if output_stride not in (8, 16, 32):
        raise InputError(f"output_stride is {output_stride!r}; expected 8, 16 or 32")
    stride, dilation, found = stem_stride, 1, []
    for blocks, first_stride in stages:
        before = dilation
        flat = first_stride > 1 and stride * first_stride > output_stride
        dilation *= first_stride if flat else 1
        stride *= 1 if flat else first_stride
        for number, block in enumerate(blocks):
            seen = False
            for module in block.modules():
                if isinstance(module, nn.AvgPool2d) and flat and number == 0:
                    module.kernel_size, module.stride, module.padding = 1, 1, 0
                if not isinstance(module, nn.Conv2d):
                    continue
                if flat and number == 0:
                    module.stride = (1, 1)
                kernel = int(module.weight.shape[-1])
                if kernel > 1 and dilation > 1:
                    # a stage's first kernel still sees the map of the stage before
                    rate = before if number == 0 and not seen else dilation
                    seen = True
                    module.dilation = (rate, rate)
                    pad = rate * (kernel - 1) // 2
                    module.padding = (pad, pad)
                    module._reversed_padding_repeated_twice = [pad] * 4
                    if hasattr(module, "same"):
                        module.same = False  # type: ignore[assignment]
        found.append(stride)
    return found


__all__ = [
    "HALF", "IMAGENET", "FeatureClass", "FeatureInfo", "GlobalPool", "ImageModel", "check_feature_class", "check_pool",
    "chosen", "dilate_",
    "keys_of_timms_feature_maps", "pooled", "resolve_names",
]  # fmt: skip
