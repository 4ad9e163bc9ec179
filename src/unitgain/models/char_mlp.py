"""The character MLP: from the last three characters to the next one, in variants of known signal flow.

Papers: Y. Bengio et al., "A Neural Probabilistic Language Model", 2003, for the architecture. A. Karpathy,
"Neural Networks: Zero to Hero", makemore part 3, for the variants, their constants and published losses.

With a generator seeded 2147483647 the weights are those of the lecture: all embeddings, then layer by layer weight
and bias, each a standard normal tensor of shape (fan_in, fan_out) that is scaled afterwards. The lecture's
training then draws its batches from the same generator; pass your own to do so.

Known deviations: weights are stored transposed, as torch.nn.Linear does; the deep variants use
torch.nn.BatchNorm1d, which divides by the biased standard deviation where the lecture's deep network takes
the unbiased one (outputs 1.6% larger at batch 32).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args, get_type_hints

import torch
from torch import Tensor, nn

from .._base import InputError
from ..nn import evaluating
from ._entry import Entry

SEED = 2147483647
CHARACTERS = ".abcdefghijklmnopqrstuvwxyz"  # a character's number is its position; "." begins and ends a name

TANH_GAIN = 5 / 3
_Scaling = Literal["none", "hidden", "all"]
_Norm = Literal["none", "unbiased", "batch"]


@dataclass(frozen=True)
class CharMLPConfig:
    """What a character MLP is made of.

    hidden            widths of the hidden layers
    gain              hidden weights are standard normal times this
    fan_in_scaling    whose weights are also divided by sqrt(fan_in): "none", the "hidden" layers', or "all"
    output_scale      the same as gain for the output layer; with a norm after it, that norm's gain instead
    hidden_bias       hidden biases are standard normal times this; None: zero and not drawn
    output_bias       the same for the output layer
    norm              "none"; "unbiased": UnbiasedBatchNorm1d before each tanh; "batch": torch.nn.BatchNorm1d
                      after every linear layer, the output too. A layer with a norm has no bias.
    tanh              False: no activations, to compare with
    vocabulary, context, embedding   number of characters, characters looked at, features of each
    """

    hidden: tuple[int, ...] = (200,)
    gain: float = 1.0
    fan_in_scaling: _Scaling = "none"
    output_scale: float = 1.0
    hidden_bias: float | None = 1.0
    output_bias: float | None = 1.0
    norm: _Norm = "none"
    tanh: bool = True
    vocabulary: int = len(CHARACTERS)
    context: int = 3
    embedding: int = 10

    def __post_init__(self) -> None:
        if not isinstance(self.hidden, Sequence):
            raise InputError(
                f"char_mlp: hidden is {self.hidden!r}; expected the widths of the layers, like (200,)"
            )
        sizes = {"vocabulary": self.vocabulary, "context": self.context, "embedding": self.embedding}
        for name, size in (*sizes.items(), *(("hidden", width) for width in self.hidden)):
            if not isinstance(size, int) or size < 1:
                raise InputError(f"char_mlp: {name} is {size!r}; expected a whole number of at least 1")
        if not self.hidden:
            raise InputError("char_mlp: hidden is empty; give at least one width, like (200,)")
        for name, kind in (("fan_in_scaling", _Scaling), ("norm", _Norm)):
            if getattr(self, name) not in get_args(kind):
                raise InputError(
                    f"char_mlp: {name} is {getattr(self, name)!r}; expected one of {', '.join(get_args(kind))}"
                )


_ORIGINAL = CharMLPConfig()
_SOFTMAX = replace(_ORIGINAL, output_scale=0.01, output_bias=0.0)
_KAIMING = replace(_SOFTMAX, gain=TANH_GAIN, fan_in_scaling="hidden", hidden_bias=0.01)
_DEEP = CharMLPConfig(
    (100,) * 5, TANH_GAIN, "all", output_scale=0.1, hidden_bias=None, output_bias=None
)  # fmt: skip

VARIANTS: dict[str, CharMLPConfig] = {
    "original": _ORIGINAL,
    "softmax": _SOFTMAX,
    "tanh": replace(_SOFTMAX, gain=0.2, hidden_bias=0.01),
    "kaiming": _KAIMING,
    "batchnorm": replace(_KAIMING, norm="unbiased"),
    "deep": _DEEP,
    "deep_batchnorm": replace(_DEEP, norm="batch"),
}
DESCRIPTIONS = {
    "original": "all weights standard normal: the first loss is 27.9 instead of 3.3, tanh is saturated",
    "softmax": "output layer scaled down: the first loss is 3.3, tanh still saturated",
    "tanh": "output and hidden layer scaled down by hand",
    "kaiming": "output layer scaled down, hidden layer by 5/3 / sqrt(fan_in)",
    "batchnorm": "as char_mlp_kaiming, with BatchNorm before tanh",
    "deep": "five hidden layers of 100 with gain 5/3",
    "deep_batchnorm": "as char_mlp_deep, with BatchNorm after every layer",
}


class UnbiasedBatchNorm1d(nn.BatchNorm1d):
    """The lecture's BatchNorm: (x - mean) / std * weight + bias, with the unbiased std and no epsilon.

    x is (B, C) with B >= 2 in training. The running averages are those of mean and std, not of the variance:
    running = (1 - momentum) * running + momentum * batch. The std is the buffer `running_std`. `running_var`
    is its square, so that code for torch.nn.BatchNorm1d can read it, and evaluation is the same as there.
    """

    running_mean: Tensor
    running_std: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, num_features: int, momentum: float = 0.001) -> None:
        super().__init__(num_features, eps=0.0, momentum=momentum)
        self.register_buffer("running_std", torch.ones(num_features))

    @torch.no_grad()
    def follow_running_var(self) -> None:
        """Takes over a `running_var` that was set from outside (recalibration, weights of an older version).

        Elsewhere running_std keeps its bits: the root of its square is another number on processors whose
        vectorized square root is not correctly rounded. Their product is, everywhere.
        """
        set_outside = self.running_std.square() != self.running_var
        self.running_std.copy_(torch.where(set_outside, self.running_var.sqrt(), self.running_std))

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        if len(input) < 2:
            raise InputError(
                "UnbiasedBatchNorm1d: a training batch of 1 has no spread; give at least 2 examples"
            )
        assert self.momentum is not None
        mean = input.mean(0, keepdim=True)  # (1, C)
        std = input.std(0, keepdim=True)
        with torch.no_grad():
            self.running_mean.lerp_(mean[0], self.momentum)
            self.follow_running_var()
            torch.square(self.running_std.lerp_(std[0], self.momentum), out=self.running_var)
            self.num_batches_tracked.add_(1)
        return self.weight * (input - mean) / std + self.bias

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if prefix + "running_var" in state_dict and prefix + "running_std" not in state_dict:
            state_dict[prefix + "running_std"] = state_dict[prefix + "running_var"].sqrt()
        super()._load_from_state_dict(state_dict, prefix, *args)


class CharMLP(nn.Module):
    """Characters (B, context) int64 -> logits (B, vocabulary), by layers with telling names.

    Embedding, flatten, then hidden linear, (norm), tanh, ..., and the output linear. With generator=None the
    weights are those of a generator seeded with SEED; torch's global random state is not touched.

    >>> model = CharMLP(VARIANTS["original"])
    >>> [name for name, _ in model.named_children()]
    ['embedding', 'flatten', 'hidden', 'tanh', 'output']
    >>> model(torch.zeros(2, 3, dtype=torch.int64)).shape
    torch.Size([2, 27])
    """

    def __init__(self, config: CharMLPConfig, generator: torch.Generator | None = None) -> None:
        generator = torch.Generator().manual_seed(SEED) if generator is None else generator
        super().__init__()
        self.config = config
        for name, layer in _layers(config, generator).items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            x = layer(x)
        return x


def _layers(config: CharMLPConfig, generator: torch.Generator) -> OrderedDict[str, nn.Module]:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    embedding = torch.randn(config.vocabulary, config.embedding, generator=generator)
    layers["embedding"] = nn.Embedding.from_pretrained(embedding, freeze=False)  # (B, context, embedding)
    layers["flatten"] = nn.Flatten()  # (B, context * embedding)

    fan_in = config.context * config.embedding
    for i, width in enumerate(config.hidden, start=1):
        number = str(i) if len(config.hidden) > 1 else ""
        scaled = config.fan_in_scaling != "none"
        bias = None if config.norm != "none" else (config.hidden_bias,)
        layers[f"hidden{number}"] = _linear(fan_in, width, config.gain, scaled, bias, generator)
        if config.norm != "none":
            norm = UnbiasedBatchNorm1d if config.norm == "unbiased" else nn.BatchNorm1d
            layers[f"norm{number}"] = norm(width)
        if config.tanh:
            layers[f"tanh{number}"] = nn.Tanh()
        fan_in = width

    scaled = config.fan_in_scaling == "all"
    if config.norm == "batch":
        layers["output"] = _linear(fan_in, config.vocabulary, config.gain, scaled, None, generator)
        layers["output_norm"] = norm = nn.BatchNorm1d(config.vocabulary)
        nn.init.constant_(norm.weight, config.output_scale)
    else:
        bias = (config.output_bias,)
        layers["output"] = _linear(fan_in, config.vocabulary, config.output_scale, scaled, bias, generator)
    return layers


def _linear(
    fan_in: int,
    fan_out: int,
    gain: float,
    scaled: bool,
    bias: tuple[float | None] | None,
    generator: torch.Generator,
) -> nn.Linear:
    """bias: None for no bias, (None,) for one of zeros, (scale,) for a drawn one."""
    # skip_init: torch's own initialization would draw from the global generator
    linear = nn.utils.skip_init(nn.Linear, fan_in, fan_out, bias=bias is not None)
    assert isinstance(linear, nn.Linear)
    with torch.no_grad():
        weight = torch.randn(fan_in, fan_out, generator=generator)
        linear.weight.copy_((weight * (gain / fan_in**0.5 if scaled else gain)).t())
        if bias is not None:
            (scale,) = bias
            drawn = None if scale is None else torch.randn(fan_out, generator=generator) * scale
            linear.bias.copy_(torch.zeros(fan_out) if drawn is None else drawn)
    return linear


@torch.no_grad()
def sample(
    model: CharMLP, generator: torch.Generator | None = None, n: int = 20, longest: int = 30
) -> list[str]:
    """n names, drawn character by character in evaluation mode; training flags are put back.

    A name that has not ended after `longest` characters is cut there. With generator=None torch's global
    random state is used.

    Raises InputError if the model's vocabulary is not the 27 characters of names or its logits are not
    finite.
    """
    if model.config.vocabulary != len(CHARACTERS):
        raise InputError(
            f"sample: the model has {model.config.vocabulary} characters, names have {len(CHARACTERS)}"
        )
    device = next(model.parameters()).device
    names = []
    with evaluating(model):
        for _ in range(n):
            context, name = [0] * model.config.context, ""
            while len(name) < longest:
                logits = model(torch.tensor([context], device=device)).float().cpu()  # (1, 27)
                if not logits.isfinite().all():
                    raise InputError("sample: the model's logits are not finite; its training has diverged")
                number = int(torch.multinomial(logits.softmax(1), 1, generator=generator))
                if number == 0:
                    break
                name += CHARACTERS[number]
                context = [*context[1:], number]
            names.append(name)
    return names


def _build(config: CharMLPConfig) -> Callable[..., CharMLP]:
    def build(generator: torch.Generator | None = None, **changes: Any) -> CharMLP:
        return CharMLP(replace(config, **changes), generator)

    return build


ENTRIES = {
    f"char_mlp_{variant}": Entry(
        _build(config),
        {"generator": torch.Generator, **get_type_hints(CharMLPConfig)},
        f"character MLP on names, {DESCRIPTIONS[variant]}",
    )
    for variant, config in VARIANTS.items()
}
