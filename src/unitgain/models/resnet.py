"""ResNet 18 to 152: v1.5 (stride in the 3x3 convolution), with the "d" stem and shortcut, and pre-activation.

Papers: He et al. 2015 (arXiv 1512.03385), 2016 (arXiv 1603.05027) and 2018 (arXiv 1812.01187). State-dict keys and
shapes are timm's: resnet50 and resnet50d as timm's resnet.py, and so torchvision's; resnetv2_50 as its resnetv2.py.

Deviations: normalization can be chosen; the last norm's gain of each branch starts at 0 as in timm; pre-activation
networks draw convolution weights as the others (Kaiming, fan out).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .._base import InputError
from ..nn import BasicBlock, Bottleneck, GroupNorm, Norm, PreActBlock
from ._entry import Entry, arguments_of
from ._image import (
    HALF,
    IMAGENET,
    FeatureClass,
    FeatureInfo,
    GlobalPool,
    ImageModel,
    check_feature_class,
    check_pool,
    chosen,
    dilate_,
    keys_of_timms_feature_maps,
    pooled,
    resolve_names,
)


@dataclass(frozen=True)
class ResNetConfig:
    """A variant.

    depths      blocks of each stage
    widths      channels inside the blocks of each stage; the outputs of bottlenecks have four times as many
    bottleneck  bottleneck blocks; otherwise basic ones
    deep        the "d" variant: three 3x3 convolutions as stem (the first two half as wide), pooled shortcuts
    preact      pre-activation
    """

    depths: tuple[int, ...]
    bottleneck: bool = True
    deep: bool = False
    preact: bool = False
    widths: tuple[int, ...] = (64, 128, 256, 512)
    stem_width: int = 64
    train_size: int = 224
    test_size: int = 288
    crop: float = 0.95
    test_crop: float = 1.0
    mean_std: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET


_DEPTHS = {
    "18": ResNetConfig((2, 2, 2, 2), bottleneck=False),
    "26": ResNetConfig((2, 2, 2, 2)),
    "34": ResNetConfig((3, 4, 6, 3), bottleneck=False),
    "50": ResNetConfig((3, 4, 6, 3)),
    "101": ResNetConfig((3, 4, 23, 3)),
    "152": ResNetConfig((3, 8, 36, 3)),
}
VARIANTS: dict[str, ResNetConfig] = {
    **{f"resnet{name}": config for name, config in _DEPTHS.items()},
    **{
        f"resnet{name}d": replace(config, deep=True, crop=0.875, test_crop=0.95)
        if name not in ("101", "152")
        else replace(config, deep=True, train_size=256, test_size=320)
        for name, config in _DEPTHS.items()
    },
    **{
        f"resnetv2_{name}{deep}": replace(
            config, preact=True, deep=deep == "d", mean_std=HALF, crop=0.95 if config.bottleneck else 0.9
        )
        for name, config in _DEPTHS.items()
        if name != "26"
        for deep in ("", "d")
    },
    "resnet_tiny": ResNetConfig((1, 1), False, widths=(8, 16), stem_width=8, train_size=32, test_size=32),
}

NORMS: dict[str, Norm] = {
    "batch": nn.BatchNorm2d,
    "group": lambda channels: GroupNorm(min(32, channels), channels),
    "none": None,
}


class ResNet(ImageModel):
    """Images (B, in_channels, H, W) -> logits (B, num_classes), for any H and W.

    norm           "batch", "group" (32 groups), "none", or a function of a number of channels to a module
    num_classes    0: the pooled features instead, (B, C)
    features_only  a list of feature maps instead: the stem's at half the size, then every stage's; no head.
                   `feature_info` has their channels and strides
    checkpointing  recompute each block in the backward pass instead of keeping its activations
    drop_rate      dropout before the classifier; stochastic_depth: rate of the last block, rising linearly
    out_indices, output_stride, global_pool, in_chans, drop_path_rate, feature_cls   as for NormFreeNet

    >>> import torch
    >>> from unitgain.models import create
    >>> create("resnet_tiny", num_classes=10, norm="group")(torch.randn(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        config: ResNetConfig,
        num_classes: int = 1000,
        in_channels: int = 3,
        norm: str | Callable[[int], nn.Module] = "batch",
        features_only: bool = False,
        checkpointing: bool = False,
        drop_rate: float = 0.0,
        stochastic_depth: float = 0.0,
        out_indices: int | Sequence[int] | None = None,
        output_stride: int = 32,
        global_pool: GlobalPool = "avg",
        in_chans: int | None = None,
        drop_path_rate: float | None = None,
        feature_cls: FeatureClass = "list",
    ):
        super().__init__()
        check_feature_class(feature_cls)
        in_channels, stochastic_depth = resolve_names(in_channels, in_chans, stochastic_depth, drop_path_rate)
        check_pool(global_pool, num_classes)
        self.global_pool = global_pool
        for name, value, least in (("num_classes", num_classes, 0), ("in_channels", in_channels, 1)):
            if not isinstance(value, int) or value < least:
                raise InputError(f"{name} is {value!r}; expected a whole number of at least {least}")
        if isinstance(norm, str) and norm not in NORMS:
            raise InputError(
                f"norm is {norm!r}; expected one of {', '.join(NORMS)}, or a function of a channel count"
            )
        make_norm = NORMS[norm] if isinstance(norm, str) else norm
        self.config, self.checkpointing = config, checkpointing
        self.num_classes, self.in_channels, self.features_only = num_classes, in_channels, features_only

        width = config.stem_width
        stem, tap = _stem(config, in_channels, make_norm)
        self._stem_names = list(stem)
        self._tap = tap
        if config.preact:
            self.stem = nn.Sequential()
        for name, layer in stem.items():
            (self.stem if config.preact else self).add_module(name, layer)
        info = [(width, 2, f"stem.{tap}" if config.preact else tap)]

        blocks, block, channels = sum(config.depths), 0, width
        stages = []
        for s, (depth, inside) in enumerate(zip(config.depths, config.widths)):
            out = inside * (4 if config.bottleneck else 1)
            stage = nn.Sequential()
            for b in range(depth):
                stride = 2 if s > 0 and b == 0 else 1
                drop = stochastic_depth * block / max(blocks - 1, 1)
                if config.preact:
                    made: nn.Module = PreActBlock(
                        channels, out, stride, make_norm, config.deep, drop, config.bottleneck
                    )
                else:
                    kind = Bottleneck if config.bottleneck else BasicBlock
                    made = kind(channels, out, stride, make_norm, config.deep, drop)
                stage.append(made)
                channels, block = out, block + 1
            stages.append(stage)
            name = f"stages.{s}" if config.preact else f"layer{s + 1}"
            info.append((channels, 4 * 2**s, name))
        if output_stride != 32:
            strides = [2 if s else 1 for s in range(len(stages))]
            reached = dilate_([(stage.children(), n) for stage, n in zip(stages, strides)], output_stride, 4)
            info = [info[0], *((c, new, name) for (c, _, name), new in zip(info[1:], reached))]
        rows = [
            {"num_chs": c, "reduction": r, "module": name, "index": i} for i, (c, r, name) in enumerate(info)
        ]
        self.out_indices = (
            None if out_indices is None else tuple(chosen(len(rows), out_indices, "out_indices"))
        )
        self.all_features = FeatureInfo(rows)
        wanted = self.out_indices if features_only else None
        self.feature_info = FeatureInfo(rows if wanted is None else [rows[i] for i in wanted])
        self.num_features = channels
        if features_only and config.preact:
            self.register_load_state_dict_pre_hook(_timms_keys)
        if config.preact:
            self.stages = nn.Sequential(*(nn.Sequential() for _ in stages))
            for holder, stage in zip(self.stages.children(), stages):
                holder.add_module("blocks", stage)
            self.norm = nn.Identity() if make_norm is None else make_norm(channels)
            self.act = nn.ReLU(inplace=not features_only)
        else:
            for s, stage in enumerate(stages, start=1):
                self.add_module(f"layer{s}", stage)
        self.drop = nn.Dropout(drop_rate)
        if not features_only:
            if config.preact:
                self.head = nn.Sequential()
            self._new_classifier(num_classes)
        self._initialize()

    def _new_classifier(self, num_classes: int) -> None:
        if not self.config.preact:
            self.fc = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()
            return
        # a 1x1 convolution, for timm's shapes
        self.head.add_module(
            "fc", nn.Conv2d(self.num_features, num_classes, 1) if num_classes else nn.Identity()
        )

    def _config(self) -> dict[str, Any]:
        config = self.config
        mean, std = config.mean_std
        first = self._stem_names[0]
        name = f"stem.{first}" if config.preact else f"{first}.0" if config.deep else first
        return {
            "train_size": config.train_size, "test_size": config.test_size, "crop_pct": config.crop,
            "test_crop_pct": config.test_crop, "mean": mean, "std": std, "first_conv": name,
            "classifier": "head.fc" if config.preact else "fc",
        }  # fmt: skip

    def _initialize(self) -> None:
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d) and not name.startswith("head"):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def _stages(self) -> list[nn.Module]:
        if self.config.preact:
            return list(self.stages.children())
        return [self.get_submodule(f"layer{s + 1}") for s in range(len(self.config.depths))]

    def feature_maps(self, x: Tensor, last: int | None = None) -> list[Tensor]:
        """A pre-activation network's last one is after its final norm and ReLU."""
        found = []
        stages = self._stages()
        last = len(stages) if last is None else last
        stem = self.stem if self.config.preact else self
        for name in self._stem_names:
            x = stem.get_submodule(name)(x)
            if name == self._tap:
                found.append(x)
        for stage in stages[:last]:
            if self.checkpointing and self.training:
                blocks = stage.get_submodule("blocks") if self.config.preact else stage
                for block in blocks.children():
                    x = checkpoint(block, x, use_reentrant=False)
            else:
                x = stage(x)
            found.append(x)
        if self.config.preact and last == len(stages):
            found[-1] = self.act(self.norm(x))
        return found

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        if self.features_only:
            return self.features(x)
        return self.forward_head(self.forward_features(x))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """What forward_features gives -> logits; pre_logits: the pooled features, after dropout."""
        x = self.drop(pooled(x, self.global_pool))  # (B, C), or as it is
        if pre_logits or not self.num_classes:
            return x
        if not self.config.preact:
            return self.fc(x)
        return self.head(x[:, :, None, None]).flatten(1)


