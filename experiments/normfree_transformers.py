"""A small GPT or ViT with LayerNorm, trained, converted, fine-tuned: what each way of doing without LayerNorm costs.

    python experiments/normfree_transformers.py gpt --out results.md [--steps 1500] [--tune 300]
    python experiments/normfree_transformers.py vit --out results.md

gpt  characters of the documentation that comes with Python (pydoc's topics), four layers, context 32, batch 16
vit  Fashion-MNIST in patches of 4 x 4 pixels and a class token, six layers, batch 32

Both of width 48, with AdamW. Each arm starts from the same trained network: left as it is, RMSNorm exactly, fitted
pointwise functions with the last norm kept and without, and the naive swap: DynamicTanh(0.5) with weight and bias
copied. A second table has the validation loss after each norm that was replaced, one after the other.
"""

from __future__ import annotations

import argparse
import copy
import platform
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

import unitgain as ug
from unitgain.data import load_fashion_mnist
from unitgain.normfree import convert_layer_norms

WIDTH, CONTEXT, PATCH = 48, 32, 4
Batch = tuple[Tensor, Tensor]


class Layer(nn.Module):
    def __init__(self, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, 4, batch_first=True)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:  # (B, tokens, WIDTH)
        y, length = self.norm1(x), x.shape[1]
        mask = torch.triu(torch.ones(length, length, dtype=torch.bool), 1) if self.causal else None
        x = x + self.attention(y, y, y, need_weights=False, attn_mask=mask)[0]
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


