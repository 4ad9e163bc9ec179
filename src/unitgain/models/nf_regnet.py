"""NF-RegNet variants B0 to B8 (Brock et al. 2021, arXiv 2101.08692).

The network has 0.75 times the widths below. timm's round them to multiples of 8, so its parameter counts are a
little above DeepMind's, which the `paper` wiring has. Sizes are the paper's, for B1 too, where timm's differ.
"""

from __future__ import annotations

from dataclasses import replace

from .normfree import entries_of
from .normfree_config import NormFreeConfig


def _regnet(
    widths: tuple[int, ...], depths: tuple[int, ...], train: int, test: int, drop_rate: float
) -> NormFreeConfig:
    return NormFreeConfig(
        depths, widths, "3x3", (widths[0],), "silu", 2.25, group_size=8, attention="se", attention_ratio=0.5,
        regnet=True, final_channels=1280 * widths[-1] // 440, width=0.75, zero_head=True, drop_rate=drop_rate,
        stochastic_depth=0.1, train_size=train, test_size=test,
    )  # fmt: skip


VARIANTS: dict[str, NormFreeConfig] = {
    "nf_regnet_b0": _regnet((48, 104, 208, 440), (1, 3, 6, 6), 192, 224, 0.2),
    "nf_regnet_b1": _regnet((48, 104, 208, 440), (2, 4, 7, 7), 224, 256, 0.2),
    "nf_regnet_b2": _regnet((56, 112, 232, 488), (2, 4, 8, 8), 240, 272, 0.3),
    "nf_regnet_b3": _regnet((56, 128, 248, 528), (2, 5, 9, 9), 288, 320, 0.3),
    "nf_regnet_b4": _regnet((64, 144, 288, 616), (2, 6, 11, 11), 320, 384, 0.4),
    "nf_regnet_b5": _regnet((80, 168, 336, 704), (3, 7, 14, 14), 384, 456, 0.4),
    "nf_regnet_b6": _regnet((88, 184, 376, 792), (3, 8, 16, 16), 448, 528, 0.5),
    "nf_regnet_b7": _regnet((96, 208, 416, 880), (4, 10, 19, 19), 512, 600, 0.5),
    "nf_regnet_b8": _regnet((104, 232, 456, 968), (4, 11, 22, 22), 600, 672, 0.5),
    "nf_regnet_tiny": replace(
        _regnet((16, 32, 48, 64), (1, 1, 2, 1), 64, 64, 0.0), stochastic_depth=0.0, zero_head=False
    ),
}

ENTRIES = entries_of(VARIANTS)
