"""Cases of UG205: one of several inputs changes nothing."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from function_rows import (
    BCE_LOGITS,
    CE,
    Arguments,
    Net,
    chain,
    healthy,
    labels,
    pictures,
    sick,
    text,
    vectors,
)
from torch import Tensor, nn

WIDTH = 16


@sick("UG205")
def one_picture_is_compared_with_itself() -> Arguments:
    model = Net(
        lambda net, a, b: net.head(torch.cat([net.body(a), net.body(a)], 1)),
        body=nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten()),
        head=nn.Linear(576, 1),
    )
    a, b = pictures(24), pictures(24)
    return model, (a, b, (a.mean((1, 2, 3)) > b.mean((1, 2, 3))).float()[:, None]), {"loss": BCE_LOGITS}


@sick("UG205")
def edges_without_their_weights() -> Arguments:
    """Messages are sent along the edges, and what the edges carry is computed and left."""

    def forward(net: Net, x: Tensor, weights: Tensor) -> Tensor:
        sent = net.body(x)
        _ = sent[:40] * weights
        return net.head(torch.relu(sent + sent.roll(1, 0)))

    x = vectors(48)
    model = Net(forward, body=nn.Linear(12, WIDTH), head=nn.Linear(WIDTH, 4))
    return model, (x, torch.rand(40, 1), labels(x)), {"loss": CE}


@sick("UG205")
def a_mask_that_masks_nothing() -> Arguments:
    def forward(net: Net, x: Tensor, mask: Tensor) -> Tensor:
        h = net.embed(x)
        h.masked_fill(~mask[..., None], 0.0)  # gives a new tensor
        return net.head(torch.relu(net.body(h)).mean(1))

    x, _ = text(48, 10, 20)
    mask = torch.arange(10) < torch.randint(3, 11, (48, 1))
    model = Net(
        forward, embed=nn.Embedding(20, WIDTH), body=nn.Linear(WIDTH, WIDTH), head=nn.Linear(WIDTH, 4)
    )
    return model, (x, mask, x[:, 0] % 4), {"loss": CE}


@sick("UG205")
def a_condition_overwritten() -> Arguments:
    def forward(net: Net, x: Tensor, kind: Tensor) -> Tensor:
        c = net.kinds(kind)
        h = net.body(x)
        c = net.other(h)
        return net.head(torch.relu(h + c))

    x = vectors(48)
    model = Net(
        forward, body=nn.Linear(12, WIDTH), other=nn.Linear(WIDTH, WIDTH), kinds=nn.Embedding(5, WIDTH),
        head=nn.Linear(WIDTH, 4),
    )  # fmt: skip
    model.kinds.requires_grad_(False)  # pretrained: no gradient to miss
    return model, (x, torch.randint(0, 5, (48,)), labels(x)), {"loss": CE}


@sick("UG205")
def a_score_of_items_without_their_user() -> Arguments:
    model = Net(
        lambda net, user, item: net.head(F.relu(net.items(item) * net.items(item))),
        items=nn.Embedding(30, WIDTH), head=nn.Linear(WIDTH, 1),
    )  # fmt: skip
    user, item = torch.randint(0, 30, (64,)), torch.randint(0, 30, (64,))
    return model, (user, item, ((user + item) % 2).float()[:, None]), {"loss": BCE_LOGITS}


@sick("UG205")
def the_second_view_times_zero() -> Arguments:
    model = Net(
        lambda net, a, b: net.head(torch.relu(net.one(a) + 0 * net.one(b))),
        one=nn.Linear(12, WIDTH), head=nn.Linear(WIDTH, 4),
    )  # fmt: skip
    a, b = vectors(48), vectors(48)
    return model, (a, b, labels(a)), {"loss": CE}


@healthy("UG205")
def two_pictures_compared() -> Arguments:
    model = Net(
        lambda net, a, b: net.head(torch.cat([net.body(a), net.body(b)], 1)),
        body=nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten()),
        head=nn.Linear(576, 1),
    )
    a, b = pictures(24), pictures(24)
    return model, (a, b, (a.mean((1, 2, 3)) > b.mean((1, 2, 3))).float()[:, None]), {"loss": BCE_LOGITS}


@healthy("UG205")
def a_mask_of_ones_and_positions() -> Arguments:
    def forward(net: Net, x: Tensor, mask: Tensor, place: Tensor) -> Tensor:
        h = (net.embed(x) + net.places(place)) * mask[..., None]
        return net.head(torch.relu(net.body(h)).mean(1))

    x, _ = text(48, 10, 20)
    model = Net(
        forward, embed=nn.Embedding(20, WIDTH), places=nn.Embedding(10, WIDTH), body=nn.Linear(WIDTH, WIDTH),
        head=nn.Linear(WIDTH, 4),
    )  # fmt: skip
    return model, (x, torch.ones(48, 10), torch.arange(10).expand(48, -1), x[:, 0] % 4), {"loss": CE}


@healthy("UG205")
def an_input_that_only_training_uses() -> Arguments:
    """What is fed to a decoder in training is its own output in evaluation."""

    def forward(net: Net, x: Tensor, told: Tensor) -> Tensor:
        h = torch.relu(net.body(x))
        return net.head(h + net.told(told if net.training else net.guess(h)))

    x = vectors(48)
    model = Net(
        forward, body=nn.Linear(12, WIDTH), guess=nn.Linear(WIDTH, 12), told=nn.Linear(12, WIDTH),
        head=nn.Linear(WIDTH, 4),
    )  # fmt: skip
    model.guess.requires_grad_(False)
    return model, (x, vectors(48), labels(x)), {"loss": CE}


@healthy("UG205")
def lengths_of_packed_sequences() -> Arguments:
    def forward(net: Net, x: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(
            net.embed(x), lengths, batch_first=True, enforce_sorted=False
        )
        return net.head(net.rnn(packed)[1][0])

    x, _ = text(48, 10, 20)
    lengths = torch.randint(3, 11, (48,))
    x = torch.where(torch.arange(10) < lengths[:, None], x, 0)
    model = Net(
        forward, embed=nn.Embedding(20, WIDTH), rnn=nn.GRU(WIDTH, WIDTH, batch_first=True), head=nn.Linear(WIDTH, 4)
    )  # fmt: skip
    return model, (x, lengths, x[:, 0] % 4), {"loss": CE}


@healthy("UG205")
def a_graph_and_its_nodes() -> Arguments:
    def forward(net: Net, x: Tensor, edges: Tensor) -> Tensor:
        h = net.body(x)
        return net.head(torch.relu(h.index_add(0, edges[1], 0.3 * h[edges[0]])))

    x = vectors(48)
    edges = torch.randint(0, 48, (2, 90))
    model = Net(forward, body=nn.Linear(12, WIDTH), head=nn.Linear(WIDTH, 4))
    return model, (x, torch.cat([edges, edges.flip(0)], 1), labels(x)), {"loss": CE}


@healthy("UG205")
def dropout_and_two_inputs() -> Arguments:
    model = Net(
        lambda net, a, b: net.head(net.drop(torch.relu(net.one(a) + net.one(b)))),
        one=chain(12, WIDTH), drop=nn.Dropout(0.3), head=nn.Linear(WIDTH, 4),
    )  # fmt: skip
    a, b = vectors(48), vectors(48)
    return model, (a, b, labels(a + b)), {"loss": CE}


@healthy("UG205")
def a_condition_through_a_layer_of_zeros() -> Arguments:
    """As in diffusion transformers, whose conditions change nothing at first."""
    model = Net(
        lambda net, x, kind: net.head(torch.relu(net.body(x) + net.gate(net.kinds(kind)))),
        body=nn.Linear(12, WIDTH), kinds=nn.Embedding(5, WIDTH), gate=nn.Linear(WIDTH, WIDTH), head=nn.Linear(WIDTH, 4),
    )  # fmt: skip
    nn.init.zeros_(model.gate.weight)
    nn.init.zeros_(model.gate.bias)
    x = vectors(48)
    return model, (x, torch.randint(0, 5, (48,)), labels(x)), {"loss": CE}


class Ranking(nn.Module):
    """Gives its loss itself: each question's answer against all wrong answers of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.ask, self.answer = nn.Linear(12, WIDTH), nn.Linear(12, WIDTH)

    def forward(self, question: Tensor, right: Tensor, wrong: Tensor) -> Tensor:
        q = F.normalize(self.ask(question), dim=1)
        good = (q * F.normalize(self.answer(right), dim=1)).sum(1, keepdim=True)
        bad = q @ F.normalize(self.answer(wrong), dim=1).T
        return (torch.cat([good, bad], 1) * 5).logsumexp(1).mean() - 5 * good.mean()


@healthy("UG205")
def wrong_answers_in_any_order() -> Arguments:
    return Ranking(), (vectors(48), vectors(48), vectors(48)), {"loss": None}


@healthy("UG205")
def coordinates_that_the_model_standardizes() -> Arguments:
    """They have no axis of examples, and moving or scaling them changes nothing."""

    def forward(net: Net, x: Tensor, points: Tensor) -> Tensor:
        points = (points - points.mean(0)) / points.std(0)
        return net.head(torch.relu(net.body(x) + net.place(points).mean(0)))

    x = vectors(48)
    model = Net(forward, body=nn.Linear(12, WIDTH), place=chain(2, 8, WIDTH), head=nn.Linear(WIDTH, 4))
    return model, (x, torch.randn(30, 2), labels(x)), {"loss": CE}
