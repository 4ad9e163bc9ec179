"""The pytest fixture `unitgain`: a test that fails when a model is sick.

    def test_net(unitgain):
        unitgain.assert_healthy(Net(), batch)

pytest loads this file by its entry point in every project where unitgain is installed, so it imports nothing heavy.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ..report import Report

_ACCEPT = "--unitgain-accept"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("unitgain").addoption(
        _ACCEPT,
        action="store_true",
        help="write what unitgain.assert_healthy finds into the tests' baselines, instead of failing",
    )


@pytest.fixture
def unitgain(request: pytest.FixtureRequest) -> Checks:
    """Checks models: `unitgain.assert_healthy(model, batch)`."""
    return Checks(request.path.parent, bool(request.config.getoption(_ACCEPT)), request.node)


class Checks:
    """What the fixture gives. folder: where relative paths of baselines begin, the test file's own."""

    def __init__(self, folder: Path, accept: bool, node: Any = None):
        self._folder, self._accept, self._node = folder, accept, node

    def assert_healthy(
        self,
        model: Any,
        batch: Any,
        loss: Any = "auto",
        *,
        fail_on: str = "warning",
        baseline: str | os.PathLike[str] | None = None,
        select: Sequence[str] | None = None,
        ignore: Sequence[str] | None = None,
        **options: Any,
    ) -> Report:
        """Fails the test unless the model is healthy; gives the report.

        model, batch, loss, select, ignore, and options such as steps, optimizer and data   as for `unitgain.check`
        fail_on   "warning": errors and warnings fail; "error": errors alone
        baseline  a file of accepted findings, beside the test file: only new ones fail. `pytest --unitgain-accept`
                  writes it

        A verdict of "cannot tell" fails too: too little could be judged for a test to rest on.
        """
        __tracebackhide__ = True
        from .._base import InputError
        from .._check import check
        from ..report import Report
        from ..rules import accept, load_baseline, save_baseline

        if fail_on not in ("error", "warning"):
            raise InputError(f"assert_healthy(fail_on={fail_on!r}): expected 'error' or 'warning'")
        try:
            report = check(model, batch, loss, select=select, ignore=ignore, **options)
        except InputError as error:
            # pytest would print the source of check; what the model raised stays
            raise error.with_traceback(None) from error.__cause__
        path = None if baseline is None else self._folder / baseline
        if path is not None and self._accept:
            save_baseline(path, report.findings)
        if path is not None:
            if not path.exists():
                raise InputError(f"baseline {path}: there is no such file; pytest {_ACCEPT} writes it")
            report = Report(report.record, accept(report.diagnosis, load_baseline(path)))
        if self._node is not None:
            self._node.user_properties.append(("unitgain", report.verdict))
        failing = ("error",) if fail_on == "error" else ("error", "warning")
        bad = any(f.severity in failing and f not in report.diagnosis.accepted for f in report.findings)
        if bad or report.diagnosis.status == "unknown":
            raise AssertionError(f"{type(model).__name__} is not healthy\n\n{report}")
        return report
