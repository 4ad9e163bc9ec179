"""Data, losses and passes as people have them, in a Learner and in check."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import unitgain as ug
from unitgain import InputError
from unitgain.train import (
    EMA,
    Callback,
    InMemoryLoader,
    Learner,
    Metrics,
    OneCycle,
    Recorder,
    accuracy,
    set_seed,
)


def rows(seed: int = 0) -> tuple[Tensor, Tensor]:
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(seed))
    return x, (x[:, 0] > 0).long()


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 2))


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1)


def learner(data=None, callbacks=(), loss="auto", valid=True) -> Learner:
    train = InMemoryLoader(rows(), batch_size=16) if data is None else data
    return Learner(model(), (train, InMemoryLoader(rows(1), 24)) if valid else train, loss, sgd, callbacks)


def weights(learn: Learner) -> list[list[float]]:
    return [p.flatten().tolist() for p in learn.model.parameters()]


# ---- data --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda x, y: [(a.double().numpy(), b.numpy()) for a, b in zip(x.split(16), y.split(16))],
        lambda x, y: [{"image": a, "label": b} for a, b in zip(x.split(16), y.split(16))],
        lambda x, y: [{"input": a, "target": b} for a, b in zip(x.split(16), y.split(16))],
        lambda x, y: DataLoader(TensorDataset(x, y), batch_size=16),
    ],
    ids=["arrays", "image and label", "keywords", "DataLoader"],
)
def test_every_kind_of_data_trains_to_the_same_weights(make) -> None:
    plain, other = learner(valid=False), learner(make(*rows()), valid=False)
    for one in (plain, other):
        one.model[2].p = 0.0  # a DataLoader draws from torch's generator too
        one.fit(1)
    assert weights(other) == weights(plain)


def test_check_takes_a_loader_and_leaves_its_order_and_the_random_states_alone() -> None:
    generator = torch.Generator().manual_seed(3)
    loader = DataLoader(TensorDataset(*rows()), batch_size=32, shuffle=True, generator=generator)
    net = model()
    own, around = generator.get_state(), torch.get_rng_state()
    report = ug.check(net, loader, steps=5)
    assert report.record.facts.fresh_batches
    assert torch.equal(generator.get_state(), own)
    assert torch.equal(torch.get_rng_state(), around)
    alone = ug.check(net, next(iter(loader)))
    generator.set_state(own)
    assert report.record.facts.loss.value == alone.record.facts.loss.value
    assert ug.fix(net, loader, dry_run=True).before.record.facts.loss.value == alone.record.facts.loss.value


def test_fix_normalizes_arrays_and_what_a_loader_gives() -> None:
    x, y = rows()
    for batch in ((5 * x + 20).numpy(), y.numpy()), DataLoader(TensorDataset(5 * x + 20, y), batch_size=64):
        result = ug.fix(model(), batch, only=["UG201"], dry_run=True, prove=False)
        assert [f.code for f in result.before.findings if f.code == "UG201"]
        assert "UG201" not in {f.code for f in result.after.findings}


def test_steps_on_a_loader_take_each_batch_once() -> None:
    seen: list[int] = []

    class Marked(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            if torch.is_grad_enabled():
                seen.append(int(x[0, 0]))
            return super().forward(x)

    x = torch.arange(4.0).repeat_interleave(8)[:, None] + torch.zeros(1, 4)
    ug.check(
        Marked(4, 2),
        DataLoader(TensorDataset(x, torch.arange(32) % 2), batch_size=8),
        steps=4,
        select=["UG504"],
    )
    assert list(dict.fromkeys(seen)) == [0, 1, 2, 3]


def test_a_loader_that_gives_nothing_is_told_of() -> None:
    empty = DataLoader(TensorDataset(*rows()), batch_size=100, drop_last=True)
    with pytest.raises(InputError, match="the DataLoader gives no batch"):
        ug.check(model(), empty)


def test_other_functions_take_a_loader_too() -> None:
    loader = DataLoader(TensorDataset(*rows()), batch_size=32)
    net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 2))
    ug.lsuv_(net, loader)
    ug.init_(net, batch=loader)
    assert ug.spp(ug.models.create("nf_resnet_tiny", num_classes=2), DataLoader(torch.randn(4, 3, 32, 32), 4))


def test_torchmetrics_collections_give_a_number_for_each(torchvision_operators) -> None:
    torchmetrics = pytest.importorskip("torchmetrics")
    collection = torchmetrics.MetricCollection(
        {
            "acc": torchmetrics.classification.MulticlassAccuracy(2, average="micro"),
            "by_class": torchmetrics.classification.MulticlassRecall(2, average=None),
            "table": torchmetrics.classification.MulticlassConfusionMatrix(2),
        }
    )
    learn = learner(callbacks=[Metrics(accuracy, several=collection)])
    learn.fit(1)
    assert learn.metrics["acc"] == pytest.approx(learn.metrics["accuracy"], abs=1e-6)
    assert {"by_class_0", "by_class_1"} <= set(learn.metrics)
    assert not any("table" in name for name in learn.metrics)


@pytest.mark.filterwarnings("ignore")
def test_torchvision_s_detectors_train_on_lists(torchvision_operators) -> None:
    detection = pytest.importorskip("torchvision.models.detection")
    make = detection.ssdlite320_mobilenet_v3_large
    net = make(weights=None, weights_backbone=None, num_classes=3)
    images = [torch.rand(3, 64, 48), torch.rand(3, 48, 64)]
    boxes = [{"boxes": torch.tensor([[4.0, 4, 30, 30]]), "labels": torch.tensor([1])} for _ in images]
    learn = Learner(net, [(images, boxes)], "auto", lambda p: torch.optim.SGD(p, lr=1e-3), [Recorder()])
    learn.fit(1)
    assert learn.steps == 1
    assert torch.isfinite(learn.loss)


# ---- passes ------------------------------------------------------------------------------------------------


def test_fit_takes_a_learning_rate_and_groups_keep_their_proportion() -> None:
    net = model()
    groups = [
        {"params": net[0].parameters(), "lr": 0.02},
        {"params": net[3].parameters(), "lr": torch.tensor(0.1)},
    ]
    learn = Learner(net, InMemoryLoader(rows(), 16), "auto", torch.optim.SGD(groups, lr=0.1))
    learn.fit(1, 0.5)
    assert [float(g["lr"]) for g in learn.optimizer.param_groups] == pytest.approx([0.1, 0.5])
    for wrong in (0, -1.0, "fast", float("inf")):
        with pytest.raises(InputError, match="a learning rate is a number above 0"):
            learn.fit(1, lr=wrong)


def test_fit_without_training_changes_no_weight_and_no_rate() -> None:
    learn = learner(callbacks=[Metrics(accuracy), OneCycle(1.0), EMA(0.9)])
    before = weights(learn)
    learn.fit(1, train=False)
    assert weights(learn) == before
    assert learn.steps == 0
    assert set(learn.metrics) == {"valid_loss", "accuracy"}
    assert learn.optimizer.param_groups[0]["lr"] == 0.1
    with pytest.raises(InputError, match="nothing would be done"):
        learner(valid=False).fit(1, train=False)


def test_validate_gives_the_metrics_of_the_last_epoch_and_is_no_part_of_the_training() -> None:
    learn, plain = (learner(callbacks=[Metrics(accuracy), Recorder()]) for _ in range(2))
    for one in (learn, plain):
        torch.manual_seed(2)
        one.fit(1)
        if one is learn:
            last = {name: value for name, value in learn.metrics.items() if name != "train_loss"}
            assert learn.validate() == last
            assert set(learn.validate(InMemoryLoader(rows(2), 8))) == set(last)
            assert learn.model.training == plain.model.training or not learn.model.training
        torch.manual_seed(3)
        one.fit(1)
    assert weights(learn) == weights(plain)
    assert learn.history == plain.history
    assert (learn.fits, learn.epoch, learn.steps) == (plain.fits, plain.epoch, plain.steps)


def test_predict_joins_all_batches_and_averages_over_changed_inputs() -> None:
    learn = learner(callbacks=[Metrics(accuracy)])
    learn.fit(1)
    x, y = rows(1)
    net = learn.model.eval()
    with torch.no_grad():
        plain, flipped = net(x), net(-x)
    outputs, targets = learn.predict()
    torch.testing.assert_close(outputs, plain)
    assert torch.equal(targets, y)
    both, _ = learn.predict(transforms=[lambda t: -t], activation=lambda t: t.softmax(1))
    torch.testing.assert_close(both, (plain.softmax(1) + flipped.softmax(1)) / 2)
    alone, none = learn.predict(x[:3])
    torch.testing.assert_close(alone, plain[:3])
    assert none is None
    with pytest.raises(InputError, match="there is no validation data"):
        learner(valid=False).predict()


# ---- losses and seeds --------------------------------------------------------------------------------------


def test_losses_are_wrapped_one_after_another() -> None:
    class Doubled(Callback):
        def wrap_loss(self, learn, loss):
            return lambda outputs, target: 2 * loss(outputs, target)

    class Penalized(Callback):
        order = 10

        def wrap_loss(self, learn, loss):
            return lambda outputs, target: loss(outputs, target) + outputs.square().mean()

    class Mixed(Callback):
        """As mixup: the loss of two targets."""

        order = -10

        def wrap_loss(self, learn, loss):
            return lambda outputs, target: 0.7 * loss(outputs, target) + 0.3 * loss(outputs, target.flip(0))

    seen: list[tuple[float, float]] = []

    class Look(Callback):
        def after_loss(self, learn):
            plain = 0.7 * F.cross_entropy(learn.outputs, learn.target)
            plain = plain + 0.3 * F.cross_entropy(learn.outputs, learn.target.flip(0))
            seen.append((float(learn.loss), float(2 * plain + learn.outputs.square().mean())))

    learner(callbacks=[Penalized(), Doubled(), Mixed(), Look()], valid=False).fit(1)
    assert len(seen) == 4
    for found, expected in seen:
        assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", ["InMemoryLoader", "DataLoader", "DataLoader with a generator"])
def test_set_seed_restarts_the_order_of_the_data(kind) -> None:
    data = torch.arange(50)
    own = torch.Generator() if "generator" in kind else None
    loader = (
        InMemoryLoader(data, 10, shuffle=True)
        if kind == "InMemoryLoader"
        else DataLoader(data, 10, shuffle=True, generator=own)
    )
    orders = []
    for _ in range(2):
        set_seed(7, loader)
        orders.append([torch.as_tensor(b[0] if isinstance(b, tuple) else b).tolist() for b in loader])
    assert orders[0] == orders[1]
    assert sorted(n for batch in orders[0] for n in batch) == list(range(50))
    with pytest.raises(InputError, match="a whole number from 0"):
        set_seed(-1)
