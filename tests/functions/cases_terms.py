"""Cases of UG403 (a term of the loss is a number), UG119 (arguments of a loss that changed places) and UG808 (a tensor
is added to itself)."""

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
    sick,
    values,
    vectors,
)
from torch import Tensor, nn

TERMS, SWAPPED = "terms", "swapped"


def outputs_in(loss: Any, columns: int = 3) -> Arguments:
    x = vectors(96)
    return chain(12, 32, columns), (x, values(x, columns)), {"loss": loss}


def rough(out: Tensor) -> Tensor:
    return (out[:, 1:] - out[:, :-1]).square().mean()


# ---- terms that are numbers --------------------------------------------------------------------------------------


@sick("UG403", TERMS)
def penalty_detached_and_read() -> Arguments:
    return outputs_in(lambda out, y: MSE(out, y) + 3 * rough(out).detach().item())


@sick("UG403", TERMS)
def penalty_in_a_new_tensor_that_learns() -> Arguments:
    return outputs_in(lambda out, y: MSE(out, y) + torch.tensor(rough(out).item(), requires_grad=True))


@sick("UG403", TERMS)
def penalty_of_data() -> Arguments:
    return outputs_in(lambda out, y: sum([MSE(out, y), 0.1 * rough(out.data).item()]))


@sick("UG403", TERMS)
def penalty_computed_by_numpy() -> Arguments:
    return outputs_in(lambda out, y: MSE(out, y) + float((out.detach().numpy() ** 2).mean()))


@sick("UG403", TERMS)
def share_of_wrong_answers_stacked() -> Arguments:
    x = vectors(96)

    def loss(out: Tensor, y: Tensor) -> Tensor:
        wrong = (out.argmax(1) != y).float().mean()
        return torch.stack([CE(out, y), wrong]).sum()

    return chain(12, 32, 4), (x, labels(x)), {"loss": loss}


@sick("UG403", TERMS)
def penalty_in_a_tensor_of_one() -> Arguments:
    return outputs_in(lambda out, y: (MSE(out, y) + torch.FloatTensor([rough(out).item()])).sum())


@sick("UG403", TERMS)
def penalty_without_gradients() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            penalty = rough(out).sqrt()
        return MSE(out, y) + penalty

    return outputs_in(loss)


@sick("UG403", TERMS)
def total_of_numbers_in_a_loop() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        total = MSE(out, y)
        for column in range(out.shape[1]):
            total = total + float(out[:, column].abs().mean().detach())
        return total

    return outputs_in(loss)


@healthy("UG403", TERMS)
def penalty_as_a_tensor() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        error, penalty = MSE(out, y), rough(out)
        seen.append(error.item() + penalty.item())
        return error + 3 * penalty

    seen: list[float] = []
    return outputs_in(loss)


@healthy("UG403", TERMS)
def weight_from_the_sizes_of_both_terms() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        error, penalty = MSE(out, y), rough(out)
        return error + 0.1 * (error.detach() / penalty.detach()).item() * penalty

    return outputs_in(loss)


@healthy("UG403", TERMS)
def term_divided_by_its_own_size() -> Arguments:
    return outputs_in(lambda out, y: MSE(out, y) + rough(out) / rough(out).item())


@healthy("UG403", TERMS)
def hard_error_with_the_slope_of_a_soft_one() -> Arguments:
    x = vectors(96)

    def loss(out: Tensor, y: Tensor) -> Tensor:
        soft, hard = CE(out, y), (out.argmax(1) != y).float().mean()
        return soft + (hard - soft).detach()

    return chain(12, 32, 4), (x, labels(x)), {"loss": loss}


@healthy("UG403", TERMS)
def advantages_less_their_mean() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        gain = y - out[:, :1].detach()
        return (out[:, :1] - y[:, :1]).square().mean() - 0.01 * (
            out * (gain - gain.mean().item())
        ).tanh().mean()

    return outputs_in(loss)


@healthy("UG403", TERMS)
def mean_over_the_examples_that_count() -> Arguments:
    def loss(out: Tensor, y: Tensor) -> Tensor:
        kept = (out - y).abs().detach() < 3
        return ((out - y).square() * kept).sum() / max(1.0, kept.sum().item())

    return outputs_in(loss)


