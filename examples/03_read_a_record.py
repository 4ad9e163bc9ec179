"""Read a record: as columns in Python, and with plain SQL.

    python examples/03_read_a_record.py [run.sqlite]

Without a file, a short training run is recorded first. A record needs neither the model nor the training
code, and can be read while the run still writes it.
"""

import os
import sqlite3
import sys

import torch
import torch.nn.functional as F

import unitgain as ug


def train_a_little(path: str) -> None:
    torch.manual_seed(0)
    model = ug.models.create("convnet")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with ug.Probe(model, optimizer, every=1, to=path) as probe:
        for _ in range(20):
            x, y = torch.randn(32, 1, 28, 28), torch.randint(0, 10, (32,))
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            probe.log(loss=loss)
    probe.record.close()


def main(path: str | None = None) -> None:
    if path is None:
        path = "small-run.sqlite"
        if not os.path.exists(path):
            train_a_little(path)

    record = ug.Record.load(path)
    print(record)
    last = record.steps()[-1]
    frame = record.frame("activation", step=last)
    print(f"\nStep {last}, as columns (NumPy arrays by name; frame.to_pandas() gives a DataFrame):")
    for site, module, std, zero in zip(frame["site"], frame["module"], frame["std"], frame["zero"]):
        print(f"  {site:16} {module:10} std {std:8.3f}  zero {zero:6.1%}")
    record.close()

    print("\nThe same file with SQL: the largest updates, relative to the weights")
    database = sqlite3.connect(path)
    rows = database.execute(
        "SELECT site.name, MAX(scalar.ratio) AS largest FROM scalar JOIN site ON site.id = scalar.site "
        "WHERE site.kind = 'update' GROUP BY site.name ORDER BY largest DESC LIMIT 5"
    )
    for name, largest in rows:
        print(f"  {name:16} 10^{largest:.2f}")
    database.close()


if __name__ == "__main__":
    main(*sys.argv[1:2])
