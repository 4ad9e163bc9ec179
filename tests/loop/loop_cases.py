"""Small trainings for the rules of optimizer and loop: sick ones, and healthy ones that look like them.

Each is a function that trains under a Probe of its own and returns the record's diagnosis, or that of `check`.
`HELD_OUT` was drawn by chance, half of each rule's sick and healthy ones, before any of them was run, and was first run
when the rules were finished; README.md has the figures of that first run.
"""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import unitgain as ug
from case_rows import Rows
from unitgain.rules import Diagnosis

CASES: Rows[Diagnosis] = Rows()
ROWS, sick, healthy = CASES.rows, CASES.sick, CASES.healthy


# ---- networks, data, loops -------------------------------------------------------------------------------------

CE, MSE, BCE = F.cross_entropy, F.mse_loss, F.binary_cross_entropy_with_logits
Batches = Iterator[tuple[Tensor, Tensor]]


def chain(
    *widths: int, act: type[nn.Module] = nn.ReLU, drop: float = 0.0, norm: bool = False
) -> nn.Sequential:
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(widths):
        layers.append(nn.Linear(fan_in, fan_out))
        if fan_out != widths[-1]:
            layers += [nn.BatchNorm1d(fan_out)] if norm else []
            layers += [act()]
            layers += [nn.Dropout(drop)] if drop else []
    return nn.Sequential(*layers)


class Net(nn.Module):
    """Parts by name and a function that runs them."""

    def __init__(self, run: Callable[..., Any], **parts: Any):
        super().__init__()
        self.run = run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs: Tensor) -> Any:
        return self.run(self, *inputs)


def conv_net(out: int = 4, norm: bool = False) -> nn.Sequential:
    norms = [nn.BatchNorm2d(12), nn.BatchNorm2d(24)] if norm else [nn.Identity(), nn.Identity()]
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1), norms[0], nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(12, 24, 3, padding=1), norms[1],
        nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(96, out),
    )  # fmt: skip


def lstm_net(out: int = 1) -> Net:
    return Net(
        lambda net, x: net.head(net.rnn(x)[0][:, -1]),
        rnn=nn.LSTM(4, 24, batch_first=True),
        head=nn.Linear(24, out),
    )


def encoder(classes: int = 3, drop: float = 0.0) -> Net:
    layer = nn.TransformerEncoderLayer(24, 4, 48, drop, batch_first=True)
    return Net(
        lambda net, x: net.head(net.body(net.embed(x)).mean(1)), embed=nn.Embedding(30, 24),
        body=nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), head=nn.Linear(24, classes),
    )  # fmt: skip


def table(n: int = 512, width: int = 12, classes: int = 4) -> tuple[Tensor, Tensor]:
    x = torch.randn(n, width)
    return x, (x @ torch.randn(width, classes) + 0.5 * torch.randn(n, classes)).argmax(1)


def numbers(n: int = 512, width: int = 12, noise: float = 0.3) -> tuple[Tensor, Tensor]:
    x = torch.randn(n, width)
    y = torch.tanh(x @ torch.randn(width, 4)) @ torch.randn(4, 1)
    return x, (y - y.mean()) / y.std() + noise * torch.randn(n, 1)


def pictures(n: int = 256, classes: int = 4) -> tuple[Tensor, Tensor]:
    y = torch.arange(n) % classes
    base = F.interpolate(torch.randn(classes, 3, 3, 3), size=(8, 8), mode="bilinear")
    x = base[y] + torch.randn(n, 3, 8, 8)
    return (x - x.mean()) / x.std(), y


def series(n: int = 256) -> tuple[Tensor, Tensor]:
    x = torch.randn(n, 10, 4).cumsum(1)
    x = (x - x.mean()) / x.std()
    return x, (x[:, -1:, 0] - x[:, 0:1, 0]) + 0.1 * torch.randn(n, 1)


def texts(n: int = 256) -> tuple[Tensor, Tensor]:
    x = torch.randint(0, 30, (n, 12))
    return x, ((x < 10).sum(1) > 4).long() + ((x > 24).sum(1) > 1).long()


def endless(data: tuple[Tensor, Tensor], size: int = 32) -> Batches:
    while True:
        for part in torch.randperm(len(data[0])).split(size):
            yield data[0][part], data[1][part]


def nothing(*_: Any) -> None:
    return None


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: tuple[Tensor, Tensor] | Batches,
    loss: Callable[..., Tensor],
    steps: int = 100,
    *,
    every: int = 5,
    before: Callable[[int], Any] = nothing,
    clear: Callable[[int], Any] | None = None,
    clip: Callable[[int], Any] = nothing,
    step: Callable[[int], Any] | None = None,
    after: Callable[[int], Any] = nothing,
    log: bool = True,
    size: int = 32,
) -> Diagnosis:
    """before, clear, forward, backward, clip, step, after; clear and step are the optimizer's own unless given."""
    batches = endless(data, size) if isinstance(data, tuple) else data
    with ug.Probe(model, optimizer, every=every) as probe:
        for i in range(steps):
            before(i)
            (clear or (lambda _: optimizer.zero_grad()))(i)
            x, y = next(batches)
            value = loss(model(x), y)
            value.backward()
            clip(i)
            (step or (lambda _: optimizer.step()))(i)
            after(i)
            if log:
                probe.log(loss=value)
    return ug.diagnose(probe.record)


def sgd(model: nn.Module, rate: float = 0.1, **more: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), rate, **more)


def adam(model: nn.Module, rate: float = 2e-3, **more: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), rate, **more)


# ---- UG506: gradients that are used again ------------------------------------------------------------------------


@sick("UG506")
def mlp_never_cleared() -> Diagnosis:
    m = chain(12, 32, 4)
    return train(m, sgd(m, 0.01), table(), CE, clear=nothing)


@sick("UG506")
def lstm_cleared_once_an_epoch() -> Diagnosis:
    m = lstm_net()
    o = adam(m)
    return train(m, o, series(), MSE, clear=lambda i: o.zero_grad() if i % 8 == 0 else None)


@sick("UG506")
def the_wrong_model_is_cleared() -> Diagnosis:
    m = conv_net()
    other = copy.deepcopy(m)
    return train(m, sgd(m, 0.005), pictures(), CE, clear=lambda i: other.zero_grad())


@sick("UG506")
def a_head_with_its_own_optimizer_is_cleared_and_the_body_is_not() -> Diagnosis:
    m = chain(12, 32, 32, 4)
    body, head = torch.optim.SGD(m[:4].parameters(), 0.005), torch.optim.SGD(m[4].parameters(), 0.05)
    return train(
        m, body, table(), CE, clear=lambda i: head.zero_grad(), step=lambda i: (body.step(), head.step())
    )


@sick("UG506")
def a_step_for_each_batch_and_a_clearing_for_each_fourth() -> Diagnosis:
    m = encoder()
    o = adam(m, 1e-3)
    return train(m, o, texts(), CE, clear=lambda i: o.zero_grad() if i % 4 == 0 else None)


@sick("UG506")
def a_discriminator_that_is_never_cleared() -> Diagnosis:
    g, d = chain(4, 24, 12), chain(12, 24, 1)
    og, od = adam(g, 1e-3), adam(d, 1e-3)
    x, _ = table()
    with ug.Probe(d, od, every=3) as probe:
        for _ in range(60):
            real, fake = x[torch.randint(len(x), (32,))], g(torch.randn(32, 4))
            a, b = d(real), d(fake.detach())
            loss = BCE(a, torch.ones_like(a)) + BCE(b, torch.zeros_like(b))
            loss.backward()
            od.step()
            og.zero_grad()
            BCE(d(fake), torch.ones(32, 1)).backward()
            og.step()
    return ug.diagnose(probe.record)


@sick("UG506")
def accumulation_that_forgets_to_clear_after_its_step() -> Diagnosis:
    m = chain(12, 32, 1)
    o = sgd(m, 0.005)
    return train(
        m, o, numbers(), MSE, 160, every=2, clear=nothing, step=lambda i: o.step() if i % 4 == 3 else None
    )


@sick("UG506")
def cleared_before_a_second_backward_only() -> Diagnosis:
    """The regression part of the loss is added by a backward of its own, and zero_grad stands before it by mistake."""
    m = Net(
        lambda net, x: (net.a(net.body(x)), net.b(net.body(x))),
        body=nn.Linear(12, 24),
        a=nn.Linear(24, 4),
        b=nn.Linear(24, 1),
    )
    x, y = table()
    o = torch.optim.SGD([*m.a.parameters(), *m.b.parameters(), *m.body.parameters()], 0.01)
    with ug.Probe(m, o, every=2) as probe:
        for _ in range(40):
            part = torch.randint(len(x), (32,))
            a, b = m(x[part])
            CE(a, y[part]).backward(retain_graph=True)
            MSE(b, x[part, :1]).backward()
            o.step()
            m.a.zero_grad()
    return ug.diagnose(probe.record)


