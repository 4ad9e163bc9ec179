"""Networks that ready-made tools stumble over when they fold BatchNorm, beside those that timm has.

Where a library has the architecture it is the library's, small; the others are written here, each around one trap:
a branch on values, BatchNorm over ranks, one norm called twice, a call of F.batch_norm, features split by chunk.
Weights are random. Of each: the network, its inputs (arguments of a call), and inputs of one example to train on.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Made = tuple[nn.Module, Any, Any]
TRAPS: dict[str, Callable[[], Made]] = {}


def trap(make: Callable[[], Made]) -> Callable[[], Made]:
    TRAPS[make.__name__] = make
    return make


def conv(channels: int, out: int, size: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    made = nn.Conv2d(channels, out, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(made, nn.BatchNorm2d(out), nn.ReLU(inplace=True))


def one_of(model: nn.Module, *shape: int) -> Made:
    x = torch.randn(shape)
    return model, x, x[:1]


# ---- of libraries ------------------------------------------------------------------------------------------


def _torchvision() -> Any:
    """torchvision; where its operators do not fit to this torch, non-maximum suppression is done in Python."""
    try:
        return importlib.import_module("torchvision")
    except RuntimeError:  # "operator torchvision::nms does not exist"
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(library)
    made = importlib.import_module("torchvision")
    importlib.import_module("torchvision.ops.boxes").nms = _suppressed  # type: ignore[attr-defined]
    return made


_KEPT: list[object] = []


def _suppressed(boxes: Tensor, scores: Tensor, limit: float) -> Tensor:
    overlap = importlib.import_module("torchvision.ops.boxes").box_iou(boxes, boxes) > limit
    waiting, kept = scores.argsort(descending=True), []
    while len(waiting):
        kept.append(int(waiting[0]))
        waiting = waiting[1:][~overlap[waiting[0], waiting[1:]]]
    return torch.tensor(kept, dtype=torch.long)


@trap
def faster_rcnn() -> Made:
    """Images of several sizes in a list, boxes that are picked by their values, losses in training."""
    detection = _torchvision().models.detection
    model = detection.fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, num_classes=5, min_size=96, max_size=96
    )
    images = [torch.rand(3, 100, 120), torch.rand(3, 110, 100)]
    boxes = [{"boxes": torch.tensor([[10.0, 10, 60, 60]]), "labels": torch.tensor([1])} for _ in images]
    return model, (images, boxes), (images[:1], boxes[:1])


@trap
def deeplabv3() -> Made:
    """An auxiliary head that runs in training only, and outputs in a dictionary."""
    segmentation = _torchvision().models.segmentation
    model = segmentation.deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=5, aux_loss=True)
    # its pool over all positions is folded for every size, and trained at one example
    return one_of(model, 2, 3, 48, 48)


@trap
def r3d_18() -> Made:
    """Convolutions of a subclass of Conv3d."""
    return one_of(_torchvision().models.video.r3d_18(num_classes=5), 2, 3, 8, 32, 32)


def _transformers(model: str, config: str, **settings: Any) -> nn.Module:
    _torchvision()  # transformers imports it too
    library = importlib.import_module("transformers")
    return getattr(library, model)(getattr(library, config)(**settings))


@trap
def wav2vec2_conformer() -> Made:
    """torch.export cannot follow its training; BatchNorm behind a depthwise convolution over time."""
    model = _transformers(
        "Wav2Vec2ConformerModel", "Wav2Vec2ConformerConfig", hidden_size=32, num_hidden_layers=2, conv_dim=(16, 16, 16),
        num_attention_heads=2, intermediate_size=64, conv_stride=(5, 2, 2), conv_kernel=(10, 3, 3), mask_time_length=2,
        num_feat_extract_layers=3, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, layerdrop=0.0,
    )  # fmt: skip
    return one_of(model, 2, 4000)


@trap
def transformers_resnet() -> Made:
    model = _transformers(
        "ResNetForImageClassification",
        "ResNetConfig",
        embedding_size=16,
        hidden_sizes=[16, 32],
        depths=[2, 1],
    )
    return one_of(model, 2, 3, 64, 64)


@trap
def transformers_mobilenet_v2() -> Made:
    """Padding computed from the input's size."""
    model = _transformers(
        "MobileNetV2ForImageClassification", "MobileNetV2Config", depth_multiplier=0.35, tf_padding=True
    )
    return one_of(model, 2, 3, 64, 64)


@trap
def transformers_segformer() -> Made:
    """BatchNorm in a decode head behind a concatenation of interpolated maps."""
    sizes = {"hidden_sizes": [16, 16, 32, 32], "depths": [1, 1, 1, 1], "decoder_hidden_size": 16}
    return one_of(_transformers("SegformerForSemanticSegmentation", "SegformerConfig", **sizes), 2, 3, 64, 64)


@trap
def timm_frozen() -> Made:
    """timm's FrozenBatchNormAct2d: a fixed scale and shift whose numbers are buffers, with an activation inside."""
    _torchvision()  # timm imports it too
    timm = importlib.import_module("timm")
    layers = importlib.import_module("timm.layers")
    model = timm.create_model("regnety_002", num_classes=5)
    layers.freeze_batch_norm_2d(model.s1)
    return one_of(model, 2, 3, 64, 64)


