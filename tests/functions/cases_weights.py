"""UG801 (weights that the model does not hold) and UG803 (networks that compute an affine function)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from function_rows import (
    BCE_LOGITS,
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
    values,
    vectors,
)
from torch import Tensor, nn

# ---- UG801 -----------------------------------------------------------------------------------------------------


class Hidden(nn.Module):
    """A body, and layers or tensors in an attribute that torch does not look into."""

    def __init__(self, kept: Any, run: Any, width: int = 24, out: int = 4):
        super().__init__()
        self.first, self.kept, self.head = nn.Linear(12, width), kept, nn.Linear(width, out)
        self.run = run

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.run(self.kept, torch.relu(self.first(x))))


def _layers(kept: Any, x: Tensor) -> Tensor:
    for layer in kept:
        x = torch.relu(layer(x))
    return x


def _classified(model: nn.Module, **further: Any) -> Arguments:
    x = vectors()
    return model, (x, labels(x)), further


@sick("UG801")
def layers_in_a_list() -> Arguments:
    return _classified(Hidden([nn.Linear(24, 24) for _ in range(3)], _layers))


@sick("UG801")
def layers_in_a_dictionary() -> Arguments:
    kept = {"left": nn.Linear(24, 24), "right": nn.Linear(24, 24)}
    return _classified(Hidden(kept, lambda k, x: torch.relu(k["left"](x)) + torch.relu(k["right"](x))))


@sick("UG801")
def experts_in_a_tuple() -> Arguments:
    kept = tuple(chain(24, 16, 24) for _ in range(2))
    return _classified(Hidden(kept, lambda k, x: torch.relu(sum(e(x) for e in k))))


@sick("UG801")
def scale_as_a_plain_tensor() -> Arguments:
    return _classified(Hidden(torch.ones(24, requires_grad=True), lambda k, x: k * x))


@sick("UG801")
def parameter_times_a_tenth() -> Arguments:
    kept = nn.Parameter(torch.randn(24, 24)) * 0.1
    return _classified(Hidden(kept, lambda k, x: torch.relu(x @ k)))


@sick("UG801")
def layer_built_in_forward() -> Arguments:
    return _classified(Hidden(None, lambda k, x: torch.relu(nn.Linear(24, 24)(x))))


@sick("UG801")
def layer_of_a_closure() -> Arguments:
    layer = nn.Linear(24, 24)
    return _classified(Hidden(None, lambda k, x: torch.relu(layer(x))))


@sick("UG801")
def blocks_in_lists_of_lists() -> Arguments:
    x = pictures()
    blocks = [[nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()], [nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()]]

    def run(net: Any, x: Tensor) -> Tensor:
        x = net.stem(x)
        for block in net.blocks:
            for part in block:
                x = part(x)
        return net.head(x.mean((2, 3)))

    model = Net(run, stem=nn.Conv2d(3, 8, 3), blocks=blocks, head=nn.Linear(8, 4))
    return model, (x, labels(x)), {}


@sick("UG801")
def cells_in_a_helper_that_is_no_module() -> Arguments:
    class Helper:
        def __init__(self) -> None:
            self.cell = nn.GRUCell(6, 16)

        def __call__(self, x: Tensor) -> Tensor:
            h = x.new_zeros(len(x), 16)
            for step in x.unbind(1):
                h = self.cell(step, h)
            return h

    x = sequences()
    model = Net(lambda net, x: net.head(net.helper(x)), helper=Helper(), head=nn.Linear(16, 4))
    return model, (x, labels(x)), {}


@sick("UG801")
def position_embedding_as_a_plain_tensor_made_leaf() -> Arguments:
    x = sequences()
    place = torch.zeros(1, 10, 6).requires_grad_()

    class Positioned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.place, self.rnn, self.head = place, nn.GRU(6, 16, batch_first=True), nn.Linear(16, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(x + self.place)[0][:, -1])

    return Positioned(), (x, labels(x)), {}


@healthy("UG801")
def layers_in_a_module_list() -> Arguments:
    return _classified(Hidden(nn.ModuleList(nn.Linear(24, 24) for _ in range(3)), _layers))


@healthy("UG801")
def weights_in_a_parameter_dictionary() -> Arguments:
    kept = nn.ParameterDict({"scale": torch.ones(24), "shift": torch.zeros(24)})
    return _classified(Hidden(kept, lambda k, x: torch.relu(k["scale"] * x + k["shift"])))


@healthy("UG801")
def forces_from_positions_that_are_made_leaves() -> Arguments:
    x = vectors(width=9)
    body = chain(9, 24, 1, act=nn.Tanh)

    def run(net: Any, x: Tensor) -> Tensor:
        place = x.detach().requires_grad_()
        energy = net.body(place)
        return -torch.autograd.grad(energy.sum(), place, create_graph=True)[0]

    return Net(run, body=body), (x, values(x, 9)), {}


@healthy("UG801")
def loss_with_a_parameter_of_its_own() -> Arguments:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.log_scale = nn.Parameter(torch.zeros(()))

        def forward(self, o: Tensor, t: Tensor) -> Tensor:
            return CE(o * self.log_scale.exp(), t)

    return _classified(chain(12, 24, 4), loss=Scaled())


@healthy("UG801")
def head_tied_to_the_embedding() -> Arguments:
    x = torch.randint(0, 20, (32, 6))
    model = Net(lambda net, x: net.head(torch.tanh(net.mid(net.embed(x).mean(1)))), embed=nn.Embedding(20, 16),
                mid=nn.Linear(16, 16), head=nn.Linear(16, 20))  # fmt: skip
    model.head.weight = model.embed.weight
    nn.init.normal_(model.embed.weight, std=0.2)
    return model, (x, x[:, 0]), {}


@healthy("UG801")
def generator_step_through_a_critic_outside() -> Arguments:
    critic = chain(12, 24, 1, act=nn.Tanh)
    model = chain(12, 24, 12, act=nn.Tanh)
    return model, vectors(), {"step": lambda model, batch: F.softplus(-critic(model(batch))).mean()}


@healthy("UG801")
def weights_with_a_parametrization() -> Arguments:
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(24, 24))
    return _classified(Hidden(layer, lambda k, x: torch.relu(k(x))))


@healthy("UG801")
def frozen_teacher_in_a_list() -> Arguments:
    teacher = chain(24, 24, 24).requires_grad_(False)
    return _classified(Hidden([teacher], lambda k, x: torch.relu(x + k[0](x))))


@healthy("UG801")
def list_of_layers_that_the_optimizer_holds() -> Arguments:
    kept = [nn.Linear(24, 24) for _ in range(2)]
    model = Hidden(kept, _layers)
    mine = [*model.parameters(), *(p for layer in kept for p in layer.parameters())]
    return _classified(model, steps=3, optimizer=torch.optim.Adam(mine, 1e-3))


@healthy("UG801")
def weights_made_by_another_network() -> Arguments:
    x = vectors()
    made = Net(lambda net, x: torch.relu(x @ net.maker(net.code).view(12, 16)) @ net.out, maker=nn.Linear(4, 192),
               code=torch.randn(4), out=nn.Parameter(0.1 * torch.randn(16, 4)))  # fmt: skip
    return made, (x, labels(x)), {}


@healthy("UG801")
def inputs_that_require_gradients() -> Arguments:
    x = vectors()
    return chain(12, 24, 4), (x.clone().requires_grad_(), labels(x)), {}


# ---- UG803 -----------------------------------------------------------------------------------------------------


def _without(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers)


@sick("UG803")
def three_linear_layers() -> Arguments:
    return _classified(_without(nn.Linear(12, 32), nn.Linear(32, 32), nn.Linear(32, 4)))


@sick("UG803")
def convolutions_alone() -> Arguments:
    x = pictures()
    model = _without(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3), nn.Flatten(), nn.Linear(256, 4))
    return model, (x, labels(x)), {}


@sick("UG803")
def convolutions_with_batchnorm_alone() -> Arguments:
    x = pictures()
    model = _without(nn.Conv2d(3, 16, 3, bias=False), nn.BatchNorm2d(16), nn.Conv2d(16, 16, 3, bias=False),
                     nn.BatchNorm2d(16), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))  # fmt: skip
    return model, (x, labels(x)), {}


@sick("UG803")
def regression_with_dropout_between() -> Arguments:
    x = vectors()
    return _without(nn.Linear(12, 32), nn.Dropout(0.2), nn.Linear(32, 1)), (x, values(x)), {}


@sick("UG803")
def activations_that_forward_leaves_out() -> Arguments:
    x = vectors()
    model = Net(lambda net, x: net.c(net.b(net.a(x))), a=nn.Linear(12, 32), act=nn.ReLU(), b=nn.Linear(32, 32),
                c=nn.Linear(32, 4))  # fmt: skip
    return model, (x, labels(x)), {}


@sick("UG803")
def result_of_relu_not_kept() -> Arguments:
    x = vectors()

    def run(net: Any, x: Tensor) -> Tensor:
        x = net.a(x)
        F.relu(x)
        x = net.b(x)
        F.relu(x)
        return net.c(x)

    return Net(run, a=nn.Linear(12, 32), b=nn.Linear(32, 32), c=nn.Linear(32, 4)), (x, labels(x)), {}


@sick("UG803")
def twenty_linear_layers() -> Arguments:
    x = vectors()
    layers = [nn.Linear(32, 32) for _ in range(18)]
    for layer in layers:
        nn.init.orthogonal_(layer.weight)
    return _without(nn.Linear(12, 32), *layers, nn.Linear(32, 1)), (x, values(x)), {}


@sick("UG803")
def embeddings_and_two_linear_layers() -> Arguments:
    x = torch.randint(0, 20, (96, 3))
    model = Net(lambda net, x: net.b(net.a(net.embed(x).flatten(1))), embed=nn.Embedding(20, 10),
                a=nn.Linear(30, 64), b=nn.Linear(64, 20))  # fmt: skip
    return model, (x, x.sum(1) % 20), {}


@sick("UG803")
def sigmoid_at_the_end_alone() -> Arguments:
    x = vectors()
    model = _without(nn.Linear(12, 32), nn.Linear(32, 1), nn.Sigmoid())
    return model, (x, (x[:, :1] > 0).float()), {"loss": F.binary_cross_entropy}


@sick("UG803")
def log_softmax_at_the_end_alone() -> Arguments:
    x = vectors()
    model = Net(lambda net, x: F.log_softmax(net.b(net.a(x)), -1), a=nn.Linear(12, 32), b=nn.Linear(32, 4))
    return model, (x, labels(x)), {"loss": F.nll_loss}


@sick("UG803")
def residual_blocks_without_a_function() -> Arguments:
    x = vectors()
    model = Net(lambda net, x: net.head(net.stem(x) + net.block(net.stem(x))), stem=nn.Linear(12, 32),
                block=nn.Linear(32, 32), head=nn.Linear(32, 4))  # fmt: skip
    return model, (x, labels(x)), {}


@sick("UG803")
def linear_layers_over_a_flattened_sequence() -> Arguments:
    x = sequences()
    return _without(nn.Flatten(), nn.Linear(60, 48), nn.Identity(), nn.Linear(48, 1)), (x, values(x)), {}


@healthy("UG803")
def network_with_relu() -> Arguments:
    return _classified(chain(12, 32, 32, 4))


@healthy("UG803")
def logistic_regression() -> Arguments:
    x = vectors()
    return nn.Linear(12, 1), (x, (x[:, :1] > 0).float()), {"loss": BCE_LOGITS}


@healthy("UG803")
def linear_autoencoder_with_a_narrow_code() -> Arguments:
    x = vectors()
    return _without(nn.Linear(12, 3), nn.Linear(3, 12)), (x, x.clone()), {}


@healthy("UG803")
def trend_and_remainder_of_a_series() -> Arguments:
    x = torch.randn(32, 24).cumsum(1) / 5

    def run(net: Any, x: Tensor) -> Tensor:
        trend = F.avg_pool1d(F.pad(x[:, None], (2, 2), mode="replicate"), 5, 1)[:, 0]
        return net.trend(trend) + net.rest(x - trend)

    return Net(run, trend=nn.Linear(24, 6), rest=nn.Linear(24, 6)), (x, x[:, -6:] * 0.9), {}


@healthy("UG803")
def two_linear_layers_side_by_side() -> Arguments:
    x = vectors()
    return Net(lambda net, x: net.a(x) + net.b(x), a=nn.Linear(12, 1), b=nn.Linear(12, 1)), (x, values(x)), {}


@healthy("UG803")
def hardtanh_inside_its_range() -> Arguments:
    x = 0.2 * vectors()
    return chain(12, 32, 32, 1, act=nn.Hardtanh), (x / x.std(), values(x)), {}


@healthy("UG803")
def factors_of_users_and_films() -> Arguments:
    x = torch.stack([torch.randint(0, 30, (64,)), torch.randint(0, 40, (64,))], 1)
    model = Net(lambda net, x: (net.users(x[:, 0]) * net.films(x[:, 1])).sum(1), users=nn.Embedding(30, 8),
                films=nn.Embedding(40, 8))  # fmt: skip
    nn.init.normal_(model.users.weight, std=0.5)
    nn.init.normal_(model.films.weight, std=0.5)
    return model, (x, torch.randn(64)), {}


@healthy("UG803")
def largest_of_a_window_between_convolutions() -> Arguments:
    x = pictures()
    model = _without(nn.Conv2d(3, 16, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(16, 16, 3), nn.Flatten(),
                     nn.Linear(64, 4))  # fmt: skip
    return model, (x, labels(x)), {}


@healthy("UG803")
def attention_without_any_activation() -> Arguments:
    x = sequences()

    def run(net: Any, x: Tensor) -> Tensor:
        q, k, v = net.qkv(x).chunk(3, -1)
        return net.head((q @ k.transpose(1, 2) @ v).mean(1) / 30)

    return Net(run, qkv=nn.Linear(6, 48), head=nn.Linear(16, 4)), (x, labels(x)), {}


@healthy("UG803")
def square_between_linear_layers() -> Arguments:
    x = vectors()
    model = Net(lambda net, x: net.b(net.a(x) ** 2), a=nn.Linear(12, 32), b=nn.Linear(32, 1))
    return model, (x, values(x)), {"loss": MSE}


@healthy("UG803")
def absolute_value_by_hand() -> Arguments:
    x = vectors()

    def run(net: Any, x: Tensor) -> Tensor:
        h = net.a(x)
        return net.b(torch.where(h > 0, h, -0.5 * h))

    return Net(run, a=nn.Linear(12, 32), b=nn.Linear(32, 4)), (x, labels(x)), {}


@healthy("UG803")
def layernorm_between_linear_layers() -> Arguments:
    return _classified(_without(nn.Linear(12, 32), nn.LayerNorm(32), nn.Linear(32, 4)))


@healthy("UG803")
def gate_of_two_linear_layers() -> Arguments:
    x = vectors()
    model = Net(lambda net, x: net.c(net.a(x) * torch.sigmoid(net.b(x))), a=nn.Linear(12, 32), b=nn.Linear(12, 32),
                c=nn.Linear(32, 4))  # fmt: skip
    return model, (x, labels(x)), {}
