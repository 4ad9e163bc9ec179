"""The small network, data and plain loop that every integration is compared with."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

STEPS, EXAMPLES = 24, 16


class Small:
    """The same network on the same batches, whichever loop trains it."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(STEPS * EXAMPLES, 8, generator=generator)
        self.y = (self.x[:, 0] > 0).long()

    def model(self) -> nn.Module:
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 2))

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def batches(self) -> list[tuple[Tensor, Tensor]]:
        return list(zip(self.x.split(EXAMPLES), self.y.split(EXAMPLES)))

    def dataset(self) -> torch.utils.data.Dataset:
        return torch.utils.data.TensorDataset(self.x, self.y)

    def plain(self, watched=None) -> nn.Module:
        """Trained by a loop written by hand; watched(model, optimizer) -> context manager around it."""
        model = self.model()
        optimizer = self.optimizer(model)
        context = None if watched is None else watched(model, optimizer)
        for x, y in self.batches():
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            if context is not None:
                context.log(loss=loss)
        if context is not None:
            context.close()
        return model


@pytest.fixture
def small() -> Small:
    return Small()


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters()))


@pytest.fixture
def same_weights():
    return same


@pytest.fixture
def assert_same_record():
    """Every number of two records, of sites that have the same names but for a prefix."""

    def check(
        record, plain, prefix: str = "", kinds=("activation", "gradient", "parameter_gradient", "update")
    ) -> None:
        assert record.steps() == plain.steps()
        for kind in kinds:
            expected = plain.sites(kind)
            assert [s.name for s in record.sites(kind)] == [prefix + s.name for s in expected], kind
            for site in expected:
                for statistic in ("mean", "std", "ratio") if kind == "update" else ("mean", "std", "rms"):
                    one = plain.series(kind, site.name, statistic)[1].tolist()
                    other = record.series(kind, prefix + site.name, statistic)[1].tolist()
                    assert other == pytest.approx(one, rel=1e-5, abs=1e-9, nan_ok=True), (
                        kind,
                        site.name,
                        statistic,
                    )

    return check
