"""Cases of UG810: what a function returns is dropped, where it was to take the place of what it was given."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from function_rows import (
    CE,
    Arguments,
    Net,
    chain,
    flat_ce,
    healthy,
    labels,
    pictures,
    sequences,
    sick,
    text,
    values,
    vectors,
)  # fmt: skip
from torch import Tensor, nn

# ---- sick ------------------------------------------------------------------------------------------------------


@sick("UG810")
def relu_called_as_a_statement() -> Arguments:
    def run(net: Net, x: Tensor) -> Tensor:
        x = net.one(x)
        F.relu(x)
        x = net.two(x)
        return net.three(torch.tanh(x))

    x = vectors()
    return (
        Net(run, one=nn.Linear(12, 32), two=nn.Linear(32, 32), three=nn.Linear(32, 4)),
        (x, labels(x)),
        {"loss": CE},
    )


@sick("UG810")
def dropout_layer_whose_output_is_dropped() -> Arguments:
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.drop = nn.Linear(12, 32), nn.Linear(32, 4), nn.Dropout(0.3)

        def forward(self, x: Tensor) -> Tensor:
            h = self.one(x).relu()
            self.drop(h)
            return self.two(h)

    x = vectors()
    return Head(), (x, labels(x)), {"loss": CE}


@sick("UG810")
def mask_that_fills_a_copy() -> Arguments:
    """masked_fill without its underscore."""

    def run(net: Net, x: Tensor) -> Tensor:
        h = net.embed(x)
        q, k, v = net.qkv(h).chunk(3, -1)
        scores = q @ k.transpose(1, 2) / 24**0.5
        scores.masked_fill(torch.triu(torch.ones(12, 12, dtype=torch.bool), 1), float("-inf"))
        return net.head(h + scores.softmax(-1) @ v)

    x, y = text()
    net = Net(run, embed=nn.Embedding(20, 24), qkv=nn.Linear(24, 72), head=nn.Linear(24, 20))
    return net, (x, y.roll(3, 0)), {"loss": flat_ce}


@sick("UG810")
def shortcut_that_is_added_to_nothing() -> Arguments:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2 = (nn.Conv2d(8, 8, 3, padding=1) for _ in range(2))
            self.norm = nn.BatchNorm2d(8)

        def forward(self, x: Tensor) -> Tensor:
            out = self.conv2(self.norm(self.conv1(x)).relu())
            out + x
            return F.relu(out)

    x = pictures()
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        Block(),
        Block(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    )
    return model, (x, labels(x)), {"loss": CE}


@sick("UG810")
def shortcut_by_torch_add() -> Arguments:
    def run(net: Net, x: Tensor) -> Tensor:
        h = net.stem(x)
        for block in blocks:
            branch = block(h)
            torch.add(branch, h)
            h = branch
        return net.head(h)

    x = vectors()
    blocks = nn.ModuleList([nn.Sequential(nn.LayerNorm(24), nn.Linear(24, 24), nn.GELU()) for _ in range(3)])
    net = Net(run, stem=nn.Linear(12, 24), blocks=blocks, head=nn.Linear(24, 1))
    return net, (x, values(x)), {"loss": F.mse_loss}


@sick("UG810")
def unit_length_that_is_not_kept() -> Arguments:
    def run(net: Net, x: Tensor) -> Tensor:
        z = net.body(x)
        F.normalize(z, dim=-1)
        return z @ F.normalize(net.centres, dim=1).T * 4

    x = vectors()
    net = Net(run, body=chain(12, 32, 6), centres=nn.Parameter(torch.randn(4, 6)))
    return net, (x, labels(x)), {"loss": CE}


@sick("UG810")
def clamp_of_a_log_variance_without_effect() -> Arguments:
    def run(net: Net, x: Tensor) -> tuple[Tensor, Tensor]:
        h = net.body(x).relu()
        mean, logvar = net.mean(h), net.logvar(h)
        logvar.clamp(-4, 4)
        return mean, logvar

    def loss(out: tuple[Tensor, Tensor], y: Tensor) -> Tensor:
        return 0.5 * (out[1] + (y - out[0]) ** 2 / out[1].exp()).mean()

    x = vectors()
    net = Net(run, body=nn.Linear(12, 32), mean=nn.Linear(32, 1), logvar=nn.Linear(32, 1))
    return net, (x, values(x)), {"loss": loss}


@sick("UG810")
def a_penalty_that_is_added_to_nothing() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        total = CE(out, y)
        total + 0.01 * out.square().mean()
        return total

    x = vectors()
    return chain(12, 32, 4), (x, labels(x)), {"loss": loss}


@sick("UG810")
def functional_dropout_in_a_sequence_model() -> Arguments:
    def run(net: Net, x: Tensor) -> Tensor:
        h, _ = net.rnn(x)
        last = h[:, -1]
        F.dropout(last, 0.4, net.training)
        return net.head(last)

    x = sequences()
    net = Net(run, rnn=nn.GRU(6, 24, batch_first=True), head=nn.Linear(24, 1))
    return net, (x, values(x)), {"loss": F.mse_loss}


@sick("UG810")
def relu_module_called_for_nothing() -> Arguments:
    class Conv(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
            self.act, self.head = nn.LeakyReLU(0.1), nn.Linear(16, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = F.max_pool2d(F.relu(self.conv1(x)), 2)
            x = self.conv2(x)
            self.act(x)
            return self.head(x.mean((2, 3)))

    x = pictures()
    return Conv(), (x, labels(x)), {"loss": CE}


# ---- healthy ---------------------------------------------------------------------------------------------------


@healthy("UG810")
def relu_that_works_in_place() -> Arguments:
    def run(net: Net, x: Tensor) -> Tensor:
        x = net.one(x)
        F.relu(x, inplace=True)
        x = net.two(x)
        x.clamp_(min=0)
        net.act(x)
        return net.three(x)

    x = vectors()
    act = nn.ReLU(inplace=True)
    net = Net(run, one=nn.Linear(12, 32), two=nn.Linear(32, 32), act=act, three=nn.Linear(32, 4))
    return net, (x, labels(x)), {"loss": CE}


@healthy("UG810")
def maps_kept_for_a_picture() -> Arguments:
    """Weights and features that forward keeps on the module for later."""

    class Kept(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(12, 32), nn.Linear(32, 4)

        def forward(self, x: Tensor) -> Tensor:
            h = self.body(x)
            self.features = F.normalize(h, dim=1)
            self.seen = {"relu": F.relu(h)}
            return self.head(h.tanh())

    x = vectors()
    return Kept(), (x, labels(x)), {"loss": CE}


@healthy("UG810")
def numbers_that_are_only_shown() -> Arguments:
    log: list[float] = []

    def run(net: Net, x: Tensor) -> Tensor:
        h = net.body(x)
        log.append(F.relu(h).mean().item())
        assert F.dropout(h, 0.1, net.training).isfinite().all()
        str(torch.sigmoid(h).max())
        F.relu(h).cpu().numpy() if not h.requires_grad else F.relu(h.detach()).numpy()
        return net.head(h.relu())

    x = vectors()
    return Net(run, body=nn.Linear(12, 32), head=nn.Linear(32, 4)), (x, labels(x)), {"loss": CE}


@healthy("UG810")
def states_and_weights_that_are_not_needed() -> Arguments:
    def run(net: Net, x: Tensor) -> Tensor:
        h, (_, _) = net.rnn(x)
        h, _ = net.attend(h, h, h)
        best, _ = h.max(1)
        return net.head(best)

    x = sequences()
    net = Net(
        run, rnn=nn.LSTM(6, 16, batch_first=True), attend=nn.MultiheadAttention(16, 2, batch_first=True),
        head=nn.Linear(16, 1),
    )  # fmt: skip
    return net, (x, values(x)), {"loss": F.mse_loss}


@healthy("UG810")
def passes_that_only_look() -> Arguments:
    """A spectral estimate, a norm that is only to see a batch, and a pass under no_grad."""

    def run(net: Net, x: Tensor) -> Tensor:
        with torch.no_grad():
            F.relu(net.one(x))
            net.norm(net.one(x))
        h = net.norm(net.one(x)).relu()
        return net.head(h)

    x = vectors()
    net = Net(run, one=nn.Linear(12, 32), norm=nn.BatchNorm1d(32), head=nn.Linear(32, 4))
    return net, (x, labels(x)), {"loss": CE}


@healthy("UG810")
def several_exits_of_which_one_is_returned() -> Arguments:
    def run(net: Net, x: Tensor) -> Tensor:
        outs = []
        for layer in layers:
            x = layer(x).relu()
            outs.append(net.head(x))
        return outs[-1]

    x = vectors(width=24)
    layers = nn.ModuleList([nn.Linear(24, 24) for _ in range(3)])
    net = Net(run, layers=layers, head=nn.Linear(24, 4))
    return net, (x, labels(x)), {"loss": CE}


@healthy("UG810")
def a_loss_that_logs_its_parts() -> Arguments:
    parts: dict[str, Tensor] = {}

    def loss(out: Tensor, y: Tensor) -> Tensor:
        parts["ce"], parts["size"] = CE(out, y), out.square().mean()
        parts["both"] = parts["ce"] + parts["size"]
        (out.argmax(1) == y).float().mean()
        out.softmax(1).max(1)
        return parts["ce"] + 0.01 * parts["size"]

    x = vectors()
    return chain(12, 32, 4), (x, labels(x)), {"loss": loss}


@healthy("UG810")
def positions_moved_by_one_in_place() -> Arguments:
    def run(net: Net, x: Tensor) -> Tensor:
        h = net.embed(x)
        h += net.places
        scores = h @ h.transpose(1, 2) / 24**0.5
        scores.masked_fill_(torch.triu(torch.ones(12, 12, dtype=torch.bool), 1), float("-inf"))
        out = torch.empty_like(h)
        torch.add(scores.softmax(-1) @ h, h, out=out) if not h.requires_grad else None
        return net.head(scores.softmax(-1) @ h + h)

    x, y = text()
    net = Net(
        run,
        embed=nn.Embedding(20, 24),
        places=nn.Parameter(0.1 * torch.randn(12, 24)),
        head=nn.Linear(24, 20),
    )
    return net, (x, y), {"loss": flat_ce}


@healthy("UG810")
def the_last_branch_of_a_loop_is_not_asked() -> Arguments:
    """Each block makes what the next one starts with; the last one's is computed, and not needed."""

    def run(net: Net, x: Tensor) -> Tensor:
        h = net.stem(x)
        for layer in layers:
            out = layer(h)
            h = F.relu(out)
        return net.head(out)

    x = vectors()
    layers = nn.ModuleList([nn.Linear(24, 24) for _ in range(3)])
    return (
        Net(run, stem=nn.Linear(12, 24), layers=layers, head=nn.Linear(24, 4)),
        (x, labels(x)),
        {"loss": CE},
    )


@healthy("UG810")
def generated_and_rejected() -> Arguments:
    """Two candidates, of which the batch decides which is used."""

    def run(net: Net, x: Tensor) -> Tensor:
        h = net.body(x)
        one, two = F.gelu(h), F.relu(h)
        return net.head(one if bool(one.mean() > -10) else two)

    x = vectors()
    return Net(run, body=nn.Linear(12, 32), head=nn.Linear(32, 4)), (x, labels(x)), {"loss": CE}
