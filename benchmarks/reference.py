"""Makes torchvision, and with it timm, importable beside a build of torch that lacks torchvision's C++ operators."""

from __future__ import annotations

import torch

_library: torch.library.Library | None = None


def declare_torchvision_operators() -> None:
    """Declares the two operators that torchvision registers fake kernels for when it is imported.

    Where torchvision can be imported as it is, its own library registers them, and declaring them first would end
    the process.
    """
    global _library
    if _library is not None:
        return
    try:
        import torchvision  # type: ignore[import-not-found]  # noqa: F401
    except ModuleNotFoundError:
        return
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    else:
        return
    _library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in (
        "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
        "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    ):
        if not hasattr(torch.ops.torchvision, schema.partition("(")[0]):
            _library.define(schema)