@healthy("UG403", TERMS)
def flooded_loss() -> Arguments:
    return outputs_in(lambda out, y: (MSE(out, y) - 0.05).abs() + 0.05)


@healthy("UG403", TERMS)
def loss_scaled_by_a_running_mean() -> Arguments:
    kept = [1.0]

    def loss(out: Tensor, y: Tensor) -> Tensor:
        error = MSE(out, y)
        kept[0] = 0.9 * kept[0] + 0.1 * error.item()
        return error / kept[0]

    return outputs_in(loss)


# ---- arguments that changed places --------------------------------------------------------------------------------


@sick("UG119", SWAPPED)
def targets_as_the_chances_of_outputs() -> Arguments:
    x = vectors(96)
    y = (x[:, :1] > 0).float()
    return chain(12, 32, 1), (x, y), {"loss": lambda out, y: F.binary_cross_entropy(y, out.sigmoid())}


@sick("UG119", SWAPPED)
def targets_as_logits() -> Arguments:
    x = vectors(96)
    y = (x[:, :1] > 0).float()
    model = nn.Sequential(chain(12, 32, 1), nn.Sigmoid())
    return model, (x, y), {"loss": lambda out, y: BCE_LOGITS(y, out)}


@sick("UG119", SWAPPED)
def one_hot_rows_as_scores() -> Arguments:
    x = vectors(96)
    y = F.one_hot(labels(x), 4).float()
    return chain(12, 32, 4), (x, y), {"loss": lambda out, y: CE(y, out.softmax(1))}


@sick("UG119", SWAPPED)
def smoothed_rows_as_scores() -> Arguments:
    x = vectors(96)
    y = 0.9 * F.one_hot(labels(x), 4).float() + 0.025
    model = nn.Sequential(chain(12, 32, 4), nn.Softmax(1))
    return model, (x, y), {"loss": lambda out, y: CE(y.log(), out)}


@sick("UG119", SWAPPED)
def mask_as_the_chances_of_a_picture() -> Arguments:
    x = pictures()
    y = (x.mean(1, keepdim=True) > 0).float()
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 1), nn.Sigmoid())
    criterion = nn.BCELoss()
    return model, (x, y), {"loss": lambda out, y: criterion(y.view(-1), out.view(-1))}


@sick("UG119", SWAPPED)
def counts_as_rates() -> Arguments:
    x = vectors(96)
    y = torch.poisson(x[:, :1].exp().clamp(max=4))
    return chain(12, 32, 1), (x, y), {"loss": lambda out, y: F.poisson_nll_loss(y, out)}


@healthy("UG119", SWAPPED)
def squared_error_of_targets_first() -> Arguments:
    return outputs_in(lambda out, y: MSE(y, out))


@healthy("UG119", SWAPPED)
def absolute_error_of_targets_first() -> Arguments:
    return outputs_in(lambda out, y: F.l1_loss(y, out) + F.smooth_l1_loss(y, out))


@healthy("UG119", SWAPPED)
def divergence_from_outputs_to_targets() -> Arguments:
    x = vectors(96)
    y = torch.randn(96, 4).log_softmax(1)
    loss = lambda out, y: F.kl_div(y, out.log_softmax(1), log_target=True, reduction="batchmean")  # noqa: E731
    return chain(12, 32, 4), (x, y), {"loss": loss}


@healthy("UG119", SWAPPED)
def both_sides_learn() -> Arguments:
    x = vectors(96)
    model = Net(lambda net, x: net.one(x), one=chain(12, 32, 4))
    y = F.one_hot(labels(x), 4).float()
    loss = lambda out, y: CE(out, y) + 0.1 * CE(out.flip(1), out.flip(1).softmax(1).detach())  # noqa: E731
    return model, (x, y), {"loss": loss}


@healthy("UG119", SWAPPED)
def soft_labels_of_an_outputs_own() -> Arguments:
    x = vectors(96)
    loss = lambda out, y: CE(out, y) + 0.1 * CE(out, out.detach().softmax(1))  # noqa: E731
    return chain(12, 32, 4), (x, labels(x)), {"loss": loss}