@healthy("UG506")
def cleared_to_zero_and_not_to_none() -> Diagnosis:
    m = chain(12, 32, 4)
    o = sgd(m)
    return train(m, o, table(), CE, clear=lambda i: o.zero_grad(set_to_none=False))


@healthy("UG506")
def cleared_through_data() -> Diagnosis:
    m = chain(12, 32, 1)

    def clear(i: int) -> None:
        for p in m.parameters():
            if p.grad is not None:
                p.grad.data.zero_()

    return train(m, sgd(m, 0.05), numbers(), MSE, clear=clear)


@healthy("UG506")
def four_batches_for_each_step() -> Diagnosis:
    m = conv_net()
    o = sgd(m, 0.02)
    return train(
        m, o, pictures(), CE, 200, every=3, clear=lambda i: o.zero_grad() if i % 4 == 0 else None,
        step=lambda i: o.step() if i % 4 == 3 else None,
    )  # fmt: skip


@healthy("UG506")
def cleared_after_the_step() -> Diagnosis:
    m = lstm_net()
    o = adam(m)
    return train(m, o, series(), MSE, clear=nothing, after=lambda i: o.zero_grad())


@healthy("UG506")
def the_usual_order_of_a_gan() -> Diagnosis:
    g, d = chain(4, 24, 12), chain(12, 24, 1, act=nn.Tanh)
    og, od = adam(g, 1e-3), adam(d, 1e-3)
    x, _ = table()
    with ug.Probe(d, od, every=3) as probe:
        for _ in range(60):
            d.zero_grad()
            real, fake = x[torch.randint(len(x), (32,))], g(torch.randn(32, 4))
            a = d(real)
            BCE(a, torch.ones_like(a)).backward()
            b = d(fake.detach())
            BCE(b, torch.zeros_like(b)).backward()
            od.step()
            g.zero_grad()
            BCE(d(fake), torch.ones(32, 1)).backward()
            og.step()
    return ug.diagnose(probe.record)


@healthy("UG506")
def a_gan_watched_at_its_generator() -> Diagnosis:
    g, d = chain(4, 24, 12), chain(12, 24, 1)
    og, od = adam(g, 1e-3), adam(d, 1e-3)
    x, _ = table()
    with ug.Probe(g, og, every=1) as probe:
        for _ in range(40):
            od.zero_grad(set_to_none=False)
            real, fake = x[torch.randint(len(x), (32,))], g(torch.randn(32, 4))
            (F.softplus(-d(real)) + F.softplus(d(fake.detach()))).mean().backward()
            od.step()
            og.zero_grad(set_to_none=False)
            F.softplus(-d(fake)).mean().backward()
            og.step()
    return ug.diagnose(probe.record)


@healthy("UG506")
def a_closure_that_clears() -> Diagnosis:
    m = chain(12, 16, 1, act=nn.Tanh)
    o = torch.optim.LBFGS(m.parameters(), 0.5, max_iter=4)
    x, y = numbers(128)

    def closure() -> Tensor:
        o.zero_grad()
        loss = MSE(m(x), y)
        loss.backward()
        return loss

    with ug.Probe(m, o, every=1) as probe:
        for _ in range(8):
            o.step(closure)
    return ug.diagnose(probe.record)


@healthy("UG506")
def a_branch_that_is_not_always_used() -> Diagnosis:
    m = Net(
        lambda net, x: net.a(x) + (net.b(x) if random.random() < 0.5 else 0),
        a=chain(12, 24, 4),
        b=chain(12, 24, 4),
    )
    return train(m, sgd(m, 0.05), table(), CE)


# ---- UG701: parameters that no optimizer holds -------------------------------------------------------------------


def checked(model: nn.Module, batch: Any, loss: Any, optimizer: Any, steps: int = 12) -> Diagnosis:
    return ug.check(model, batch, loss, steps=steps, optimizer=optimizer).diagnosis


@sick("UG701")
def only_the_head_was_given() -> Diagnosis:
    m = conv_net()
    return train(m, torch.optim.Adam(m[-1].parameters(), 2e-3), pictures(), CE)


@sick("UG701")
def the_head_was_replaced_after_the_optimizer_was_made() -> Diagnosis:
    m = encoder(10)
    o = adam(m)
    m.head = nn.Linear(24, 3)
    return train(m, o, texts(), CE)


@sick("UG701")
def the_model_was_copied_after_the_optimizer_was_made() -> Diagnosis:
    m = chain(12, 32, 4)
    o = sgd(m)
    m = copy.deepcopy(m)
    return checked(m, table(64), CE, o)


@sick("UG701")
def a_check_of_an_optimizer_of_weights_without_the_first_layer() -> Diagnosis:
    m = chain(12, 32, 32, 4)
    return checked(m, table(64), CE, torch.optim.SGD(m[2:].parameters(), 0.1), steps=0)


@sick("UG701")
def an_encoder_that_was_forgotten() -> Diagnosis:
    m = Net(lambda net, x: net.dec(net.enc(x)), enc=chain(12, 24, 6), dec=chain(6, 24, 12))
    x, _ = numbers()
    return train(m, torch.optim.AdamW(m.dec.parameters(), 1e-3), (x, x), MSE)


@sick("UG701")
def weight_normalization_after_the_optimizer_was_made() -> Diagnosis:
    m = chain(12, 32, 1)
    o = sgd(m, 0.05)
    nn.utils.parametrizations.weight_norm(m[0])
    return train(m, o, numbers(), MSE)


@sick("UG701")
def a_function_that_leaves_parameters_out() -> Diagnosis:
    m = lstm_net()
    return checked(m, (series(64)), MSE, lambda ps: torch.optim.Adam(list(ps)[:4], 2e-3))


@sick("UG701")
def layers_that_were_added_later() -> Diagnosis:
    m = chain(12, 32, 4)
    o = sgd(m, 0.05)
    m.insert(2, nn.Linear(32, 32))
    m.insert(3, nn.ReLU())
    return train(m, o, table(), CE)


@healthy("UG701")
def a_frozen_body() -> Diagnosis:
    m = conv_net()
    for p in m[:-1].parameters():
        p.requires_grad_(False)
    return train(m, torch.optim.Adam(m[-1].parameters(), 5e-3), pictures(), CE)


@healthy("UG701")
def a_body_that_was_trained_before_it_was_frozen() -> Diagnosis:
    m, batch = conv_net(), pictures()
    x, y = batch
    CE(m(x), y).backward()  # leaves gradients in .grad
    for p in m[:-1].parameters():
        p.requires_grad_(False)
    return train(m, torch.optim.Adam(m[-1].parameters(), 5e-3), batch, CE)


@healthy("UG701")
def two_optimizers_for_two_parts() -> Diagnosis:
    m = Net(lambda net, x: net.dec(net.enc(x)), enc=chain(12, 24, 6), dec=chain(6, 24, 12))
    one, two = torch.optim.Adam(m.enc.parameters(), 1e-3), torch.optim.SGD(m.dec.parameters(), 0.05)
    x, _ = numbers()
    return train(
        m,
        one,
        (x, x),
        MSE,
        step=lambda i: (one.step(), two.step()),
        clear=lambda i: (one.zero_grad(), two.zero_grad()),
    )


@healthy("UG701")
def a_second_optimizer_that_steps_every_fifth_time() -> Diagnosis:
    m = Net(lambda net, x: net.head(net.body(x).relu()), body=nn.Linear(12, 32), head=nn.Linear(32, 4))
    one, two = torch.optim.SGD(m.head.parameters(), 0.05), torch.optim.SGD(m.body.parameters(), 0.05)
    return train(
        m,
        one,
        table(),
        CE,
        step=lambda i: (one.step(), two.step() if i % 5 == 4 else None),
        clear=lambda i: m.zero_grad(),
    )


@healthy("UG701")
def a_momentum_teacher_inside_the_model() -> Diagnosis:
    student = chain(12, 24, 4)
    m = Net(
        lambda net, x: net.student(x) + 0 * net.teacher(x).detach(),
        student=student,
        teacher=copy.deepcopy(student),
    )

    def follow(i: int) -> None:
        with torch.no_grad():
            for a, b in zip(m.teacher.parameters(), m.student.parameters()):
                a.lerp_(b, 0.05)

    return train(m, torch.optim.Adam(m.student.parameters(), 2e-3), table(), CE, after=follow)


@healthy("UG701")
def an_optimizer_that_also_trains_the_loss() -> Diagnosis:
    m, scale = chain(12, 32, 4), nn.Parameter(torch.zeros(()))
    o = torch.optim.Adam([*m.parameters(), scale], 2e-3)
    return train(m, o, table(), lambda out, y: CE(out * scale.exp(), y))


@healthy("UG701")
def a_group_that_is_added_when_it_is_unfrozen() -> Diagnosis:
    m = chain(12, 32, 32, 4)
    for p in m[0].parameters():
        p.requires_grad_(False)
    o = torch.optim.Adam(m[2:].parameters(), 2e-3)

    def thaw(i: int) -> None:
        if i == 40:
            for p in m[0].parameters():
                p.requires_grad_(True)
            o.add_param_group({"params": list(m[0].parameters())})

    return train(m, o, table(), CE, before=thaw)


