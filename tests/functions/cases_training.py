"""UG703 (evaluation differs from training), UG110 (the loss does not fall) and UG114 (it stays at a constant's)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from function_rows import (
    CE,
    MSE,
    Arguments,
    Net,
    chain,
    healthy,
    labels,
    pictures,
    sequences,
    sick,
    trained,
    values,
    vectors,
)
from torch import Tensor, nn

SGD, ADAM, ADAMW = torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW


def _bn(width: int = 32, **options: Any) -> nn.Sequential:
    return nn.Sequential(nn.Linear(12, width), nn.BatchNorm1d(width, **options), nn.ReLU(), nn.Linear(width, width),
                         nn.BatchNorm1d(width, **options), nn.ReLU(), nn.Linear(width, 4))  # fmt: skip


def _data(n: int = 128, scale: float = 3.0) -> tuple[Tensor, Tensor]:
    x = vectors(n)
    return scale * x + 2.0, labels(x)


def _norms(model: nn.Module) -> list[Any]:
    return [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


# ---- UG703 -----------------------------------------------------------------------------------------------------


@sick("UG703")
def statistics_left_out_of_the_file() -> Arguments:
    x, t = _data()
    model = trained(_bn(), x, t)
    for norm in _norms(model):
        norm.reset_running_stats()
    return model, (x, t), {}


@sick("UG703")
def statistics_overwritten_and_still_counted() -> Arguments:
    x, t = _data()
    model = trained(_bn(), x, t)
    for norm in _norms(model):
        norm.running_mean.zero_()
        norm.running_var.fill_(1.0)
    return model, (x, t), {}


@sick("UG703")
def statistics_of_the_last_batch_alone() -> Arguments:
    x, t = _data()
    model = trained(_bn(momentum=1.0), x, t)
    with torch.no_grad():
        model(x[:32] * 8 - 30)
    return model, (x, t), {}


@sick("UG703")
def a_part_that_scales_in_evaluation_alone() -> Arguments:
    class Scaled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if self.training else -x

    x, t = _data()
    model = nn.Sequential(chain(12, 32, 32), nn.ReLU(), Scaled(), nn.Linear(32, 4))
    return trained(model, x, t), (x, t), {}


@sick("UG703")
def averages_of_ones_own_that_are_never_kept() -> Arguments:
    class Standardize(nn.Module):
        def __init__(self, width: int):
            super().__init__()
            self.mean, self.std = nn.Buffer(torch.zeros(width)), nn.Buffer(torch.ones(width))

        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                return (x - x.mean(0)) / (x.std(0) + 1e-5)
            return (x - self.mean) / (self.std + 1e-5)

    x, t = _data(scale=10.0)
    model = nn.Sequential(Standardize(12), nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 4))
    return trained(model, x, t), (x, t), {}


@sick("UG703")
def convolutions_whose_statistics_are_another_data_sets() -> Arguments:
    x = pictures(64) * 2 + 1
    t = labels(x)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.BatchNorm2d(16),
                          nn.ReLU(), nn.Flatten(), nn.Linear(256, 4))  # fmt: skip
    trained(model, x, t)
    with torch.no_grad():
        for _ in range(60):
            model(torch.rand(32, 3, 8, 8) * 255)
    return model, (x, t), {}


@sick("UG703")
def another_head_in_evaluation() -> Arguments:
    x, t = _data()

    def run(net: Any, x: Tensor) -> Tensor:
        h = torch.relu(net.body(x))
        return net.head(h) if net.training else net.second(h)

    model = Net(run, body=nn.Linear(12, 32), head=nn.Linear(32, 4), second=nn.Linear(32, 4))
    return trained(model, x, t), (x, t), {}


@sick("UG703")
def regression_whose_statistics_were_lost() -> Arguments:
    x = 4 * vectors(128) - 3
    t = values(x)
    model = nn.Sequential(
        nn.BatchNorm1d(12), nn.Linear(12, 32), nn.Tanh(), nn.BatchNorm1d(32), nn.Linear(32, 1)
    )
    trained(model, x, t, MSE)
    for norm in _norms(model):
        norm.reset_running_stats()
    return model, (x, t), {}


@healthy("UG703")
def batchnorm_trained_long() -> Arguments:
    x, t = _data()
    return trained(_bn(), x, t, steps=300), (x, t), {}


@healthy("UG703")
def dropout_trained() -> Arguments:
    x, t = _data()
    model = nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 4))
    return trained(model, x / 3, t), (x / 3, t), {}


@healthy("UG703")
def batchnorm_after_twenty_steps() -> Arguments:
    x, t = _data(32)
    return trained(_bn(64), x, t, steps=20, lr=3e-2), (x, t), {}


@healthy("UG703")
def batchnorm_untrained() -> Arguments:
    x, t = _data(scale=1.0)
    return _bn(), (x - 2, t), {}


@healthy("UG703")
def nothing_that_minds_the_mode() -> Arguments:
    x, t = _data()
    return trained(chain(12, 32, 4), x / 3, t), (x / 3, t), {}


@healthy("UG703")
def batchnorm_with_plain_averages() -> Arguments:
    x, t = _data()
    return trained(_bn(momentum=None), x, t, steps=200, lr=3e-3), (x, t), {}


@healthy("UG703")
def recurrent_with_dropout() -> Arguments:
    x = sequences(96)
    t = labels(x)
    model = Net(lambda net, x: net.head(net.drop(net.rnn(x)[0][:, -1])), rnn=nn.LSTM(6, 24, batch_first=True),
                drop=nn.Dropout(0.3), head=nn.Linear(24, 4))  # fmt: skip
    return trained(model, x, t), (x, t), {}


@healthy("UG703")
def batchnorm_of_pictures_trained_and_rehearsed() -> Arguments:
    x = pictures(96)
    t = labels(x)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
                          nn.Linear(64, 4))  # fmt: skip
    return trained(model, x, t, steps=200), (x, t), {"steps": 5, "optimizer": ADAM(model.parameters(), 1e-4)}


@healthy("UG703")
def regression_with_batchnorm() -> Arguments:
    x = vectors(128)
    t = values(x)
    model = nn.Sequential(nn.Linear(12, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 1))
    return trained(model, x, t, MSE, steps=300), (x, t), {}


# ---- UG110 -----------------------------------------------------------------------------------------------------


def _steps(
    model: nn.Module, batch: Any, kind: Any = ADAM, lr: float = 3e-3, number: int = 24, **more: Any
) -> Arguments:
    return model, batch, {"steps": number, "optimizer": kind(model.parameters(), lr), **more}


@sick("UG110")
def gradients_of_the_wrong_sign() -> Arguments:
    class Mean(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> Tensor:
            return -g

    x, t = vectors(), None
    t = labels(x)
    model = Net(lambda net, x: Mean.apply(net.body(x)), body=chain(12, 32, 4))
    return _steps(model, (x, t), SGD, 3e-2)


@sick("UG110")
def targets_in_another_order_at_each_step() -> Arguments:
    x = vectors()
    return _steps(
        chain(12, 32, 4), (x, labels(x)), loss=lambda o, t: CE(o, t[torch.randperm(len(t))]), lr=1e-3
    )


@sick("UG110")
def weights_drawn_anew_in_forward() -> Arguments:
    x = vectors()

    def run(net: Any, x: Tensor) -> Tensor:
        with torch.no_grad():
            for layer in (net.a, net.b):
                layer.weight.copy_(
                    torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(1)) * 0.2
                )
                layer.bias.zero_()
        return net.b(torch.relu(net.a(x)))

    return _steps(Net(run, a=nn.Linear(12, 32), b=nn.Linear(32, 4)), (x, labels(x)))


@sick("UG110")
def an_optimizer_that_goes_uphill() -> Arguments:
    x = vectors()
    model = chain(12, 32, 1)
    return model, (x, values(x)), {"steps": 24, "optimizer": SGD(model.parameters(), 3e-3, maximize=True)}


@sick("UG110")
def a_backward_pass_that_mixes_the_units() -> Arguments:
    class Mixed(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> Tensor:
            return (
                torch.randn(g.shape, generator=torch.Generator().manual_seed(int(1e6 * g.abs().sum()) % 9999))
                * g.std()
            )

    x = vectors()
    model = Net(lambda net, x: Mixed.apply(net.body(x)), body=chain(12, 32, 1))
    return _steps(model, (x, values(x)), SGD, 3e-2)


@sick("UG110")
def inputs_that_forward_replaces_by_noise() -> Arguments:
    x = vectors()
    model = Net(lambda net, x: net.body(torch.randn_like(x)), body=chain(12, 32, 4))
    return _steps(model, (x, torch.arange(64) % 4), lr=1e-3)


@healthy("UG110")
def twenty_steps_of_adam() -> Arguments:
    x = vectors()
    return _steps(chain(12, 32, 4), (x, labels(x)))


@healthy("UG110")
def a_model_trained_to_the_end() -> Arguments:
    x = vectors()
    t = labels(x)
    return _steps(trained(chain(12, 64, 4), x, t, steps=400), (x, t), lr=1e-4)


@healthy("UG110")
def the_default_rate() -> Arguments:
    x = vectors()
    return chain(12, 32, 4), (x, labels(x)), {"steps": 24}


@healthy("UG110")
def noise_to_be_guessed() -> Arguments:
    def step(model: Any, batch: Tensor) -> Tensor:
        noise, share = torch.randn_like(batch), torch.rand(len(batch), 1)
        return MSE(model(share.sqrt() * batch + (1 - share).sqrt() * noise), noise)

    model = chain(12, 64, 12)
    return _steps(model, vectors(), ADAM, 1e-3, step=step)


@healthy("UG110")
def a_rate_that_warms_up() -> Arguments:
    x = vectors()
    model = chain(12, 32, 4)
    optimizer = ADAM(model.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: min(1.0, i / 1000))
    return model, (x, labels(x)), {"steps": 24, "optimizer": optimizer, "schedule": schedule}


@healthy("UG110")
def half_of_the_units_dropped() -> Arguments:
    x = vectors()
    model = nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 4))
    return _steps(model, (x, labels(x)), lr=3e-3)


@healthy("UG110")
def fine_tuning_with_a_small_rate() -> Arguments:
    x = vectors()
    t = labels(x)
    return _steps(trained(chain(12, 64, 4), x, t, steps=60), (x, t), ADAMW, 1e-5)


@healthy("UG110")
def random_labels_are_learnt_too() -> Arguments:
    return _steps(chain(12, 64, 64, 4), (vectors(), torch.randint(0, 4, (64,))), ADAM, 3e-3)


@healthy("UG110")
def a_critic_against_a_generator() -> Arguments:
    fake = chain(6, 24, 12, act=nn.Tanh)

    def step(model: Any, batch: Tensor) -> Tensor:
        made = fake(torch.randn(len(batch), 6)).detach()
        return F.softplus(-model(batch)).mean() + F.softplus(model(made)).mean()

    return _steps(chain(12, 24, 1, act=nn.Tanh), vectors() + 0.5, ADAM, 2e-3, step=step)


# ---- UG114 -----------------------------------------------------------------------------------------------------


def _triplet(o: Tensor, t: Tensor) -> Tensor:
    """Hardest triplets of the batch, margin 0.3."""
    apart = torch.cdist(o, o)
    same = t[:, None] == t[None]
    return F.relu((apart * same).amax(1) - (apart + 1e6 * same).amin(1) + 0.3).mean()


def _squared_triplet(o: Tensor, t: Tensor) -> Tensor:
    apart = torch.cdist(o, o).square()
    same = t[:, None] == t[None]
    return F.relu((apart * same).amax(1) - (apart + 1e6 * same).amin(1) + 1).mean()


# The networks below were trained in a plain loop first: their outputs become the same, and the loss stays.


@sick("UG114")
def embeddings_that_become_one_point() -> Arguments:
    model = chain(12, 32, 32, 8, act=nn.Tanh)
    return _steps(model, (vectors(96), torch.randint(0, 6, (96,))), SGD, 0.3, 200, loss=_triplet)


@sick("UG114")
def embeddings_pulled_together_by_squared_triplets() -> Arguments:
    model = chain(12, 32, 32, 8, act=nn.Tanh)
    return _steps(model, (vectors(96), torch.randint(0, 24, (96,))), SGD, 0.1, 200, loss=_squared_triplet)


@sick("UG114")
def one_answer_after_a_rate_too_high() -> Arguments:
    x = vectors(96)
    return _steps(chain(12, 64, 64, 64, 1), (x, values(x)), ADAM, 1.0, 120)


@sick("UG114")
def half_a_chance_after_the_units_died() -> Arguments:
    x = vectors(96)
    return _steps(
        chain(12, 64, 64, 16, 1), (x, (x[:, :1] > 0).float()), ADAM, 1.0, 80, loss="bce_with_logits"
    )


@sick("UG114")
def images_with_one_answer() -> Arguments:
    x = pictures()
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Flatten(),
                          nn.Linear(256, 4))  # fmt: skip
    return _steps(model, (x, labels(x)), ADAM, 0.1, 60)


@sick("UG114")
def triplets_of_many_people_at_a_high_rate() -> Arguments:
    model = chain(12, 32, 32, 8, act=nn.Tanh)
    return _steps(model, (vectors(96), torch.randint(0, 24, (96,))), SGD, 1.0, 200, loss=_triplet)


@healthy("UG114")
def triplets_that_are_told_apart() -> Arguments:
    x = vectors(48)
    t = labels(x)
    model = Net(lambda net, x: F.normalize(net.body(x), dim=1), body=chain(12, 64, 8))
    return _steps(model, (x + 3 * torch.eye(12)[t], t), ADAM, 3e-3, 60, loss=_triplet)


@healthy("UG114")
def first_steps_near_chance() -> Arguments:
    x = vectors()
    return _steps(chain(12, 32, 32, 4), (x, labels(x)), SGD, 1e-2, 24)


@healthy("UG114")
def a_head_of_zeros_that_moves() -> Arguments:
    x = vectors()
    model = chain(12, 32, 4)
    nn.init.zeros_(model[2].weight)
    return _steps(model, (x, labels(x)), ADAM, 3e-3, 24)


@healthy("UG114")
def a_regression_of_noise() -> Arguments:
    return _steps(chain(12, 64, 64, 1), (vectors(), torch.randn(64, 1)), ADAM, 1e-3, 24)


@healthy("UG114")
def targets_that_hardly_vary() -> Arguments:
    x = vectors()
    t = torch.zeros(64, dtype=torch.long)
    t[:3] = 1
    return _steps(chain(12, 32, 2), (x, t), ADAM, 1e-3, 40)


@healthy("UG114")
def margins_that_are_met() -> Arguments:
    x = vectors()
    t = 2.0 * (x[:, :1] > 0) - 1
    return _steps(chain(12, 64, 1), (x, t), ADAM, 1e-2, 60, loss=lambda o, t: F.relu(1 - o * t).mean())
