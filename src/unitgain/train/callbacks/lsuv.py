"""LSUV: every layer's output at mean 0 and variance 1 on the first batch, before training begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..callback import Callback

if TYPE_CHECKING:
    from ..learner import Learner


class LSUV(Callback):
    """Applies `ug.lsuv_` with the first training batch, before the first fit only. options: its further arguments."""

    order = -40  # after the callbacks that move the model and prepare batches
    trains = True

    def __init__(self, **options: Any):
        self.options, self.done = options, False

    def before_fit(self, learn: Learner) -> None:
        if self.done or learn.resuming:
            return
        from ...remedies import lsuv_

        lsuv_(learn.model, learn.first_batch(), **self.options)
        self.done = True

    def state_dict(self) -> dict[str, Any]:
        return {"done": self.done}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.done = bool(state["done"])
