"""NFNet variants (Brock et al. 2021, arXiv 2102.06171), timm's DeepMind ports of them and timm's light ones.

nfnet_f0 ... f7         depths N (1, 2, 6, 3), timm's port in `timm` wiring and DeepMind's in `paper`
nfnet_f0_plus ... f7    DeepMind's wider "+" variants
dm_nfnet_f0 ... f6      timm's names for the pretrained DeepMind networks
nfnet_l0, eca_nfnet_l*  timm's light variants, SiLU
"""

from __future__ import annotations

from dataclasses import replace

from ._image import HALF
from .normfree import entries_of
from .normfree_config import NormFreeConfig

_SIZES = ((192, 256), (224, 320), (256, 352), (320, 416), (384, 512), (416, 544), (448, 576), (480, 608))
_CROPS = (0.9, 0.91, 0.92, 0.94, 0.951, 0.954, 0.956, 0.956)
_DROP = (0.2, 0.3, 0.4, 0.4, 0.5, 0.5, 0.5, 0.5)


def _f(number: int, deepmind: bool = False) -> NormFreeConfig:
    n = number + 1
    return NormFreeConfig(
        (n, 2 * n, 6 * n, 3 * n), (256, 512, 1536, 1536), "3x3 four", (16, 32, 64, 128), "gelu", 0.5, group_size=128,
        second_conv=True, attention="se", attention_ratio=0.5, final_channels=3072, deepmind=deepmind,
        drop_rate=_DROP[number], stochastic_depth=0.25, train_size=_SIZES[number][0], test_size=_SIZES[number][1],
        crop=_CROPS[number],
    )  # fmt: skip


def _light(number: int, train: int, test: int, attention: str = "eca") -> NormFreeConfig:
    return replace(
        _f(number), activation="silu", bottleneck=0.25, group_size=64, attention=attention, attention_ratio=0.25,
        final_channels=2304 if number == 0 else 3072, train_size=train, test_size=test,
        crop=0.9, test_crop=1.0,
    )  # fmt: skip


VARIANTS: dict[str, NormFreeConfig] = {
    **{f"nfnet_f{i}": _f(i) for i in range(8)},
    **{
        f"nfnet_f{i}_plus": replace(
            _f(i), channels=(384, 768, 2048, 2048), stem_channels=(16, 32, 64, 192), final_channels=4096
        )
        for i in range(8)
    },
    **{f"dm_nfnet_f{i}": _f(i, deepmind=True) for i in range(7)},
    "nfnet_l0": _light(0, 224, 288, "se"),
    "eca_nfnet_l0": _light(0, 224, 288),
    "eca_nfnet_l1": _light(1, 256, 320),
    "eca_nfnet_l2": _light(2, 320, 384),
    "eca_nfnet_l3": _light(3, 352, 448),
    "test_nfnet": replace(
        _light(0, 160, 160, "se"), depths=(1, 1, 1, 1), channels=(32, 64, 96, 128), group_size=8, final_channels=192,
        crop=0.95, test_crop=0.95, mean_std=HALF,
    ),
    "nfnet_tiny": replace(
        _f(0), depths=(1, 1, 2, 1), channels=(32, 32, 64, 64), stem_channels=(4, 8, 16, 32), group_size=16,
        final_channels=96,
        drop_rate=0.0, stochastic_depth=0.0, train_size=64, test_size=64,
    ),
}  # fmt: skip

ENTRIES = entries_of(VARIANTS)
