"""A test for continuous integration: new findings fail it, accepted ones do not.

    python examples/04_check_in_ci.py; echo $?

The first run writes accepted.json, to be kept under version control. Later runs exit with 1 when there is a
finding that is not in it, at "warning" or above. On the command line the same is

    unitgain check my_model.py:make_model --data batch.npz --fail-on warning --baseline accepted.json
"""

import os
import sys

import torch

import unitgain as ug
from unitgain.rules import load_baseline, new_findings, save_baseline

BASELINE = "accepted.json"


def main(model_name: str = "char_mlp_softmax") -> int:
    generator = torch.Generator().manual_seed(0)
    model = ug.models.create(model_name, generator=generator)
    batch = next(ug.data.load_names().train.batches(64, generator))
    report = ug.check(model, batch)
    print(f"{model_name}: {report.verdict}")

    if not os.path.exists(BASELINE):
        save_baseline(BASELINE, report.findings)
        print(f"{BASELINE} written: {len(report.findings)} accepted; look at each before you commit it")
        return 0

    new = new_findings(report.findings, load_baseline(BASELINE))
    serious = [f for f in new if f.severity in ("warning", "error")]
    for finding in serious:
        print(f"new: {finding.severity} {finding.code} {finding.name}: {finding.message}")
    return 1 if serious else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
