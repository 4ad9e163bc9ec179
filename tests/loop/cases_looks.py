"""Cases of UG708: validations whose passes are made in train mode."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from loop_cases import (
    BCE,
    CE,
    MSE,
    Net,
    adam,
    chain,
    conv_net,
    encoder,
    healthy,
    lstm_net,
    numbers,
    pictures,
    series,
    sgd,
    sick,
    table,
    texts,
    train,
)  # fmt: skip
from torch import Tensor, nn

import unitgain as ug
from unitgain.rules import Diagnosis

Data = tuple[Tensor, Tensor]


def validated(
    m: nn.Module, o: torch.optim.Optimizer, data: Data, loss: Any, *, before: Any = None, between: int = 20,
    steps: int = 120, every: int = 5, size: int = 64,
) -> Diagnosis:  # fmt: skip
    """Trains on three quarters of the data and looks at the rest now and then."""
    n = len(data[0]) * 3 // 4
    rest = data[0][n:], data[1][n:]

    def look(i: int) -> None:
        if i % between == between - 1:
            if before is not None:
                before()
            with torch.no_grad():
                for part in torch.arange(len(rest[0])).split(size):
                    loss(m(rest[0][part]), rest[1][part]).item()
            m.train()

    return train(m, o, (data[0][:n], data[1][:n]), loss, steps, every=every, after=look)


def dropped_lstm() -> Net:
    return Net(
        lambda net, x: net.head(net.drop(net.rnn(x)[0][:, -1])),
        rnn=nn.LSTM(4, 24, batch_first=True), drop=nn.Dropout(0.3), head=nn.Linear(24, 1),
    )  # fmt: skip


# ---- sick ------------------------------------------------------------------------------------------------------


@sick("UG708")
def validation_without_eval_and_with_dropout() -> Diagnosis:
    m = chain(12, 48, 4, drop=0.3)
    return validated(m, adam(m), table(), CE)


@sick("UG708")
def validation_that_moves_the_running_statistics() -> Diagnosis:
    m = conv_net(norm=True)
    return validated(m, sgd(m, 0.05), pictures(), CE, size=32)


@sick("UG708")
def the_whole_validation_set_in_one_pass() -> Diagnosis:
    m = encoder(drop=0.1)
    return validated(m, adam(m, 1e-3), texts(), CE, between=30, steps=180, size=1000)


@sick("UG708")
def inference_mode_is_taken_for_evaluation_mode() -> Diagnosis:
    m = dropped_lstm()
    x, y = series()
    held = x[:64], y[:64]

    def look(i: int) -> None:
        if i % 25 == 24:
            with torch.inference_mode():
                sum(float(MSE(m(a), b)) for a, b in zip(held[0].split(16), held[1].split(16)))

    return train(m, adam(m, 3e-3), (x[64:], y[64:]), MSE, 150, after=look)


@sick("UG708")
def a_head_alone_is_set_to_eval() -> Diagnosis:
    """model.head.eval() where model.eval() was meant."""
    m = Net(
        lambda net, x: net.head(net.body(x)),
        body=nn.Sequential(*chain(12, 48, 48, drop=0.4), nn.ReLU(), nn.Dropout(0.4)),
        head=nn.Linear(48, 1),
    )  # fmt: skip
    return validated(m, adam(m), numbers(), MSE, before=m.head.eval)


@sick("UG708")
def an_estimate_of_the_loss_over_several_batches() -> Diagnosis:
    """As scripts for language models have it, every so many steps, at the beginning of one."""
    m = encoder(drop=0.2)
    x, y = texts()

    @torch.no_grad()
    def estimate() -> dict[str, float]:
        found = {}
        for name, part in (("train", slice(64, None)), ("val", slice(0, 64))):
            losses = torch.zeros(6)
            for k in range(6):
                some = torch.randint(len(x[part]), (32,))
                losses[k] = CE(m(x[part][some]), y[part][some])
            found[name] = float(losses.mean())
        return found

    def look(i: int) -> None:
        if i % 50 == 0:
            estimate()

    return train(m, adam(m, 1e-3), (x[64:], y[64:]), CE, 220, before=look, every=10)


# ---- healthy ---------------------------------------------------------------------------------------------------


@healthy("UG708")
def validation_in_evaluation_mode() -> Diagnosis:
    m = chain(12, 48, 4, drop=0.3, norm=True)
    return validated(m, adam(m), table(), CE, before=m.eval)


@healthy("UG708")
def nothing_in_it_depends_on_the_mode() -> Diagnosis:
    m = lstm_net()
    return validated(m, adam(m, 3e-3), series(), MSE)


@healthy("UG708")
def a_discriminator_that_sees_made_ones_without_gradients() -> Diagnosis:
    """The generator is measured, and runs without gradients for the other half's step."""
    g = nn.Sequential(nn.Linear(4, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 12))
    d = chain(12, 24, 1)
    og, od = adam(g, 1e-3), adam(d, 1e-3)
    x, _ = table()
    with ug.Probe(g, og, every=3) as probe:
        for _ in range(90):
            with torch.no_grad():
                fake = g(torch.randn(32, 4))
            a, b = d(x[torch.randint(len(x), (32,))]), d(fake)
            od.zero_grad()
            (BCE(a, torch.ones_like(a)) + BCE(b, torch.zeros_like(b))).backward()
            od.step()
            og.zero_grad()
            out = d(g(torch.randn(32, 4)))
            BCE(out, torch.ones_like(out)).backward()
            og.step()
    return ug.diagnose(probe.record)


@healthy("UG708")
def a_first_guess_of_its_own_answer() -> Diagnosis:
    """Half of the steps begin with a pass without gradients, whose answer goes in again."""
    m = Net(lambda net, x, g: net.body(torch.cat([x, g], 1)), body=chain(13, 48, 1, drop=0.1))
    x, y = numbers()
    o = adam(m)
    with ug.Probe(m, o, every=5) as probe:
        for i in range(150):
            some = torch.randint(len(x), (32,))
            guess = torch.zeros(32, 1)
            if (i * 7) % 10 < 5:
                with torch.no_grad():
                    guess = m(x[some], guess)
            loss = MSE(m(x[some], guess), y[some])
            o.zero_grad()
            loss.backward()
            o.step()
            probe.log(loss=loss)
    return ug.diagnose(probe.record)


@healthy("UG708")
def statistics_taken_anew_before_each_validation() -> Diagnosis:
    m = conv_net(norm=True)
    x, y = pictures()

    def look(i: int) -> None:
        if i % 20 == 19:
            with torch.no_grad():
                for part in x[64:].split(64):
                    m(part)
                m.eval()
                CE(m(x[:64]), y[:64]).item()
            m.train()

    return train(m, sgd(m, 0.05), (x[64:], y[64:]), CE, 120, after=look)


@healthy("UG708")
def targets_of_its_own_under_no_grad() -> Diagnosis:
    """Values of the next states come from the same network, which drops out, in each step."""
    m = chain(6, 48, 3, drop=0.05)
    o = adam(m, 1e-3)
    with ug.Probe(m, o, every=5) as probe:
        for _ in range(120):
            s, s2, a, r = torch.randn(32, 6), torch.randn(32, 6), torch.randint(3, (32, 1)), torch.randn(32)
            with torch.no_grad():
                target = r + 0.5 * m(s2).amax(1)
            loss = F.smooth_l1_loss(m(s).gather(1, a)[:, 0], target)
            o.zero_grad()
            loss.backward()
            o.step()
            probe.log(loss=loss)
    return ug.diagnose(probe.record)
