"""Optimizers and loops: ninth unseen half."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from registry import report
from samples import clusters, convnet, glyphs, log, mlp, scored, seeded, series, wrong_on
from torch import Tensor, nn


@report(
    "optimizer", "UG506", "UG501 UG504", form="probe", area="time series", action=r"zero_grad|clear",
    source="github.com/salesforce/corr_based_prediction/issues/1",
    cause="zero_grad stands before the loop over batches: gradients add up over the whole epoch",
)  # fmt: skip
def zero_grad_outside_the_batch_loop(cured: bool):
    waves = series(128, 25, 1, seed=1)[:, :, 0]
    x, y = waves[:, :24], waves[:, 24:]
    model = mlp(24, 48, 48, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.8)
    loader = [(x[i : i + 8], y[i : i + 8]) for i in range(0, 128, 8)]

    def train_epoch(probe, batches) -> None:
        optimizer.zero_grad()
        for inputs, wanted in batches:
            if cured:
                optimizer.zero_grad()
            loss = F.mse_loss(model(inputs), wanted)
            loss.backward()
            optimizer.step()
            log(probe, loss)

    def loop(probe, steps: int = 320) -> float:
        for begin in range(0, steps, 16):
            train_epoch(probe, loader[: steps - begin])
        return scored(lambda out: F.mse_loss(out, y), x)(model)

    return model, optimizer, loop, loader[0], {"loss": F.mse_loss}


class SharedVAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = mlp(20, 32, 8), mlp(4, 32, 20)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        mu, logvar = self.encoder(x).chunk(2, -1)
        z = mu + 0.1 * logvar.exp()
        made = self.decoder(z)
        kl = -0.5 * (1 + logvar - mu.square() - logvar.exp()).mean()
        return {"loss": F.mse_loss(made, x) + 1e-3 * kl, "reconstruction": made}


@report(
    "optimizer", "UG701", form="probe", area="VAE", action=r"optimizer|parameters",
    source="github.com/zdebruine/MMVAE/issues/39",
    cause="the optimizer of the shared VAE was given the encoder's parameters only: the decoder stays as it began",
)  # fmt: skip
def optimizer_of_the_encoder_alone(cured: bool):
    g = seeded(2)
    x = torch.tanh(torch.randn(256, 4, generator=g) @ torch.randn(4, 20, generator=g))
    vae = SharedVAE()
    optimizers = {"shared": torch.optim.Adam((vae if cured else vae.encoder).parameters(), lr=5e-3)}

    def loop(probe, steps: int = 300) -> float:
        out = {}
        for _ in range(steps):
            out = vae(x)
            optimizers["shared"].zero_grad()
            out["loss"].backward()
            optimizers["shared"].step()
            log(probe, out["loss"])
        return float(F.mse_loss(out["reconstruction"], x))

    return vae, optimizers["shared"], loop, {"x": x}, {"loss": None, "optimizer": optimizers["shared"]}


class MixedPrecision:
    """A training step with a gradient scaler, as examples have it."""

    def __init__(self, model: nn.Module, unscaled: bool):
        self.model, self.unscaled = model, unscaled
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**14)

    def run_batch(self, x: Tensor, y: Tensor) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(self.model(x), y)
        self.scaler.scale(loss).backward()
        if self.unscaled:
            self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.detach()


@report(
    "optimizer", "UG704", "UG502 UG510 UG508", form="probe", area="cnn", action=r"unscale|clip",
    source="github.com/pytorch/examples/issues/1196",
    cause="gradients are clipped to 1 while they are still scaled by thousands: unscaled, next to nothing is left",
)  # fmt: skip
def clipped_before_unscaling(cured: bool):
    x, labels = glyphs(96, 6, 12, seed=3)
    model = convnet(1, 6, width=8)
    trainer = MixedPrecision(model, unscaled=cured)
    g = seeded(4)

    def loop(probe, steps: int = 150) -> float:
        for _ in range(steps):
            chosen = torch.randint(0, 96, (32,), generator=g)
            log(probe, trainer.run_batch(x[chosen], labels[chosen]))
        return wrong_on(x, labels)(model)

    return model, trainer.optimizer, loop, (x[:32], labels[:32]), {"loss": F.cross_entropy}


@report(
    "optimizer", "UG501", "UG304 UG504 UG114 UG102 UG307 UG510", form="probe", area="activity recognition",
    action=r"rate", source="github.com/NLeSC/mcfly/issues/43",
    cause="models whose learning rate exceeds 0.03 stand still: with Adam, one step moves the weights out of reach",
)  # fmt: skip
def rate_drawn_too_high(cured: bool):
    x, labels = clusters(512, 27, 6, 1.4, seed=5)
    x = x.view(512, 3, 9)
    layers = [nn.Conv1d(3, 24, 3, padding=1), nn.ReLU(), nn.Conv1d(24, 24, 3, padding=1), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(216, 64), nn.ReLU(), nn.Linear(64, 6))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3 if cured else 0.08)
    g = seeded(6)

    def loop(probe, steps: int = 250) -> float:
        model.train()
        for _ in range(steps):
            part = torch.randperm(512, generator=g)[:64]
            loss = F.cross_entropy(model(x[part]), labels[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log(probe, loss)
        return wrong_on(x, labels)(model)

    return (
        model,
        optimizer,
        loop,
        (x[:64], labels[:64]),
        {"loss": F.cross_entropy, "optimizer": optimizer, "steps": 20},
    )
