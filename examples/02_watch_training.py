"""Watch a network train with a Probe, and draw what it saw.

    python examples/02_watch_training.py

Nothing is called inside the training loop but `probe.log`, which stores the loss beside the measurements.
Writes run.sqlite and four plots into the working directory.
"""

from pathlib import Path

import torch
import torch.nn.functional as F

import unitgain as ug


def main(steps: int = 300) -> None:
    generator = torch.Generator().manual_seed(0)
    model = ug.models.create("char_mlp_deep", generator=generator)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = ug.data.load_names().train.batches(32, generator)

    Path("run.sqlite").unlink(missing_ok=True)  # a Probe never writes over an existing record
    with ug.Probe(model, optimizer, to="run.sqlite") as probe:
        for _ in range(steps):
            x, y = next(batches)
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            probe.log(loss=loss)
            optimizer.step()

    record = probe.record
    print(record)
    _, losses = record.metric("loss")
    print(f"loss {losses[:10].mean():.3f} in the first ten steps, {losses[-10:].mean():.3f} in the last ten")
    _, ratios = record.series("update", "hidden3.weight", "ratio")
    print(f"update:data of hidden3.weight 10^{ratios[0]:.1f} at first, 10^{ratios[-1]:.1f} in the end")

    ug.plots.stats_over_depth(record).savefig("depth.png")
    ug.plots.stats_over_time(record).savefig("time.png")
    ug.plots.update_ratio(record).savefig("updates.png")
    ug.plots.color_dim(record).savefig("color_dim.png")
    record.close()


if __name__ == "__main__":
    main()