@healthy("UG701")
def tied_weights_are_held_once() -> Diagnosis:
    m = Net(lambda net, x: net.head(net.body(net.embed(x))).mean(1), embed=nn.Embedding(30, 16), body=nn.Linear(16, 16),
            head=nn.Linear(16, 30, bias=False))  # fmt: skip
    m.head.weight = m.embed.weight
    nn.init.normal_(m.embed.weight, std=0.2)
    x, _ = texts()
    return train(m, adam(m, 3e-3), (x, x[:, 0]), CE)


@healthy("UG701")
def a_critic_that_is_trained_by_its_own_optimizer() -> Diagnosis:
    m = Net(lambda net, x: net.q(torch.cat([x, net.pi(x)], 1)), pi=chain(6, 24, 2), q=chain(8, 24, 1))
    pi, q = torch.optim.Adam(m.pi.parameters(), 1e-3), torch.optim.Adam(m.q.parameters(), 1e-3)
    with ug.Probe(m, pi, every=2) as probe:
        for _ in range(40):
            x, a = torch.randn(64, 6), torch.randn(64, 2)
            q.zero_grad()
            MSE(m.q(torch.cat([x, a], 1)), (x[:, :1] * a[:, :1])).backward()
            q.step()
            pi.zero_grad()
            (-m(x)).mean().backward()
            pi.step()
    return ug.diagnose(probe.record, select=["UG7", "UG506"])


# ---- UG702: no step ----------------------------------------------------------------------------------------------


@sick("UG702")
def step_without_parentheses() -> Diagnosis:
    m = chain(12, 32, 4)
    o = sgd(m)
    return train(m, o, table(), CE, step=lambda i: o.step)


@sick("UG702")
def only_the_schedule_steps() -> Diagnosis:
    m = conv_net()
    o = adam(m)
    s = torch.optim.lr_scheduler.ExponentialLR(o, 0.99)
    return train(m, o, pictures(), CE, 30, step=lambda i: s.step())


@sick("UG702")
def accumulation_over_more_batches_than_there_are() -> Diagnosis:
    m = lstm_net()
    o = adam(m)
    return train(m, o, series(), MSE, 24, clear=nothing, step=lambda i: o.step() if i % 32 == 31 else None)


@sick("UG702")
def another_models_optimizer_steps() -> Diagnosis:
    m = chain(12, 32, 1)
    other = torch.optim.SGD(copy.deepcopy(m).parameters(), 0.1)
    return train(m, sgd(m), numbers(), MSE, 40, step=lambda i: other.step())


@sick("UG702")
def a_step_only_where_the_loss_is_below_zero() -> Diagnosis:
    m = encoder()
    o = adam(m)
    return train(m, o, texts(), CE, 25, every=1, step=lambda i: None)


@sick("UG702")
def updates_of_copies() -> Diagnosis:
    m = chain(12, 32, 4)
    o = sgd(m)

    def step(i: int) -> None:
        for p in m.parameters():
            q = p.detach().clone()
            q.sub_(p.grad, alpha=0.1)  # type: ignore[arg-type]

    return train(m, o, table(), CE, 40, step=step)


@healthy("UG702")
def sixteen_batches_before_the_first_step() -> Diagnosis:
    m = chain(12, 32, 4)
    o = sgd(m, 0.03 / 16)
    return train(
        m, o, table(), CE, 64, every=1, clear=lambda i: o.zero_grad() if i % 16 == 0 else None,
        step=lambda i: o.step() if i % 16 == 15 else None,
    )  # fmt: skip


@healthy("UG702")
def steps_by_hand() -> Diagnosis:
    m = chain(12, 32, 4)

    def step(i: int) -> None:
        for p in m.parameters():
            p.data.sub_(p.grad, alpha=0.1)  # type: ignore[arg-type]

    return train(m, sgd(m), table(), CE, 40, step=step)


@healthy("UG702")
def steps_of_another_optimizer_of_the_same_parameters() -> Diagnosis:
    m = lstm_net()
    other = adam(m)
    return train(m, sgd(m), series(), MSE, 40, step=lambda i: other.step())


class Sharp(torch.optim.Optimizer):
    """Sharpness-aware minimization as it is often written: its two steps have names of their own."""

    def __init__(self, params: Any, base: Any, rho: float = 0.05, **more: Any):
        super().__init__(params, dict(rho=rho, **more))
        self.base = base(self.param_groups, **more)
        self.param_groups = self.base.param_groups

    @torch.no_grad()
    def first_step(self) -> None:
        norm = torch.stack(
            [p.grad.norm() for g in self.param_groups for p in g["params"] if p.grad is not None]
        ).norm()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.state[p]["e"] = p.grad * (0.05 / (norm + 1e-12))
                    p.add_(self.state[p]["e"])
        self.zero_grad()

    @torch.no_grad()
    def second_step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.sub_(self.state[p]["e"])
        self.base.step()
        self.zero_grad()


@healthy("UG702")
def two_named_steps_of_a_sharpness_aware_optimizer() -> Diagnosis:
    m = chain(12, 32, 4)
    o = Sharp(m.parameters(), torch.optim.SGD, lr=0.1)
    x, y = table()
    with ug.Probe(m, o, every=5) as probe:
        for _ in range(30):
            CE(m(x[:64]), y[:64]).backward()
            o.first_step()
            CE(m(x[:64]), y[:64]).backward()
            o.second_step()
    return ug.diagnose(probe.record)


@healthy("UG702")
def a_few_passes_to_look_at_gradients() -> Diagnosis:
    m = conv_net()
    return train(m, adam(m), pictures(), CE, 4, step=nothing)


@healthy("UG702")
def a_scaler_that_skips_the_first_steps() -> Diagnosis:
    m = chain(12, 32, 4)
    o = sgd(m)
    return train(m, o, table(), CE, 60, step=lambda i: o.step() if i > 12 else None)


# ---- UG705: training goes on in eval mode ------------------------------------------------------------------------


def validating(m: nn.Module, at: Callable[[int], bool]) -> Callable[[int], None]:
    def validate(i: int) -> None:
        if at(i):
            m.eval()

    return validate


@sick("UG705")
def validated_once_and_never_back() -> Diagnosis:
    m = chain(12, 48, 4, drop=0.2)
    return train(m, adam(m), table(), CE, after=validating(m, lambda i: i == 30))


@sick("UG705")
def back_only_at_the_next_epoch() -> Diagnosis:
    m = conv_net(norm=True)

    def before(i: int) -> None:
        if i % 20 == 0:
            m.train()

    return train(m, adam(m), pictures(), CE, before=before, after=validating(m, lambda i: i % 20 == 8))


@sick("UG705")
def a_transformer_after_its_first_sample() -> Diagnosis:
    m = encoder(drop=0.1)
    return train(m, adam(m, 1e-3), texts(), CE, 120, every=10, after=validating(m, lambda i: i == 25))


@sick("UG705")
def dropout_inside_of_an_lstm() -> Diagnosis:
    m = Net(
        lambda net, x: net.head(net.rnn(x)[0][:, -1]),
        rnn=nn.LSTM(4, 24, 2, batch_first=True, dropout=0.2),
        head=nn.Linear(24, 1),
    )
    return train(m, adam(m), series(), MSE, after=validating(m, lambda i: i == 39))


@sick("UG705")
def every_hundredth_step_a_look_with_eval() -> Diagnosis:
    m = chain(12, 32, 1, norm=True)
    return train(m, sgd(m, 0.03), numbers(), MSE, 300, every=10, after=validating(m, lambda i: i == 99))


@sick("UG705")
def unet_validated_in_the_middle() -> Diagnosis:
    m = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout2d(0.1), nn.Conv2d(8, 4, 1)
    )
    x, _ = pictures()
    y = torch.bucketize(x.mean(1), torch.tensor([-0.4, 0.0, 0.4]))
    return train(m, adam(m), (x, y), CE, after=validating(m, lambda i: i == 49))


def looking_first(m: nn.Module, x: Tensor, *, back: bool) -> Callable[[int], None]:
    """Each step begins with a guess in eval mode; and with train mode again where it comes back."""

    def before(i: int) -> None:
        m.eval()
        with torch.no_grad():
            m(x)
        m.train(back)

    return before


@sick("UG705")
def a_guess_before_each_step_and_a_last_pass_in_train_mode() -> Diagnosis:
    m, data = chain(12, 32, 4, norm=True), table()

    def after(i: int) -> None:
        if i == 59:
            m.train()(data[0])

    return train(m, adam(m), data, CE, 60, before=looking_first(m, data[0], back=False), after=after)


@healthy("UG705")
def a_guess_before_each_step_and_back_to_train_mode() -> Diagnosis:
    m, data = chain(12, 32, 4, norm=True), table()
    return train(m, adam(m), data, CE, 60, before=looking_first(m, data[0], back=True))


