"""The page about batches: its examples run and print what they say."""

from __future__ import annotations

import re
from pathlib import Path

import torch

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "batch.md"


def test_the_examples_run_and_print_what_their_comments_say(capsys) -> None:
    torch.manual_seed(0)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 4
    said = [
        line.partition("# ")[2]
        for block in blocks
        for line in block.splitlines()
        if line.startswith("print(")
    ]
    scope: dict[str, object] = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), scope)
    assert capsys.readouterr().out.splitlines() == said


def test_every_loss_by_name_and_every_target_s_name_is_on_the_page() -> None:
    from unitgain._batch import LOSSES, TARGET_NAMES

    text = PAGE.read_text(encoding="utf-8")
    for name in (*LOSSES, *TARGET_NAMES):
        assert f"`{name}`" in text