def _timms_keys(model: nn.Module, state_dict: dict[str, Any], *_: Any) -> None:
    keys_of_timms_feature_maps(state_dict)


def _stem(config: ResNetConfig, in_channels: int, norm: Norm) -> tuple[dict[str, nn.Module], str]:
    """Layers by timm's names, down to a quarter of the image; and the name of the one whose output is a feature map."""
    width, half, bias = config.stem_width, config.stem_width // 2, norm is None

    def make(channels: int) -> nn.Module:
        return nn.Identity() if norm is None else norm(channels)

    def conv(channels: int, out: int, stride: int) -> nn.Conv2d:
        return nn.Conv2d(channels, out, 3, stride, 1, bias=bias)

    layers: dict[str, nn.Module] = {}
    if config.deep and config.preact:
        layers["conv1"], layers["norm1"] = conv(in_channels, half, 2), make(half)
        layers["act1"], layers["conv2"] = nn.ReLU(inplace=True), conv(half, half, 1)
        layers["norm2"], layers["act2"] = make(half), nn.ReLU(inplace=True)
        layers["conv3"] = conv(half, width, 1)
    elif config.deep:
        layers["conv1"] = nn.Sequential(
            conv(in_channels, half, 2), make(half), nn.ReLU(inplace=True),
            conv(half, half, 1), make(half), nn.ReLU(inplace=True), conv(half, width, 1),
        )  # fmt: skip
    else:
        layers["conv" if config.preact else "conv1"] = nn.Conv2d(in_channels, width, 7, 2, 3, bias=bias)
    tap = list(layers)[-1]
    if not config.preact:
        layers["bn1"], layers["act1"] = make(width), nn.ReLU(inplace=True)
        tap = "act1"
    layers["pool" if config.preact else "maxpool"] = nn.MaxPool2d(3, 2, 1)
    return layers, tap


def _describe(config: ResNetConfig) -> str:
    kind = "bottleneck" if config.bottleneck else "basic"
    return (
        f"{'pre-activation, ' if config.preact else ''}{kind}{', d stem' if config.deep else ''}, "
        f"{'-'.join(map(str, config.depths))} blocks, images of {config.train_size}/{config.test_size}"
    )


ENTRIES = {
    name: Entry(partial(ResNet, config), arguments_of(ResNet), _describe(config), pretrained=True)
    for name, config in VARIANTS.items()
}