@healthy("UG705")
def back_after_each_validation() -> Diagnosis:
    m = chain(12, 48, 4, drop=0.1)
    return train(
        m, adam(m), table(), CE, before=lambda i: m.train(), after=validating(m, lambda i: i % 10 == 9)
    )


@healthy("UG705")
def frozen_batch_norms() -> Diagnosis:
    m = conv_net(norm=True)

    def before(i: int) -> None:
        m.train()
        if i >= 20:
            for part in m.modules():
                if isinstance(part, nn.BatchNorm2d):
                    part.eval()

    return train(m, adam(m), pictures(), CE, before=before)


@healthy("UG705")
def fine_tuned_in_eval_mode_from_the_start() -> Diagnosis:
    m = encoder(drop=0.1).eval()
    return train(m, adam(m, 1e-3), texts(), CE)


@healthy("UG705")
def a_model_whose_modes_are_the_same() -> Diagnosis:
    m = chain(12, 32, 4)
    return train(m, sgd(m), table(), CE, after=validating(m, lambda i: i == 30))


@healthy("UG705")
def passes_in_eval_mode_between_steps() -> Diagnosis:
    m = chain(12, 32, 4, drop=0.1)
    x, y = table()

    def look(i: int) -> None:
        m.eval()
        CE(m(x[:16]), y[:16])  # with gradients, for a saliency map that is thrown away
        m.train()

    return train(m, adam(m), (x, y), CE, after=look)


@healthy("UG705")
def rollouts_in_eval_mode() -> Diagnosis:
    m = chain(6, 32, 2, drop=0.05)
    o = adam(m)
    with ug.Probe(m, o, every=2) as probe:
        for _ in range(40):
            m.eval()
            with torch.no_grad():
                x = torch.randn(64, 6)
                a = torch.distributions.Categorical(logits=m(x)).sample()
            m.train()
            o.zero_grad()
            reward = (a == (x[:, 0] > 0)).float()
            (-(reward - 0.5) * torch.distributions.Categorical(logits=m(x)).log_prob(a)).mean().backward()
            o.step()
    return ug.diagnose(probe.record)


# ---- UG507: decay dominates ----------------------------------------------------------------------------------------


@sick("UG507")
def sgd_with_a_decay_of_a_half() -> Diagnosis:
    m = conv_net()
    return train(m, sgd(m, 0.05, momentum=0.9, weight_decay=0.5), pictures(), CE, 150)


@sick("UG507")
def adam_with_a_decay_of_one_in_its_gradient() -> Diagnosis:
    m = chain(12, 48, 48, 4)
    return train(m, adam(m, 2e-3, weight_decay=1.0), table(), CE, 200)


@sick("UG507")
def adamw_with_a_decay_of_twenty() -> Diagnosis:
    m = lstm_net()
    return train(m, torch.optim.AdamW(m.parameters(), 2e-3, weight_decay=20.0), series(), MSE, 200)


@sick("UG507")
def a_penalty_on_the_weights_in_the_loss() -> Diagnosis:
    m = chain(12, 48, 48, 1)
    return train(
        m,
        sgd(m, 0.1),
        numbers(),
        lambda o, y: MSE(o, y) + 0.5 * sum(p.square().sum() for p in m.parameters()),
        150,
    )


@sick("UG507")
def a_decay_of_a_tenth_for_a_deep_network() -> Diagnosis:
    m = chain(12, 48, 48, 48, 48, 4, act=nn.Tanh)
    return train(m, sgd(m, 0.3, weight_decay=0.1), table(), CE, 250)


@sick("UG507")
def an_encoder_whose_rate_times_decay_is_a_fiftieth() -> Diagnosis:
    m = encoder()
    return train(m, torch.optim.AdamW(m.parameters(), 1e-3, weight_decay=30.0), texts(), CE, 200)


@sick("UG507")
def a_check_of_a_decay_of_a_half() -> Diagnosis:
    m = chain(12, 48, 48, 4)
    return checked(
        m, table(128), CE, lambda p: torch.optim.SGD(p, 0.2, momentum=0.9, weight_decay=0.5), steps=30
    )


@healthy("UG507")
def sgd_with_the_usual_decay() -> Diagnosis:
    m = conv_net()
    return train(m, sgd(m, 0.05, momentum=0.9, weight_decay=5e-4), pictures(), CE, 150)


@healthy("UG507")
def adamw_with_a_tenth() -> Diagnosis:
    m = encoder()
    return train(m, torch.optim.AdamW(m.parameters(), 1e-3, weight_decay=0.1), texts(), CE, 200)


@healthy("UG507")
def a_large_start_that_a_decay_brings_down() -> Diagnosis:
    m = chain(12, 48, 4, act=nn.Tanh)
    with torch.no_grad():
        m[2].weight.mul_(3)
    return train(m, sgd(m, 0.1, weight_decay=5e-3), table(), CE, 300)


@healthy("UG507")
def weights_before_batch_norm_with_a_decay() -> Diagnosis:
    m = conv_net(norm=True)
    return train(m, sgd(m, 0.05, momentum=0.9, weight_decay=5e-3), pictures(), CE, 200)


@healthy("UG507")
def targets_of_zero_draw_the_head_to_zero() -> Diagnosis:
    m = chain(12, 32, 1)
    x, _ = numbers()
    return train(m, adam(m, 3e-3), (x, 0.1 * torch.randn(len(x), 1)), MSE, 200)


@healthy("UG507")
def lion_like_rates_with_a_decay_of_one() -> Diagnosis:
    m = chain(12, 48, 4)
    return train(m, torch.optim.AdamW(m.parameters(), 1e-3, weight_decay=1.0), table(), CE, 250)


# ---- UG508: no update at all -----------------------------------------------------------------------------------------


def scheduled(
    m: nn.Module, o: torch.optim.Optimizer, s: Any, data: Any, loss: Any, steps: int = 120, **more: Any
) -> Diagnosis:
    return train(m, o, data, loss, steps, after=lambda i: s.step(), **more)


@sick("UG508")
def a_step_schedule_for_epochs_that_counts_batches() -> Diagnosis:
    m = chain(12, 32, 1)
    o = adam(m)
    return scheduled(m, o, torch.optim.lr_scheduler.StepLR(o, 4, 0.1), numbers(), MSE)


@sick("UG508")
def an_exponential_schedule_of_a_half_per_batch() -> Diagnosis:
    m = conv_net()
    o = sgd(m, 0.05)
    return scheduled(m, o, torch.optim.lr_scheduler.ExponentialLR(o, 0.5), pictures(), CE)


@sick("UG508")
def a_polynomial_that_ended_after_a_quarter() -> Diagnosis:
    m = encoder()
    o = adam(m, 1e-3)
    return scheduled(m, o, torch.optim.lr_scheduler.PolynomialLR(o, 30), texts(), CE, 120)


@sick("UG508")
def bfloat16_weights_with_a_tiny_rate() -> Diagnosis:
    m = chain(12, 32, 4).bfloat16()
    x, y = table()
    return train(m, adam(m, 2e-6), (x.bfloat16(), y), CE, 60)


@sick("UG508")
def a_factor_that_became_zero_by_whole_division() -> Diagnosis:
    m = lstm_net()
    o = adam(m)
    return scheduled(
        m, o, torch.optim.lr_scheduler.LambdaLR(o, lambda i: 1 - i // 20 if i < 40 else 0), series(), MSE, 100
    )


@sick("UG508")
def one_group_whose_rate_a_schedule_took_to_zero() -> Diagnosis:
    m = chain(12, 32, 32, 4)
    o = torch.optim.Adam([{"params": m[0].parameters()}, {"params": m[2:].parameters()}], 2e-3)

    def after(i: int) -> None:
        o.param_groups[0]["lr"] *= 0.2

    return train(m, o, table(), CE, 120, after=after)


@healthy("UG508")
def a_warm_up_from_zero() -> Diagnosis:
    m = chain(12, 32, 4)
    o = adam(m)
    return scheduled(m, o, torch.optim.lr_scheduler.LambdaLR(o, lambda i: min(1.0, i / 20)), table(), CE, 150)


@healthy("UG508")
def a_cosine_that_ends_at_zero() -> Diagnosis:
    m = conv_net()
    o = adam(m)
    return scheduled(m, o, torch.optim.lr_scheduler.CosineAnnealingLR(o, 120), pictures(), CE, 120)


@healthy("UG508")
def units_that_get_no_gradient() -> Diagnosis:
    m = chain(12, 64, 4)
    with torch.no_grad():
        m[0].bias[:4] = -30
    return train(m, sgd(m, 0.1), table(), CE)


@healthy("UG508")
def a_task_that_is_solved_to_the_last_digit() -> Diagnosis:
    m = nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 1))
    x = torch.randn(16, 12)
    return train(m, sgd(m, 0.1), (x, 0.3 * x[:, :1]), MSE, 2500, every=50, size=16)


