"""What a recipe prints of its epochs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

from .._base import InputError
from ..train import Callback, Learner


class SayEpochs(Callback):
    """Prints each epoch's metrics, and ends a training whose loss is NaN or infinite with advice.

    recipe   its name, for the message
    advice   what a new run should do otherwise: "(--set lr=0.01)"
    words    {metric: what it is called}, of those that are printed; all of them if None
    """

    order = 90
    essential = False

    def __init__(
        self, say: Callable[[str], None], recipe: str, advice: str, words: Mapping[str, str] | None = None
    ):
        self.say, self.recipe, self.advice, self.words = say, recipe, advice, words

    def before_epoch(self, learn: Learner) -> None:
        self.began = time.perf_counter()

    def after_epoch(self, learn: Learner) -> None:
        if not math.isfinite(learn.metrics["train_loss"]):
            raise InputError(
                f"{self.recipe}: in epoch {learn.epoch + 1} the loss has become NaN or infinite; begin a new run with "
                f"a lower rate {self.advice}"
            )
        if learn.rank == 0:
            words = self.words or {name: name.replace("_", " ") for name in learn.metrics}
            told = "  ".join(f"{called} {learn.metrics[name]:.4f}" for name, called in words.items())
            seconds = time.perf_counter() - self.began
            self.say(f"epoch {learn.epoch + 1:2d}/{learn.epochs}  {told}  {seconds:.1f} s")
