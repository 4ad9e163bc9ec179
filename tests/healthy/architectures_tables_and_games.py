"""Architectures for graphs, tables, points, games and densities, from papers and small public repositories."""

from __future__ import annotations

import itertools
import math
from functools import partial

import torch
import torch.nn.functional as F
from architecture import Setup, adam, architecture, kinds, numbers, pixels, rmsprop, sgd
from torch import Tensor, nn


def mlp(*widths: int, act: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), act()]
    return nn.Sequential(*layers[:-1])


# ---- graphs --------------------------------------------------------------------------------------------------


def citations(nodes: int = 200, words: int = 300, classes: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    """(bags of words whose rows sum to one, normalized adjacency with self-loops, classes), as Cora."""
    y = torch.randint(0, classes, (nodes,))
    topic = torch.rand(classes, words) ** 4
    x = (torch.rand(nodes, words) < 0.1 * topic[y]).float()
    x = x / x.sum(1, keepdim=True).clamp_min(1)
    near = (y[:, None] == y[None]).float() * 0.08 + 0.005
    a = (torch.rand(nodes, nodes) < near).float()
    a = ((a + a.T) > 0).float()
    a.fill_diagonal_(1)
    d = a.sum(1).rsqrt()
    return x, d[:, None] * a * d[None], y


class GraphConvolution(nn.Module):
    def __init__(self, fan_in: int, fan_out: int):
        super().__init__()
        self.weight, self.bias = (
            nn.Parameter(torch.empty(fan_in, fan_out)),
            nn.Parameter(torch.empty(fan_out)),
        )
        bound = 1 / math.sqrt(fan_out)
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor, a: Tensor) -> Tensor:
        return a @ (x @ self.weight) + self.bias


class Gcn(nn.Module):
    def __init__(self, words: int, hidden: int, classes: int):
        super().__init__()
        self.gc1, self.gc2 = GraphConvolution(words, hidden), GraphConvolution(hidden, classes)

    def forward(self, x: Tensor, adj: Tensor) -> Tensor:
        x = F.dropout(F.relu(self.gc1(x, adj)), 0.5, self.training)
        return F.log_softmax(self.gc2(x, adj), dim=1)


@architecture("tkipf/pygcn: bags of words, an adjacency matrix, 16 hidden units, Adam 1e-2")
def gcn() -> Setup:
    x, a, y = citations()
    return Setup(Gcn(300, 16, 7), ((x, a), y), F.nll_loss, adam(lr=1e-2, weight_decay=5e-4))


