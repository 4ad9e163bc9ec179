"""The loop: what it computes, in which order things happen, how parts are left early."""

from __future__ import annotations

import gc
import time
import weakref

import pytest
import torch
import torch.nn.functional as F
from runs import Carries
from torch import nn

from unitgain import InputError
from unitgain.train import (
    Callback,
    CancelBatch,
    CancelEpoch,
    CancelFit,
    CancelPass,
    CancelStep,
    Data,
    Learner,
    SingleBatch,
)
from unitgain.train.clock import Clock
from unitgain.train.summary import summarize

EVENTS = ("fit", "epoch", "pass", "batch", "predict", "loss", "backward", "step")


def model() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Dropout(0.3), nn.ReLU(), nn.Linear(16, 4))


def batches(n: int = 5, size: int = 8) -> list:
    generator = torch.Generator().manual_seed(2)
    return [(torch.randn(size, 6, generator=generator), torch.randint(4, (size,), generator=generator))
            for _ in range(n)]  # fmt: skip


def adam(parameters):
    return torch.optim.AdamW(parameters, lr=0.01)


def learner(callbacks=(), data=None, **more) -> Learner:
    return Learner(model(), batches() if data is None else data, "auto", adam, callbacks, **more)


class Nothing:
    """Batches that do not say that there are none."""

    def __iter__(self):
        return iter([])


@pytest.mark.parametrize("nothing", [[], Nothing()])
def test_empty_data_are_refused(nothing) -> None:
    for data, which in ((nothing, "training"), ((batches(), nothing), "validation")):
        with pytest.raises(InputError, match=f"the {which} data gave no batch"):
            learner(data=data).fit(1)
    with pytest.raises(InputError, match="the training data gave no batch"):
        learner(data=nothing).lr_find()
    learner(data=(batches(), nothing)).fit(1, valid=False)


def test_a_value_that_goes_nowhere_is_told() -> None:
    class Returns(Callback):
        def loss(self, learn):
            return F.cross_entropy(learn.outputs, learn.target)

    with pytest.raises(InputError, match=r"loss returned a value, which is not used; set learn\.loss"):
        learner([Returns()]).fit(1)

    class SetsAndReturns(Callback):
        def loss(self, learn):
            learn.loss = F.cross_entropy(learn.outputs, learn.target)
            return learn.loss

    learner([SetsAndReturns()]).fit(1)


def test_a_clock_inside_itself_goes_on() -> None:
    clock = Clock()
    with clock:
        with clock:
            pass
        before = clock.seconds
        time.sleep(0.01)
        assert clock.seconds >= before + 0.01