@healthy("UG508")
def a_frozen_embedding() -> Diagnosis:
    m = encoder()
    m.embed.weight.requires_grad_(False)
    return train(m, torch.optim.Adam([p for p in m.parameters() if p.requires_grad], 1e-3), texts(), CE)


@healthy("UG508")
def a_group_at_rate_zero_on_purpose() -> Diagnosis:
    m = chain(12, 32, 32, 4)
    o = torch.optim.Adam([{"params": m[0].parameters(), "lr": 0.0}, {"params": m[2:].parameters()}], 2e-3)
    return train(m, o, table(), CE)


# ---- UG704: clipped away -----------------------------------------------------------------------------------------


def norm_clip(m: nn.Module, most: float) -> Callable[[int], Any]:
    return lambda i: nn.utils.clip_grad_norm_(m.parameters(), most)


@sick("UG704")
def a_norm_of_a_thousandth() -> Diagnosis:
    m = chain(12, 48, 4)
    return train(m, sgd(m, 0.1), table(), CE, clip=norm_clip(m, 1e-3))


@sick("UG704")
def values_of_a_hundred_thousandth() -> Diagnosis:
    m = conv_net()
    return train(
        m,
        sgd(m, 0.05, momentum=0.9),
        pictures(),
        CE,
        clip=lambda i: nn.utils.clip_grad_value_(m.parameters(), 1e-6),
    )


@sick("UG704")
def adaptive_clipping_of_a_hundred_thousandth() -> Diagnosis:
    m = chain(12, 48, 48, 1)
    o = sgd(m, 0.1)
    ug.optim.AGC(o, m, clipping=1e-5)
    return train(m, o, numbers(), MSE)


@sick("UG704")
def an_lstm_clipped_to_a_thousandth() -> Diagnosis:
    m = lstm_net()
    return train(m, sgd(m, 0.3), series(), MSE, clip=norm_clip(m, 5e-4))


@sick("UG704")
def adaptive_clipping_with_momentum() -> Diagnosis:
    m = conv_net()
    o = sgd(m, 0.1)
    ug.optim.AGC(o, m, clipping=2e-4, exclude=())
    return train(m, o, pictures(), CE)


@sick("UG704")
def an_encoder_clipped_by_hand() -> Diagnosis:
    m = encoder()

    def clip(i: int) -> None:
        norm = torch.stack([p.grad.norm() for p in m.parameters()]).norm()
        for p in m.parameters():
            p.grad.mul_((1e-3 / norm).clamp(max=1))

    return train(m, sgd(m, 0.2), texts(), CE, clip=clip)


@healthy("UG704")
def a_norm_of_one() -> Diagnosis:
    m = chain(12, 48, 4)
    return train(m, sgd(m, 0.1), table(), CE, clip=norm_clip(m, 1.0))


@healthy("UG704")
def adam_does_not_mind_a_small_norm() -> Diagnosis:
    m = encoder()
    return train(m, adam(m, 1e-3), texts(), CE, clip=norm_clip(m, 1e-2))


@healthy("UG704")
def a_high_rate_and_a_low_norm() -> Diagnosis:
    m = lstm_net()
    return train(m, sgd(m, 8.0), series(), MSE, clip=norm_clip(m, 0.01))


@healthy("UG704")
def adaptive_clipping_as_published() -> Diagnosis:
    m = conv_net()
    o = sgd(m, 0.5)
    ug.optim.AGC(o, m, clipping=0.02)
    return train(m, o, pictures(), CE)


@healthy("UG704")
def gradients_summed_and_divided_by_their_number() -> Diagnosis:
    m = chain(12, 48, 1)

    def divide(i: int) -> None:
        for p in m.parameters():
            p.grad.div_(32)

    return train(m, sgd(m, 0.05), numbers(), lambda o, y: F.mse_loss(o, y, reduction="sum"), clip=divide)


@healthy("UG704")
def a_loss_scale_that_is_taken_out() -> Diagnosis:
    m = chain(12, 48, 4)

    def unscale(i: int) -> None:
        for p in m.parameters():
            p.grad.mul_(2.0**-16)

    return train(m, sgd(m, 0.1), table(), lambda o, y: CE(o, y) * 2.0**16, clip=unscale)


# ---- UG407: eps of the optimizer ------------------------------------------------------------------------------------