# ---- written here ------------------------------------------------------------------------------------------


class _BranchOnValues(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = conv(3, 8), conv(8, 8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        if x.mean() > 0:
            x = x + self.second(x)
        return self.head(x.mean((2, 3)))


@trap
def branch_on_values() -> Made:
    return one_of(_BranchOnValues(), 4, 3, 16, 16)


@trap
def sync_batch_norm() -> Made:
    plain = nn.Sequential(
        conv(3, 8), conv(8, 12, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5)
    )
    return one_of(nn.SyncBatchNorm.convert_sync_batchnorm(plain), 4, 3, 16, 16)


class _UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.down3 = conv(3, 8), conv(8, 16), conv(16, 32)
        self.up2 = nn.Sequential(nn.ConvTranspose2d(32, 16, 2, 2, bias=False), nn.BatchNorm2d(16))
        self.up1 = nn.Sequential(nn.ConvTranspose2d(16, 8, 2, 2, bias=False), nn.BatchNorm2d(8))
        self.join2, self.join1, self.head = conv(32, 16), conv(16, 8), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        c = self.up2(self.down3(F.max_pool2d(b, 2)))
        return self.head(self.join1(torch.cat([self.up1(self.join2(torch.cat([c, b], 1))), a], 1)))


@trap
def u_net() -> Made:
    return one_of(_UNet(), 2, 3, 32, 32)


class _Yolo(nn.Module):
    """CSP blocks that chunk their features into a list, spatial pyramid pooling, three outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.split = conv(3, 16, stride=2), conv(16, 32)
        self.inner, self.join = conv(16, 16), conv(48, 32)
        self.down, self.pool, self.after = conv(32, 32, stride=2), nn.MaxPool2d(3, 1, 1), conv(96, 32)
        self.heads = nn.ModuleList(nn.Conv2d(32, 15, 1) for _ in range(2))

    def forward(self, x: Tensor) -> list[Tensor]:
        parts = list(self.split(self.stem(x)).chunk(2, 1))
        parts.append(self.inner(parts[-1]))
        large = self.join(torch.cat(parts, 1))
        small = self.down(large)
        once = self.pool(small)
        small = self.after(torch.cat([small, once, self.pool(once)], 1))
        return [head(x) for head, x in zip(self.heads, (large, small))]


@trap
def yolo_like() -> Made:
    return one_of(_Yolo(), 2, 3, 64, 64)


@trap
def audio_m5() -> Made:
    """Convolutions over raw samples, with strides."""
    layers: list[nn.Module] = []
    for channels, out, size, stride in ((1, 16, 80, 4), (16, 16, 3, 1), (16, 32, 3, 1)):
        layers += [nn.Conv1d(channels, out, size, stride), nn.BatchNorm1d(out), nn.ReLU(), nn.MaxPool1d(4)]
    return one_of(nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(32, 5)), 4, 1, 4000)


@trap
def mlp() -> Made:
    layers: list[nn.Module] = [nn.BatchNorm1d(20)]  # the inputs' own
    for channels, out in ((20, 32), (32, 32)):
        layers += [nn.Linear(channels, out), nn.BatchNorm1d(out), nn.ReLU()]
    return one_of(nn.Sequential(*layers, nn.Linear(32, 3)), 16, 20)


class _PointNet(nn.Module):
    """A transform of the points that is computed from them, then layers shared by points, and their maximum."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = nn.Sequential(
            nn.Conv1d(3, 16, 1), nn.BatchNorm1d(16), nn.ReLU(), nn.AdaptiveMaxPool1d(1), nn.Flatten(),
            nn.Linear(16, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 9),
        )  # fmt: skip
        self.layers = nn.Sequential(
            nn.Conv1d(3, 32, 1), nn.BatchNorm1d(32), nn.ReLU(), nn.Conv1d(32, 64, 1), nn.BatchNorm1d(64)
        )
        self.head = nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        turned = (self.turn(x).view(-1, 3, 3) + torch.eye(3, dtype=x.dtype)) @ x
        return self.head(self.layers(turned).amax(2))


@trap
def point_net() -> Made:
    return one_of(_PointNet(), 4, 3, 50)


class _Tied(nn.Module):
    """One block called twice, and one norm behind two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.a, self.b, self.norm = (
            conv(6, 6),
            nn.Conv2d(3, 6, 1),
            nn.Conv2d(6, 6, 1),
            nn.BatchNorm2d(6),
        )
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.a(x))
        x = self.norm(self.b(self.block(self.block(x))))
        return self.head(x.mean((2, 3)))


@trap
def called_twice() -> Made:
    return one_of(_Tied(), 4, 3, 12, 12)


class _Functional(nn.Module):
    """Its second norm is a call of F.batch_norm with buffers of its own: cannot be edited, and has to be named."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = conv(3, 8), nn.Conv2d(8, 8, 3), nn.Linear(8, 4)
        self.register_buffer("mean", torch.zeros(8))
        self.register_buffer("var", torch.ones(8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(x))
        x = F.batch_norm(x, self.mean, self.var, training=self.training)  # type: ignore[arg-type]
        return self.head(F.relu(x).mean((2, 3)))


@trap
def functional_batch_norm() -> Made:
    return one_of(_Functional(), 4, 3, 12, 12)
