"""UG403: gradients that are cut, and steps that train a part of the model on purpose."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from function_rows import BCE_LOGITS, CE, MSE, Arguments, Net, chain, healthy, labels, sick, values, vectors
from torch import Tensor, nn


def _fit(loss: Any, model: nn.Module | None = None) -> Arguments:
    x = vectors()
    return model or chain(12, 32, 4), (x, labels(x)), {"loss": loss}


@sick("UG403")
def loss_times_zero() -> Arguments:
    return _fit(lambda o, t: 0.0 * CE(o, t))


@sick("UG403")
def outputs_detached_in_the_loss() -> Arguments:
    return _fit(lambda o, t: CE(o.detach(), t))


@sick("UG403")
def error_of_the_predicted_class() -> Arguments:
    return _fit(lambda o, t: (o.argmax(1) - t).abs().float().mean())


@sick("UG403")
def forward_without_gradients() -> Arguments:
    x = vectors()

    def run(net: Any, x: Tensor) -> Tensor:
        with torch.no_grad():
            return net.body(x)

    return Net(run, body=chain(12, 32, 4)), (x, labels(x)), {}


@sick("UG403")
def loss_made_anew_from_a_number() -> Arguments:
    return _fit(lambda o, t: torch.tensor(CE(o, t).item(), requires_grad=True))


@sick("UG403")
def accuracy_added_to_the_loss() -> Arguments:
    return _fit(lambda o, t: CE(o, t) + 0.5 * (o.argmax(1) != t).float().mean())


@sick("UG403")
def rounded_count_added_to_the_loss() -> Arguments:
    x = vectors()

    def loss(o: Tensor, t: Tensor) -> Tensor:
        return MSE(o, t) + (o.round().long() - t.long()).abs().float().mean()

    return chain(12, 32, 1), (x, values(x)), {"loss": loss}


@sick("UG403")
def second_term_without_gradients() -> Arguments:
    x = vectors()

    def loss(o: tuple[Tensor, Tensor], t: Tensor) -> Tensor:
        main = CE(o[0], t)
        with torch.no_grad():
            second = o[1].square().mean()
        return main + 0.1 * second

    model = Net(lambda net, x: (net.a(net.body(x)), net.b(net.body(x))), body=chain(12, 32, 16), a=nn.Linear(16, 4),
                b=nn.Linear(16, 2))  # fmt: skip
    return model, (x, labels(x)), {"loss": loss}


@sick("UG403")
def features_detached_before_the_head() -> Arguments:
    x = vectors()
    model = Net(
        lambda net, x: net.head(torch.relu(net.body(x)).detach()),
        body=nn.Linear(12, 64),
        head=nn.Linear(64, 4),
    )
    return model, (x, labels(x)), {}


@sick("UG403")
def a_trip_through_numpy() -> Arguments:
    x = vectors()

    def run(net: Any, x: Tensor) -> Tensor:
        h = torch.relu(net.body(x)).detach().numpy()
        return net.head(torch.from_numpy(h))

    return Net(run, body=chain(12, 32, 32), head=nn.Linear(32, 4)), (x, labels(x)), {}


@sick("UG403")
def a_new_tensor_of_the_features() -> Arguments:
    x = vectors()
    model = Net(lambda net, x: net.head(torch.tensor(net.body(x).tolist()).relu()), body=nn.Linear(12, 32),
                head=nn.Linear(32, 4))  # fmt: skip
    return model, (x, labels(x)), {}


@sick("UG403")
def all_outputs_rounded() -> Arguments:
    x = vectors()
    return Net(lambda net, x: net.body(x).round(), body=chain(12, 32, 1)), (x, values(x)), {}


@sick("UG403")
def penalty_of_data_alone() -> Arguments:
    def loss(o: Tensor, t: Tensor) -> Tensor:
        return CE(o, t) + 0.1 * o.data.square().mean()

    return _fit(loss)


@sick("UG403")
def dropout_of_everything() -> Arguments:
    x = vectors()
    model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Dropout(1.0), nn.Linear(32, 4))
    return model, (x, labels(x)), {}


# ---- healthy ---------------------------------------------------------------------------------------------------


class Dropped(nn.Module):
    """A residual layer that is left out, for the whole batch, in a share of the passes."""

    def __init__(self, width: int, p: float):
        super().__init__()
        self.layer, self.p = nn.Linear(width, width), p

    def forward(self, x: Tensor) -> Tensor:
        if self.training and float(torch.rand(())) < self.p:
            return x
        return x + 0.5 * torch.relu(self.layer(x))


@healthy("UG403")
def layers_left_out_by_chance() -> Arguments:
    x = vectors()
    return (
        nn.Sequential(nn.Linear(12, 32), *(Dropped(32, 0.5) for _ in range(6)), nn.Linear(32, 4)),
        (x, labels(x)),
        {},
    )


@healthy("UG403")
def layers_multiplied_by_zero_by_chance() -> Arguments:
    class Masked(Dropped):
        def forward(self, x: Tensor) -> Tensor:
            keep = (torch.rand(()) >= self.p).float() if self.training else torch.ones(())
            return x + keep * 0.5 * torch.relu(self.layer(x))

    x = vectors()
    return (
        nn.Sequential(nn.Linear(12, 32), *(Masked(32, 0.4) for _ in range(6)), nn.Linear(32, 4)),
        (x, labels(x)),
        {},
    )


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.generator, self.critic = chain(6, 24, 12, act=nn.Tanh), chain(12, 24, 1, act=nn.Tanh)

    def forward(self, x: Tensor) -> Tensor:
        return self.critic(x)


def _critic_step(model: Any, batch: Tensor) -> Tensor:
    fake = model.generator(torch.randn(len(batch), 6))
    real, made = model.critic(batch), model.critic(fake.detach())
    return F.softplus(-real).mean() + F.softplus(made).mean()


@healthy("UG403")
def critic_of_a_pair_on_detached_fakes() -> Arguments:
    return Pair(), vectors(), {"step": _critic_step}


@healthy("UG403")
def critic_of_a_pair_with_fakes_made_without_gradients() -> Arguments:
    def step(model: Any, batch: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            fake = model.generator(torch.randn(len(batch), 6))
        out = torch.cat([model.critic(batch), model.critic(fake)])
        t = torch.cat([torch.ones(len(batch), 1), torch.zeros(len(batch), 1)])
        return {"loss": BCE_LOGITS(out, t), "outputs": out, "targets": t}

    return Pair(), vectors(), {"step": step}


@healthy("UG403")
def model_that_returns_the_critics_loss() -> Arguments:
    class Own(Pair):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"loss": _critic_step(self, x)}

    return Own(), vectors(), {"loss": None}


@healthy("UG403")
def target_network_of_a_self_taught_one() -> Arguments:
    class Twins(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.online, self.target, self.predict = chain(12, 24, 8), chain(12, 24, 8), chain(8, 16, 8)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            with torch.no_grad():
                wanted = self.target(x + 0.1 * torch.randn_like(x))
            guess = self.predict(self.online(x + 0.1 * torch.randn_like(x)))
            return {"loss": 2 - 2 * F.cosine_similarity(guess, wanted, dim=1).mean()}

    return Twins(), vectors(), {"loss": None}


@healthy("UG403")
def value_network_and_its_target() -> Arguments:
    class Values(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.target = chain(12, 32, 3), chain(12, 32, 3)

    def step(model: Any, batch: Tensor) -> Tensor:
        q = model.q(batch)[:, :1]
        wanted = torch.randn(len(batch), 1) + 0.9 * model.target(batch.flip(0)).amax(1, keepdim=True).detach()
        return F.smooth_l1_loss(q, wanted)

    return Values(), vectors(), {"step": step}


@healthy("UG403")
def weights_of_a_focal_loss_detached() -> Arguments:
    def loss(o: Tensor, t: Tensor) -> Tensor:
        nll = CE(o, t, reduction="none")
        return ((1 - (-nll).exp().detach()) ** 2 * nll).mean()

    return _fit(loss)


@healthy("UG403")
def straight_through_a_code_book() -> Arguments:
    class Coded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encode, self.book, self.decode = chain(12, 24, 4), nn.Embedding(8, 4), chain(4, 24, 12)
            nn.init.normal_(self.book.weight, std=0.2)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            z = self.encode(x)
            code = self.book(torch.cdist(z, self.book.weight).argmin(1))
            extra = (code - z.detach()).square().mean() + 0.25 * (code.detach() - z).square().mean()
            return self.decode(z + (code - z).detach()), extra

    x = vectors()
    return Coded(), (x, x.clone()), {"loss": lambda o, t: MSE(o[0], t) + o[1]}


@healthy("UG403")
def head_that_begins_at_zero() -> Arguments:
    model = chain(12, 32, 4)
    nn.init.zeros_(model[2].weight)
    return _fit(CE, model)


@healthy("UG403")
def accuracy_computed_and_not_added() -> Arguments:
    def loss(o: Tensor, t: Tensor) -> Tensor:
        with torch.no_grad():
            _ = (o.argmax(1) == t).float().mean() + 1.0
        return CE(o, t)

    return _fit(loss)


@healthy("UG403")
def advantage_against_a_detached_value() -> Arguments:
    x = vectors()

    def loss(o: Tensor, t: Tensor) -> Tensor:
        policy, value = o[:, :3].log_softmax(1), o[:, 3]
        gain = t - value.detach()
        return -(policy[:, 0] * gain).mean() + 0.5 * (t - value).square().mean()

    return chain(12, 32, 4), (x, values(x)[:, 0]), {"loss": loss}


@healthy("UG403")
def loss_divided_by_its_own_size() -> Arguments:
    def loss(o: Tensor, t: Tensor) -> Tensor:
        second = o.square().mean()
        return CE(o, t) + 0.1 * second / (second.detach() + 1e-3)

    return _fit(loss)


@healthy("UG403")
def class_weights_counted_in_the_batch() -> Arguments:
    def loss(o: Tensor, t: Tensor) -> Tensor:
        counts = torch.bincount(t, minlength=4).float()
        return CE(o, t, weight=(counts.sum() / (counts + 1)).sqrt())

    return _fit(loss)
