"""UnitGain and AGC in Lightning's Trainer: what they measure beside a plain loop, and that they change nothing."""

# the libraries are optional
# pyright: reportMissingImports=false
from __future__ import annotations

import logging
import math

import pytest
import torch
import torch.nn.functional as F

import unitgain as ug
from unitgain.integrations import FindingsError, read_log

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("torchvision_operators")]


@pytest.fixture
def pl(torchvision_operators):
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    return pytest.importorskip("lightning.pytorch")


@pytest.fixture
def module(pl, small):
    """A LightningModule of the small network; calls_self: its step goes through its own forward."""

    def make(calls_self: bool = False, broken: bool = False):
        class Module(pl.LightningModule):
            def __init__(self):
                super().__init__()
                self.net = small.model()

            def forward(self, x):
                return self.net(x)

            def training_step(self, batch, batch_idx):
                x, y = batch
                loss = F.cross_entropy(self(x) if calls_self else self.net(x), y)
                return loss * math.nan if broken and batch_idx > 2 else loss

            def validation_step(self, batch, index):
                self.net(batch[0])

            def configure_optimizers(self):
                return small.optimizer(self)

        return Module()

    return make


@pytest.fixture
def fit(pl, small, tmp_path):
    def run(model, callbacks=(), ckpt_path=None, **options):
        loader = torch.utils.data.DataLoader(small.dataset(), batch_size=16)
        trainer = pl.Trainer(
            callbacks=list(callbacks), accelerator="cpu", default_root_dir=str(tmp_path), enable_progress_bar=False,
            enable_model_summary=False, **{"max_epochs": 1, "logger": False, "enable_checkpointing": False, **options},
        )  # fmt: skip
        trainer.fit(model, loader, ckpt_path=ckpt_path)
        return trainer

    return run


@pytest.mark.parametrize("calls_self", [True, False], ids=["calls itself", "never calls itself"])
def test_its_numbers_are_those_of_a_plain_loop_and_the_weights_too(
    module, fit, small, same_weights, assert_same_record, calls_self
) -> None:
    from unitgain.integrations.lightning import UnitGain

    callback = UnitGain(every=5)
    watched = module(calls_self)
    fit(watched, [callback])
    probes = []

    def watching(model, optimizer):
        probes.append(ug.watch(model, optimizer, every=5))
        return probes[0]

    assert same_weights(watched, small.plain(watching))
    record = callback.record
    assert_same_record(record, probes[0].record, prefix="net.")
    assert record.metric("loss")[1].tolist() == pytest.approx(probes[0].record.metric("loss")[1].tolist())


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"accumulate_grad_batches": 2}, 12),
        ({"precision": "bf16-mixed"}, 24),
        ({"precision": "bf16-true"}, 24),
        ({"precision": "64-true"}, 24),
        ({"gradient_clip_val": 0.1}, 24),
        ({"max_epochs": 2, "limit_train_batches": 10}, 20),
    ],
    ids=str,
)
def test_nothing_changes_and_steps_are_those_of_the_optimizer(
    module, fit, same_weights, options, steps
) -> None:
    from unitgain.integrations.lightning import UnitGain

    callback, watched, plain = UnitGain(every=2), module(), module()
    fit(watched, [callback], **options)
    fit(plain, **options)
    assert same_weights(watched, plain)
    assert callback.record.steps() == list(range(0, steps, 2))
    first = callback.record.metric("loss")[1][0]
    assert 0.5 < first < 1.0  # not divided by the number of accumulated batches
    assert [s.name for s in callback.record.sites("activation")] == [f"net.{i}" for i in range(5)]


@pytest.mark.parametrize("adam", [False, True], ids=["SGD twice", "Adam and SGD"])
def test_manual_optimization_with_two_optimizers_measures_the_updates_of_both(pl, fit, small, adam) -> None:
    from unitgain.integrations.lightning import UnitGain

    class Two(pl.LightningModule):
        """An encoder and a head, each with an optimizer of its own, as a GAN's halves have."""

        def __init__(self):
            super().__init__()
            self.automatic_optimization = False
            torch.manual_seed(0)
            self.encoder, self.head = torch.nn.Linear(8, 8), torch.nn.Linear(8, 2)

        def training_step(self, batch, batch_idx):
            x, y = batch
            for optimizer in self.optimizers():
                optimizer.zero_grad()
            loss = F.cross_entropy(self.head(torch.tanh(self.encoder(x))), y)
            self.manual_backward(loss)
            for optimizer in self.optimizers():
                optimizer.step()
            return loss

        def configure_optimizers(self):
            make = (
                (lambda p: torch.optim.Adam(p, lr=1e-3)) if adam else (lambda p: torch.optim.SGD(p, lr=0.1))
            )
            return make(self.encoder.parameters()), torch.optim.SGD(self.head.parameters(), lr=0.1)

    torch.manual_seed(0)
    model, plain, callback = Two(), Two(), UnitGain(every=5)
    fit(model, [callback])
    fit(plain)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), plain.parameters()))
    assert callback.record.steps() == [0, 5, 10, 15, 20]
    assert {s.name for s in callback.record.sites("update")} == {n for n, _ in model.named_parameters()}
    assert len(callback.record.metric("loss")[0]) == 24


