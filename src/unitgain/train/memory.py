"""clean_memory: releases what a notebook keeps in memory after an error."""

from __future__ import annotations

import gc
import sys
import traceback

import torch


def clean_memory() -> None:
    """Releases the last exception's frames, with every tensor in them, and the allocator's unused blocks."""
    for name in ("last_exc", "last_value"):
        error = getattr(sys, name, None)
        if error is not None:
            traceback.clear_frames(error.__traceback__)
    for name in ("last_exc", "last_value", "last_type", "last_traceback"):
        if hasattr(sys, name):
            delattr(sys, name)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
