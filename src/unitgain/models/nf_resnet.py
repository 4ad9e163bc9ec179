"""NF-ResNet variants: ResNets without normalization (Brock et al. 2021, arXiv 2101.08692).

DeepMind's have a strided 1x1 shortcut and no attention by default; timm's pool in the shortcut and add the SE and
ECA variants, whose gates follow the last convolution. 152 to 600 are DeepMind's only, in either wiring.
"""

from __future__ import annotations

from dataclasses import replace

from .normfree import entries_of
from .normfree_config import NormFreeConfig

_RESNET = NormFreeConfig(
    (3, 4, 6, 3), (256, 512, 1024, 2048), "7x7 pool", (64,), "relu", 0.25,
    attention_ratio=1 / 16, pooled_shortcut=False, stochastic_depth=0.1, crop=0.94,
)  # fmt: skip
_DEPTHS = {
    "26": (2, 2, 2, 2),
    "50": (3, 4, 6, 3),
    "101": (3, 4, 23, 3),
    "152": (3, 8, 36, 3),
    "200": (3, 24, 36, 3),
    "288": (24, 24, 24, 24),
    "600": (50, 50, 50, 50),
}
_TINY = replace(
    _RESNET,
    depths=(1, 2),
    channels=(16, 32),
    stem_channels=(8,),
    stochastic_depth=0.0,
    train_size=32,
    test_size=32,
)

VARIANTS: dict[str, NormFreeConfig] = {
    **{f"nf_resnet{name}": replace(_RESNET, depths=depths) for name, depths in _DEPTHS.items()},
    "nf_seresnet26": replace(_RESNET, depths=_DEPTHS["26"], attention="se"),
    "nf_seresnet50": replace(_RESNET, depths=_DEPTHS["50"], attention="se"),
    "nf_seresnet101": replace(_RESNET, depths=_DEPTHS["101"], attention="se"),
    "nf_ecaresnet26": replace(_RESNET, depths=_DEPTHS["26"], attention="eca"),
    "nf_ecaresnet50": replace(_RESNET, depths=_DEPTHS["50"], attention="eca"),
    "nf_ecaresnet101": replace(_RESNET, depths=_DEPTHS["101"], attention="eca"),
    "nf_resnet_tiny": _TINY,
}

ENTRIES = entries_of(VARIANTS)