def test_a_validation_pass_between_steps_is_not_counted(module, fit, small) -> None:
    from unitgain.integrations.lightning import UnitGain

    callback = UnitGain(every=1)
    loader = torch.utils.data.DataLoader(small.dataset(), batch_size=16)
    model = module()
    model.val_dataloader = lambda: loader
    fit(model, [callback], val_check_interval=6)
    assert callback.record.steps() == list(range(24))
    assert set(callback.record.frame("activation")["count"]) == {16.0 * 16, 16.0 * 2}


def test_findings_reach_the_logger_and_its_curve_is_one_that_can_be_read_again(
    module, fit, pl, tmp_path
) -> None:
    from lightning.pytorch.loggers import CSVLogger

    from unitgain.integrations.lightning import UnitGain

    logger = CSVLogger(str(tmp_path), name="run", version=0)
    fit(module(), [UnitGain(every=5)], logger=logger, log_every_n_steps=1)
    record = read_log(tmp_path / "run" / "version_0" / "metrics.csv", loss="ug/grad_norm_all")
    assert record.metric("ug/grad_norm_all")[0].tolist() == [0, 5, 10, 15, 20]


def test_training_ends_at_an_error_where_that_is_asked_for(module, fit, capsys) -> None:
    from unitgain.integrations.lightning import UnitGain

    callback = UnitGain(every=1, fail_on="error")
    with pytest.raises(FindingsError, match="training was ended at step"):
        fit(module(broken=True), [callback])
    assert callback.report.record.steps()[-1] < 10
    assert "error UG504" in capsys.readouterr().err


def test_an_exception_in_training_leaves_no_hooks_and_a_report(module, fit) -> None:
    from unitgain.integrations.lightning import AGC, UnitGain

    model = module()
    calls = iter([False] * 5 + [True])

    def raising(*_):
        if next(calls):
            raise RuntimeError("of the user's")

    model.on_train_batch_start = raising
    callback = UnitGain(every=1)
    with pytest.raises(RuntimeError, match="of the user's"):
        fit(model, [callback, AGC(0.01)])
    assert callback.report.record.steps() == list(range(5))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_resumed_run_goes_on_counting(module, fit, tmp_path) -> None:
    from unitgain.integrations.lightning import UnitGain

    path = tmp_path / "run.sqlite"
    trainer = fit(module(), [UnitGain(every=4, to=path)], limit_train_batches=12)
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    callback = UnitGain(every=4, to=path)
    fit(module(), [callback], limit_train_batches=12, max_epochs=2, ckpt_path=str(tmp_path / "one.ckpt"))
    assert callback.record.steps() == [0, 4, 8, 12, 16, 20]
    assert len(callback.record.metric("loss")[0]) == 24
    with pytest.raises(ug.InputError, match="exists"):
        fit(module(), [UnitGain(to=path)])  # a new run does not go on with an old one's record


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_clipping_is_that_of_a_plain_loop(module, fit, small, precision) -> None:
    from unitgain.integrations.lightning import AGC

    clipping, clipped = AGC(0.02), module()
    fit(clipped, [clipping], precision=precision)
    model = small.model()
    optimizer = small.optimizer(model)
    agc = ug.optim.AGC(optimizer, model, clipping=0.02)
    for x, y in small.batches():
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
    assert clipping.parts[0].excluded == ["net." + name for name in agc.excluded]
    for p, q in zip(clipped.parameters(), model.parameters()):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
    assert not clipped.net[0]._forward_hooks


def test_the_class_in_the_place_of_a_callback_and_wrong_arguments_are_refused(small) -> None:
    pytest.importorskip("lightning.pytorch")
    from unitgain.integrations.lightning import AGC, UnitGain

    with pytest.raises(ug.InputError, match=r"that is the class; make a callback of it: UnitGain\(\)"):
        UnitGain.on_train_start(object(), object())
    for arguments in ({"evry": 3}, {"select": ["UG999"]}):
        with pytest.raises(ug.InputError):
            UnitGain(**arguments)
    with pytest.raises(ug.InputError, match="clipping=-1"):
        AGC(-1)
