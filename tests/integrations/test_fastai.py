"""The callbacks in fastai's Learner, whose optimizers are none of torch's."""

# the libraries are optional
# pyright: reportMissingImports=false
from __future__ import annotations

import pytest
import torch
from torch import nn

import unitgain as ug

pytest.importorskip("fastai.callback.core")
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("torchvision_operators")]


def learner(small, callbacks=(), **options):
    from fastai.basics import CrossEntropyLossFlat, DataLoaders, Learner
    from fastai.callback.progress import no_bar  # noqa: F401  (adds Learner.no_bar)

    rows = list(zip(small.x, small.y))
    data = DataLoaders.from_dsets(rows, rows[:32], bs=16, shuffle=False, num_workers=0)
    return Learner(data, small.model(), loss_func=CrossEntropyLossFlat(), cbs=list(callbacks), **options)


def fit(learn, epochs: int = 1):
    with learn.no_bar(), learn.no_logging():
        learn.fit(epochs, 0.05)
    return learn


@pytest.mark.parametrize("own", [True, False], ids=["fastai's Adam", "torch's SGD"])
def test_training_is_bit_for_bit_the_same_and_the_learner_s_step_is_given_back(
    small, same_weights, own
) -> None:
    from fastai.optimizer import Adam, OptimWrapper

    from unitgain.integrations.fastai import UnitGainCallback

    def wrapped(parameters, **kwargs):
        return OptimWrapper(parameters, torch.optim.SGD, **kwargs)

    make = Adam if own else wrapped
    callback = UnitGainCallback(every=5)
    watched = fit(learner(small, [callback], opt_func=make))
    assert same_weights(watched.model, fit(learner(small, opt_func=make)).model)
    assert "step" not in vars(watched.opt)
    record = callback.report.record
    assert record.steps() == [0, 5, 10, 15, 20]
    assert len(record.sites("update")) == 6
    assert len(record.metric("loss")[0]) == 24
    assert record.facts.optimizer.lr == (0.05,)


def test_the_learning_rate_finder_is_not_measured(small) -> None:
    from fastai.callback import schedule  # noqa: F401  (adds Learner.lr_find)

    from unitgain.integrations.fastai import UnitGainCallback

    callback = UnitGainCallback(every=5)
    learn = learner(small, [callback])
    with learn.no_bar(), learn.no_logging():
        learn.lr_find(show_plot=False, num_it=10)
    assert callback.report is None
    assert "step" not in vars(learn.opt)


def test_clipping_is_that_of_a_plain_loop(small) -> None:
    from fastai.optimizer import SGD

    from unitgain.integrations.fastai import AGCCallback, UnitGainCallback

    clipping = AGCCallback(0.01)
    learn = fit(learner(small, [clipping, UnitGainCallback(every=5)], opt_func=SGD))
    model = small.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with ug.optim.AGC(optimizer, model, clipping=0.01) as agc:
        for x, y in small.batches():
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    for p, q in zip(learn.model.parameters(), model.parameters()):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
    assert clipping.agc.excluded == agc.excluded == ["4.weight"]


def test_findings_call_the_optimizer_by_its_own_name_and_judge_it_as_what_it_is(small) -> None:
    from fastai.optimizer import Adam, OptimWrapper

    from unitgain.integrations.fastai import UnitGainCallback

    def wrapped(parameters, **kwargs):
        return OptimWrapper(parameters, torch.optim.SGD, **kwargs)

    for make, name in ((Adam, "Adam"), (wrapped, "SGD")):
        callback = UnitGainCallback(every=12)
        fit(learner(small, [callback], opt_func=make))
        assert callback.report.record.facts.optimizer.name == name


def test_a_fit_that_was_interrupted_has_its_report(small) -> None:
    from unitgain.integrations.fastai import UnitGainCallback

    callback, calls = UnitGainCallback(every=1), iter(range(100))

    def loss(outputs, targets):
        if next(calls) == 5:
            raise KeyboardInterrupt
        return nn.functional.cross_entropy(outputs, targets)

    learn = learner(small, [callback])
    learn.loss_func = loss
    with pytest.raises(KeyboardInterrupt):
        fit(learn)
    assert callback.report.record.steps() == [0, 1, 2, 3, 4]
    fit(learn)  # begins anew
    assert len(callback.report.record.steps()) == 24


def test_wrong_arguments_are_refused_when_a_callback_is_made() -> None:
    from unitgain.integrations.fastai import AGCCallback, UnitGainCallback

    for arguments in ({"evry": 3}, {"to": "run.sqlite"}, {"select": ["UG999"]}):
        with pytest.raises(ug.InputError):
            UnitGainCallback(**arguments)
    with pytest.raises(ug.InputError, match="clipping=0"):
        AGCCallback(0)
