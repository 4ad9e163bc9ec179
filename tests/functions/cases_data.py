"""Cases of UG206, batches that are all the same, and of UG113, batches of one and the same class."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from function_rows import (
    BCE_LOGITS,
    CE,
    MSE,
    Arguments,
    chain,
    healthy,
    labels,
    pictures,
    sick,
    values,
    vectors,
)
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

Pairs = list[tuple[Tensor, Tensor]]


def rehearsed(
    batches: object, first: tuple[Tensor, Tensor], model: nn.Module | None = None, loss: object = CE
) -> Arguments:
    adam = lambda parameters: torch.optim.Adam(parameters, 1e-3)  # noqa: E731
    further = {"loss": loss, "steps": 6, "optimizer": adam, "data": batches}
    return model or chain(12, 32, 4), first, further


def drawn(n: int = 6, x: Tensor | None = None) -> Pairs:
    x = vectors(32 * n) if x is None else x
    return list(zip(x.split(32), labels(x).split(32)))


class Always(Dataset):
    """An index that is not used."""

    def __init__(self, x: Tensor, y: Tensor, number: int):
        self.x, self.y, self.number = x, y, number

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, _: int) -> tuple[Tensor, Tensor]:
        return self.x[0], self.y[0]


@sick("UG206")
def first_batch_of_a_new_iterator_each_time() -> Arguments:
    batches = drawn()
    return rehearsed([(x.clone(), y.clone()) for x, y in [batches[0]] * 6], batches[1])


@sick("UG206")
def one_batch_in_a_list() -> Arguments:
    batches = drawn()
    return rehearsed([batches[0]] * 8, batches[0])


@sick("UG206")
def index_that_is_not_used() -> Arguments:
    x = vectors(32)
    return rehearsed(DataLoader(Always(x, labels(x), 128), 32), (x, labels(x)))


@sick("UG206")
def generator_that_begins_anew() -> Arguments:
    x = vectors(32)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(10):
            torch.manual_seed(3)
            yield torch.randn(32, 12), torch.randint(0, 4, (32,))

    return rehearsed(list(batches()), (x, labels(x)))


@sick("UG206")
def same_pictures_for_every_index() -> Arguments:
    x = pictures(16)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4))
    return rehearsed(
        [(x.clone(), labels(x.clone()) * 0 + 1 + torch.arange(16) % 2)] * 5, (x, torch.arange(16) % 4), model
    )


@sick("UG206")
def same_values_to_fit() -> Arguments:
    x = vectors(32)
    y = values(x)
    return rehearsed([(x + 0, y + 0) for _ in range(7)], (x, y), chain(12, 32, 1), MSE)


@healthy("UG206")
def batches_of_a_loader() -> Arguments:
    x = vectors(192)
    y = labels(x)
    return rehearsed(DataLoader(TensorDataset(x, y), 32), (x[:32], y[:32]))


@healthy("UG206")
def whole_data_in_one_batch() -> Arguments:
    x = vectors(64)
    return rehearsed(DataLoader(TensorDataset(x, labels(x)), 64), (x, labels(x)))


@healthy("UG206")
def one_batch_given_once() -> Arguments:
    """To see whether it can be learnt by heart."""
    batches = drawn(1)
    return rehearsed(batches, batches[0])


@healthy("UG206")
def few_examples_in_another_order() -> Arguments:
    x = vectors(32)
    y = labels(x)
    orders = [torch.randperm(32) for _ in range(6)]
    return rehearsed([(x[o], y[o]) for o in orders], (x, y))


@healthy("UG206")
def same_inputs_with_other_targets() -> Arguments:
    """A grid of places at which another sample is seen each time."""
    x = vectors(32)
    return rehearsed([(x, labels(x)) for _ in range(6)], (x, labels(x)))


@healthy("UG206")
def two_batches_in_turn() -> Arguments:
    return rehearsed(drawn(2) * 3, drawn(1)[0])


def segments(masks: object) -> Arguments:
    def given() -> tuple[Tensor, Tensor]:
        x = pictures(8)
        return x, masks(x)  # type: ignore[operator]

    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1))
    return rehearsed([given() for _ in range(6)], given(), model)


@sick("UG113", "always")
def masks_divided_as_if_they_were_pictures() -> Arguments:
    return segments(lambda x: ((x.mean(1) > 0).long() / 255).long())


@sick("UG113", "always")
def labels_of_a_name_that_is_not_found() -> Arguments:
    return rehearsed([(x, y * 0) for x, y in drawn()], (drawn(1)[0][0], torch.zeros(32).long()))


@sick("UG113", "always")
def indices_rounded_down() -> Arguments:
    return rehearsed([(x, (y / 4).long()) for x, y in drawn()], (drawn(1)[0][0], torch.zeros(32).long()))


@sick("UG113", "always")
def yes_for_everything() -> Arguments:
    batches = [(x, torch.ones(32, 1)) for x, _ in drawn()]
    return rehearsed(batches[1:], batches[0], chain(12, 32, 1), BCE_LOGITS)


@sick("UG113", "always")
def empty_masks() -> Arguments:
    def given() -> tuple[Tensor, Tensor]:
        x = pictures(8)
        return x, torch.zeros(8, 1, 8, 8)

    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 1))
    return rehearsed([given() for _ in range(6)], given(), model, BCE_LOGITS)


@sick("UG113", "always")
def last_column_taken_for_the_label() -> Arguments:
    batches = [(x, torch.full((32,), 2)) for x, _ in drawn()]
    return rehearsed(batches, batches[0])


@healthy("UG113", "always")
def labels_of_several_classes() -> Arguments:
    batches = drawn()
    return rehearsed(batches[1:], batches[0])


@healthy("UG113", "always")
def masks_of_three_classes() -> Arguments:
    return segments(lambda x: (x.mean(1) > 0).long() + (x[:, 0] > 0.5).long())


@healthy("UG113", "always")
def residuals_that_are_to_be_zero() -> Arguments:
    """A physical law: its residual is the output."""
    batches = [(x, torch.zeros(32, 1)) for x, _ in drawn()]
    return rehearsed(batches[1:], batches[0], chain(12, 32, 1, act=nn.Tanh), MSE)


@healthy("UG113", "always")
def masks_that_are_empty_now_and_then() -> Arguments:
    def given(some: bool) -> tuple[Tensor, Tensor]:
        x = pictures(8)
        return x, (x.mean(1, keepdim=True) > 1).float() * some

    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 1))
    return rehearsed([given(i % 2 == 0) for i in range(6)], given(True), model, BCE_LOGITS)


@healthy("UG113", "always")
def few_labels_of_one_class() -> Arguments:
    batches = [(torch.randn(2, 12), torch.zeros(2).long()) for _ in range(6)]
    return rehearsed(batches, batches[0])


@healthy("UG113", "always")
def one_batch_of_one_class_among_others() -> Arguments:
    batches = drawn()
    x, y = batches[0]
    return rehearsed(batches[1:], (x, y * 0 + 1))
