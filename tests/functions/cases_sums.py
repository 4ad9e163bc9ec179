"""Cases of UG807: attention among the heads of one step, and weights that sum to one along another axis than the one
over which what they weigh is summed, written without a matmul."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from cases_wrong_axes import WIDTH, attention, read
from function_rows import Arguments, Net, chain, healthy, sequences, sick, values
from torch import Tensor, nn

# ---- sick ------------------------------------------------------------------------------------------------------


@sick("UG807", "sums")
def heads_that_attend_to_each_other() -> Arguments:
    """view without a transpose."""

    def run(net: Net, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        b, t, _ = q.shape
        q, k, v = (s.view(b, t, 4, WIDTH // 4) for s in (q.contiguous(), k.contiguous(), v.contiguous()))
        weights = (q @ k.transpose(-2, -1) / 2).softmax(-1)
        return (weights @ v).reshape(b, t, WIDTH)

    return read(attention(run))


@sick("UG807", "sums")
def scaled_attention_of_heads_in_the_third_axis() -> Arguments:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.out, self.head = nn.Embedding(20, 16), nn.Linear(16, 16), nn.Linear(16, 4)
            self.q, self.k, self.v = (nn.Linear(16, 16) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            h = self.embed(x)
            shape = (*h.shape[:2], 2, 8)
            q, k, v = self.q(h).view(shape), self.k(h).view(shape), self.v(h).view(shape)
            out = F.scaled_dot_product_attention(q, k, v).flatten(2)
            return self.head((h + self.out(out)).mean(1))

    return read(Block())


@sick("UG807", "sums")
def heads_of_one_projection_that_stay_where_they_are() -> Arguments:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.qkv, self.head = nn.Embedding(20, 16), nn.Linear(16, 48), nn.Linear(16, 4)

        def forward(self, x: Tensor) -> Tensor:
            h = self.embed(x)
            q, k, v = self.qkv(h).reshape(*h.shape[:2], 3, 4, 4).unbind(2)
            scores = torch.matmul(q, k.transpose(2, 3)) * 0.5
            mixed = torch.matmul(torch.softmax(scores, dim=-1), v)
            return self.head((h + mixed.reshape(h.shape)).mean(1))

    return read(Block())


@sick("UG807", "sums")
def queries_that_share_each_key_by_a_sum() -> Arguments:
    def run(net: Net, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = (q.unsqueeze(2) * k.unsqueeze(1)).sum(-1) / 4  # (N, query, key)
        weights = scores.softmax(dim=1)
        return (weights.unsqueeze(-1) * v.unsqueeze(1)).sum(2)

    return read(attention(run))


@sick("UG807", "sums")
def a_sum_of_queries_and_keys_over_the_queries() -> Arguments:
    """Additive attention."""

    def run(net: Net, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        e = net.score(torch.tanh(q[:, :, None, :] + k[:, None, :, :])).squeeze(-1)
        return torch.bmm(F.softmax(e, dim=1), v)

    return read(attention(run, score=nn.Linear(WIDTH, 1)))


class Experts(nn.Module):
    """Steps (N, T, 6) -> (N, T, 8) by a gate and three experts."""

    def __init__(self, mix: object) -> None:
        super().__init__()
        self.mix, self.embed = mix, nn.Linear(6, 16)
        self.gate, self.experts = nn.Linear(16, 3), nn.ModuleList([chain(16, 24, 16) for _ in range(3)])
        self.head = nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x).relu()
        return self.head((h + self.mix(self, h)).relu().mean(1))  # type: ignore[operator]


def mixed(mix: object) -> Arguments:
    x = sequences()
    return Experts(mix), (x, values(x)), {"loss": F.mse_loss}


@sick("UG807", "sums")
def experts_weighed_over_the_steps() -> Arguments:
    def mix(net: Experts, h: Tensor) -> Tensor:
        gate = F.softmax(net.gate(h), dim=1)
        out = torch.stack([expert(h) for expert in net.experts], dim=2)  # (N, T, E, D)
        return (gate.unsqueeze(-1) * out).sum(dim=2)

    return mixed(mix)


@sick("UG807", "sums")
def experts_weighed_over_the_steps_one_by_one() -> Arguments:
    def mix(net: Experts, h: Tensor) -> Tensor:
        gate = net.gate(h).softmax(-2)
        total = torch.zeros_like(h)
        for i, expert in enumerate(net.experts):
            total = total + gate[..., i : i + 1] * expert(h)
        return total

    return mixed(mix)


@sick("UG807", "sums")
def experts_weighed_over_the_steps_in_an_einsum() -> Arguments:
    def mix(net: Experts, h: Tensor) -> Tensor:
        gate = torch.softmax(net.gate(h), 1)
        out = torch.stack([expert(h) for expert in net.experts], dim=-1)
        return torch.einsum("nte,ntde->ntd", gate, out)

    return mixed(mix)


# ---- healthy ---------------------------------------------------------------------------------------------------


@healthy("UG807", "sums")
def heads_that_are_transposed() -> Arguments:
    def run(net: Net, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        b, t, _ = q.shape
        q, k, v = (s.reshape(b, t, 4, WIDTH // 4).transpose(1, 2) for s in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, t, WIDTH)

    return read(attention(run))


@healthy("UG807", "sums")
def heads_of_one_projection_in_front() -> Arguments:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.qkv, self.head = nn.Embedding(20, 16), nn.Linear(16, 48), nn.Linear(16, 4)

        def forward(self, x: Tensor) -> Tensor:
            h = self.embed(x)
            b, t, c = h.shape
            q, k, v = self.qkv(h).reshape(b, t, 3, 4, 4).permute(2, 0, 3, 1, 4)
            mixed = (q @ k.mT * 0.5).softmax(-1) @ v
            return self.head((h + mixed.transpose(1, 2).reshape(b, t, c)).mean(1))

    return read(Block())


@healthy("UG807", "sums")
def keys_weighed_by_a_sum() -> Arguments:
    def run(net: Net, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = (q.unsqueeze(2) * k.unsqueeze(1)).sum(-1) / 4
        return (scores.softmax(dim=2).unsqueeze(-1) * v.unsqueeze(1)).sum(2)

    return read(attention(run))


@healthy("UG807", "sums")
def pooled_by_several_heads_of_scores() -> Arguments:
    """Weights of each head sum to one over the steps, over which is summed; then the heads are added."""

    def mix(net: Experts, h: Tensor) -> Tensor:
        gate = net.gate(h).softmax(1)
        whole = (gate.unsqueeze(-1) * h.unsqueeze(2)).sum(2).sum(1, keepdim=True)
        parts = [(gate[..., i : i + 1] * net.experts[i](h)).sum(1, keepdim=True) for i in range(3)]
        return (whole + sum(parts)).expand_as(h)

    return mixed(mix)


@healthy("UG807", "sums")
def experts_weighed_over_the_experts() -> Arguments:
    def mix(net: Experts, h: Tensor) -> Tensor:
        gate = F.softmax(net.gate(h), dim=-1)
        out = torch.stack([expert(h) for expert in net.experts], dim=2)
        return (gate.unsqueeze(-1) * out).sum(dim=2)

    return mixed(mix)


@healthy("UG807", "sums")
def steps_assigned_to_clusters() -> Arguments:
    """Each step belongs to the clusters by shares, and each cluster sums its steps."""

    def mix(net: Experts, h: Tensor) -> Tensor:
        shares = net.gate(h).softmax(-1)  # (N, T, K)
        sums = (shares.unsqueeze(-1) * h.unsqueeze(2)).sum(1)  # (N, K, D)
        return sums.mean(1, keepdim=True) + sum(expert(h) for expert in net.experts)

    return mixed(mix)


@healthy("UG807", "sums")
def soft_experts_with_slots() -> Arguments:
    """Dispatched by weights over the steps, and combined by weights over the slots."""

    def mix(net: Experts, h: Tensor) -> Tensor:
        scores = net.gate(h)
        slots = torch.einsum("nte,ntd->ned", scores.softmax(1), h)
        out = torch.stack([net.experts[i](slots[:, i]) for i in range(3)], 1)
        return torch.einsum("nte,ned->ntd", scores.softmax(2), out)

    return mixed(mix)


@healthy("UG807", "sums")
def parts_of_a_step_that_attend_to_each_other() -> Arguments:
    """Variables within each step, projected one by one: an axis of its own from the beginning."""

    class Variables(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lift, self.qkv, self.head = nn.Linear(1, 16), nn.Linear(16, 48), nn.Linear(6 * 16, 1)

        def forward(self, x: Tensor) -> Tensor:
            h = self.lift(x.unsqueeze(-1))  # (N, T, V, D)
            q, k, v = self.qkv(h).chunk(3, -1)
            h = h + F.scaled_dot_product_attention(q, k, v)
            return self.head(h.flatten(2).relu().mean(1))

    x = sequences()
    return Variables(), (x, values(x)), {"loss": F.mse_loss}


@healthy("UG807", "sums")
def weights_over_the_steps_that_only_scale() -> Arguments:
    """A saliency of the steps, for each feature."""

    def mix(net: Experts, h: Tensor) -> Tensor:
        weights = net.gate(h).softmax(1) * h.shape[1]
        seen = weights * h[..., :3] + sum(expert(h)[..., :3] for expert in net.experts)
        return torch.cat([seen, h[..., 3:]], -1)

    return mixed(mix)
