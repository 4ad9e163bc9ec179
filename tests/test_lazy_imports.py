"""`import unitgain` is quick, and what works from a saved record works where torch is not installed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import unitgain as ug

SOURCE = Path(ug.__file__)
WITHOUT_TORCH = """
import sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "timm", "transformers"):
            raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, NoTorch())
"""


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_unitgain_loads_neither_torch_nor_drawing_libraries() -> None:
    heavy = ("torch", "numpy", "matplotlib", "plotly", "rich", "wandb", "lightning")
    assert python(f"import sys, unitgain; print([m for m in {heavy} if m in sys.modules])") == "[]"


def test_the_first_check_loads_nothing_that_draws_random_numbers() -> None:
    """rich draws some where it is loaded, and the caller's random state would not be the same any more."""
    code = """
import random, sys
import torch, unitgain as ug
before = random.getstate()
ug.check(torch.nn.Linear(4, 2), torch.randn(8, 4))
print(before == random.getstate(), "rich" in sys.modules)
"""
    assert python(code) == "True False"


def test_a_saved_record_is_judged_and_reported_without_torch(tmp_path: Path) -> None:
    from torch import nn, randint, randn

    model = nn.Sequential(*(m for _ in range(4) for m in (nn.Linear(16, 16), nn.Tanh())), nn.Linear(16, 4))
    for p in model.parameters():
        nn.init.normal_(p)
    report = ug.check(model, (randn(64, 16), randint(4, (64,))), steps=3)
    assert "UG605" not in report.diagnosis.abstained  # the rule that needs gains of activation functions
    report.record.save(tmp_path / "run.sqlite")
    code = (
        WITHOUT_TORCH
        + f"""
import unitgain as ug
from unitgain.report import Report, plots
from unitgain.rules import CATALOGUE, diagnose, explain

record = ug.Record.load({str(tmp_path / "run.sqlite")!r})
report = Report(record, diagnose(record))
report.save({str(tmp_path / "page.html")!r})
report.to_json(), explain("UG101"), plots.stats_over_depth(record)
assert str(report)
assert record.facts.loss.kind == "cross_entropy"
assert "torch" not in sys.modules
print(*(f.code for f in report.findings))
"""
    )
    assert python(code).split() == [f.code for f in report.findings]


def test_rules_are_listed_and_explained_without_torch() -> None:
    code = WITHOUT_TORCH + "sys.argv = ['unitgain', 'rules', 'UG101']\nfrom unitgain.cli import main\nmain()"
    assert python(code).startswith("# UG101 confident-at-init")


def test_what_needs_torch_says_so_without_it() -> None:
    code = WITHOUT_TORCH + "import unitgain\ntry:\n    unitgain.check\nexcept ImportError as e:\n    print(e)"
    assert python(code) == "torch is not installed here"


def test_every_public_name_is_there_and_is_what_the_type_checker_sees() -> None:
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    homes: dict[str, str] = {}
    for node in ast.walk(block):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                homes[alias.name] = f".{node.module}" if node.module else f".{alias.name}"
    homes["plots"] = ".report.plots"
    found = {name: ug._HOMES.get(name, f".{name}") for name in ug.__all__ if name in homes}
    assert found == homes
    assert set(ug.__all__) - set(homes) == {"InputError", "RecordError", "UnitgainError", "__version__"}
    assert all(getattr(ug, name) is not None for name in ug.__all__)
    assert ug.plots is ug.report.plots
    assert set(ug.__all__) <= set(dir(ug))


def test_a_name_that_does_not_exist_raises_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'unitgain' has no attribute 'chekc'"):
        ug.chekc  # noqa: B018
    assert not hasattr(ug, "wrong")
    with pytest.raises(ImportError):
        from unitgain import chekc  # noqa: F401


def test_star_import_gives_the_public_names() -> None:
    assert python("from unitgain import *; print(check.__name__, nn.__name__, init_.__name__)") == (
        "check unitgain.nn init_"
    )
