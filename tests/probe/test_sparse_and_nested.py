"""Sparse and nested tensors as inputs, activations, parameters and gradients: measured by what they store."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from unitgain import Probe, check, stats
from unitgain.probe.failing import LONGEST_REASON

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*(Sparse (CSR|BSR|CSC|invariant)|nested tensors).*:UserWarning"
)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def plain(rows: int = 8) -> Tensor:
    return torch.where(noise(rows, 6) > 0.3, noise(rows, 6) + 2, 0.0)


ROWS = [noise(2, 3), noise(4, 3), noise(1, 3)]
FORMS = {
    "coo": lambda: plain().to_sparse(),
    "coo, repeated": lambda: torch.sparse_coo_tensor(
        torch.tensor([[0, 0, 1]]), torch.tensor([1.0, 2.0, 5.0]), (4,)
    ),
    "csr": lambda: plain().to_sparse_csr(),
    "csc": lambda: plain().to_sparse_csc(),
    "bsr": lambda: plain().to_sparse_bsr((2, 2)),
    "hybrid": lambda: plain().to_sparse(1),
    "nested": lambda: torch.nested.nested_tensor(ROWS),
    "jagged": lambda: torch.nested.nested_tensor(ROWS, layout=torch.jagged),
}


def values_of(name: str) -> Tensor:
    """Written out by hand: what a tensor of this form stores."""
    if name == "coo, repeated":
        return torch.tensor([3.0, 5.0])
    if name in ("nested", "jagged"):
        return torch.cat([row.flatten() for row in ROWS])
    x = plain()
    if name == "bsr":
        blocks = x.reshape(4, 2, 3, 2).permute(0, 2, 1, 3).reshape(-1, 4)
        return blocks[(blocks != 0).any(1)].flatten()
    return x[(x != 0).any(1)].flatten() if name == "hybrid" else x[x != 0]


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("limit", [None, 8])
def test_moments_are_those_of_the_values_that_are_stored(name: str, limit: int | None) -> None:
    x, values = FORMS[name](), values_of(name)
    assert sorted(stats.stored(x).tolist()) == pytest.approx(sorted(values.tolist()))
    if limit is None:
        partial = stats.summarize(x, channel_axis=1, batch_axis=0, cosine=True, spread=True, sample=32)
    else:
        some, channel_axis, batch_axis = stats.take_examples(x, 1, 0, limit, 0)
        assert (channel_axis, batch_axis) == (None, None)
        values = some
        partial = stats.summarize(some, cosine=True)
    found = {k: float(v[0]) for k, v in stats.finish([partial]).items()}
    assert found["count"] == values.numel()
    assert found["mean"] == pytest.approx(float(values.mean()), rel=1e-5, abs=1e-7)
    assert found["std"] == pytest.approx(float(values.std(correction=0)), rel=1e-4)
    assert found["max"] == float(values.max())
    for name in ("sq_channel_mean", "channel_var", "cosine", "spread"):
        assert found[name] != found[name]  # no channels and no examples


def test_an_empty_sparse_tensor_has_no_moments() -> None:
    nothing = torch.zeros(3, 4).to_sparse()
    found = stats.finish([stats.summarize(nothing, channel_axis=1, batch_axis=0, sample=16)])
    assert found["count"][0] == 0
    assert found["mean"][0] != found["mean"][0]


@pytest.mark.parametrize("name", ["nested", "jagged"])
def test_a_nested_tensor_has_the_shape_of_what_would_hold_it(name: str) -> None:
    assert stats.shape_of(FORMS[name]()) == (3, 4, 3)


class Sparse(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.head = nn.Parameter(noise(6, 5)), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.sparse.mm(x, self.table))


class Ragged(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.act, self.head = nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.nested.to_padded_tensor(self.act(self.fc(x)), 0.0).mean(1))


MODELS: dict[str, Any] = {
    "coo": Sparse, "csr": Sparse, "nested": Ragged, "jagged": Ragged,
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("limit", [None, 16])
def test_a_probe_goes_on_measuring(name: str, limit: int | None) -> None:
    model, x = MODELS[name](), FORMS[name]()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*unitgain.*")
        with Probe(model, optimizer, limit=limit, every=1) as probe:
            for _ in range(3):
                model(x).square().mean().backward()
                optimizer.step()
                optimizer.zero_grad()
    record = probe.record
    assert record.steps() == [0, 1, 2]
    values = values_of(name)
    count = values.numel() if limit is None else min(values.numel(), 16)
    assert record.value("input", "input", "count", 2) == count
    assert record.value("activation", "head", "std", 2) > 0
    if name in ("nested", "jagged"):
        # 7 rows of 5 values; a sample is of at least two runs of 16
        assert record.value("activation", "fc", "count", 0) == (35 if limit is None else 32)
        assert record.value("gradient", "fc", "std", 0) > 0
        assert record.site("activation", "fc").shape == (3, 4, 5)


@pytest.mark.parametrize("name", MODELS)
def test_check_judges_what_it_can(name: str) -> None:
    x = FORMS[name]()
    report = check(
        MODELS[name](), (x, torch.arange(len(ROWS) if "ested" in name or name == "jagged" else 8) % 3)
    )
    assert report.record.facts.gradients.reached == report.record.facts.gradients.of
    # stored values around 2: a shift would fill the zeros
    assert "UG201" not in {f.code for f in report.findings if name in ("coo", "csr")}


def test_sparse_weights_and_sparse_gradients_are_measured() -> None:
    class Weighted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(plain().to_sparse())
            self.embed = nn.Embedding(20, 8, sparse=True)

        def forward(self, tokens: Tensor) -> Tensor:
            return torch.sparse.mm(self.weight, self.embed(tokens)[:, :6].T)

    model = Weighted()
    report = check(model, torch.tensor([0, 1, 3, 3]))
    record = report.record
    assert record.value("parameter", "weight", "count") == int((plain() != 0).sum())
    assert record.value("parameter_gradient", "embed.weight", "count") == 3 * 8


def test_an_error_of_many_lines_is_a_warning_of_a_few_words(monkeypatch) -> None:
    model = nn.Linear(4, 3)

    def fails(*_: Any, **__: Any) -> None:
        raise NotImplementedError(
            "\n".join(f"Backend{i}: registered at somewhere.cpp:{i}" for i in range(90))
        )

    with Probe(model, every=1) as probe:
        monkeypatch.setattr("unitgain.stats.take_examples", fails)
        with pytest.warns(UserWarning, match="stopped measuring") as caught:
            model(torch.ones(2, 4)).sum().backward()
    (warning,) = caught
    text = str(warning.message)
    assert "\n" not in text
    assert len(text) < LONGEST_REASON + 200
    assert text.endswith("Training goes on.")
    assert probe.record.steps() == []