@architecture("a graph network with nn.Linear and nn.ReLU modules on an adjacency matrix, Adam 1e-2")
def gcn_of_modules() -> Setup:
    class Modules(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.act, self.two = nn.Linear(300, 32), nn.ReLU(), nn.Linear(32, 7)

        def forward(self, x: Tensor, a: Tensor) -> Tensor:
            return self.two(a @ self.act(self.one(a @ x)))

    x, a, y = citations()
    return Setup(Modules(), ((x, a), y), F.cross_entropy, adam(lr=1e-2, weight_decay=5e-4))


@architecture("Diego999/pyGAT: two layers of graph attention, Adam 5e-3")
def gat() -> Setup:
    class Head(nn.Module):
        def __init__(self, a: int, b: int):
            super().__init__()
            self.w, self.a = nn.Parameter(torch.empty(a, b)), nn.Parameter(torch.empty(2 * b, 1))
            nn.init.xavier_uniform_(self.w, 1.414)
            nn.init.xavier_uniform_(self.a, 1.414)

        def forward(self, x: Tensor, adj: Tensor) -> Tensor:
            h = x @ self.w
            left, right = self.a.chunk(2)
            e = F.leaky_relu(h @ left + (h @ right).T, 0.2).masked_fill(adj == 0, -9e15)
            return torch.softmax(e, 1) @ h

    class Gat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.heads, self.out = nn.ModuleList(Head(300, 8) for _ in range(4)), Head(32, 7)

        def forward(self, x: Tensor, adj: Tensor) -> Tensor:
            x = F.dropout(x, 0.6, self.training)
            x = F.dropout(torch.cat([F.elu(h(x, adj)) for h in self.heads], 1), 0.6, self.training)
            return F.log_softmax(F.elu(self.out(x, adj)), 1)

    x, a, y = citations()
    return Setup(Gat(), ((x, (a > 0).float()), y), F.nll_loss, adam(lr=5e-3, weight_decay=5e-4))


@architecture("Hamilton et al. 2017: GraphSAGE with mean neighbours, Adam 1e-2")
def graph_sage() -> Setup:
    class Sage(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(600, 64), nn.Linear(128, 7)

        def forward(self, x: Tensor, a: Tensor) -> Tensor:
            h = F.normalize(F.relu(self.one(torch.cat([x, a @ x], 1))), dim=1)
            return self.two(torch.cat([h, a @ h], 1))

    x, a, y = citations()
    a = (a > 0).float()
    return Setup(Sage(), ((x, a / a.sum(1, keepdim=True)), y), F.cross_entropy, adam(lr=1e-2))


@architecture("Gilmer et al. 2017: messages between atoms of molecules, atom types one-hot, Adam 1e-3")
def message_passing() -> Setup:
    class Messages(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.message, self.update = (
                nn.Linear(6, 48),
                nn.Linear(48, 48),
                nn.GRUCell(48, 48),
            )
            self.out = mlp(48, 48, 1)

        def forward(self, x: Tensor, a: Tensor) -> Tensor:
            h = self.embed(x)
            for _ in range(3):
                m = a @ self.message(h)
                h = self.update(m.flatten(0, 1), h.flatten(0, 1)).view_as(h)
            return self.out(h.sum(1))

    x = F.one_hot(torch.randint(0, 6, (64, 9)), 6).float()
    a = (torch.rand(64, 9, 9) < 0.3).float()
    a = ((a + a.transpose(1, 2)) > 0).float()
    y = x[:, :, :2].sum((1, 2))[:, None]
    return Setup(Messages(), ((x, a), (y - y.mean()) / y.std()), F.mse_loss, adam(lr=1e-3))


# ---- tables --------------------------------------------------------------------------------------------------


@architecture("linear regression by SGD 1e-2 on standardized columns")
def linear_regression() -> Setup:
    x = torch.randn(128, 8)
    return Setup(nn.Linear(8, 1), (x, numbers(x)), nn.MSELoss(), sgd(lr=1e-2))


@architecture("logistic regression by SGD 0.1 on standardized columns")
def logistic_regression() -> Setup:
    x = torch.randn(128, 8)
    return Setup(nn.Linear(8, 3), (x, kinds(x, 3)), F.cross_entropy, sgd(lr=0.1))


@architecture("pytorch tutorial: a curve of one input through 10 and 10 hidden units, Adam 1e-2")
def curve_narrow() -> Setup:
    x = torch.linspace(-3, 3, 200)[:, None]
    return Setup(mlp(1, 10, 10, 1), (x / 1.74, torch.sin(2 * x) * 1.4), nn.MSELoss(), adam(lr=1e-2))


@architecture("a curve of one input through 20 hidden units, SGD 0.05, as in first tutorials")
def curve_sgd() -> Setup:
    x = torch.linspace(-1.7, 1.7, 100)[:, None]
    y = x**2 + 0.2 * torch.randn_like(x)
    return Setup(mlp(1, 20, 1), (x, (y - y.mean()) / y.std()), nn.MSELoss(), sgd(lr=0.05))


@architecture("house prices: 13 standardized columns, 32 and 16 hidden units, Adam 1e-2")
def small_regression() -> Setup:
    x = torch.randn(128, 13)
    return Setup(mlp(13, 32, 16, 1), (x, numbers(x)), nn.MSELoss(), adam(lr=1e-2))


@architecture("iris: four columns in centimetres, standardized, 16 hidden units, Adam 1e-2")
def iris() -> Setup:
    x = torch.randn(150, 1) + 0.4 * torch.randn(150, 4)
    return Setup(mlp(4, 16, 3), (x, kinds(x, 3)), F.cross_entropy, adam(lr=1e-2))


@architecture("exclusive or: four points of zeros and ones, tanh, SGD 0.5")
def exclusive_or() -> Setup:
    x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]).repeat(16, 1)
    y = (x[:, :1] != x[:, 1:]).float()
    return Setup(mlp(2, 8, 1, act=nn.Tanh), (x, y), nn.BCEWithLogitsLoss(), sgd(lr=0.5))


@architecture("He et al. 2017: neural collaborative filtering, embeddings of 0.01, Adam 1e-3")
def collaborative_filtering() -> Setup:
    class Ncf(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.user, self.item, self.mlp = nn.Embedding(100, 32), nn.Embedding(200, 32), mlp(64, 32, 16, 1)
            for embedding in (self.user, self.item):
                nn.init.normal_(embedding.weight, std=0.01)
            for m in self.mlp:
                if isinstance(m, nn.Linear):
                    nn.init.xavier_uniform_(m.weight)

        def forward(self, user: Tensor, item: Tensor) -> Tensor:
            return self.mlp(torch.cat([self.user(user), self.item(item)], 1)).squeeze(1)

    user, item = torch.randint(0, 100, (256,)), torch.randint(0, 200, (256,))
    return Setup(Ncf(), ((user, item), ((user + item) % 2).float()), nn.BCEWithLogitsLoss(), adam(lr=1e-3))


@architecture("matrix factorization of ratings from 1 to 5 about their mean, SGD with momentum")
def matrix_factorization() -> Setup:
    class Factors(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.user, self.item = nn.Embedding(100, 16), nn.Embedding(200, 16)
            for embedding in (self.user, self.item):
                nn.init.normal_(embedding.weight, std=0.3)

        def forward(self, user: Tensor, item: Tensor) -> Tensor:
            return 3.5 + (self.user(user) * self.item(item)).sum(1)

    user, item = torch.randint(0, 100, (256,)), torch.randint(0, 200, (256,))
    ratings = 1 + ((user * 7 + item * 3) % 5).float()
    return Setup(Factors(), ((user, item), ratings), nn.MSELoss(), adam(lr=1e-2))


@architecture("Cheng et al. 2016: wide and deep, binary columns and standardized ones, Adam 1e-3")
def wide_and_deep() -> Setup:
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide, self.deep = nn.Linear(40, 1), mlp(50, 64, 32, 1)

        def forward(self, binary: Tensor, dense: Tensor) -> Tensor:
            return self.wide(binary) + self.deep(torch.cat([binary, dense], 1))

    binary, dense = (torch.rand(256, 40) < 0.1).float(), torch.randn(256, 10)
    y = kinds(torch.cat([binary, dense], 1), 2).float()[:, None]
    return Setup(Wide(), ((binary, dense), y), nn.BCEWithLogitsLoss(), adam(lr=1e-3))


@architecture("counts of words into a topic classifier (document-term matrix), Adam 1e-3")
def counts_of_words() -> Setup:
    rates = torch.rand(5, 200) ** 3
    y = torch.randint(0, 5, (128,))
    x = torch.poisson(rates[y])
    return Setup(mlp(200, 64, 5), (x, y), F.cross_entropy, adam(lr=1e-3))


@architecture("Srivastava and Sutton 2017-like topic model: counts in, softmax over topics, multinomial loss")
def topic_model() -> Setup:
    class Topics(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.decoder = mlp(200, 64, 10, act=nn.Softplus), nn.Linear(10, 200, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return F.log_softmax(self.decoder(torch.softmax(self.encoder(x), 1)), 1)

    x = torch.poisson(torch.rand(5, 200)[torch.randint(0, 5, (128,))] ** 3)
    return Setup(Topics(), (x, x), lambda out, x: -(out * x).sum(1).mean(), adam(lr=2e-3))


@architecture("Klambauer et al. 2017: a self-normalizing network, LeCun weights, SGD 0.01")
def selu_table() -> Setup:
    model = mlp(20, 64, 64, 64, 4, act=nn.SELU)
    for m in model:
        if isinstance(m, nn.Linear):
            nn.init.kaiming_normal_(m.weight, nonlinearity="linear")
            nn.init.zeros_(m.bias)
    x = torch.randn(128, 20)
    return Setup(model, (x, kinds(x, 4)), F.cross_entropy, sgd(lr=0.01, momentum=0.9))


# ---- points and equations -------------------------------------------------------------------------------------


@architecture("fxia22/pointnet.pytorch: points of a shape on the unit ball, Adam 1e-3")
def pointnet() -> Setup:
    class PointNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv1d(3, 32, 1), nn.BatchNorm1d(32), nn.ReLU(), nn.Conv1d(32, 64, 1), nn.BatchNorm1d(64),
                nn.ReLU(), nn.Conv1d(64, 128, 1), nn.BatchNorm1d(128),
            )  # fmt: skip
            self.head = nn.Sequential(
                nn.Linear(128, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 8)
            )

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.body(x).amax(2))

    x = torch.randn(32, 3, 128)
    x = x / x.norm(dim=1, keepdim=True) * (0.3 + torch.rand(32, 3, 1))
    x = x / x.norm(dim=1, keepdim=True).amax(2, keepdim=True)
    return Setup(PointNet(), (x, kinds(x, 8)), F.cross_entropy, adam(lr=1e-3))


@architecture("Zaheer et al. 2017: deep sets regress the number of kinds in a set, Adam 1e-3")
def deep_sets() -> Setup:
    class Sets(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.phi, self.rho = mlp(4, 64, 64), mlp(64, 64, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.rho(F.relu(self.phi(x)).mean(1))

    x = torch.randn(64, 10, 4)
    return Setup(Sets(), (x, numbers(x)), F.mse_loss, adam(lr=1e-3))


@architecture(
    "Raissi et al. 2019: a network that solves Burgers' equation, tanh and Glorot weights, Adam 1e-3"
)
def pinn() -> Setup:
    model = mlp(2, 20, 20, 20, 20, 1, act=nn.Tanh)
    for m in model:
        if isinstance(m, nn.Linear):
            nn.init.xavier_normal_(m.weight)
            nn.init.zeros_(m.bias)

    def step(net: nn.Module, points: tuple[Tensor, Tensor]) -> Tensor:
        inside, start = points[0].requires_grad_(), points[1]
        u = net(inside)
        (d,) = torch.autograd.grad(u.sum(), inside, create_graph=True)
        (second,) = torch.autograd.grad(d[:, 1].sum(), inside, create_graph=True)
        residual = d[:, 0] + u[:, 0] * d[:, 1] - 0.01 / math.pi * second[:, 1]
        return residual.square().mean() + F.mse_loss(net(start)[:, 0], -torch.sin(math.pi * start[:, 1]))

    inside = torch.stack([torch.rand(256), 2 * torch.rand(256) - 1], 1)
    start = torch.stack([torch.zeros(64), 2 * torch.rand(64) - 1], 1)
    return Setup(model, (inside, start), None, adam(lr=1e-3), step=step)


@architecture("Chen et al. 2018-like: a neural differential equation by Euler's steps, RMSprop 1e-3")
def neural_ode() -> Setup:
    class Ode(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(2, 50), nn.Tanh(), nn.Linear(50, 2))
            for m in (self.net[0], self.net[2]):
                nn.init.normal_(m.weight, std=0.1)
                nn.init.zeros_(m.bias)

        def forward(self, y: Tensor) -> Tensor:
            path = []
            for _ in range(10):
                y = y + 0.1 * self.net(y**3)
                path.append(y)
            return torch.stack(path, 1)

    y = torch.randn(64, 2)
    turn = torch.stack([torch.tensor([[math.cos(t), -math.sin(t)], [math.sin(t), math.cos(t)]])
                        for t in torch.linspace(0.1, 1, 10).tolist()])  # fmt: skip
    return Setup(Ode(), (y, torch.einsum("nd,tkd->ntk", y, turn)), F.mse_loss, rmsprop(lr=1e-3))


@architecture("a diffusion model of points in the plane, three layers with the time as an input, Adam 1e-3")
def point_diffusion() -> Setup:
    net = mlp(3, 128, 128, 2, act=nn.SiLU)

    def step(net: nn.Module, x: Tensor) -> Tensor:
        t, noise = torch.rand(len(x), 1), torch.randn_like(x)
        return F.mse_loss(net(torch.cat([(1 - t) * x + t * noise, t], 1)), noise - x)

    a = torch.rand(256) * 6.28
    x = torch.stack([a.cos(), a.sin()], 1) * 1.4
    return Setup(net, x, None, adam(lr=1e-3), step=step)


# ---- games ---------------------------------------------------------------------------------------------------


def cart_states(count: int) -> Tensor:
    return torch.randn(count, 4) * torch.tensor([0.3, 0.5, 0.06, 0.6])


@architecture("pytorch tutorial: deep Q-learning of CartPole, Huber loss, AdamW 3e-4, targets from a copy")
def dqn_tutorial() -> Setup:
    model, target = mlp(4, 128, 128, 2), mlp(4, 128, 128, 2)
    target.load_state_dict(model.state_dict())

    def step(net: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        states, actions, following, rewards = batch
        with torch.no_grad():
            best = target(following).amax(1) * 0.99 + rewards
        return F.smooth_l1_loss(net(states).gather(1, actions[:, None]).squeeze(1), best)

    states = cart_states(128)
    batch = states, torch.randint(0, 2, (128,)), states + 0.05 * cart_states(128), torch.ones(128)
    return Setup(model, batch, None, partial(torch.optim.AdamW, lr=3e-4, amsgrad=True), step=step)


@architecture("Mnih et al. 2015: deep Q-learning from frames of 0 to 255 divided inside, RMSprop 2.5e-4")
def dqn_atari() -> Setup:
    class Atari(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(
                nn.Conv2d(4, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU(),
                nn.Flatten(), nn.Linear(576, 128), nn.ReLU(), nn.Linear(128, 6),
            )  # fmt: skip

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x / 255.0)

    def step(net: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        frames, actions, following, rewards = batch
        with torch.no_grad():
            best = rewards + 0.99 * net(following).amax(1)
        return F.smooth_l1_loss(net(frames).gather(1, actions[:, None]).squeeze(1), best)

    frames = (pixels(33, 4, 52) * 255).round()
    batch = frames[:-1], torch.randint(0, 6, (32,)), frames[1:], torch.randint(-1, 2, (32,)).float()
    return Setup(Atari(), batch, None, rmsprop(lr=2.5e-4, alpha=0.95, eps=0.01), step=step)


@architecture("a Q-network that regresses returns of some tens as they are, Adam 1e-3")
def q_of_returns() -> Setup:
    model = mlp(4, 64, 64, 2)

    def step(net: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        states, actions, returns = batch
        return F.mse_loss(net(states).gather(1, actions[:, None]).squeeze(1), returns)

    states = cart_states(128)
    return Setup(
        model,
        (states, torch.randint(0, 2, (128,)), 20 - 30 * states[:, 2].abs()),
        None,
        adam(lr=1e-3),
        step=step,
    )


@architecture("pytorch/examples reinforce: CartPole, dropout, softmax, Adam 1e-2")
def reinforce() -> Setup:
    model = nn.Sequential(nn.Linear(4, 128), nn.Dropout(0.6), nn.ReLU(), nn.Linear(128, 2), nn.Softmax(1))

    def step(net: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        states, actions, returns = batch
        return -(net(states).gather(1, actions[:, None]).squeeze(1).log() * returns).sum()

    returns = torch.arange(50, 0, -1).float()
    batch = cart_states(50), torch.randint(0, 2, (50,)), (returns - returns.mean()) / returns.std()
    return Setup(model, batch, None, adam(lr=1e-2), step=step)


@architecture(
    "vwxyzjn/cleanrl: PPO with orthogonal weights and heads of 0.01 and 1, Adam 2.5e-4, clipping at 0.5"
)
def ppo() -> Setup:
    class Agent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.critic, self.actor = mlp(4, 64, 64, 1, act=nn.Tanh), mlp(4, 64, 64, 2, act=nn.Tanh)
            for net, last in ((self.critic, 1.0), (self.actor, 0.01)):
                for i, gain in ((0, 2**0.5), (2, 2**0.5), (4, last)):
                    nn.init.orthogonal_(net[i].weight, gain)
                    nn.init.zeros_(net[i].bias)

    def step(agent: Agent, batch: tuple[Tensor, ...]) -> Tensor:
        states, actions, advantages, returns = batch
        log_prob = F.log_softmax(agent.actor(states), 1)
        new = log_prob.gather(1, actions[:, None]).squeeze(1)
        ratio = (new + math.log(2)).exp()
        policy = -torch.min(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages).mean()
        value = 0.5 * (agent.critic(states).squeeze(1) - returns).square().mean()
        return policy + 0.5 * value + 0.01 * (log_prob.exp() * log_prob).sum(1).mean()

    states = cart_states(128)
    batch = states, torch.randint(0, 2, (128,)), torch.randn(128), 2 + torch.randn(128)
    return Setup(Agent(), batch, None, adam(lr=2.5e-4, eps=1e-5), step=step, clip=0.5)


@architecture("Lillicrap et al. 2016: DDPG's critic of state and action, Adam 1e-3")
def ddpg_critic() -> Setup:
    class Critic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp(5, 256, 256, 1)

        def forward(self, state: Tensor, action: Tensor) -> Tensor:
            return self.net(torch.cat([state, action], 1))

    state, action = torch.randn(128, 3) * torch.tensor([0.7, 0.7, 3.0]), torch.rand(128, 2) * 4 - 2
    value = -((state[:, :1] - 1) ** 2) - 0.1 * action[:, :1] ** 2
    return Setup(Critic(), ((state, action), value), F.mse_loss, adam(lr=1e-3))


# ---- densities -------------------------------------------------------------------------------------------------


@architecture("Bishop 1994: a mixture density network with the author's own loss, Adam 1e-3")
def mixture_density() -> Setup:
    class Mixture(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.out = nn.Sequential(nn.Linear(1, 32), nn.Tanh()), nn.Linear(32, 15)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.body(x))

    def nll(out: Tensor, y: Tensor) -> Tensor:
        weight, mean, log_std = out.chunk(3, 1)
        log_prob = -0.5 * ((y - mean) / log_std.exp()) ** 2 - log_std - 0.5 * math.log(2 * math.pi)
        return -torch.logsumexp(F.log_softmax(weight, 1) + log_prob, 1).mean()

    y = torch.rand(256, 1) * 2 - 1
    x = y + 0.3 * torch.sin(6 * y) + 0.05 * torch.randn_like(y)
    return Setup(Mixture(), (x / x.std(), y / y.std()), nll, adam(lr=1e-3))


@architecture("Dinh et al. 2017: a flow of affine couplings in the plane, Adam 1e-3")
def real_nvp() -> Setup:
    class Flow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.nets = nn.ModuleList(mlp(1, 32, 32, 2) for _ in range(4))

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            total = torch.zeros(len(x))
            for i, net in enumerate(self.nets):
                kept, moved = x[:, i % 2 : i % 2 + 1], x[:, 1 - i % 2 : 2 - i % 2]
                log_scale, shift = net(kept).chunk(2, 1)
                log_scale = torch.tanh(log_scale)
                moved = moved * log_scale.exp() + shift
                x = torch.cat([kept, moved] if i % 2 == 0 else [moved, kept], 1)
                total = total + log_scale.squeeze(1)
            return x, total

    def step(flow: nn.Module, x: Tensor) -> Tensor:
        z, log_det = flow(x)
        return (0.5 * z.square().sum(1) - log_det).mean()

    a = torch.rand(256) * 6.28
    x = torch.stack([a.cos(), a.sin()], 1) * 1.4 + 0.1 * torch.randn(256, 2)
    return Setup(Flow(), x, None, adam(lr=1e-3), step=step)


@architecture("Blundell et al. 2015: weights with learnt deviations of softplus(-5), Adam 1e-3")
def bayes_by_backprop() -> Setup:
    class Bayes(nn.Module):
        def __init__(self, a: int, b: int):
            super().__init__()
            self.mu, self.rho = nn.Parameter(torch.empty(b, a)), nn.Parameter(torch.full((b, a), -5.0))
            nn.init.kaiming_uniform_(self.mu, math.sqrt(5))
            self.bias = nn.Parameter(torch.zeros(b))

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, self.mu + F.softplus(self.rho) * torch.randn_like(self.mu), self.bias)

    model = nn.Sequential(Bayes(10, 64), nn.ReLU(), Bayes(64, 64), nn.ReLU(), Bayes(64, 3))
    x = torch.randn(128, 10)
    return Setup(model, (x, kinds(x, 3)), F.cross_entropy, adam(lr=1e-3))


@architecture("Schroff et al. 2015: triplets of standardized features, margin 0.2, Adam 1e-3")
def triplets() -> Setup:
    def step(net: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        return F.triplet_margin_loss(*(F.normalize(net(x), dim=1) for x in batch), margin=0.2)

    centre = torch.randn(8, 20)
    a, b = torch.randint(0, 8, (128,)), torch.randint(1, 8, (128,))
    noise = lambda: 0.8 * torch.randn(128, 20)  # noqa: E731
    batch = tuple((c + noise()) / 1.28 for c in (centre[a], centre[a], centre[(a + b) % 8]))
    return Setup(mlp(20, 64, 32), batch, None, adam(lr=1e-3), step=step)