@healthy("UG119", SWAPPED)
def a_term_about_the_targets_alone() -> Arguments:
    x = vectors(96)
    y = (x[:, :1] > 0).float()
    loss = lambda out, y: BCE_LOGITS(out, y) - F.binary_cross_entropy(0.9 * y + 0.05, y)  # noqa: E731
    return chain(12, 32, 1), (x, y), {"loss": loss}


# ---- added to itself ------------------------------------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self, run: Any, width: int = 16):
        super().__init__()
        self.one, self.two, self.norm = nn.Linear(width, width), nn.Linear(width, width), nn.LayerNorm(width)
        self.skip, self.drop = nn.Identity(), nn.Dropout(0.0)
        self.run = run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def residual(run: Any, blocks: int = 3) -> Arguments:
    x = vectors(96)
    model = nn.Sequential(nn.Linear(12, 16), *(Block(run) for _ in range(blocks)), nn.Linear(16, 4))
    return model, (x, labels(x)), {"loss": CE}


@sick("UG808")
def output_of_the_block_doubled() -> Arguments:
    def run(block: Block, x: Tensor) -> Tensor:
        out = block.two(torch.tanh(block.one(block.norm(x))))
        return out + out

    return residual(run)


@sick("UG808")
def stream_doubled_in_place() -> Arguments:
    def run(block: Block, x: Tensor) -> Tensor:
        x = block.two(torch.tanh(block.one(block.norm(x))))
        x += x
        return x

    return residual(run)


@sick("UG808")
def shortcut_overwritten_by_an_inplace_function() -> Arguments:
    def run(block: Block, x: Tensor) -> Tensor:
        x = block.norm(x)
        shortcut = x
        out = torch.tanh_(x)
        return block.two(torch.tanh(block.one(out + shortcut)))

    return residual(run)


@sick("UG808")
def attention_and_stream_mixed_up() -> Arguments:
    def run(block: Block, x: Tensor) -> Tensor:
        h = torch.tanh(block.one(block.norm(x)))
        h = torch.add(h, h)
        return h + block.two(F.gelu(h))

    return residual(run)


@sick("UG808")
def added_in_place_to_itself() -> Arguments:
    def run(block: Block, x: Tensor) -> Tensor:
        out = block.two(torch.tanh(block.one(block.norm(x))))
        return out.add_(out)

    return residual(run)


@sick("UG808")
def shortcut_made_from_the_output() -> Arguments:
    x = pictures()
    model = Net(
        lambda net, x: net.head(F.relu((h := net.norm(net.conv(F.relu(net.stem(x))))) + h).mean((2, 3))),
        stem=nn.Conv2d(3, 8, 3, padding=1), conv=nn.Conv2d(8, 8, 3, padding=1), norm=nn.GroupNorm(2, 8),
        head=nn.Linear(8, 4),
    )  # fmt: skip
    return model, (x, labels(x)), {"loss": CE}


@healthy("UG808")
def stream_and_block_added() -> Arguments:
    return residual(lambda block, x: x + block.two(torch.tanh(block.one(block.norm(x)))))


@healthy("UG808")
def output_multiplied_by_two() -> Arguments:
    return residual(lambda block, x: 2 * block.two(torch.tanh(block.one(block.norm(x)))))


@healthy("UG808")
def identity_as_one_of_two_ways() -> Arguments:
    return residual(lambda block, x: block.two(F.gelu(block.one(block.norm(x)))) + block.skip(block.drop(x)))


@healthy("UG808")
def two_ways_that_are_both_identities() -> Arguments:
    return residual(lambda block, x: block.two(F.gelu(block.one((h := block.norm(x)) + block.skip(h)))))


@healthy("UG808")
def squares() -> Arguments:
    return residual(lambda block, x: x + block.two((h := block.one(block.norm(x))) * h) / 4)


@healthy("UG808")
def symmetric_weights_and_doubled_columns() -> Arguments:
    def run(block: Block, x: Tensor) -> Tensor:
        weight = block.one.weight + block.one.weight.T
        h = F.linear(torch.cat([block.norm(x)] * 2, -1)[:, :16], weight / 2)
        return x + block.two(F.gelu(h))

    return residual(run)
