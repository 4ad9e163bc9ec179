"""Nothing of ours raises in anybody's step: whatever of it fails, there is one warning, and the weights are those of a
training without us.
"""

# the libraries are optional
# pyright: reportMissingImports=false
from __future__ import annotations

import warnings
from importlib import import_module

import pytest
import torch
import torch.nn.functional as F

import unitgain as ug

MEASURING = [
    "graph.tracer.Tracer._enter", "graph.tracer.Tracer._leave", "graph.tracer.Tracer._leave_known",
    "graph.tracer.Tracer.arm", "graph.tracer.Tracer.begin", "graph.tracer.Tracer.end", "graph.tracer.Tracer.settle",
    "probe.forward.Forward._measure_gradient", "probe.forward.Forward._observe", "probe.forward.Forward.begin_step",
    "probe.forward.Forward.enter", "probe.forward.Forward.finish", "probe.forward.Forward.leave",
    "probe.forward.Forward.renew", "probe.forward.Forward.stepped", "probe.labels.Labels.saw",
    "probe.loop.Loop._added", "probe.loop.Loop._arriving", "probe.loop.Loop.after_step", "probe.loop.Loop.before_step",
    "probe.loop.Loop.begin", "probe.loop.Loop.entered", "probe.loop.Loop.facts", "probe.loop.Loop.hook",
    "probe.ranks.Ranks.merge", "probe.rounds.Rounds._after", "probe.rounds.Rounds._before",
    "probe.steps.Steps._advance", "probe.steps.Steps.enter", "probe.steps.Steps.over",
    "probe.weights.Weights.after_step", "probe.weights.Weights.measure_gradients",
    "probe.weights.Weights.measure_values", "probe.writer.StepWriter.drain", "probe.writer.StepWriter.write",
    "record.record.Record.add_histograms", "record.record.Record.add_table", "stats.summarize_many",
]  # fmt: skip
WATCHING = [
    "integrations.judging.Judge.due", "integrations.judging.Judge.look", "integrations.watching.Watch._judge_now",
    "integrations.watching.Watch._publish", "integrations.watching.numbers_of", "record.record.Record.add_metrics",
]  # fmt: skip
CALLBACKS = [*WATCHING, "integrations.watching.Watch.add_loss", "integrations.watching.Watch.end"]


class Fault(Exception):
    pass


def _broken(*_, **__):
    raise Fault("on purpose")


@pytest.fixture
def warned_once(monkeypatch, recwarn):
    """warned_once(place, train): trains while the function at this place raises, and gives what `train` does.
    after: how many calls of it do not."""

    def run(place: str, train, after: int = 0):
        path, _, name = place.rpartition(".")
        try:
            owner = import_module(f"unitgain.{path}")
        except ImportError:
            home, _, kind = path.rpartition(".")
            owner = getattr(import_module(f"unitgain.{home}"), kind)
        right, calls = getattr(owner, name), 0

        def wrong(*args, **kwargs):
            nonlocal calls
            calls += 1
            return right(*args, **kwargs) if calls <= after else _broken()

        monkeypatch.setattr(owner, name, wrong)
        warnings.simplefilter("always")
        trained = train()
        ours = [str(w.message) for w in recwarn if "unitgain" in str(w.message)]
        assert calls > after, "it is never called"
        assert len(ours) == 1, ours
        assert "Fault: on purpose" in ours[0]
        assert "Training goes on" in ours[0]
        return trained

    return run


@pytest.mark.parametrize("after", [0, 2])
@pytest.mark.parametrize("place", MEASURING)
def test_a_fault_of_the_probe(place, after, small, same_weights, warned_once) -> None:
    if after and place.endswith((".facts", ".settle", "._leave", ".arm", ".hook")):
        pytest.skip("called once or twice")

    def train():
        return small.plain(lambda m, o: ug.watch(m, o, every=2))

    assert same_weights(warned_once(place, train, after), small.plain())


@pytest.mark.parametrize("place", WATCHING)
def test_a_fault_of_watch(place, small, same_weights, warned_once) -> None:
    assert same_weights(
        warned_once(place, lambda: small.plain(lambda m, o: ug.watch(m, o, every=2))), small.plain()
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("place", [*CALLBACKS, "probe.steps.Steps.enter", "probe.rounds.Rounds._after"])
def test_a_fault_in_lightning(place, small, same_weights, warned_once, torchvision_operators) -> None:
    pl = pytest.importorskip("lightning.pytorch")
    from unitgain.integrations.lightning import UnitGain

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = small.model()

        def training_step(self, batch, batch_idx):
            return F.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self):
            return small.optimizer(self)

    def train(*callbacks):
        model, data = Module(), torch.utils.data.DataLoader(small.dataset(), batch_size=16)
        pl.Trainer(
            max_epochs=1, callbacks=list(callbacks), accelerator="cpu", logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
        ).fit(model, data)  # fmt: skip
        return model

    assert same_weights(warned_once(place, lambda: train(UnitGain(every=2))), train())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("place", [*CALLBACKS, "probe.rounds.Rounds._before"])
def test_a_fault_in_fastai(place, small, same_weights, warned_once, torchvision_operators) -> None:
    pytest.importorskip("fastai.callback.core")
    from fastai.basics import CrossEntropyLossFlat, DataLoaders, Learner
    from fastai.callback.progress import no_bar  # noqa: F401  (adds Learner.no_bar)

    from unitgain.integrations.fastai import UnitGainCallback

    def train(*callbacks):
        rows = list(zip(small.x, small.y))
        data = DataLoaders.from_dsets(rows, rows[:32], bs=16, shuffle=False, num_workers=0)
        learn = Learner(data, small.model(), loss_func=CrossEntropyLossFlat(), cbs=list(callbacks))
        with learn.no_bar(), learn.no_logging():
            learn.fit(1, 0.05)
        assert "step" not in vars(learn.opt)
        return learn.model

    assert same_weights(warned_once(place, lambda: train(UnitGainCallback(every=2))), train())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("place", [p for p in CALLBACKS if not p.endswith("add_loss")])
def test_a_fault_in_the_trainer_of_transformers(
    place, tmp_path, same_weights, warned_once, torchvision_operators
) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    from unitgain.integrations.transformers import UnitGainCallback

    config = transformers.GPT2Config(
        n_layer=1, n_head=2, n_embd=8, vocab_size=16, n_positions=8, bos_token_id=0, eos_token_id=0
    )
    rows = [{"input_ids": row, "labels": row} for row in torch.arange(128).remainder(16).view(16, 8)]

    def train(*callbacks):
        torch.manual_seed(0)
        model = transformers.GPT2LMHeadModel(config)
        args = transformers.TrainingArguments(
            output_dir=str(tmp_path), max_steps=6, per_device_train_batch_size=2, logging_steps=2, report_to=[],
            use_cpu=True, disable_tqdm=True, save_strategy="no",
        )  # fmt: skip
        transformers.Trainer(model, args, train_dataset=rows, callbacks=list(callbacks)).train()
        return model

    assert same_weights(warned_once(place, lambda: train(UnitGainCallback(every=2))), train())