class GPT(nn.Module):
    """(B, tokens) -> logits of the next character, (B, tokens, characters)."""

    def __init__(self, characters: int) -> None:
        super().__init__()
        self.token = nn.Embedding(characters, WIDTH)
        self.place = nn.Parameter(0.02 * torch.randn(CONTEXT, WIDTH))
        self.layers = nn.Sequential(*(Layer(causal=True) for _ in range(4)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, characters, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.norm(self.layers(self.token(tokens) + self.place[: tokens.shape[1]])))


class ViT(nn.Module):
    """(B, 1, 28, 28) -> logits (B, 10), of the class token."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, WIDTH, PATCH, PATCH)
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, WIDTH))
        self.place = nn.Parameter(0.02 * torch.randn((28 // PATCH) ** 2 + 1, WIDTH))
        self.layers = nn.Sequential(*(Layer(causal=False) for _ in range(6)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2)  # (B, patches, WIDTH)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.place
        return self.head(self.norm(self.layers(x))[:, 0])


class Data(Protocol):
    """A task: its size of batch, what it is, a new network, and batches of either part."""

    size: int
    about: str

    def network(self) -> nn.Module: ...
    def batch(self, count: int, generator: torch.Generator, valid: bool = False) -> Batch: ...


class Text:
    """Numbers of characters; the last tenth is for validation."""

    size, about = 16, "characters of pydoc's topics, 4 layers"

    def __init__(self) -> None:
        from pydoc_data import topics

        text = "".join(topics.topics.values())[:400_000]
        self.characters = sorted(set(text))
        number = {c: i for i, c in enumerate(self.characters)}
        self.data = torch.tensor([number[c] for c in text])
        self.split = len(text) * 9 // 10

    def network(self) -> nn.Module:
        return GPT(len(self.characters))

    def batch(self, count: int, generator: torch.Generator, valid: bool = False) -> Batch:
        low, high = (self.split, len(self.data)) if valid else (0, self.split)
        starts = torch.randint(low, high - CONTEXT - 1, (count,), generator=generator).tolist()
        rows = torch.stack([self.data[i : i + CONTEXT + 1] for i in starts])
        return rows[:, :-1], rows[:, 1:]


class Images:
    """Fashion-MNIST, of mean 0 and standard deviation 1; the last 5,000 training images are for validation."""

    size, about = 32, "Fashion-MNIST, patches of 4 x 4, 6 layers"

    def __init__(self) -> None:
        train = load_fashion_mnist().train
        images = train.images.float().reshape(-1, 1, 28, 28)
        self.images, self.labels = (images - images.mean()) / images.std(), train.labels.long()
        self.split = len(images) - 5000

    def network(self) -> nn.Module:
        return ViT()

    def batch(self, count: int, generator: torch.Generator, valid: bool = False) -> Batch:
        low, high = (self.split, len(self.labels)) if valid else (0, self.split)
        chosen = torch.randint(low, high, (count,), generator=generator)
        return self.images[chosen], self.labels[chosen]


def loss_of(logits: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits.flatten(0, -2), targets.flatten())


@torch.no_grad()
def validate(model: nn.Module, data: Data) -> tuple[float, float]:
    """(loss, accuracy) on 1,536 examples, always the same."""
    generator = torch.Generator().manual_seed(5)
    model.eval()
    losses, right = [], []
    for _ in range(6):
        x, y = data.batch(256, generator, valid=True)
        logits = model(x)
        losses.append(loss_of(logits, y).item())
        right.append((logits.argmax(-1) == y).float().mean().item())
    return sum(losses) / 6, sum(right) / 6


def train(model: nn.Module, data: Data, steps: int, rate: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.1)
    model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 50) * (1 - 0.9 * step / steps)
        x, y = data.batch(data.size, generator)
        loss = loss_of(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def swapped(model: nn.Module) -> None:
    """What must not be done to a trained network."""
    for path, norm in list(model.named_modules()):
        if isinstance(norm, nn.LayerNorm):
            layer = ug.nn.DynamicTanh(WIDTH)
            layer.load_state_dict({**norm.state_dict(), "alpha": layer.alpha.detach()})
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, layer)


def main() -> None:
    parser = argparse.ArgumentParser(description="a small GPT or ViT without its LayerNorms")
    parser.add_argument("model", choices=["gpt", "vit"])
    parser.add_argument("--out")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--tune", type=int, default=300)
    arguments = parser.parse_args()
    data: Data = Text() if arguments.model == "gpt" else Images()
    torch.manual_seed(0)
    original = data.network()
    train(original, data, arguments.steps, 3e-3, 0)
    given = data.batch(64, torch.Generator().manual_seed(9))[0]
    each: list[str] = []

    def fitted(to: str, keep_last: bool = True) -> Callable[[nn.Module], None]:
        def change(model: nn.Module) -> None:
            def loss(model: nn.Module) -> float:
                return validate(model, data)[0]

            measure = loss if to == "tanh" and not keep_last else None
            report = convert_layer_norms(model, given, to, keep_last=keep_last, measure=measure)
            if measure is not None:
                each.extend(
                    f"| {f.path} | {f.measured:.4f} | {f.unexplained:.1%} | {f.linear:.1%} | {f.token_cv:.2f} |"
                    for f in report.fits
                )

        return change

    arms: dict[str, Callable[[nn.Module], object]] = {
        "LayerNorm": lambda m: None,
        "RMSNorm, exactly": lambda m: convert_layer_norms(m, given, "rms"),
        "tanh, last norm kept": fitted("tanh"),
        "tanh, all": fitted("tanh", keep_last=False),
        "erf, last norm kept": fitted("erf"),
        "isru, last norm kept": fitted("isru"),
        "naive swap, DynamicTanh(0.5)": swapped,
    }
    with torch.no_grad():
        wanted = original.eval()(given)
    rows, exact, whole = [], 0.0, validate(original, data)[0]
    for name, change in arms.items():
        model = copy.deepcopy(original)
        change(model)
        with torch.no_grad():
            off = float((model.eval()(given) - wanted).square().mean().sqrt() / wanted.square().mean().sqrt())
        exact = off if name.startswith("RMS") else exact
        loss, accuracy = validate(model, data)
        train(model, data, arguments.tune, 1e-3, 1)
        tuned, better = validate(model, data)
        rows.append(f"| {name} | {loss:.3f} | {accuracy:.1%} | {tuned:.3f} | {better:.1%} |")
        print(rows[-1], flush=True)
    options = f"{arguments.model} --steps {arguments.steps} --tune {arguments.tune}"
    text = f"""# A small {"GPT" if arguments.model == "gpt" else "ViT"} without its LayerNorms

`python experiments/normfree_transformers.py {options}`: {data.about},
width {WIDTH}, one seed. torch {torch.__version__}, Python {platform.python_version()}, one thread.

| arm | validation loss | accuracy | after {arguments.tune} steps | accuracy |
|---|---|---|---|---|
{chr(10).join(rows)}

RMSNorm in the place of LayerNorm changes the logits by {exact:.1e} (rms, relative, float32).

## After each norm

Validation loss with this norm and those above it replaced by fitted tanh functions ({whole:.4f} with none); the share
of the norm's output that the function, and a fixed scale, does not give; how much the tokens' standard deviations vary.

| norm | loss | unexplained | fixed scale | tokens' stds |
|---|---|---|---|---|
{chr(10).join(each)}
"""
    print(text)
    if arguments.out:
        with open(arguments.out, "w", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    main()
