"""UG603: an example that is given other mates, in evaluation and in training mode."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import unitgain as ug
from unitgain.record import CouplingFacts, CouplingInMode


def data(examples: int = 8, features: int = 6) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.randn(examples, features, generator=g), torch.randint(0, 3, (examples,), generator=g)


def coupling(model: nn.Module, batch: Any, **options: Any) -> CouplingFacts:
    return ug.check(model, batch, **options).record.facts.coupling


def codes(model: nn.Module, batch: Any) -> list[tuple[str, str, str | None]]:
    found = ug.check(model, batch, select=["UG603"]).findings
    return [(f.code, f.severity, f.site) for f in found]


class Over(nn.Module):
    """Computes something over one axis."""

    def __init__(self, function: Any):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def around(module: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), module, nn.Linear(16, 3))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x - x.mean(0),
        lambda x: torch.softmax(x, 0),
        lambda x: x / x.norm(),
        lambda x: x + 0.01 * x.roll(1, 0),
        lambda x: x.cumsum(0).flip(0),
    ],
)
def test_what_is_computed_over_the_examples_is_found_and_named(function: Any) -> None:
    assert codes(around(Over(function)), data()) == [("UG603", "warning", "2")]


@pytest.mark.parametrize("examples", [2, 3, 5, 64])
def test_any_batch_of_two_or_more_will_do(examples: int) -> None:
    assert codes(around(Over(lambda x: x - x.mean(0))), data(examples)) == [("UG603", "warning", "2")]
    assert codes(around(nn.ReLU()), data(examples)) == []


def test_batch_norm_without_running_statistics_couples_in_evaluation_and_is_named() -> None:
    model = around(nn.BatchNorm1d(16, track_running_stats=False))
    (finding,) = ug.check(model, data(), select=["UG603"]).findings
    assert (finding.severity, finding.site) == ("warning", "2")
    assert "BatchNorm1d uses the batch's statistics" in finding.cause


def test_batch_norm_in_training_mode_is_by_design_and_recorded() -> None:
    model = around(nn.BatchNorm1d(16))
    facts = coupling(model, data())
    assert codes(model, data()) == []
    assert facts.train.differs
    assert facts.train.batch_norm
    assert facts.train.site == "2"
    assert not facts.eval.differs


def test_coupling_in_training_mode_alone_by_something_else_is_mentioned() -> None:
    class Centre(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x - x.mean(0) if self.training else x

    assert codes(around(Centre()), data()) == [("UG603", "info", "2")]


@pytest.mark.parametrize(
    "module", [nn.Dropout(0.5), nn.LayerNorm(16), nn.Softmax(-1), nn.GELU(), nn.Unflatten(1, (4, 4))]
)
def test_independent_modules_and_dropout_are_silent(module: nn.Module) -> None:
    after = [nn.Flatten()] if isinstance(module, nn.Unflatten) else []
    assert codes(around(nn.Sequential(module, *after)), data()) == []


def test_attention_over_the_examples_is_the_forgotten_batch_first() -> None:
    class Net(nn.Module):
        def __init__(self, batch_first: bool):
            super().__init__()
            self.attention = nn.MultiheadAttention(6, 2, batch_first=batch_first)
            self.head = nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.attention(x, x, x)[0].mean(1))

    g = torch.Generator().manual_seed(0)
    batch = torch.randn(8, 5, 6, generator=g), torch.randint(0, 3, (8,), generator=g)
    (finding,) = ug.check(Net(False), batch, select=["UG603"]).findings
    assert finding.site == "attention"
    assert "batch_first" in finding.cause
    assert codes(Net(True), batch) == []


def test_recurrent_model_with_time_first_is_independent() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.GRU(6, 8, bidirectional=True), nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(x)[0][-1])

    g = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (8,), generator=g)
    assert coupling(Net(), (torch.randn(5, 8, 6, generator=g), labels)).eval.differs is False
    assert "time" in (coupling(Net(), (torch.randn(8, 8, 6, generator=g), labels)).reason or "")
    assert "time" in (coupling(Net(), torch.randn(5, 8, 6, generator=g), loss=None).reason or "")


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(20, 8), nn.Linear(8, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, positions: Tensor) -> dict[str, Tensor]:
        x = self.embed(input_ids) * attention_mask[..., None] + self.embed(positions)
        return {"logits": self.head(x.mean(1))}


def test_mappings_of_tokens_are_taken_apart_and_what_has_no_examples_is_left_alone() -> None:
    ids = torch.randint(0, 20, (8, 5), generator=torch.Generator().manual_seed(0))
    batch = {
        "input_ids": ids,
        "attention_mask": torch.ones(8, 5),
        "positions": torch.arange(5)[None],
    }
    facts = coupling(Tokens(), (batch, torch.randint(0, 3, (8,))))
    assert facts.eval == CouplingInMode(differs=False, difference=0.0)


@pytest.mark.parametrize(
    ("model", "batch", "reason"),
    [
        (nn.Linear(6, 3), data(1), "one example"),
        (nn.Linear(6, 3), (torch.ones(4, 6), torch.zeros(4, dtype=torch.long)), "all the same"),
        (Over(lambda x: x @ x.T), torch.randn(8, 6), "which axis"),
        (Over(lambda x: x + torch.randn_like(x[:1]) * x.sum()), torch.randn(8, 6), None),
    ],
    ids=["one", "same", "similarity", "sum"],
)
def test_what_cannot_be_told_is_not_judged(model: nn.Module, batch: Any, reason: str | None) -> None:
    model = nn.Sequential(model, nn.Identity())
    for p in [nn.Parameter(torch.zeros(1))]:
        model.register_parameter("unused", p)
    facts = coupling(model, batch, loss=None if isinstance(batch, Tensor) else "auto")
    assert reason is None or reason in (facts.reason or "")


def test_as_many_classes_as_examples_in_a_pass_is_no_ambiguity() -> None:
    for classes in (2, 3, 4, 5):
        model = nn.Sequential(nn.Linear(6, classes))
        labels = torch.zeros(8, dtype=torch.long)
        assert coupling(model, (data()[0], labels)).eval.differs is False


def test_model_that_gives_another_output_each_time_is_not_called_coupled() -> None:
    class Counting(nn.Module):
        """Counts its calls where that can be taken back before each pass, or in an iterator, where it cannot."""

        def __init__(self, rewindable: bool) -> None:
            super().__init__()
            self.linear, self.calls = nn.Linear(6, 3), 0
            self.count = None if rewindable else itertools.count(1)

        def forward(self, x: Tensor) -> Tensor:
            self.calls = self.calls + 1 if self.count is None else next(self.count)
            return self.linear(x) * self.calls

    model = Counting(rewindable=True)
    assert coupling(model, data()).eval.differs is False
    assert model.calls == 0
    assert "another output each time" in (coupling(Counting(rewindable=False), data()).reason or "")


def test_model_with_its_batch_size_built_in_is_not_judged_and_still_checked() -> None:
    model = nn.Sequential(Over(lambda x: x.view(8, 2, 3).flatten(1)), nn.Linear(6, 3))
    report = ug.check(model, data())
    assert "RuntimeError" in (report.record.facts.coupling.reason or "")
    assert report.ok


def test_windows_of_an_example_share_its_axis_with_the_examples() -> None:
    """As in Swin: examples times windows on the first axis."""
    model = nn.Sequential(
        Over(lambda x: x.reshape(-1, 3)), nn.Linear(3, 4), Over(lambda x: x.reshape(-1, 8)), nn.Linear(8, 3)
    )
    assert coupling(model, data()).eval.differs is False