def halves(data: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return data[0].half(), data[1].half() if data[1].is_floating_point() else data[1]


@sick("UG407")
def adam_on_half_precision_weights() -> Diagnosis:
    m = chain(12, 48, 4).half()
    return train(m, adam(m, 1e-3), halves(table()), CE, 30)


@sick("UG407")
def rmsprop_on_half_precision_weights() -> Diagnosis:
    m = chain(12, 48, 1, act=nn.Tanh).half()
    return train(m, torch.optim.RMSprop(m.parameters(), 1e-3), halves(numbers()), MSE, 30)


@sick("UG407")
def a_check_of_adamw_in_half_precision() -> Diagnosis:
    m = chain(12, 48, 4).half()
    return checked(m, halves(table(64)), CE, lambda p: torch.optim.AdamW(p, 1e-3))


@sick("UG407")
def one_half_precision_layer() -> Diagnosis:
    m = Net(
        lambda net, x: net.b(net.a(x.half()).relu().float()), a=nn.Linear(12, 32).half(), b=nn.Linear(32, 4)
    )
    return train(m, adam(m, 1e-3), table(), CE, 30)


@sick("UG407")
def adagrad_in_half_precision() -> Diagnosis:
    m = chain(12, 32, 1).half()
    return train(m, torch.optim.Adagrad(m.parameters(), 1e-2), halves(numbers()), MSE, 30)


@sick("UG407")
def an_optimizer_that_has_made_no_step_yet() -> Diagnosis:
    m = chain(12, 32, 4).half()
    return checked(m, halves(table(64)), CE, adam(m, 1e-3), steps=0)


@healthy("UG407")
def adam_in_bfloat16() -> Diagnosis:
    m = chain(12, 48, 4).bfloat16()
    x, y = table()
    return train(m, adam(m, 5e-3), (x.bfloat16(), y), CE, 60)


@healthy("UG407")
def sgd_on_half_precision_weights() -> Diagnosis:
    m = chain(12, 48, 4).half()
    return train(m, sgd(m, 0.05), halves(table()), CE, 60)


@healthy("UG407")
def adam_with_a_larger_eps_in_half_precision() -> Diagnosis:
    m = chain(12, 48, 4).half()
    return train(m, adam(m, 2e-3, eps=1e-4), halves(table()), CE, 60)


@healthy("UG407")
def adam_with_a_tiny_eps_in_float32() -> Diagnosis:
    m = chain(12, 48, 4)
    return train(m, adam(m, eps=1e-15), table(), CE, 60)


@healthy("UG407")
def float32_weights_under_autocast() -> Diagnosis:
    m = chain(12, 48, 4)

    def loss(o: Tensor, y: Tensor) -> Tensor:
        return CE(o.float(), y)

    class Cast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.m = m

        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return self.m(x)

    cast = Cast()
    return train(cast, adam(cast), table(), loss, 60)


@healthy("UG407")
def float32_copies_in_the_optimizer() -> Diagnosis:
    m = chain(12, 48, 4).half()
    copies = [nn.Parameter(p.detach().float()) for p in m.parameters()]
    o = torch.optim.Adam([*copies, *(nn.Parameter(torch.zeros(())),)], 2e-3)

    def step(i: int) -> None:
        for a, b in zip(copies, m.parameters()):
            a.grad = b.grad.float()
        o.step()
        with torch.no_grad():
            for a, b in zip(copies, m.parameters()):
                b.copy_(a)

    data, x = halves(table()), None
    del x
    with ug.Probe(m, None, every=5) as probe:
        batches = endless(data)
        for i in range(40):
            m.zero_grad()
            a, b = next(batches)
            CE(m(a), b).backward()
            step(i)
    return ug.diagnose(probe.record)


# ---- UG304: units that died in training -----------------------------------------------------------------------------


@sick("UG304")
def adam_at_a_third_kills_an_mlp() -> Diagnosis:
    m = chain(12, 100, 100, 4)
    return train(m, adam(m, 0.3), table(), CE, 150, size=64)


@sick("UG304")
def one_burst_of_the_learning_rate() -> Diagnosis:
    m = chain(12, 128, 128, 4)
    o = sgd(m, 0.05, momentum=0.9)

    def burst(i: int) -> None:
        o.param_groups[0]["lr"] = 3.0 if i in (40, 41) else 0.05

    return train(m, o, table(), CE, 200, before=burst, size=64)


@sick("UG304")
def a_loss_that_counts_thirtyfold_for_three_steps() -> Diagnosis:
    m = chain(12, 128, 1)
    weight = {"now": 1.0}

    def before(i: int) -> None:
        weight["now"] = 30.0 if i in (60, 61, 62) else 1.0

    return train(
        m,
        sgd(m, 0.02),
        numbers(),
        lambda o, y: weight["now"] * MSE(o, y),
        240,
        before=before,
        size=64,
        log=False,
    )


@sick("UG304")
def a_schedule_that_warms_up_too_far() -> Diagnosis:
    m = chain(12, 96, 96, 4)
    o = adam(m, 1e-3)

    def warm(i: int) -> None:
        o.param_groups[0]["lr"] = 1e-3 + 0.4 * max(0, min(i - 20, 40)) / 40

    return train(m, o, table(), CE, 200, before=warm, size=64)


@sick("UG304")
def a_conv_net_at_a_high_rate() -> Diagnosis:
    m = conv_net()
    return train(m, adam(m, 0.3), pictures(), CE, 150)


@sick("UG304")
def a_bias_that_is_pushed_down() -> Diagnosis:
    m = chain(12, 96, 4)

    def push(i: int) -> None:
        if i == 50:
            with torch.no_grad():
                m[0].bias[:40] -= 30

    return train(m, sgd(m, 0.05), table(), CE, 150, before=push, size=64)


@healthy("UG304")
def sparse_units_stay_alive() -> Diagnosis:
    m = chain(12, 96, 96, 4)
    with torch.no_grad():
        m[0].bias.sub_(0.6)  # type: ignore[union-attr]
    return train(m, adam(m), table(), CE, 200, size=64)


@healthy("UG304")
def a_long_training_at_the_right_rate() -> Diagnosis:
    m = conv_net()
    return train(m, adam(m, 1e-3), pictures(), CE, 300)


@healthy("UG304")
def few_examples_in_wide_layers() -> Diagnosis:
    m = chain(12, 1024, 1024, 4)
    return train(m, adam(m, 3e-4), table(), CE, 100, size=8)


@healthy("UG304")
def a_regression_with_momentum() -> Diagnosis:
    m = chain(12, 64, 64, 1)
    return train(m, sgd(m, 0.02, momentum=0.9), numbers(), MSE, 250, size=64)


@healthy("UG304")
def a_gelu_network() -> Diagnosis:
    m = chain(12, 64, 64, 4, act=nn.GELU)
    return train(m, adam(m), table(), CE, 200, size=64)


@healthy("UG304")
def experts_that_are_used_by_turns() -> Diagnosis:
    m = Net(lambda net, x: net.a(x) if net.turn < 60 else net.b(x), a=chain(12, 48, 4), b=chain(12, 48, 4))
    m.turn = 0

    def count(i: int) -> None:
        m.turn = i % 120

    return train(m, adam(m), table(), CE, 240, before=count, size=64)


# ---- UG503: one group's rate -----------------------------------------------------------------------------------------


def grouped(
    m: nn.Module, part: nn.Module, rate: float, others: float, kind: Any = torch.optim.Adam
) -> torch.optim.Optimizer:
    own = {id(p) for p in part.parameters()}
    rest = [p for p in m.parameters() if id(p) not in own]
    return kind([{"params": list(part.parameters()), "lr": rate}, {"params": rest, "lr": others}], lr=others)


@sick("UG503")
def a_head_at_a_millionth() -> Diagnosis:
    m = chain(12, 48, 4)
    return train(m, grouped(m, m[-1], 2e-9, 2e-3), table(), CE)


@sick("UG503")
def an_embedding_at_a_millionth() -> Diagnosis:
    m = encoder()
    return train(m, grouped(m, m.embed, 1e-9, 1e-3), texts(), CE)


@sick("UG503")
def a_two_layer_body_at_a_millionth() -> Diagnosis:
    m = conv_net()
    return train(m, grouped(m, m[:6], 1e-7, 0.1, torch.optim.SGD), pictures(), CE)


@sick("UG503")
def an_lstm_at_a_ten_millionth() -> Diagnosis:
    m = lstm_net()
    return checked(m, series(64), MSE, grouped(m, m.rnn, 2e-10, 2e-3), steps=20)


@sick("UG503")
def a_fine_tuned_body_with_a_zero_too_many() -> Diagnosis:
    m = chain(12, 48, 48, 48, 48, 48, 4)
    return train(m, grouped(m, m[:3], 1e-9, 1e-3), table(), CE)


@sick("UG503")
def a_decoder_at_a_millionth() -> Diagnosis:
    m = Net(lambda net, x: net.dec(net.enc(x)), enc=chain(12, 24, 6), dec=chain(6, 24, 12))
    x, _ = numbers()
    return train(m, grouped(m, m.dec, 1e-9, 1e-3), (x, x), MSE)


@healthy("UG503")
def a_body_at_a_hundredth() -> Diagnosis:
    m = conv_net()
    return train(m, grouped(m, m[:6], 5e-5, 5e-3), pictures(), CE)


@healthy("UG503")
def layerwise_decay_to_a_thousandth() -> Diagnosis:
    m = chain(12, 48, 48, 48, 48, 4)
    groups = [
        {"params": list(layer.parameters()), "lr": 2e-3 * 0.2 ** (4 - k)} for k, layer in enumerate(m[::2])
    ]
    return train(m, torch.optim.Adam(groups, 2e-3), table(), CE)


@healthy("UG503")
def a_temperature_with_its_own_rate() -> Diagnosis:
    m = Net(
        lambda net, x: net.body(x) * net.scale.exp(),
        body=chain(12, 48, 4),
        scale=nn.Parameter(torch.zeros(())),
    )
    return train(
        m,
        torch.optim.Adam([{"params": [m.scale], "lr": 1e-2}, {"params": m.body.parameters()}], 2e-3),
        table(),
        CE,
    )


@healthy("UG503")
def biases_without_decay() -> Diagnosis:
    m = chain(12, 48, 48, 4)
    return train(m, torch.optim.AdamW(ug.optim.param_groups(m, 0.05), 2e-3), table(), CE)


@healthy("UG503")
def the_same_rate_in_many_groups() -> Diagnosis:
    m = encoder()
    return train(m, torch.optim.Adam([{"params": [p]} for p in m.parameters()], 1e-3), texts(), CE)


@healthy("UG503")
def an_empty_group_of_another_rate() -> Diagnosis:
    m = chain(12, 48, 4)
    return train(
        m, torch.optim.Adam([{"params": m.parameters()}, {"params": [], "lr": 1e-9}], 2e-3), table(), CE
    )


# ---- UG509: gradients that are cleared before the step ------------------------------------------------------------


@sick("UG509")
def cleared_after_backward() -> Diagnosis:
    m = chain(12, 32, 4)
    o = sgd(m)
    return train(m, o, table(), CE, clear=nothing, clip=lambda i: o.zero_grad())


@sick("UG509")
def set_to_zero_after_backward() -> Diagnosis:
    m = conv_net()
    o = adam(m)
    return train(m, o, pictures(), CE, 60, clip=lambda i: o.zero_grad(set_to_none=False))


@sick("UG509")
def the_model_is_cleared_in_the_line_of_clipping() -> Diagnosis:
    m = lstm_net()
    return train(m, adam(m), series(), MSE, 60, clip=lambda i: m.zero_grad())


@sick("UG509")
def gradients_freed_by_hand_too_early() -> Diagnosis:
    m = encoder()

    def free(i: int) -> None:
        for p in m.parameters():
            p.grad = None

    return train(m, adam(m), texts(), CE, 40, every=2, clip=free)


@sick("UG509")
def accumulation_cleared_one_line_too_high() -> Diagnosis:
    m = chain(12, 32, 1)
    o = sgd(m)

    def step(i: int) -> None:
        if i % 4 == 3:
            o.zero_grad()
            o.step()

    return train(m, o, numbers(), MSE, 160, every=2, clear=nothing, step=step)


@sick("UG509")
def cleared_at_most_steps() -> Diagnosis:
    m = chain(12, 32, 4)
    o = sgd(m)
    return train(m, o, table(), CE, 120, every=1, clip=lambda i: o.zero_grad() if i % 4 else None)


@healthy("UG509")
def cleared_right_after_the_step() -> Diagnosis:
    m = chain(12, 32, 4)
    o = sgd(m)
    return train(m, o, table(), CE, clear=nothing, after=lambda i: o.zero_grad())


@healthy("UG509")
def a_closure_that_clears_and_computes() -> Diagnosis:
    m = chain(12, 24, 1, act=nn.Tanh)
    o = torch.optim.SGD(m.parameters(), 0.1)
    batches = endless(numbers())
    with ug.Probe(m, o, every=2) as probe:
        for _ in range(40):
            x, y = next(batches)

            def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
                o.zero_grad()
                loss = MSE(m(x), y)
                loss.backward()
                return loss

            probe.log(loss=o.step(closure))  # type: ignore[arg-type]
    return ug.diagnose(probe.record)


@healthy("UG509")
def only_the_last_row_learns() -> Diagnosis:
    """A new word is learnt (textual inversion): the gradients of all others are set to zero, line after line."""
    m = chain(12, 32, 64)
    o = sgd(m)

    def keep_the_last(i: int) -> None:
        for p in m.parameters():
            p.grad[:-1] = 0

    return train(m, o, table(), CE, 60, clip=keep_the_last)


@healthy("UG509")
def most_of_the_largest_layer_stays() -> Diagnosis:
    m = chain(12, 64, 64, 4)

    def keep_one_unit(i: int) -> None:
        m[2].weight.grad[:-1] = 0

    return train(m, sgd(m), table(), CE, 60, clip=keep_one_unit)


@healthy("UG509")
def a_batch_left_out_now_and_then() -> Diagnosis:
    m = chain(12, 32, 4)
    o = sgd(m)
    return train(m, o, table(), CE, 80, every=1, clip=lambda i: o.zero_grad() if i % 9 == 4 else None)


@healthy("UG509")
def a_discriminator_cleared_of_its_generators_gradients() -> Diagnosis:
    g, d = chain(4, 24, 12), chain(12, 24, 1)
    og, od = adam(g, 1e-3), adam(d, 1e-3)
    x, _ = table()
    with ug.Probe(d, od, every=2) as probe:
        for _ in range(60):
            fake = g(torch.randn(32, 4))
            og.zero_grad()
            BCE(d(fake), torch.ones(32, 1)).backward()
            og.step()
            od.zero_grad()
            a, b = d(x[torch.randint(len(x), (32,))]), d(fake.detach())
            (BCE(a, torch.ones_like(a)) + BCE(b, torch.zeros_like(b))).backward()
            od.step()
    return ug.diagnose(probe.record)


@healthy("UG509")
def every_second_batch_has_a_loss_of_zero() -> Diagnosis:
    m = lstm_net()
    weights = itertools.cycle([1.0, 0.0])
    return train(
        m, sgd(m, 0.05), series(), lambda out, y: next(weights) * MSE(out, y), 120, every=1, log=False
    )


@healthy("UG509")
def gradients_clipped_and_kept() -> Diagnosis:
    m = encoder()
    return train(
        m, adam(m, 1e-3), texts(), CE, 80, clip=lambda i: nn.utils.clip_grad_norm_(m.parameters(), 1.0)
    )


PARTS = "parts"


def in_parts(
    model: nn.Module,
    optimizer: Any,
    data: tuple[Tensor, Tensor],
    loss: Callable[[Tensor, Tensor], Tensor],
    part: Callable[[int, Tensor, Tensor], Any],
    parts: int = 4,
    steps: int = 40,
    before_step: Callable[[], Any] = nothing,
    after_step: Callable[[], Any] = nothing,
    size: int = 16,
    every: int = 3,
) -> Diagnosis:
    """Trains with `parts` backward passes for each step; part(number, x, y) comes before each of them."""
    batches = endless(data, size)
    with ug.Probe(model, optimizer, every=every) as probe:
        for _ in range(steps):
            value = torch.zeros(())
            for number in range(parts):
                x, y = next(batches)
                part(number, x, y)
                value = loss(model(x), y)
                (value / parts).backward()
            before_step()
            optimizer.step()
            after_step()
            probe.log(loss=value.detach())
    return ug.diagnose(probe.record)


@sick("UG509", PARTS)
def cleared_for_each_part_of_a_batch() -> Diagnosis:
    m = chain(12, 32, 4)
    o = adam(m, 1e-3)
    return in_parts(m, o, table(), CE, lambda *_: o.zero_grad())


@sick("UG509", PARTS)
def set_to_zero_for_each_part_of_a_batch() -> Diagnosis:
    m = conv_net()
    o = sgd(m, 0.05)
    return in_parts(m, o, pictures(), CE, lambda *_: o.zero_grad(set_to_none=False))


@sick("UG509", PARTS)
def the_model_is_cleared_for_each_part_and_the_gradients_clipped() -> Diagnosis:
    m = lstm_net()
    clip = lambda: nn.utils.clip_grad_norm_(m.parameters(), 1.0)  # noqa: E731
    return in_parts(m, adam(m, 1e-3), series(), MSE, lambda *_: m.zero_grad(), parts=3, before_step=clip)


@sick("UG509", PARTS)
def a_step_after_every_eighth_batch_and_cleared_after_each() -> Diagnosis:
    m = chain(12, 32, 1)
    o = adam(m, 1e-3)
    batches = endless(numbers(), 8)
    with ug.Probe(m, o, every=2) as probe:
        for i in range(240):
            x, y = next(batches)
            o.zero_grad()
            value = MSE(m(x), y)
            value.backward()
            if i % 8 == 7:
                o.step()
                probe.log(loss=value.detach())
    return ug.diagnose(probe.record)


@sick("UG509", PARTS)
def three_tasks_each_cleared_before_the_next() -> Diagnosis:
    m = encoder(classes=3)
    o = adam(m, 1e-3)
    x, y = texts()
    with ug.Probe(m, o, every=2) as probe:
        for _ in range(40):
            some = torch.randint(len(x), (32,))
            for task in range(3):
                o.zero_grad()
                value = BCE(m(x[some])[:, task], (y[some] == task).float())
                value.backward()
            o.step()
            probe.log(loss=value.detach())
    return ug.diagnose(probe.record)


@sick("UG509", PARTS)
def parts_cleared_by_hand() -> Diagnosis:
    m = chain(12, 32, 4, norm=True)
    o = sgd(m, 0.05)

    def clear(*_: Any) -> None:
        for p in m.parameters():
            if p.grad is not None:
                p.grad.zero_()

    return in_parts(m, o, table(), CE, clear, size=32)


@healthy("UG509", PARTS)
def cleared_for_the_first_part_alone() -> Diagnosis:
    m = chain(12, 32, 4)
    o = adam(m, 1e-3)
    return in_parts(m, o, table(), CE, lambda number, *_: o.zero_grad() if number == 0 else None)


@healthy("UG509", PARTS)
def weights_moved_for_sharpness() -> Diagnosis:
    m = chain(12, 32, 4)
    o = adam(m, 1e-3)
    batches = endless(table())
    with ug.Probe(m, o, every=3) as probe:
        for _ in range(40):
            x, y = next(batches)
            kept = [p.detach().clone() for p in m.parameters()]
            for _ in range(3):  # two steps up, and the gradient there
                o.zero_grad()
                value = CE(m(x), y)
                value.backward()
                with torch.no_grad():
                    for p in m.parameters():
                        if p.grad is not None:
                            p.add_(0.01 * p.grad)
            with torch.no_grad():
                for p, before in zip(m.parameters(), kept):
                    p.copy_(before)
            o.step()
            probe.log(loss=value.detach())
    return ug.diagnose(probe.record)


@healthy("UG509", PARTS)
def adversarial_examples_in_three_steps() -> Diagnosis:
    m = chain(12, 32, 4)
    o = adam(m, 1e-3)
    batches = endless(table())
    with ug.Probe(m, o, every=3) as probe:
        for _ in range(40):
            x, y = next(batches)
            bad = x.clone()
            for _ in range(3):
                bad.requires_grad_()
                o.zero_grad()
                CE(m(bad), y).backward()
                bad = (bad + 0.05 * bad.grad.sign()).detach()
            o.zero_grad()
            value = CE(m(bad), y)
            value.backward()
            o.step()
            probe.log(loss=value.detach())
    return ug.diagnose(probe.record)


@healthy("UG509", PARTS)
def gradients_of_tasks_put_together_by_hand() -> Diagnosis:
    m = chain(12, 32, 3)
    o = adam(m, 1e-3)
    x, _ = table()
    y = (x[:, :3] > 0).float()
    with ug.Probe(m, o, every=3) as probe:
        for _ in range(40):
            some = torch.randint(len(x), (32,))
            kept: list[list[Tensor]] = []
            for task in range(3):
                o.zero_grad()
                value = BCE(m(x[some])[:, task], y[some, task])
                value.backward()
                kept.append([p.grad.clone() for p in m.parameters()])
            for p, *grads in zip(m.parameters(), *kept):
                p.grad.copy_(torch.stack(grads).mean(0))
            o.step()
            probe.log(loss=value.detach())
    return ug.diagnose(probe.record)


@healthy("UG509", PARTS)
def a_generator_that_its_critics_steps_reach() -> Diagnosis:
    g, d = chain(4, 24, 12), chain(12, 24, 1)
    og, od = adam(g, 1e-3), adam(d, 1e-3)
    x, _ = table()
    with ug.Probe(g, og, every=2) as probe:
        for _ in range(40):
            for _ in range(3):
                g.zero_grad()
                od.zero_grad()
                fake, real = d(g(torch.randn(32, 4))), d(x[torch.randint(len(x), (32,))])
                (fake.mean() - real.mean()).backward()
                od.step()
            og.zero_grad()
            (-d(g(torch.randn(32, 4))).mean()).backward()
            og.step()
    return ug.diagnose(probe.record)


@healthy("UG509", PARTS)
def a_second_pass_for_the_size_of_the_noise() -> Diagnosis:
    m = chain(12, 32, 4)
    o = adam(m, 1e-3)
    batches = endless(table())
    norms: list[Tensor] = []
    with ug.Probe(m, o, every=3) as probe:
        for _ in range(40):
            for _ in range(2):
                x, y = next(batches)
                o.zero_grad()
                value = CE(m(x), y)
                value.backward()
                norms.append(torch.stack([p.grad.norm() for p in m.parameters()]).norm())
            o.step()
            probe.log(loss=value.detach())
    return ug.diagnose(probe.record)


# ---- UG511: clipped after the step -------------------------------------------------------------------------------


def clipped(model: nn.Module, limit: float) -> Callable[[int], Any]:
    return lambda _: nn.utils.clip_grad_norm_(model.parameters(), limit)


@sick("UG511")
def norm_clipped_after_the_step() -> Diagnosis:
    m = chain(12, 32, 4)
    return train(m, sgd(m, 0.05), table(), CE, after=clipped(m, 0.1))


@sick("UG511")
def lstm_clipped_after_the_step() -> Diagnosis:
    m = lstm_net()
    return train(m, adam(m), series(), MSE, 60, after=clipped(m, 0.05))


@sick("UG511")
def values_clipped_after_the_step() -> Diagnosis:
    m = chain(12, 32, 4)
    return train(m, adam(m), table(), CE, after=lambda _: nn.utils.clip_grad_value_(m.parameters(), 1e-3))


@sick("UG511")
def clamped_by_hand_after_the_step() -> Diagnosis:
    m = chain(12, 32, 1)

    def clamp(_: int) -> None:
        for p in m.parameters():
            p.grad.data.clamp_(-1e-3, 1e-3)

    return train(m, sgd(m, 0.02), numbers(), MSE, after=clamp)


@sick("UG511")
def pictures_clipped_after_the_step() -> Diagnosis:
    m = conv_net()
    return train(m, adam(m), pictures(), CE, 60, every=3, after=clipped(m, 0.05))


@sick("UG511")
def clipped_after_the_step_and_cleared_behind_the_forward_pass() -> Diagnosis:
    m = chain(12, 32, 4)
    o = sgd(m, 0.05)
    batches = endless(table())
    with ug.Probe(m, o, every=1) as probe:
        for _ in range(40):
            x, y = next(batches)
            loss = CE(m(x), y)
            o.zero_grad(set_to_none=False)
            loss.backward()
            o.step()
            nn.utils.clip_grad_norm_(m.parameters(), 0.1)
            probe.log(loss=loss)
    return ug.diagnose(probe.record)


@healthy("UG511")
def clipped_before_the_step() -> Diagnosis:
    m = chain(12, 32, 4)
    return train(m, adam(m), table(), CE, clip=clipped(m, 0.5))


@healthy("UG511")
def momentum_kept_in_the_gradients() -> Diagnosis:
    m = chain(12, 32, 4)

    def decay(_: int) -> None:
        for p in m.parameters():
            p.grad.mul_(0.85)

    return train(m, sgd(m, 0.01), table(), CE, clear=nothing, after=decay)


@healthy("UG511")
def norm_read_after_the_step() -> Diagnosis:
    m = lstm_net()
    return train(m, adam(m), series(), MSE, 60, after=clipped(m, float("inf")))


@healthy("UG511")
def set_to_zero_after_the_step() -> Diagnosis:
    m = chain(12, 32, 4)
    o = sgd(m, 0.05)
    return train(m, o, table(), CE, clear=nothing, after=lambda _: o.zero_grad(set_to_none=False))


@healthy("UG511")
def taken_away_after_the_step() -> Diagnosis:
    m = conv_net()
    o = adam(m)
    return train(m, o, pictures(), CE, 60, clear=nothing, after=lambda _: o.zero_grad())


@healthy("UG511")
def two_parts_added_up_and_clipped() -> Diagnosis:
    m = chain(12, 32, 4)
    o = adam(m)
    batches = endless(table())
    with ug.Probe(m, o, every=3) as probe:
        for _ in range(40):
            o.zero_grad()
            for _ in range(2):
                x, y = next(batches)
                loss = CE(m(x), y) / 2
                loss.backward()
            nn.utils.clip_grad_norm_(m.parameters(), 0.5)
            o.step()
            probe.log(loss=loss)
    return ug.diagnose(probe.record)


@healthy("UG511")
def clipped_once_in_a_while_with_a_look_at_the_loss() -> Diagnosis:
    """A second forward pass, without gradients, follows each step."""
    m = chain(12, 32, 1)
    data = numbers()

    def look(_: int) -> None:
        with torch.no_grad():
            m(data[0])

    return train(m, adam(m), data, MSE, clip=clipped(m, 1.0), after=look)


# ---- UG510: the loss stays at that of a guess --------------------------------------------------------------------


def fresh(make: Callable[[], tuple[Tensor, Tensor]]) -> Batches:
    while True:
        yield make()


def apart(data: tuple[Tensor, Tensor]) -> Batches:
    """Inputs and targets of one data set, drawn apart."""
    x, y = data
    while True:
        yield x[torch.randint(len(x), (48,))], y[torch.randint(len(x), (48,))]


def drawn(data: tuple[Tensor, Tensor]) -> Batches:
    x, y = data
    while True:
        some = torch.randint(len(x), (48,))
        yield x[some], y[some]


@sick("UG510")
def inputs_and_labels_shuffled_apart() -> Diagnosis:
    m = chain(12, 48, 4)
    return train(m, adam(m), apart(table()), CE, 200)


@sick("UG510")
def pictures_and_labels_shuffled_apart() -> Diagnosis:
    m = conv_net(norm=True)
    return train(m, adam(m), apart(pictures()), CE, 200)


@sick("UG510")
def labels_of_the_next_batch() -> Diagnosis:
    x, y = table()
    m = chain(12, 48, 48, 4)

    def batches() -> Batches:
        at = torch.randint(len(x), (48,))
        while True:
            now, at = at, torch.randint(len(x), (48,))
            yield x[now], y[at]

    return train(m, sgd(m, 0.1, momentum=0.9), batches(), CE, 200)


@sick("UG510")
def inputs_of_noise() -> Diagnosis:
    """What a crop outside of the picture, or a wrong column, leaves."""
    m = chain(12, 64, 3)
    return train(m, adam(m), fresh(lambda: (torch.randn(48, 12), torch.randint(3, (48,)))), CE, 200)


@sick("UG510")
def rare_classes_of_noise() -> Diagnosis:
    m = chain(12, 64, 5)

    def make() -> tuple[Tensor, Tensor]:
        y = torch.multinomial(torch.tensor([8.0, 4, 2, 1, 1]), 96, replacement=True)
        return torch.randn(96, 12), y

    return train(m, adam(m), fresh(make), CE, 300)


@sick("UG510")
def words_and_topics_joined_by_the_wrong_key() -> Diagnosis:
    m = encoder()
    return train(m, adam(m, 1e-3), apart(texts()), CE, 200)


@healthy("UG510")
def labels_of_which_half_are_wrong() -> Diagnosis:
    x, y = table()
    wrong = torch.rand(len(y)) < 0.5
    m = chain(12, 48, 4)
    return train(m, adam(m), drawn((x, torch.where(wrong, torch.randint(4, y.shape), y))), CE, 200)


@healthy("UG510")
def a_weak_signal_in_much_noise() -> Diagnosis:
    m = chain(12, 32, 2)

    def make() -> tuple[Tensor, Tensor]:
        x = torch.randn(96, 12)
        return x, torch.bernoulli(torch.sigmoid(x[:, 0])).long()

    return train(m, adam(m, 3e-3), fresh(make), CE, 400)


@healthy("UG510")
def a_short_run_of_small_steps() -> Diagnosis:
    m = chain(12, 48, 4)
    return train(m, sgd(m, 4e-3), table(), CE, 120)


@healthy("UG510")
def a_classifier_that_learns() -> Diagnosis:
    m = conv_net(norm=True)
    return train(m, adam(m), drawn(pictures()), CE, 150)


@healthy("UG510")
def one_class_is_nearly_all() -> Diagnosis:
    """A guess is good already, and what is learnt beside it little."""
    m = chain(12, 48, 2)

    def make() -> tuple[Tensor, Tensor]:
        x = torch.randn(96, 12)
        return x, (x[:, 0] > 1.6).long()

    return train(m, adam(m), fresh(make), CE, 300)


@healthy("UG510")
def a_critic_at_its_balance() -> Diagnosis:
    """Two logits for real and made: at the balance its loss is that of a guess."""
    m = chain(12, 48, 1)

    def make() -> tuple[Tensor, Tensor]:
        return torch.randn(96, 12), torch.randint(2, (96, 1)).float()

    return train(m, adam(m), fresh(make), BCE, 200)


import cases_looks  # noqa: E402, F401  (which take their networks and loops from here)
import cases_softmax  # noqa: E402, F401

HELD_OUT = CASES.held_out()
