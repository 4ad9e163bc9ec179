"""Names are labels: whatever a module is called, every place that is measured has a site of its own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unitgain import InputError, Probe, Record, check

NAMES = [
    "input",
    "output",
    "loss",
    "mean",
    "step",
    "target",
    "a/b",
    "<b>x</b>",
    "[/]",
    "$x",
    "a#2",
    "a[1]",
    "é\n'\"",
]


class Net(nn.Module):
    """A module of any name, called twice, and arithmetic that makes the output."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.first = nn.Linear(6, 16)
        self.add_module(name, nn.Linear(16, 16))
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        middle = self._modules[self.name]
        assert middle is not None
        x = middle(torch.relu(self.first(x)))
        return 2 * self.head(x + torch.tanh(middle(x)))


def batch() -> tuple[Tensor, Tensor]:
    return torch.randn(16, 6), torch.arange(16) % 3


def names_of(record: Record) -> list[str]:
    return [s.name for s in (*record.sites("input"), *record.sites("activation"))]


@pytest.mark.parametrize("name", NAMES)
def test_every_measured_place_has_a_site_of_its_own(name: str) -> None:
    record = check(Net(name), batch()).record
    names = names_of(record)
    assert len(names) == len(set(names)) == 8  # input, first, relu, middle twice, tanh, head, output
    assert name in names
    assert {record.value("activation", n, "count", 0) for n in names[1:]} == {16 * 16, 16 * 3}
    assert record.site("activation", "first").attributes["sources"] == names[:1]
    branch = [s.name for s in record.sites("activation") if s.attributes.get("block") == "branch"]
    assert branch == [":tanh"]
    assert record.facts.output.site == names[-1]


@pytest.mark.parametrize("name", ["input", "output"])
def test_a_name_that_the_model_itself_uses_stays_the_modules(name: str) -> None:
    model = Net(name)
    record = check(model, batch()).record
    assert record.site("activation", name).module == "Linear"
    assert f"{name} (of the model)" in names_of(record)
    assert record.site("parameter", f"{name}.weight").attributes["site"] == name


def test_a_module_called_like_another_ones_second_call_second_output_or_function() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleDict(
                {"a": nn.Linear(6, 6), "a#2": nn.Linear(6, 6), "a:tanh": nn.Linear(6, 3)}
            )

        def forward(self, x: Tensor) -> Tensor:
            p = self.parts
            return p["a:tanh"](p["a#2"](p["a"](torch.tanh(p["a"](x)))))

    names = names_of(check(Both(), batch()).record)
    assert names == ["input", "parts.a", ":tanh", "parts.a#2 (of parts.a)", "parts.a#2", "parts.a:tanh"]


def test_inputs_in_a_list_beside_another_one_and_in_a_list_by_name_are_measured_apart() -> None:
    class Three(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 3)

        def forward(self, pair: list[Tensor], third: Tensor, *, more: list[Tensor]) -> Tensor:
            return self.fc(sum([*pair, third, *more]))

    x = [torch.full((4, 6), float(i)) for i in range(5)]
    model = Three()
    with Probe(model, every=1) as probe:
        model(x[:2], x[2], more=x[3:]).sum().backward()
    record = probe.record
    means = {s.name: record.value("input", s.name, "mean") for s in record.sites("input")}
    assert means == {"input": 0, "input[1]": 1, "input[2]": 2, "input[more.0]": 3, "input[more.1]": 4}


def test_a_model_that_is_one_layer_is_measured_once_a_step_and_as_that_layer() -> None:
    model = nn.Linear(6, 3)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with Probe(model, optimizer, every=1) as probe:
        for _ in range(2):
            F.cross_entropy(model(batch()[0]), batch()[1]).backward()
            optimizer.step()
    (site,) = probe.record.sites("activation")
    assert (site.name, site.attributes["role"], site.attributes["output"]) == ("output", "linear", True)
    assert probe.record.series("activation", "output", "count")[1].tolist() == [48, 48]


def test_attach_refuses_taken_names_at_once_not_only_when_the_module_has_run() -> None:
    model = Net("middle")
    probe = Probe(model, every=1)
    for taken in ("middle", "input", "output", "head"):
        with pytest.raises(InputError, match="choose another name"):
            probe.attach(torch.zeros(2), taken)