def test_training_is_bit_for_bit_the_loop_written_by_hand() -> None:
    by_hand, data = model(), batches()
    optimizer = adam(by_hand.parameters())
    torch.manual_seed(3)
    for _ in range(3):
        by_hand.train()
        for x, y in data:
            loss = F.cross_entropy(by_hand(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        by_hand.eval()
        with torch.no_grad():
            for x, _ in data:
                by_hand(x)
    learn = learner(data=(data, data))
    torch.manual_seed(3)
    learn.fit(3)
    for name, value in by_hand.state_dict().items():
        assert torch.equal(value, learn.model.state_dict()[name]), name


class Log(Callback):
    def __init__(self) -> None:
        self.seen: list[str] = []


for _moment in ("before", "after", "cleanup"):
    for _event in EVENTS:

        def _note(self, learn, name=f"{_moment}_{_event}"):
            self.seen.append(name)

        setattr(Log, f"{_moment}_{_event}", _note)


def test_events_nest_and_validation_has_no_backward() -> None:
    log = Log()
    learner([log], data=(batches(1), batches(1))).fit(1)

    def around(name, *inside):
        return [f"before_{name}", *[e for part in inside for e in part], f"after_{name}", f"cleanup_{name}"]

    forward = [around("predict"), around("loss")]
    training = around("pass", around("batch", *forward, around("backward"), around("step")))
    validation = around("pass", around("batch", *forward))
    assert log.seen == around("fit", around("epoch", training, validation))


@pytest.mark.parametrize(("cancel", "event", "steps"), [
    (CancelBatch, "batch", 9), (CancelStep, "step", 9), (CancelPass, "pass", 6), (CancelEpoch, "epoch", 6),
    (CancelFit, "fit", 1),
])  # fmt: skip
def test_a_cancelled_part_skips_its_after_and_never_its_cleanup(cancel, event: str, steps: int) -> None:
    class Canceller(Callback):
        order = -1

        def before_step(self, learn):
            if learn.steps == 1 and not getattr(self, "done", False):
                self.done = True
                raise cancel

    log = Log()
    learn = learner([log, Canceller()], data=(batches(), batches(2)))
    learn.fit(2)
    assert learn.steps == steps
    assert log.seen.count(f"cleanup_{event}") == log.seen.count(f"after_{event}") + 1
    validations = log.seen.count("before_pass") - 2 + (cancel is CancelFit)
    assert validations == {CancelEpoch: 1, CancelFit: 0}.get(cancel, 2)


def test_cleanup_runs_when_training_raises_and_the_first_error_is_the_one_seen() -> None:
    class Fails(Callback):
        def before_backward(self, learn):
            raise ZeroDivisionError

    class CleansUp(Callback):
        cleaned = 0

        def cleanup_fit(self, learn):
            self.cleaned += 1

    class FailsToCleanUp(Callback):
        order = -1

        def cleanup_fit(self, learn):
            raise KeyError

    good = CleansUp()
    with pytest.raises(ZeroDivisionError):
        learner([Fails(), good]).fit(1)
    with pytest.raises(KeyError):
        learner([FailsToCleanUp(), good]).fit(0)
    assert good.cleaned == 2


def test_order_decides_and_equal_order_keeps_the_given_one() -> None:
    seen = []

    class Named(Callback):
        def __init__(self, name, order=0):
            self.name, self.order = name, order

        def before_fit(self, learn):
            seen.append(self.name)

    learner([Named("late", 5), Named("a"), Named("b"), Named("early", -5)]).fit(0)
    assert seen == ["early", "a", "b", "late"]


def test_a_callback_replaces_what_the_learner_does() -> None:
    class Backwards(Callback):
        def predict(self, learn):
            learn.outputs = -learn.model(*learn.inputs)

        def loss(self, learn):
            learn.loss = learn.outputs.square().mean()

        def step(self, learn):
            with torch.no_grad():
                for p in learn.model.parameters():
                    p.sub_(p.grad)

        def zero_grad(self, learn):
            for p in learn.model.parameters():
                p.grad = None

    learn = learner([Backwards()])
    before = learn.model[0].weight.clone()
    learn.fit(1)
    assert learn.steps == 5
    assert not torch.equal(before, learn.model[0].weight)
    assert learn.optimizer.state == {}
    with pytest.raises(InputError, match="Backwards and Backwards both replace predict"):
        learner([Backwards(), Backwards()])


def test_a_misspelt_event_is_refused_instead_of_never_called() -> None:
    class Misspelt(Callback):
        def before_backwards(self, learn):
            pass

    with pytest.raises(InputError, match=r"Misspelt.before_backwards .*did you mean 'before_backward'\?"):
        learner([Misspelt()])
    with pytest.raises(InputError, match=r"the class SingleBatch; write SingleBatch\(\)"):
        learner([SingleBatch])


def test_callbacks_of_one_fit_are_gone_in_the_next() -> None:
    log = Log()
    learn = learner()
    learn.fit(1, callbacks=[log])
    count = len(log.seen)
    learn.fit(1)
    assert len(log.seen) == count > 0
    assert learn.callbacks == []


def test_batches_of_keyword_arguments_bring_their_own_loss() -> None:
    data = [{"x": x, "labels": y} for x, y in batches()]
    learn = Learner(Carries(), data, None, adam)
    learn.fit(2)
    assert learn.steps == 10
    assert learn.examples == 8
    with pytest.raises(InputError, match="no target and the model's output carries no loss"):
        Learner(model(), [torch.zeros(4, 6)], "auto", adam).fit(1)


def test_several_inputs_and_a_target() -> None:
    class Adds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 4)

        def forward(self, a, b):
            return self.fc(a + b)

    learn = Learner(Adds(), [(x, x, y) for x, y in batches()], "cross_entropy", adam)
    learn.fit(1)
    assert learn.loss.isfinite()


@pytest.mark.parametrize(("arguments", "says"), [
    (("net", [1], "auto", adam), "expected an nn.Module, got str"),
    ((nn.Linear(2, 2), torch.zeros(3), "auto", adam), "data: train is a Tensor"),
    ((nn.Linear(2, 2), iter([1]), "auto", adam), "can be read only once"),
    ((nn.Linear(2, 2), (1, 2, 3), "auto", adam), r"\(train, valid\) pair, got a tuple of 3"),
    ((nn.Linear(2, 2), [1], "mze", adam), r"'mze' is unknown; did you mean 'mse'\?"),
    ((nn.Linear(2, 2), [1], "auto", None), "give an optimizer"),
    ((nn.Linear(2, 2), [1], "auto", lambda p: 3), "the function gave int"),
    ((nn.Linear(2, 2), [1], "auto", torch.optim.SGD(nn.Linear(2, 2).parameters(), 1)), "none of the model's"),
])  # fmt: skip
def test_wrong_arguments_are_refused_at_the_door(arguments, says: str) -> None:
    with pytest.raises(InputError, match=says):
        Learner(*arguments)


def test_an_object_with_train_and_valid_is_data() -> None:
    learn = learner(data=Data(batches(2), batches(1)))
    learn.fit(1)
    assert (learn.steps, learn.batches) == (2, 2)


def test_clean_memory_lets_go_of_what_the_last_batch_held() -> None:
    learn = learner()
    learn.fit(1)
    outputs = weakref.ref(learn.outputs)
    learn.clean_memory()
    gc.collect()
    assert outputs() is None
    assert all(p.grad is None for p in learn.model.parameters())


def test_summary_counts_and_leaves_no_trace() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(128, 5)
    )
    data = [(torch.randn(2, 3, 4, 4), torch.zeros(2, dtype=torch.long))]
    learn = Learner(net, data, "auto", adam)
    before = {n: t.clone() for n, t in net.state_dict().items()}
    random = torch.get_rng_state()
    summary = learn.summary()
    conv, linear = summary.rows[0], summary.rows[-1]
    assert conv.flops == 2 * (2 * 8 * 16) * (3 * 9)  # two per multiply-add, of 2 x 8 x 4 x 4 outputs
    assert linear.flops == 2 * 2 * 128 * 5
    assert summary.flops == conv.flops + linear.flops
    assert (conv.shape, linear.parameters) == ((2, 8, 4, 4), 128 * 5 + 5)
    assert summary.parameters == summary.trainable == 216 + 16 + 645
    assert "2x8x4x4" in str(summary)
    assert all(torch.equal(before[n], t) for n, t in net.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert net.training


@pytest.mark.parametrize(
    ("layer", "weights"),
    [
        (nn.LSTM(5, 7, num_layers=2, bidirectional=True), 2 * 4 * 7 * ((5 + 7) + (14 + 7))),
        (nn.GRU(5, 7), 3 * 7 * (5 + 7)),
        (nn.RNN(5, 7, batch_first=True), 7 * (5 + 7)),
        (nn.LSTM(5, 7, proj_size=3), 4 * 7 * (5 + 3) + 3 * 7),
    ],
)
@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
def test_recurrent_layers_cost_what_their_matrices_cost_fused_or_not(layer: nn.Module, weights: int) -> None:
    for model in (layer, nn.Sequential(layer)):
        summary = summarize(model, torch.zeros(4, 6, 5))
        assert summary.flops == 2 * weights * 24
