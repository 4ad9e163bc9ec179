"""Real models that were once diagnosed wrongly: what check() must say, and must not say, about them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from unitgain import InputError, check
from unitgain.cli import main
from unitgain.report import Report


def vectors(examples: int = 64, width: int = 64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(examples, width, generator=generator), torch.arange(examples) % 10


def mlp(
    depth: int, width: int = 128, std: float | None = None, function: type[nn.Module] = nn.ReLU
) -> nn.Sequential:
    torch.manual_seed(0)
    layers, size = [], 64
    for _ in range(depth):
        layers += [nn.Linear(size, width), function()]
        size = width
    net = nn.Sequential(*layers, nn.Linear(size, 10))
    if std is not None:
        for layer in net:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=std)
                nn.init.zeros_(layer.bias)
    return net


class Residual(nn.Module):
    """x -> skip * x + branch * mlp(x), several times."""

    def __init__(self, blocks: int = 8, skip: float = 1.0, branch: float | None = None, std: float = 0.2):
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(_Block(skip, branch, std) for _ in range(blocks))
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class _Block(nn.Module):
    def __init__(self, skip: float, branch: float | None, std: float):
        super().__init__()
        self.skip, self.branch = skip, branch
        self.mlp = nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 64))
        for layer in (self.mlp[0], self.mlp[2]):
            nn.init.normal_(layer.weight, std=std)

    def forward(self, x: Tensor) -> Tensor:
        added = self.mlp(x)
        return self.skip * x + (added if self.branch is None else self.branch * added)


class Tagger(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], std: float | None):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.head = nn.Embedding(30, 32), nn.Linear(48, 10)
        self.rnn = kind(32, 48, batch_first=True)
        if std is not None:
            for p in self.rnn.parameters():
                nn.init.normal_(p, std=std)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(self.embedding(x))[0].mean(1))


TOKENS = torch.arange(32 * 12).reshape(32, 12) % 30, torch.arange(32) % 10


def codes(report: Report) -> list[str]:
    return [f.code for f in report.findings if f.severity != "info"]


def test_steps_without_a_loss_are_refused_not_trained_on_a_random_direction() -> None:
    x, y = vectors()
    with pytest.raises(InputError, match=r"steps=5: a rehearsal needs a loss"):
        check(mlp(2), x, steps=5)
    with pytest.raises(InputError, match="loss=None: the model returned no loss of its own"):
        check(mlp(2), (x, y), loss=None, steps=1)
    assert "UG501" in check(mlp(2), x).diagnosis.abstained
    assert "UG501" not in check(mlp(2), (x, y), steps=5).diagnosis.abstained


@pytest.mark.parametrize(("std", "code"), [(1.0, "UG302"), (0.01, "UG301")])
def test_three_hidden_layers_of_a_wrong_scale_are_found_also_with_a_scaled_head(
    std: float, code: str
) -> None:
    net = mlp(3, std=std)
    assert codes(check(net, vectors())) == [code]
    with torch.no_grad():
        net[-1].weight.mul_(1e-4)
    assert codes(check(net, vectors())) == [code]


@pytest.mark.parametrize("function", [nn.ReLU, nn.Tanh, nn.GELU, nn.SiLU])
@pytest.mark.parametrize("depth", [2, 3, 4, 6])
def test_torchs_default_initialization_of_a_few_layers_is_no_alarm(
    depth: int, function: type[nn.Module]
) -> None:
    for width in (32, 512):
        assert codes(check(mlp(depth, width, function=function), vectors())) == []


def test_prescribed_branch_scale_keeps_the_stream() -> None:
    report = check(Residual(), vectors(), select=["UG302", "UG402"])
    (finding,) = report.findings
    assert (finding.code, finding.site) == ("UG302", "blocks.0")
    assert any(line.startswith("UG402") for line in finding.consequences)
    scale = float(finding.remedy.split("about ")[1].split(",")[0])
    cured = check(Residual(branch=scale), vectors())
    assert codes(cured) == []
    rms = [cured.record.value("activation", f"blocks.{i}", "rms") for i in (0, 7)]
    assert rms[1] < 2 * rms[0]


def test_residual_branch_with_a_factor_is_still_a_residual_branch() -> None:
    """x + 0.9 * branch(x) was taken for a chain of layers, each to be multiplied by the inverse of its gain."""
    (finding,) = check(Residual(branch=0.9), vectors(), select=["UG302"]).findings
    assert (finding.code, finding.site) == ("UG302", "blocks.0")
    assert "a further 1/sqrt(8)" in finding.remedy
    assert "gain of one" not in finding.remedy


def test_skip_path_with_a_factor_is_found() -> None:
    report = check(Residual(skip=3.0, std=0.02), vectors(), select=["UG302"])
    assert codes(report) == ["UG302"]
    assert "skip path itself" in report.findings[0].cause
    assert codes(check(Residual(skip=1.0, std=0.02), vectors(), select=["UG302"])) == []


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layer_with_unit_weights_is_not_called_healthy(kind: type[nn.RNNBase]) -> None:
    sick = check(Tagger(kind, 1.0), TOKENS)
    assert "UG303" in codes(sick)
    assert sick.findings[0].site == "rnn"
    healthy = check(Tagger(kind, None), TOKENS)
    assert codes(healthy) == []
    assert "the inside of recurrent layers is not seen" in healthy.verdict
    assert f"Not seen  gates and states inside rnn ({kind.__name__})" in str(healthy)


def test_tokens_have_no_scale() -> None:
    text = str(check(Tagger(nn.GRU, None), TOKENS))
    (row,) = [line for line in text.splitlines() if line.split()[1:3] == ["input", "Tensor"]]
    assert row.split() == ["1", "input", "Tensor", "│"]


def test_loss_that_is_nan_stands_in_the_header() -> None:
    class Log(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(64, 16), nn.Linear(16, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.log(self.a(x)))

    report = check(Log(), vectors())
    assert str(report).splitlines()[0].endswith("loss nan")
    assert report.findings[0].evidence["made_by"] == "log"
    assert "argument of log" in report.findings[0].remedy


def test_piped_output_has_no_spaces_at_the_ends_of_lines(capsys) -> None:
    assert (
        main(["check", "char_mlp_original", "--shape", "16,3", "--tokens", "27", "--fail-on", "never"]) == 0
    )
    assert main(["models"]) == 0
    assert main(["rules"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 30
    assert [line for line in lines if line != line.rstrip()] == []


def test_steps_without_targets_are_wrong_input_on_the_command_line(tmp_path, capsys) -> None:
    import numpy as np

    np.savez(tmp_path / "x.npz", x=np.zeros((4, 8), dtype=np.float32))
    (tmp_path / "m.py").write_text("import torch\ndef net():\n    return torch.nn.Linear(8, 2)\n")
    target, data = f"{tmp_path / 'm.py'}:net", str(tmp_path / "x.npz")
    assert main(["check", target, "--data", data, "--steps", "3"]) == 2
    assert "needs a loss" in capsys.readouterr().err


def test_empty_selection_says_what_is_expected(capsys) -> None:
    assert main(["check", "char_mlp_original", "--select", ""]) == 2
    assert "--select '': a code (UG303), a prefix (UG3) or a name (saturated)" in capsys.readouterr().err
