"""Normalizer-free networks: one class for NF-ResNet, NF-RegNet and NFNet, in three wirings.

Papers: Brock et al. 2021 (arXiv 2101.08692 and arXiv 2102.06171). Reference code: DeepMind's nfnets and timm's
nfnet.py; the variants are in nf_resnet.py, nf_regnet.py and nfnet.py; how the wirings differ is in
normfree_config.py.

Known deviations: 1/beta is in the weights that read it (nn/nf_block.py). Gradient checkpointing is per block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, get_type_hints

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .._base import InputError
from ..nn import (
    ECA,
    GainCorrected,
    MaxPool2dSame,
    NFBlock,
    ScaledStdConv2d,
    Shortcut,
    SqueezeExcite,
    expected_stds,
)
from ._entry import Entry, arguments_of
from ._image import (
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
from .normfree_config import ACTIVATIONS, NormFreeConfig, Wiring, WiringName, wiring_of


class NormFreeNet(ImageModel):
    """Images (B, in_channels, H, W) -> logits (B, num_classes), for any H and W.

    num_classes      0: the pooled features instead, (B, C)
    features_only    a list of feature maps instead, finest first: the stem's at half the size, then every
                     stage's (the last one after the final convolution); no head. `feature_info` has their
                     channels and strides
    out_indices      which of them: numbers, or the last n; None for all
    output_stride    8, 16 or 32: stages that would be coarser keep their size, with dilated kernels
    global_pool      "avg", "max", "avgmax" (their mean), or "" with num_classes=0 for the last map itself
    checkpointing    recompute each block in the backward pass instead of keeping its activations
    drop_rate, stochastic_depth   None: the variant's
    in_chans, drop_path_rate      timm's names of in_channels and stochastic_depth
    feature_cls      timm's: how feature maps are taken; they are a list whichever is asked for

    >>> import torch
    >>> from unitgain.models import create
    >>> model = create("nf_resnet_tiny", num_classes=10)
    >>> model(torch.randn(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    >>> [tuple(f.shape[1:]) for f in create("nf_resnet_tiny", features_only=True)(torch.randn(2, 3, 64, 64))]
    [(8, 32, 32), (16, 16, 16), (32, 8, 8)]
    """

    def __init__(
        self,
        config: NormFreeConfig,
        num_classes: int = 1000,
        in_channels: int = 3,
        wiring: WiringName = "timm",
        features_only: bool = False,
        checkpointing: bool = False,
        drop_rate: float | None = None,
        stochastic_depth: float | None = None,
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
        _check(config, num_classes, in_channels)
        check_pool(global_pool, num_classes)
        self.global_pool = global_pool
        self.config, self.wiring = config, wiring
        self.num_classes, self.in_channels, self.checkpointing = num_classes, in_channels, checkpointing
        wires = wiring_of(config, wiring)
        conv, activation = _parts(config, wires)

        width = partial(_scaled, width=config.width, divisor=wires.divisor)
        stem_channels = [width(c) for c in config.stem_channels]
        self.stem = _stem(config.stem, in_channels, stem_channels, conv, activation, wires)
        channels = stem_channels[-1]
        stride = 2 if config.stem == "3x3" else 4
        four = config.stem == "3x3 four"
        tap = "stem.conv3" if four else "stem.conv"
        info = [(stem_channels[-2 if four else -1], 2, tap)]
        strides: list[int] = []

        rates = _drop_rates(
            config.depths,
            config.stochastic_depth if stochastic_depth is None else stochastic_depth,
            inclusive=wires.rescale,
        )
        self.stages = nn.Sequential()
        for s, (depth, betas) in enumerate(zip(config.depths, expected_stds(config.depths, config.alpha))):
            out = width(config.channels[s])
            stage = nn.Sequential()
            for b in range(depth):
                first = b == 0 and (s > 0 or config.stem == "3x3")
                inside, groups = _inside(config, wires, channels, out, whole_first=s == b == 0)
                stage.append(
                    NFBlock(
                        channels, out, width=inside, stride=2 if first else 1, groups=groups,
                        second_conv=config.second_conv, alpha=config.alpha, beta=betas[b],
                        activation=activation, conv=conv, attention=_attention(config, wires),
                        attention_last=not config.regnet, skip_gain=wires.skip_gain,
                        pooled_shortcut=wires.always_pool or config.pooled_shortcut,
                        drop=rates[s][b], rescale=wires.rescale,
                    )
                )  # fmt: skip
                stride *= 2 if first else 1
                channels = out
            strides.append(2 if s > 0 or config.stem == "3x3" else 1)
            self.stages.append(stage)
            info.append((channels, stride, f"stages.{s}"))

        self.final_conv: nn.Module = nn.Identity()
        if config.final_channels:
            if wires.divisor == 1 and config.regnet:
                final = int(1280 * channels // 440)  # DeepMind rounds at the end, timm at the start
            else:
                final = width(config.final_channels)
            self.final_conv = conv(channels, final, 1)
            channels = final
            info[-1] = (channels, stride, "final_conv")
        if output_stride != 32:
            blocks = [stage.children() for stage in self.stages]
            reached = dilate_(list(zip(blocks, strides)), output_stride, 2 if config.stem == "3x3" else 4)
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
        self.head = None
        if features_only:
            self.register_load_state_dict_pre_hook(_timms_keys)
        else:
            self.final_act = activation(False)
            rate = config.drop_rate if drop_rate is None else drop_rate
            self.head = Head(channels, num_classes, rate, config.zero_head, global_pool)
        if wires.measured:
            _measured_scales(self)

    def feature_maps(self, x: Tensor, last: int | None = None) -> list[Tensor]:
        found = []
        tap = "conv3" if self.config.stem == "3x3 four" else "conv"
        for name, layer in self.stem.named_children():
            x = layer(x)
            if name == tap:
                found.append(x)
        last = len(self.stages) if last is None else last
        for stage in list(self.stages)[:last]:
            x = self._stage(stage, x)
            found.append(x)
        if last == len(self.stages):
            found[-1] = self.final_conv(x)
        return found

    def final(self, x: Tensor) -> Tensor:
        return x if self.head is None else self.final_act(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """What forward_features gives -> logits; pre_logits: the pooled features, after dropout."""
        if self.head is None:
            raise InputError("forward_head: the network was made with features_only=True and has no head")
        return self.head(x, pre_logits)

    def _new_classifier(self, num_classes: int) -> None:
        if self.head is None:
            raise InputError("reset_classifier: the network was made with features_only=True and has no head")
        self.head.reset(num_classes, self.global_pool)

    def _config(self) -> dict[str, Any]:
        config = self.config
        mean, std = config.mean_std
        return {
            "train_size": config.train_size, "test_size": config.test_size, "crop_pct": config.crop,
            "test_crop_pct": config.test_crop or config.crop, "mean": mean, "std": std, "classifier": "head.fc",
            "first_conv": "stem.conv1" if config.stem == "3x3 four" else "stem.conv",
        }  # fmt: skip

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        if self.head is None:
            return self.features(x)
        x = self.stem(x)
        for stage in self.stages:
            x = self._stage(stage, x)
        return self.head(self.final_act(self.final_conv(x)))

    def _stage(self, stage: nn.Module, x: Tensor) -> Tensor:
        if not (self.checkpointing and self.training):
            return stage(x)
        for block in stage.children():
            x = checkpoint(block, x, use_reentrant=False)
        return x

    def reset_parameters(self) -> None:
        """Draws every weight again, from torch's global random state."""
        for module in self.modules():
            if module is not self and hasattr(module, "reset_parameters"):
                module.reset_parameters()  # pyright: ignore[reportCallIssue]
            if isinstance(module, NFBlock) and module.skipinit_gain is not None:
                nn.init.zeros_(module.skipinit_gain)


def _timms_keys(model: nn.Module, state_dict: dict[str, Any], *_: Any) -> None:
    keys_of_timms_feature_maps(state_dict)


class Head(nn.Module):
    """(B, C, H, W) -> pooled over positions, dropout, linear -> (B, num_classes)."""

    def __init__(
        self, channels: int, num_classes: int, drop_rate: float, zero: bool = False, global_pool: str = "avg"
    ):
        super().__init__()
        self.drop = nn.Dropout(drop_rate)
        self.zero, self.channels, self.global_pool = zero, channels, global_pool
        self.fc = nn.Linear(channels, num_classes) if num_classes else nn.Identity()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights N(0, 0.01^2), or 0 where the variant says so; bias 0."""
        if isinstance(self.fc, nn.Linear):
            nn.init.normal_(self.fc.weight, std=0.0 if self.zero else 0.01)
            nn.init.zeros_(self.fc.bias)

    def reset(self, num_classes: int, global_pool: str) -> None:
        """A new, untrained linear layer; none for 0."""
        self.global_pool = global_pool
        self.fc = nn.Linear(self.channels, num_classes) if num_classes else nn.Identity()
        self.reset_parameters()

    def forward(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = self.drop(pooled(x, self.global_pool))
        return x if pre_logits else self.fc(x)


def _check(config: NormFreeConfig, num_classes: int, in_channels: int) -> None:
    for name, value, least in (("num_classes", num_classes, 0), ("in_channels", in_channels, 1)):
        if not isinstance(value, int) or value < least:
            raise InputError(f"{name} is {value!r}; expected a whole number of at least {least}")
    if len(config.depths) != len(config.channels) or not config.depths or min(config.depths) < 1:
        raise InputError(
            f"depths {config.depths} and channels {config.channels}: expected one number of blocks (at "
            "least 1) and one number of channels for each stage"
        )
    if config.activation not in ACTIVATIONS:
        raise InputError(f"activation is {config.activation!r}; expected one of {', '.join(ACTIVATIONS)}")


_Conv = Callable[..., ScaledStdConv2d]
_Activation = Callable[[bool], nn.Module]


def _parts(config: NormFreeConfig, wires: Wiring) -> tuple[_Conv, _Activation]:
    cls: Callable[..., nn.Module]
    cls, gamma = ACTIVATIONS[config.activation]
    if cls is nn.GELU and wires.jax:
        cls = partial(nn.GELU, approximate="tanh")

    def activation(inplace: bool) -> nn.Module:
        if wires.gamma_in_activation:
            return GainCorrected(cls(), gamma)
        # torch saves a copy for other activations' backward pass: no gain in place
        return nn.ReLU(inplace=inplace) if cls is nn.ReLU else cls()

    conv = partial(
        ScaledStdConv2d,
        padding=wires.padding,
        gamma=1.0 if wires.gamma_in_activation else gamma,
        eps=wires.eps,
        eps_mode=wires.eps_mode,
    )
    return conv, activation


def _stem(
    kind: str, channels: int, widths: list[int], conv: _Conv, activation: _Activation, wires: Wiring
) -> nn.Sequential:
    stem = nn.Sequential()
    if kind == "3x3 four":
        for i, (width, stride) in enumerate(zip(widths, (2, 1, 1, 2)), start=1):
            stem.add_module(f"conv{i}", conv(channels, width, 3, stride))
            channels = width
            if i < 4:
                stem.add_module(
                    f"act{i + 1}", activation(i < 3)
                )  # the input of act3 is a feature map, which must not change
        return stem
    stem.add_module("conv", conv(channels, widths[0], 3 if kind == "3x3" else 7, 2))
    if kind == "7x7 pool":
        stem.add_module("pool", MaxPool2dSame(3, 2) if wires.padding == "same" else nn.MaxPool2d(3, 2, 1))
    return stem


def _inside(
    config: NormFreeConfig, wires: Wiring, channels: int, out: int, whole_first: bool
) -> tuple[int, int]:
    """Channels and groups inside a block."""
    base = channels if config.regnet else out
    ratio = 1.0 if config.regnet and whole_first else config.bottleneck
    width = _scaled(base, ratio, wires.divisor)
    if config.group_size is None:
        return width, 1
    groups = max(1, width // config.group_size)
    return groups * config.group_size, groups


def _attention(config: NormFreeConfig, wires: Wiring) -> Callable[[int], nn.Module] | None:
    if config.attention == "eca":
        return ECA
    if config.attention is None:
        return None

    def squeeze_excite(channels: int) -> nn.Module:
        hidden = channels * config.attention_ratio
        return SqueezeExcite(
            channels, max(1, int(hidden)) if wires.divisor == 1 else _divisible(hidden, 8, limit=0.0)
        )

    return squeeze_excite


def _scaled(channels: float, width: float, divisor: int) -> int:
    return int(channels * width) if divisor == 1 else _divisible(channels * width, divisor)


def _divisible(value: float, divisor: int, limit: float = 0.9) -> int:
    """The nearest multiple of divisor, at least divisor and not below limit * value."""
    nearest = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < limit * value else nearest


def _drop_rates(depths: tuple[int, ...], rate: float, inclusive: bool) -> list[list[float]]:
    """Rates rising linearly with depth from 0 to rate at the last block, or one block past it."""
    blocks = sum(depths)
    last = max(blocks - 1, 1) if inclusive else blocks
    rates = iter([rate * i / last for i in range(blocks)])
    return [[next(rates) for _ in range(depth)] for depth in depths]


def _measured_scales(model: nn.Module) -> None:
    """The constants as buffers, at first those for white noise, whose std a 2x2 mean halves."""
    for module in model.modules():
        if isinstance(module, Shortcut) and isinstance(module.pool, nn.AvgPool2d):
            assert not isinstance(module.conv.input_scale, Tensor)  # a shortcut comes before its convolution
            module.conv.input_scale *= 2
        if isinstance(module, ScaledStdConv2d):
            module.input_scale_as_buffer()
        if isinstance(module, SqueezeExcite | ECA):
            module.gain_as_buffer()


_CHANGES = ("activation", "alpha", "depths")  # fields of a variant's configuration that create takes too


def entries_of(variants: Mapping[str, NormFreeConfig]) -> dict[str, Entry]:
    """The table ENTRIES of a file of variants."""

    def build(config: NormFreeConfig) -> Callable[..., NormFreeNet]:
        def build(**options: Any) -> NormFreeNet:
            changes = {key: options.pop(key) for key in list(options) if key in _CHANGES}
            return NormFreeNet(replace(config, **changes), **options)

        return build

    options = arguments_of(NormFreeNet) | {name: get_type_hints(NormFreeConfig)[name] for name in _CHANGES}
    return {
        name: Entry(build(config), options, _describe(config), pretrained=True)
        for name, config in variants.items()
    }


def _describe(config: NormFreeConfig) -> str:
    attention = {"se": ", squeeze-and-excite", "eca": ", ECA", None: ""}[config.attention]
    return (
        f"normalizer-free, {config.activation}{attention}, "
        f"{'-'.join(map(str, config.depths))} blocks, images of {config.train_size}/{config.test_size}"
    )
