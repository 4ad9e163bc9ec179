"""TensorBoard and Weights & Biases: loss, learning rate and metrics for their dashboards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..._base import InputError, not_installed
from ..callback import Callback

if TYPE_CHECKING:
    from ..learner import Learner


class _Logger(Callback):
    order = 85
    essential = False

    def __init__(self, every: int):
        if not isinstance(every, int) or every < 1:
            raise InputError(f"{type(self).__name__}(every={every!r}): expected a whole number of at least 1")
        self.every = every
        self._rate = float("nan")

    def after_loss(self, learn: Learner) -> None:
        if learn.training:  # before the step, since a schedule changes it afterwards
            self._rate = float(learn.optimizer.param_groups[0].get("lr", float("nan")))

    def after_step(self, learn: Learner) -> None:
        if learn.rank == 0 and (learn.steps - 1) % self.every == 0:
            self.log(learn.steps - 1, {"loss": float(learn.loss.detach()), "lr": self._rate})

    def after_epoch(self, learn: Learner) -> None:
        if learn.rank == 0 and learn.metrics:
            self.log(max(0, learn.steps - 1), {**learn.metrics, "epoch": learn.epoch + 1})

    def log(self, step: int, values: dict[str, float]) -> None:
        raise NotImplementedError


class TensorBoard(_Logger):
    """Writes scalars for TensorBoard.

    writer  a folder, or a SummaryWriter (it is left open then)
    every   optimizer steps between two values of the loss; reading it waits for an accelerator
    """

    def __init__(self, writer: Any = "runs", every: int = 10):
        super().__init__(every)
        self.given, self.writer = writer, None if isinstance(writer, str) else writer

    def before_fit(self, learn: Learner) -> None:
        if self.writer is None and learn.rank == 0:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise not_installed("TensorBoard", "tensorboard", "tensorboard") from error
            self.writer = SummaryWriter(self.given)

    def log(self, step: int, values: dict[str, float]) -> None:
        assert self.writer is not None
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def cleanup_fit(self, learn: Learner) -> None:
        if self.writer is not None:
            self.writer.flush()
            if isinstance(self.given, str):
                self.writer.close()
                self.writer = None


class WeightsAndBiases(_Logger):
    """Logs to Weights & Biases. run: a run of wandb, or None to start one with `options` of wandb.init."""

    def __init__(self, run: Any = None, every: int = 10, **options: Any):
        super().__init__(every)
        self.run: Any = run
        self.options, self._own = options, False

    def before_fit(self, learn: Learner) -> None:
        if self.run is None and learn.rank == 0:
            try:
                import wandb  # pyright: ignore[reportMissingImports]
            except ImportError as error:
                raise not_installed("WeightsAndBiases", "wandb", "wandb") from error
            self.run, self._own = wandb.init(**self.options), True

    def log(self, step: int, values: dict[str, float]) -> None:
        self.run.log(values, step=step)

    def cleanup_fit(self, learn: Learner) -> None:
        if self._own:
            self.run.finish()
            self.run, self._own = None, False
