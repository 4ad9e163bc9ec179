"""A small GPT with LayerNorm, trained, converted, fine-tuned: what each way of doing without LayerNorm costs.

    python experiments/normfree_gpt.py --out results.md [--steps 1500] [--tune 300]

Characters of the documentation that comes with Python (pydoc's topics), four layers of width 48, context 32, batch 16,
AdamW. Each arm starts from the same trained network: left as it is, RMSNorm exactly, fitted pointwise functions with
the last norm kept and without, and the naive swap: DynamicTanh(0.5) with weight and bias copied.
"""

from __future__ import annotations

import argparse
import copy
import pydoc_data.topics as topics

import torch
from torch import Tensor, nn

import unitgain as ug
from unitgain.normfree import convert_layer_norms

WIDTH, LAYERS, CONTEXT, BATCH = 48, 4, 32, 16


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, 4, batch_first=True)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        y, length = self.norm1(x), x.shape[1]
        mask = torch.triu(torch.ones(length, length, dtype=torch.bool), 1)
        x = x + self.attention(y, y, y, need_weights=False, attn_mask=mask)[0]
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


class GPT(nn.Module):
    def __init__(self, characters: int) -> None:
        super().__init__()
        self.token = nn.Embedding(characters, WIDTH)
        self.place = nn.Parameter(0.02 * torch.randn(CONTEXT, WIDTH))
        self.layers = nn.Sequential(*(Layer() for _ in range(LAYERS)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, characters, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.norm(self.layers(self.token(tokens) + self.place[: tokens.shape[1]])))


class Text:
    """Numbers of characters; the last tenth is for validation."""

    def __init__(self) -> None:
        text = "".join(topics.topics.values())[:400_000]
        self.characters = sorted(set(text))
        number = {c: i for i, c in enumerate(self.characters)}
        self.data = torch.tensor([number[c] for c in text])
        self.split = len(text) * 9 // 10

    def batch(self, count: int, generator: torch.Generator, valid: bool = False) -> tuple[Tensor, Tensor]:
        low, high = (self.split, len(self.data)) if valid else (0, self.split)
        starts = torch.randint(low, high - CONTEXT - 1, (count,), generator=generator).tolist()
        rows = torch.stack([self.data[i : i + CONTEXT + 1] for i in starts])
        return rows[:, :-1], rows[:, 1:]


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]).flatten(0, 1), batch[1].flatten())


@torch.no_grad()
def validate(model: nn.Module, text: Text) -> float:
    generator = torch.Generator().manual_seed(5)
    model.eval()
    return sum(loss_of(model, text.batch(64, generator, valid=True)).item() for _ in range(6)) / 6


def train(model: nn.Module, text: Text, steps: int, rate: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.1)
    model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 50) * (1 - 0.9 * step / steps)
        loss = loss_of(model, text.batch(BATCH, generator))
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
    parser = argparse.ArgumentParser(description="a small GPT without its LayerNorms")
    parser.add_argument("--out")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--tune", type=int, default=300)
    arguments = parser.parse_args()
    text = Text()
    torch.manual_seed(0)
    original = GPT(len(text.characters))
    train(original, text, arguments.steps, 3e-3, 0)
    given = text.batch(64, torch.Generator().manual_seed(9))[0]
    arms = {
        "LayerNorm": lambda m: None,
        "RMSNorm, exactly": lambda m: convert_layer_norms(m, given, "rms"),
        "tanh, last norm kept": lambda m: convert_layer_norms(m, given, "tanh"),
        "tanh, all": lambda m: convert_layer_norms(m, given, "tanh", keep_last=False),
        "erf, last norm kept": lambda m: convert_layer_norms(m, given, "erf"),
        "isru, last norm kept": lambda m: convert_layer_norms(m, given, "isru"),
        "naive swap, DynamicTanh(0.5)": swapped,
    }
    rows = []
    for name, change in arms.items():
        model = copy.deepcopy(original)
        change(model)
        first = validate(model, text)
        train(model, text, arguments.tune, 1e-3, 1)
        rows.append(f"| {name} | {first:.3f} | {validate(model, text):.3f} |")
        print(rows[-1], flush=True)
    if arguments.out:
        head = (
            f"`python experiments/normfree_gpt.py --steps {arguments.steps} --tune {arguments.tune}`: characters of "
            f"pydoc's topics, {LAYERS} layers, width {WIDTH}, one seed. torch {torch.__version__}."
        )
        table = ["| arm | validation loss | after fine-tuning |", "|---|---|---|", *rows]
        with open(arguments.out, "w", encoding="utf-8") as file:
            file.write("\n".join(["# A small GPT without its LayerNorms", "", head, "", *table, ""]))


if __name__ == "__main__":
    main()
