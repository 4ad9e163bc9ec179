"""Recorder: loss, learning rate and metrics into the Learner's record, from where they can be drawn and judged."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..._check.facts import target_facts
from ...record import LossFacts
from ..callback import Callback

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..learner import Learner

_MOST_WAITING = 64  # losses stay on their device until so many can be fetched with one copy
_LONGEST_WAIT = 0.5  # seconds


class Recorder(Callback):
    """Writes to `learn.record`: loss and lr of every optimizer step, and each epoch's metrics at its last step.

    With gradient accumulation a step's loss is the mean over its batches, in a data-parallel run the mean over ranks.
    What kind of loss and how many classes it is about is kept too, so that `ug.diagnose` can judge the curve.
    """

    order = 80
    essential = False

    def __init__(self) -> None:
        self._waiting: list[tuple[int, float | Tensor, Tensor]] = []
        self._written_at = time.monotonic()
        self._learn: Learner | None = None
        self._described = False

    def before_fit(self, learn: Learner) -> None:
        self._learn = learn

    def after_loss(self, learn: Learner) -> None:
        if not learn.training:
            return
        if not self._described:
            self._described = True
            self._describe(learn)
        self._waiting.append((learn.steps, _rate(learn), learn.loss.detach()))
        full = len(self._waiting) >= _MOST_WAITING
        if full or (learn.world == 1 and time.monotonic() - self._written_at > _LONGEST_WAIT):
            self._flush(learn)

    def after_epoch(self, learn: Learner) -> None:
        self._flush(learn)
        at = max(0, learn.steps - 1)
        learn.record.add_metrics((at, name, value) for name, value in learn.metrics.items())
        learn.record.commit()

    def cleanup_fit(self, learn: Learner) -> None:
        if learn.world == 1:  # after an error the other ranks are elsewhere
            self._flush(learn, now=True, ended=True)

    def _flush(self, learn: Learner, now: bool = False, ended: bool = False) -> None:
        # a step whose batches have not all been (gradient accumulation) waits for the rest of them
        waiting = [w for w in self._waiting if w[0] < learn.steps or ended]
        self._waiting = [w for w in self._waiting if not (w[0] < learn.steps or ended)]
        self._written_at = time.monotonic()
        if not waiting:
            return
        losses = torch.stack([loss.double().cpu() if loss.device.type == "mps" else loss.double()
                              for _, _, loss in waiting])  # fmt: skip
        losses = (learn.over_ranks(losses) / learn.world).tolist()
        by_step: dict[int, list[float]] = {}
        for (step, _, _), loss in zip(waiting, losses):
            by_step.setdefault(step, []).append(loss)
        rows = [(step, "loss", sum(some) / len(some)) for step, some in by_step.items()]
        rows += {step: (step, "lr", float(rate)) for step, rate, _ in waiting}.values()
        learn.record.add_metrics(rows)
        learn.record.commit(every=0.0 if now else 0.5)

    def _describe(self, learn: Learner) -> None:
        """Facts about the loss, once: they cost a copy from the device."""
        facts = learn.record.facts
        if facts.loss.value is not None:
            return  # of the run that this one goes on with
        with torch.no_grad():
            judged = learn.criterion.judge(learn.outputs, learn.parsed, learn.loss)
            target = target_facts(judged.target, judged.logits, judged.kind or "other")
        target = replace(target, count=learn.examples)
        loss = LossFacts(judged.name, judged.kind, float(learn.loss.detach()))
        learn.record.set_facts(replace(facts, mode=facts.mode or "training", loss=loss, target=target))

    def state_dict(self) -> dict[str, Any]:
        """Nothing to keep, but what a checkpoint claims to have happened must be in the record."""
        if self._learn is not None:
            self._flush(self._learn, now=True)
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._waiting.clear()

    def plot(self) -> Figure:
        """Loss, learning rate and metrics over steps: `ug.plots.training`."""
        from ...report.plots._training import training

        assert self._learn is not None, "nothing recorded yet"
        return training(self._learn.record)


def _rate(learn: Learner) -> float | Tensor:
    """A tensor on an accelerator is copied there, and read when the losses are."""
    rate = learn.optimizer.param_groups[0].get("lr", float("nan"))
    return rate.detach().clone() if isinstance(rate, Tensor) and rate.device.type != "cpu" else float(rate)
