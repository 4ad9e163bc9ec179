"""timm's own tests of its models, run on ours: nothing in them is changed but where names are imported from.

    python benchmarks/timm_tests.py pytorch-image-models/tests/test_models.py --out results.md [--models NAME ...]

The file is timm's, of a checkout of https://github.com/huggingface/pytorch-image-models that fits the timm that is
installed. Its line `from timm import list_models, create_model, ...` is made to import these five names from here, the
changed text goes to a folder that is deleted again, and pytest runs it. Tests that name other architectures, and those
that download weights (unless --pretrained), do not apply.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import re
import sys
import tempfile
import types
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import torch

import unitgain as ug
from unitgain.models.weights import HUB
from unitgain.targets import load_model

SMALL = """nf_resnet_tiny nfnet_tiny nf_regnet_tiny test_nfnet resnet_tiny nf_resnet26 nf_seresnet26 nf_ecaresnet26
nf_resnet50 nf_regnet_b0 nf_regnet_b1 nfnet_l0 eca_nfnet_l0 nfnet_f0 dm_nfnet_f0 resnet18 resnet18d resnet26 resnet26d
resnet34 resnet50 resnet50d resnetv2_18 resnetv2_18d resnetv2_34d resnetv2_50 resnetv2_50d""".split()  # noqa: SIM905
DOWNLOADS = ("test_model_inference", "test_model_load_pretrained", "test_model_features_pretrained")
OTHERS = ("naflexvit", "gemma4", "with_features_fx", "default_cfgs_non_std")
WHY = {
    "downloads": "weights are downloaded (`--pretrained` runs them)",
    "others": "about architectures that are not ours: NaFlexViT, Gemma, RegNetX, transformers without feature maps",
}


def names_for(models: Sequence[str]) -> types.ModuleType:
    """A module with the names that timm's tests import, over these of our models."""

    def list_models(
        filter: str | Sequence[str] = "", exclude_filters: Sequence[str] = (), pretrained: bool = False, **_: Any
    ) -> list[str]:  # fmt: skip
        filters = [filter] if isinstance(filter, str) else list(filter)
        return [
            name
            for name in models
            if any(not f or fnmatchcase(name, f) for f in filters)
            and not any(fnmatchcase(name, f) for f in exclude_filters)
            and (name in HUB or not pretrained)
        ]

    def get_pretrained_cfg_value(name: str, key: str) -> Any:
        with torch.device("meta"):
            model: Any = ug.models.create(name)
        return model.pretrained_cfg.get(key)

    module = types.ModuleType("names_of_unitgain")
    module.__dict__.update(
        create_model=ug.models.create, list_models=list_models, get_pretrained_cfg_value=get_pretrained_cfg_value,
        list_pretrained=lambda filter="": list_models(filter, pretrained=True),
        set_scriptable=lambda _: contextlib.nullcontext(),
    )  # fmt: skip
    return module


class Results:
    """A plugin of pytest: {test: {outcome: count}}, and why what failed did."""

    def __init__(self) -> None:
        self.counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.failed: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" and report.outcome == "passed":
            return
        self.counts[report.nodeid.rpartition("::")[2].partition("[")[0]][report.outcome] += 1
        if report.failed:
            crash: Any = getattr(report.longrepr, "reprcrash", None)
            text = str(crash.message if crash is not None else report.longrepr)
            self.failed[report.nodeid.rpartition("::")[2]] = " ".join(text.split())[:160]

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        print(
            nodeid.rpartition("::")[2],
            "FAILED" if nodeid.rpartition("::")[2] in self.failed else "",
            flush=True,
        )


@contextlib.contextmanager
def changed(path: Path) -> Iterator[Path]:
    """timm's file with the one import changed, in a folder of its own."""
    source, count = re.subn(
        r"^from timm import (?=list_models)", "from names_of_unitgain import ", path.read_text(), flags=re.M
    )
    if count != 1:
        sys.exit(
            f"{path}: expected timm's tests/test_models.py, with one line `from timm import list_models, ...`"
        )
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "test_models.py"
        copy.write_text(source)
        (Path(folder) / "pytest.ini").write_text("[pytest]\n")
        yield copy


def page(results: Results, models: Sequence[str], version: str) -> str:
    total = sum(results.counts.values(), Counter())
    rows = [
        f"| `{test}` | {counts['passed']} | {counts['failed']} | {counts['skipped']} |"
        for test, counts in results.counts.items()
    ]
    failures = [f"- `{name}`: {why}" for name, why in results.failed.items()]
    return "\n".join(
        [
            "# timm's own model tests on our models",
            "",
            "`python benchmarks/timm_tests.py tests/test_models.py`: "
            f"{total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped,",
            f"over {len(models)} models: {', '.join(models)}.",
            f"timm {version} and the tests of its repository, torch {torch.__version__}, Python "
            f"{platform.python_version()}, CPU.",
            "Nothing in the tests is changed but where five names are imported from.",
            "",
            "| test | passed | failed | skipped |",
            "|---|---|---|---|",
            *rows,
            "",
            "Not run, as they do not apply: " + "; ".join(WHY.values()) + ".",
            *(["", "## Failed", "", *failures] if failures else []),
            "",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="timm's own model tests on our models")
    parser.add_argument("tests", type=Path, help="timm's tests/test_models.py")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--models", nargs="*", default=SMALL)
    parser.add_argument("--only", default="", help="tests whose name has this")
    parser.add_argument("--pretrained", action="store_true", help="also the tests that download weights")
    arguments = parser.parse_args()
    load_model("timm:test_resnet", {})  # timm, also where torchvision lacks its compiled operators
    import timm

    sys.modules["names_of_unitgain"] = names_for(arguments.models)
    os.environ["TIMEOUT"] = "3600"
    unwanted = OTHERS if arguments.pretrained else (*OTHERS, *DOWNLOADS)
    wanted = " and ".join([f"not {name}" for name in unwanted] + [arguments.only] * bool(arguments.only))
    results = Results()
    with changed(arguments.tests) as path:
        options = [
            "-q",
            "-k",
            wanted,
            "-p",
            "no:cacheprovider",
            "-p",
            "no:timeout",
            "-W",
            "ignore",
            "--tb=short",
        ]
        pytest.main(
            [str(path), "--rootdir", str(path.parent), "-c", str(path.parent / "pytest.ini"), *options],
            [results],
        )
    text = page(results, arguments.models, timm.__version__)
    print(text)
    if arguments.out:
        arguments.out.write_text(text)
    return 1 if results.failed else 0


if __name__ == "__main__":
    sys.exit(main())
