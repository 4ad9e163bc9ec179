"""UnitGain in a data-parallel run of Lightning: two processes, as `devices=2, strategy="ddp"` starts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]  # processes that import much
SOURCE = Path(__file__).parents[2] / "src"
SCRIPT = """
import json, sys, warnings
warnings.simplefilter("ignore")
import torch
try:
    import torchvision
except (ImportError, RuntimeError):
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
import lightning.pytorch as pl
import torch.nn.functional as F
from torch import nn
from unitgain.integrations import FindingsError
from unitgain.integrations.lightning import UnitGain


class Module(pl.LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 2))

    def training_step(self, batch, batch_idx):
        x, y = batch
        return F.cross_entropy(self.net(x), y) * (float("nan") if broken and batch_idx > 3 else 1)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


watched, broken = "watched" in sys.argv, "broken" in sys.argv
generator = torch.Generator().manual_seed(0)
x = torch.randn(256, 8, generator=generator)
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, (x[:, 0] > 0).long()), batch_size=8)
measure = UnitGain(every=2, to="run.sqlite", fail_on="error") if watched else None
trainer = pl.Trainer(
    max_epochs=1, accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_checkpointing=False,
    enable_progress_bar=False, enable_model_summary=False, callbacks=[measure] if watched else [],
)
module, ended = Module(), False
try:
    trainer.fit(module, loader)
except FindingsError:
    ended = True
found = {"weights": [p.flatten().tolist() for p in module.parameters()], "ended": ended, "step": trainer.global_step}
if watched and trainer.is_global_zero:
    record = measure.report.record
    found["steps"] = record.steps()
    found["count"] = record.value("activation", "net.0", "count")
    found["updates"] = len(record.sites("update"))
with open(f"rank{trainer.global_rank}-{'-'.join(sys.argv[1:])}.json", "w") as file:
    json.dump(found, file)
"""


@pytest.fixture
def train(tmp_path, torchvision_operators):
    pytest.importorskip("lightning")
    (tmp_path / "run.py").write_text(SCRIPT)

    def run(*words: str) -> list[dict]:
        environment = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT"):
            environment.pop(name, None)
        done = subprocess.run(
            [sys.executable, "run.py", *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return [json.loads((tmp_path / f"rank{rank}-{'-'.join(words)}.json").read_text()) for rank in (0, 1)]

    return run


def test_two_ranks_train_as_without_it_and_rank_0_writes_what_both_measured(train, tmp_path) -> None:
    (watched, other), (plain, _) = train("watched"), train("plain")
    assert watched["weights"] == other["weights"] == plain["weights"]
    assert watched["steps"] == list(range(0, 16, 2))
    assert watched["updates"] == 4
    assert watched["count"] == 2 * 8 * 16  # of both ranks
    assert (tmp_path / "run.sqlite").exists()


def test_an_error_ends_all_ranks_and_none_hangs(train) -> None:
    first, second = train("watched", "broken")
    assert first["ended"]
    assert first["step"] == second["step"] < 16
