"""Optimizers, loops and modes, in the idioms of other networks. Cases go to halves G and H in turn (registry.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from parts import Gpt, GraphNet, Recurrent, ResNet, UNet, Vit
from registry import variant
from samples import (
    Net,
    adam,
    boxes,
    chains,
    clusters,
    glyphs,
    houses,
    log,
    missed_modes,
    mixture,
    mlp,
    molecules,
    seeded,
    sentences,
    series,
    sgd,
    standard,
)
from torch import Tensor, nn

BCE = F.binary_cross_entropy_with_logits


def looped(
    optimizer: Any,
    loss_of: Callable[[int], Tensor],
    *,
    zero: bool = True,
    before: Any = None,
    after: Any = None,
    steps: int = 150,
):
    """A loop of the usual order, with one of its parts left out or put elsewhere."""

    def loop(probe: Any, steps: int = steps) -> float:
        value = 0.0
        for step in range(steps):
            if zero:
                optimizer.zero_grad(set_to_none=True)
            loss = loss_of(step)
            loss.backward()
            if before is not None:
                before()
            optimizer.step()
            if after is not None:
                after(step, loss)
            log(probe, loss)
            value = loss.item()
        return value

    return loop


# Weights that no optimizer holds ---------------------------------------------------------------------------------


@variant(
    "optimizer",
    "UG701",
    "UG502 UG503 UG508",
    form="probe",
    action=r"optimizer",
    cause="the optimizer of an autoencoder gets the encoder's parameters, twice, and none of the decoder's",
)
def decoder_in_no_optimizer(cured: bool):
    x, _ = clusters(96, 24, 6, seed=1)
    encoder, decoder = mlp(24, 32, 4), mlp(4, 32, 24)
    model = Net(lambda net, x: net.decoder(net.encoder(x)), encoder=encoder, decoder=decoder)
    groups = [
        {"params": encoder.parameters()},
        *([{"params": decoder.parameters(), "lr": 2e-3}] if cured else []),
    ]
    optimizer = torch.optim.AdamW(groups, 1e-3)
    return model, optimizer, looped(optimizer, lambda _: F.mse_loss(model(x), x)), None, {}


@variant(
    "optimizer",
    "UG701",
    "UG502 UG503 UG508",
    form="probe",
    action=r"optimizer|head|add_param_group",
    cause="the head is replaced after the optimizer was made: it holds the old head",
)
def head_replaced_after_the_optimizer(cured: bool):
    x, labels = glyphs(48, 6, 12, seed=2)
    model = ResNet(10)
    if cured:
        model.fc = nn.Linear(32, 6)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    if not cured:
        model.fc = nn.Linear(32, 6)
    return (
        model,
        optimizer,
        looped(optimizer, lambda _: F.cross_entropy(model(x), labels), steps=60),
        None,
        {},
    )


@variant(
    "optimizer",
    "UG701",
    "UG502 UG503 UG508",
    form="probe",
    action=r"optimizer|add_param_group",
    cause="parameters are sorted into decay and no decay by name; embeddings are in neither group",
)
def groups_by_name_lose_the_embeddings(cured: bool):
    text = chains(16, 17, 30, seed=3)
    model = Gpt(30)
    named = dict(model.named_parameters())
    plain = [p for n, p in named.items() if n.endswith("bias") or "norm" in n]
    decay = [
        p
        for n, p in named.items()
        if n.endswith("weight") and ("norm" not in n) and (cured or ("tokens" not in n and "places" not in n))
    ]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}], 2e-3
    )
    return (
        model,
        optimizer,
        looped(optimizer, lambda _: model(text[:, :-1], text[:, 1:])[1], steps=60),
        None,
        {},
    )


@variant(
    "optimizer",
    "UG701",
    "UG502 UG508 UG702",
    form="probe",
    action=r"optimizer",
    cause="the optimizer is made for a copy of the model",
)
def optimizer_of_a_copy(cured: bool):
    import copy

    x, y = houses(96, 8, seed=4)
    model = mlp(8, 48, 48, 1, act=nn.SiLU)
    optimizer = torch.optim.RMSprop((model if cured else copy.deepcopy(model)).parameters(), 1e-3)
    return (
        model,
        optimizer,
        looped(optimizer, lambda _: F.mse_loss(model(x), y)),
        (x, y),
        {"loss": F.mse_loss},
    )


# Gradients that are never cleared --------------------------------------------------------------------------------


@variant(
    "optimizer",
    "UG506",
    "UG504 UG501 UG303 UG503 UG402",
    form="probe",
    action=r"zero_grad|clear",
    cause="a value network is trained without zero_grad, as in many first agents",
)
def agent_never_clears(cured: bool):
    g = seeded(1)
    model, target = mlp(4, 48, 48, 3), mlp(4, 48, 48, 3)
    target.load_state_dict(model.state_dict())
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    s, s2, a, r = (
        torch.randn(512, 4, generator=g),
        torch.randn(512, 4, generator=g),
        torch.randint(0, 3, (512, 1), generator=g),
        torch.randn(512, generator=g),
    )

    def loss(step: int) -> Tensor:
        i = torch.arange(32) + 32 * (step % 16)
        with torch.no_grad():
            goal = r[i] + 0.9 * target(s2[i]).max(1).values
        return F.smooth_l1_loss(model(s[i]).gather(1, a[i]).squeeze(1), goal)

    return model, optimizer, looped(optimizer, loss, zero=cured), None, {}


@variant(
    "optimizer",
    "UG506",
    "UG504 UG501 UG303 UG503 UG402",
    form="probe",
    action=r"zero_grad|clear",
    cause="zero_grad stands before the loop over batches, once an epoch",
)
def cleared_once_an_epoch(cured: bool):
    text = chains(64, 17, 30, seed=2)
    model = Gpt(30)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)

    def loop(probe: Any, steps: int = 128) -> float:
        value = 0.0
        for step in range(steps):
            if cured or step % 32 == 0:
                optimizer.zero_grad()
            part = text[8 * (step % 8) : 8 * (step % 8) + 8]
            _, loss = model(part[:, :-1], part[:, 1:])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            log(probe, loss)
            value = loss.item()
        return value

    return model, optimizer, loop, None, {}


@variant(
    "optimizer",
    "UG506",
    "UG504 UG501 UG303 UG503 UG402",
    form="probe",
    action=r"zero_grad|clear",
    cause="under autocast, the other optimizer's gradients are cleared twice and this one's never",
)
def wrong_optimizer_cleared(cured: bool):
    x, _ = glyphs(48, 6, 12, seed=3)
    model = Net(
        lambda net, x: net.decode(net.encode(x)),
        encode=nn.Sequential(nn.Flatten(), *mlp(144, 48, 8)),
        decode=mlp(8, 48, 144),
    )
    one, two = (
        torch.optim.SGD(model.encode.parameters(), 0.05, momentum=0.9),
        torch.optim.SGD(model.decode.parameters(), 0.05, momentum=0.9),
    )

    def loop(probe: Any, steps: int = 150) -> float:
        value = 0.0
        for _ in range(steps):
            two.zero_grad()
            (one if cured else two).zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = F.mse_loss(model(x).float(), x.flatten(1))
            loss.backward()
            one.step()
            two.step()
            log(probe, loss)
            value = loss.item()
        return value

    return model, [one, two], loop, None, {}


@variant(
    "optimizer",
    "UG506",
    "UG504 UG501 UG303 UG503 UG402",
    form="probe",
    action=r"zero_grad|clear",
    cause="gradients of 4 batches are accumulated, and zero_grad waits for a remainder that never comes",
)
def accumulation_that_is_never_cleared(cured: bool):
    x, mask, _ = boxes(32, 16, seed=4)
    model = UNet()
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)

    def loop(probe: Any, steps: int = 160) -> float:
        value = 0.0
        for step in range(steps):
            i = torch.arange(4) + 4 * (step % 8)
            loss = BCE(model(x[i]), mask[i]) / 4
            loss.backward()
            if step % 4 == 3:
                optimizer.step()
            if step % 4 == (3 if cured else 4):
                optimizer.zero_grad()
            log(probe, 4 * loss.detach())
            value = 4 * loss.item()
        return value

    return model, optimizer, loop, None, {}


# A rate that has fallen to zero ----------------------------------------------------------------------------------


@variant(
    "optimizer",
    "UG508 UG502",
    "UG110 UG510",
    form="probe",
    action=r"rate|schedul",
    cause="an exponential schedule made for epochs is stepped at every batch",
)
def exponential_schedule_at_every_batch(cured: bool):
    x, labels = glyphs(48, 6, 12, seed=1)
    model = Vit(6)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.6)

    def after(step, _):
        return schedule.step() if not cured or step % 48 == 47 else None

    return (
        model,
        optimizer,
        looped(optimizer, lambda _: F.cross_entropy(model(x), labels), after=after),
        None,
        {},
    )


@variant(
    "optimizer",
    "UG508 UG502 UG702",
    "UG110 UG510",
    form="probe",
    action=r"rate|schedul",
    cause="warm-up by whole division: step // 1000 is zero for a thousand steps",
)
def warm_up_by_whole_division(cured: bool):
    text = chains(16, 17, 30, seed=2)
    model = Gpt(30)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min(1, (s + 1) / 20) if cured else min(1, s // 1000)
    )
    return (
        model,
        optimizer,
        looped(
            optimizer,
            lambda _: model(text[:, :-1], text[:, 1:])[1],
            after=lambda *_: schedule.step(),
            steps=80,
        ),
        None,
        {},
    )


@variant(
    "optimizer",
    "UG508 UG502",
    "UG110 UG510",
    form="probe",
    action=r"rate|schedul",
    cause="ReduceLROnPlateau waits for a rising loss (mode max), and gets one at every step",
)
def plateau_schedule_of_the_wrong_mode(cured: bool):
    x, y = houses(128, 8, seed=3)
    model = mlp(8, 64, 64, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="min" if cured else "max", patience=2, factor=0.3, eps=0
    )
    return (
        model,
        optimizer,
        looped(
            optimizer, lambda _: F.mse_loss(model(x), y), after=lambda _, loss: schedule.step(loss.item())
        ),
        None,
        {},
    )


@variant(
    "optimizer",
    "UG508 UG502",
    "UG110 UG510",
    form="probe",
    action=r"rate|schedul",
    cause="the rate is multiplied by hand at every step, not every epoch",
)
def rate_multiplied_by_hand(cured: bool):
    x = series(48, 24, 2, seed=4)
    model = Recurrent(2, 1)
    optimizer = torch.optim.RMSprop(model.parameters(), 2e-3)

    def after(step: int, _: Tensor) -> None:
        if not cured or step % 60 == 59:
            for group in optimizer.param_groups:
                group["lr"] *= 0.7

    return (
        model,
        optimizer,
        looped(optimizer, lambda _: F.mse_loss(model(x[:, :-1]), x[:, -1, :1]), after=after),
        None,
        {},
    )


# A rate that is too large ----------------------------------------------------------------------------------------


@variant(
    "optimizer",
    "UG501 UG504",
    "UG102 UG307 UG101 UG303 UG304 UG503 UG402 UG302 UG110 UG114",
    action=r"rate|lr",
    cause="Adam at 0.1 for a recurrent network over text",
)
def recurrent_network_at_a_tenth(cured: bool):
    text, _, labels = sentences(64, 12, 20, 4, seed=1)
    return (
        Recurrent(16, 4, words=20),
        (text, labels),
        {"loss": F.cross_entropy, "steps": 20, "optimizer": adam(3e-3 if cured else 0.3)},
    )


@variant(
    "optimizer",
    "UG501 UG504",
    "UG102 UG307 UG101 UG303 UG304 UG503 UG402 UG302 UG110 UG114 UG104 UG306 UG405",
    form="probe",
    action=r"rate|lr",
    cause="a vision transformer from scratch, AdamW at 0.03",
)
def vision_transformer_at_three_hundredths(cured: bool):
    x, labels = glyphs(64, 6, 12, seed=2)
    model = Vit(6, layers=4)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3 if cured else 3e-2)
    return (
        model,
        optimizer,
        looped(optimizer, lambda _: F.cross_entropy(model(x), labels), steps=80),
        (x, labels),
        {"loss": F.cross_entropy},
    )


@variant(
    "optimizer",
    "UG501 UG504",
    "UG102 UG307 UG101 UG303 UG304 UG503 UG402 UG302 UG110 UG114 UG104 UG306 UG405",
    action=r"rate|lr",
    cause="SGD with momentum 0.99 at a rate of 1 on a regression",
)
def momentum_and_a_rate_of_one(cured: bool):
    x, y = houses(96, 8, seed=3)
    return (
        mlp(8, 64, 64, 1, act=nn.Tanh),
        (x, y),
        {"loss": nn.L1Loss(), "steps": 20, "optimizer": sgd(0.02 if cured else 2.0, 0.9 if cured else 0.99)},
    )


@variant(
    "optimizer",
    "UG501 UG504",
    "UG102 UG307 UG101 UG303 UG304 UG503 UG402 UG302 UG110 UG114 UG104 UG306 UG405",
    form="probe",
    action=r"rate|lr",
    cause="the loss is summed over pixels, and the rate is the one for a mean",
)
def summed_loss_with_the_rate_of_a_mean(cured: bool):
    x, mask, _ = boxes(32, 16, seed=4)
    model = UNet()
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)

    def loss(step: int) -> Tensor:
        i = torch.arange(4) + 4 * (step % 8)
        return BCE(model(x[i]), mask[i], reduction="mean" if cured else "sum")

    return model, optimizer, looped(optimizer, loss, steps=80), None, {}


@variant(
    "optimizer",
    "UG304 UG501 UG504",
    "UG102 UG403 UG307 UG303 UG503 UG114 UG305",
    form="probe",
    action=r"rate|lr",
    cause="the ReLUs of a graph network die at Adam's rate of a half",
)
def graph_network_killed(cured: bool):
    nodes, edges = molecules(64, 8, 6, seed=5)
    y = standard(nodes[..., 0] * nodes[..., 1] + (edges @ nodes[..., :1])[..., 0])
    model = GraphNet(6, 1)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3 if cured else 0.5)
    return model, optimizer, looped(optimizer, lambda _: F.mse_loss(model(nodes, edges)[..., 0], y)), None, {}


@variant(
    "optimizer",
    "UG304 UG501 UG504",
    "UG102 UG403 UG307 UG303 UG503 UG114 UG305 UG402 UG302",
    form="probe",
    action=r"rate|lr",
    cause="the ReLUs of a convolutional network die in the first steps of SGD at 2",
)
def convolutions_killed(cured: bool):
    x, labels = glyphs(64, 6, 12, seed=6)
    body = nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, 1, 1),
        nn.ReLU(),
    )
    model = Net(lambda net, x: net.fc(net.body(x).flatten(1)), body=body, fc=nn.Linear(288, 6))
    optimizer = torch.optim.SGD(model.parameters(), 0.05 if cured else 3.0, momentum=0.9)
    return (
        model,
        optimizer,
        looped(optimizer, lambda _: F.cross_entropy(model(x), labels), steps=100),
        (x, labels),
        {"loss": F.cross_entropy},
    )


# A rate that is too small ----------------------------------------------------------------------------------------


@variant("optimizer", "UG502", "UG110 UG510", action=r"rate|lr", cause="Adam at 1e-7 for a recurrent network")
def recurrent_network_at_a_ten_millionth(cured: bool):
    x = series(48, 24, 2, seed=1)
    return (
        Recurrent(2, 1, cell=nn.GRU),
        (x[:, :-1], x[:, -1, :1]),
        {"loss": F.mse_loss, "steps": 20, "optimizer": adam(3e-3 if cured else 1e-7)},
    )


@variant(
    "optimizer",
    "UG502",
    "UG110 UG510",
    form="probe",
    action=r"rate|lr",
    cause="SGD at 1e-5 without momentum for a U-Net",
)
def unet_at_a_hundred_thousandth(cured: bool):
    x, mask, _ = boxes(16, 16, seed=2)
    model = UNet()
    optimizer = torch.optim.SGD(model.parameters(), 0.1 if cured else 1e-5)
    return (
        model,
        optimizer,
        looped(optimizer, lambda _: BCE(model(x), mask), steps=60),
        (x, mask),
        {"loss": BCE},
    )


@variant(
    "optimizer",
    "UG502",
    "UG110 UG510",
    form="probe",
    action=r"rate|lr|warm",
    cause="linear warm-up over a million steps: the rate of a transformer stays at nothing",
)
def warm_up_over_a_million_steps(cured: bool):
    text = chains(16, 17, 30, seed=3)
    model = Gpt(30)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min(1, (s + 1) / (30 if cured else 1e6))
    )
    return (
        model,
        optimizer,
        looped(
            optimizer,
            lambda _: model(text[:, :-1], text[:, 1:])[1],
            after=lambda *_: schedule.step(),
            steps=100,
        ),
        None,
        {},
    )


@variant(
    "optimizer",
    "UG502",
    "UG110 UG510",
    form="probe",
    action=r"rate|lr|accum|divi",
    cause="the loss is divided by the number of batches of the whole epoch, and SGD steps at each",
)
def loss_divided_by_all_batches(cured: bool):
    x, labels = clusters(256, 16, 8, seed=4)
    model = mlp(16, 64, 8)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def loss(step: int) -> Tensor:
        i = torch.arange(16) + 16 * (step % 16)
        return F.cross_entropy(model(x[i]), labels[i]) / (1 if cured else 5000)

    return model, optimizer, looped(optimizer, loss), None, {}


# Decay that wins -------------------------------------------------------------------------------------------------


@variant(
    "optimizer",
    "UG507",
    "UG301 UG102 UG307 UG401 UG605 UG304 UG502 UG501 UG504 UG114",
    form="probe",
    action=r"decay",
    cause="AdamW with a weight decay of 20",
)
def decoupled_decay_of_twenty(cured: bool):
    text, _, labels = sentences(64, 12, 20, 4, seed=1)
    model = Recurrent(16, 4, words=20)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=0.01 if cured else 20.0)
    return model, optimizer, looped(optimizer, lambda _: F.cross_entropy(model(text), labels)), None, {}


@variant(
    "optimizer",
    "UG507",
    "UG301 UG102 UG307 UG401 UG605 UG304 UG502 UG501 UG504 UG114 UG110",
    form="probe",
    action=r"decay|penalty|L2",
    cause="a penalty of one times all squared weights is added to the loss",
)
def penalty_of_all_squared_weights(cured: bool):
    x, y = houses(128, 8, seed=2)
    model = mlp(8, 64, 64, 1)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)

    def loss(_: int) -> Tensor:
        return F.mse_loss(model(x), y) + (1e-5 if cured else 1.0) * sum(
            p.square().sum() for p in model.parameters()
        )

    return model, optimizer, looped(optimizer, loss, steps=300), None, {}


# One class a batch -----------------------------------------------------------------------------------------------


@variant(
    "data",
    "UG113",
    "UG504 UG501 UG102",
    form="probe",
    action=r"shuffl|one class|order",
    cause="sentences are sorted by label, the loss is a module inside of the model",
)
def sentences_sorted_by_label(cured: bool):
    text, _, labels = sentences(320, 12, 20, 4, seed=1)
    order = torch.randperm(320, generator=seeded(1)) if cured else labels.argsort()
    text, labels = text[order], labels[order]

    def run(net: Net, text: Tensor, labels: Tensor) -> Tensor:
        return net.criterion(net.net(text), labels)

    model = Net(run, net=Recurrent(16, 4, words=20), criterion=nn.CrossEntropyLoss())
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)

    def loss(step: int) -> Tensor:
        i = torch.arange(20) + 20 * (step % 16)
        return model(text[i], labels[i])

    return model, optimizer, looped(optimizer, loss), None, {}


@variant(
    "data",
    "UG113",
    "UG504 UG501 UG102",
    form="probe",
    action=r"shuffl|one class|order",
    cause="all negatives come first, then all positives; labels are floats",
)
def negatives_first(cured: bool):
    x, labels = glyphs(256, 2, 12, seed=2)
    order = torch.randperm(256, generator=seeded(2)) if cured else labels.argsort()
    data = torch.utils.data.TensorDataset(x[order], labels[order].float()[:, None])
    loader = torch.utils.data.DataLoader(data, 32)
    model = ResNet(1)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)

    def loop(probe: Any, steps: int = 96) -> float:
        done, value = 0, 0.0
        while done < steps:
            for pictures, y in loader:
                loss = BCE(model(pictures), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                log(probe, loss)
                value, done = loss.item(), done + 1
        return value

    return model, optimizer, loop, None, {}


# Epsilons, steps, clipping, modes --------------------------------------------------------------------------------


@variant(
    "numerics",
    "UG407 UG405 UG406",
    "UG104 UG306 UG501 UG504",
    form="probe",
    action=r"eps|float32|half",
    cause="a model in half precision, and Adam's eps of 1e-8, which is zero there",
)
def adam_in_half_precision(cured: bool):
    x, y = houses(64, 8, seed=1)
    kind = torch.float32 if cured else torch.float16
    model, x, y = mlp(8, 48, 48, 1, act=nn.GELU).to(kind), x.to(kind), y.to(kind)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    return model, optimizer, looped(optimizer, lambda _: F.mse_loss(model(x), y), steps=60), None, {}


@variant(
    "numerics",
    "UG407 UG405 UG406",
    "UG104 UG306 UG501 UG504",
    form="probe",
    action=r"eps|float32|half",
    cause="RMSprop in half precision with an eps of 1e-8",
)
def rmsprop_in_half_precision(cured: bool):
    x, labels = clusters(96, 16, 8, seed=2)
    kind = torch.float32 if cured else torch.float16
    model, x = mlp(16, 48, 8).to(kind), x.to(kind)
    optimizer = torch.optim.RMSprop(model.parameters(), 1e-3, eps=1e-8)
    return (
        model,
        optimizer,
        looped(optimizer, lambda _: F.cross_entropy(model(x), labels), steps=60),
        None,
        {},
    )


@variant(
    "optimizer",
    "UG702",
    "UG502 UG508 UG110 UG510 UG506",
    form="probe",
    action=r"step",
    cause="scheduler.step() stands where optimizer.step() should",
)
def schedule_stepped_in_place_of_the_optimizer(cured: bool):
    x, labels = glyphs(48, 6, 12, seed=3)
    model = Vit(6)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 200)

    def loop(probe: Any, steps: int = 100) -> float:
        value = 0.0
        for _ in range(steps):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), labels)
            loss.backward()
            if cured:
                optimizer.step()
            schedule.step()
            log(probe, loss)
            value = loss.item()
        return value

    return model, optimizer, loop, None, {}


@variant(
    "optimizer",
    "UG702 UG701 UG508",
    "UG502 UG110 UG510 UG506",
    form="probe",
    action=r"step|optimizer",
    cause="of two optimizers the generator's is never stepped",
)
def generator_never_stepped(cured: bool):
    g = seeded(4)
    generator, critic = mlp(4, 32, 2), mlp(2, 32, 1, act=lambda: nn.LeakyReLU(0.2))
    one, two = (
        torch.optim.Adam(generator.parameters(), 2e-3, betas=(0.5, 0.9)),
        torch.optim.Adam(critic.parameters(), 2e-3, betas=(0.5, 0.9)),
    )

    def loop(probe: Any, steps: int = 150) -> float:
        for step in range(steps):
            fake = generator(torch.randn(64, 4, generator=g))
            two.zero_grad()
            (
                BCE(critic(mixture(64, step)), torch.ones(64, 1))
                + BCE(critic(fake.detach()), torch.zeros(64, 1))
            ).backward()
            two.step()
            one.zero_grad()
            loss = BCE(critic(fake), torch.ones(64, 1))
            loss.backward()
            if cured:
                one.step()
            log(probe, loss)
        with torch.no_grad():
            return missed_modes(generator(torch.randn(256, 4, generator=g)))

    return generator, one, loop, None, {}


@variant(
    "optimizer",
    "UG704",
    "UG502 UG110 UG510",
    form="probe",
    action=r"clip",
    cause="gradients are clipped to a norm of 1e-4 under SGD",
)
def clipped_to_nothing(cured: bool):
    x, _, labels = sentences(64, 12, 20, 4, seed=5)
    model = Recurrent(16, 4, words=20)
    optimizer = torch.optim.SGD(model.parameters(), 0.3, momentum=0.9)

    def before() -> Any:
        return torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0 if cured else 1e-4)

    return (
        model,
        optimizer,
        looped(optimizer, lambda _: F.cross_entropy(model(x), labels), before=before),
        None,
        {},
    )


@variant(
    "optimizer",
    "UG704",
    "UG502 UG110 UG510",
    form="probe",
    action=r"clip",
    cause="each gradient value is clipped to 1e-6 under SGD",
)
def values_clipped_to_nothing(cured: bool):
    x, mask, _ = boxes(16, 16, seed=6)
    model = UNet()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)

    def before() -> Any:
        return torch.nn.utils.clip_grad_value_(model.parameters(), 1.0 if cured else 1e-6)

    return (
        model,
        optimizer,
        looped(optimizer, lambda _: BCE(model(x), mask), before=before, steps=80),
        None,
        {},
    )


@variant(
    "mode",
    "UG705",
    "UG703",
    form="probe",
    action=r"train\(\)|mode",
    cause="model.eval() of the first validation is never taken back",
)
def residual_network_left_in_eval(cured: bool):
    x, labels = glyphs(64, 6, 12, seed=1)
    model = ResNet(6, drop=0.3)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)

    def after(step: int, _: Tensor) -> None:
        if step % 20 == 9:
            model.eval()
            with torch.no_grad():
                model(x[:16])
            model.train(cured)

    return (
        model,
        optimizer,
        looped(optimizer, lambda _: F.cross_entropy(model(x), labels), after=after, steps=100),
        None,
        {},
    )


@variant(
    "mode",
    "UG705",
    "UG703",
    form="probe",
    action=r"train\(\)|mode",
    cause="sampling puts the language model with dropout into eval mode, and it stays there",
)
def language_model_left_in_eval(cured: bool):
    text = chains(16, 17, 30, seed=2)
    gpt = Gpt(30)
    model = Net(
        lambda net, idx: net.gpt.head(
            net.drop(net.gpt.norm(net.gpt.blocks[1](net.drop(net.gpt.blocks[0](net.gpt.tokens(idx))))))
        ),
        gpt=gpt,
        drop=nn.Dropout(0.2),
    )
    del gpt.places
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)

    @torch.no_grad()
    def sample() -> None:
        model.eval()
        for _ in range(3):
            model(text[:2, :8]).argmax(-1)
        if cured:
            model.train()

    def after(step, _):
        return sample() if step == 15 else None

    def loss(_):
        return F.cross_entropy(model(text[:, :-1]).transpose(1, 2), text[:, 1:])

    return model, optimizer, looped(optimizer, loss, after=after, steps=100), None, {}


@variant(
    "mode",
    "UG703 UG604",
    "",
    action=r"recompute|calibrate|running|momentum|statistic",
    cause="BatchNorm's momentum of 0.001 has hardly moved the running statistics in training",
)
def statistics_that_hardly_move(cured: bool):
    x, labels = glyphs(64, 6, 12, seed=3)
    x = 3 * x + 2
    model = ResNet(6, momentum=0.1 if cured else 0.001)
    with torch.no_grad():
        model.stem[0].weight.mul_(3)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(50):
        optimizer.zero_grad()
        F.cross_entropy(model(x), labels).backward()
        optimizer.step()
    return model.eval(), (x, labels), {"loss": F.cross_entropy}


@variant(
    "mode",
    "UG703 UG604",
    "",
    action=r"recompute|calibrate|running|statistic",
    cause="a temporal network's weights are loaded without its buffers",
)
def buffers_not_loaded(cured: bool):
    x = series(64, 24, 2, seed=4)
    labels = (x[:, 5, 0] > 0).long()
    x = 4 * x.transpose(1, 2) + 3

    def made() -> nn.Module:
        layers: list[nn.Module] = []
        for a, b in ((2, 16), (16, 32)):
            layers += [nn.Conv1d(a, b, 3, padding=1), nn.BatchNorm1d(b), nn.ReLU()]
        return nn.Sequential(*layers, nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(32, 2))

    old, model = made(), made()
    optimizer = torch.optim.Adam(old.parameters(), 3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(old(x), labels).backward()
        optimizer.step()
    state = old.state_dict() if cured else dict(old.named_parameters())
    model.load_state_dict({name: tensor.detach().clone() for name, tensor in state.items()}, strict=False)
    return model.eval(), (x, labels), {"loss": F.cross_entropy}
