"""LayerNorm to RMSNorm exactly, and to pointwise functions by least squares."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import unitgain as ug
from unitgain import InputError
from unitgain.normfree import convert_layer_norms


class Layer(nn.Module):
    def __init__(self, d: int = 16, heads: int = 2) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.attention = nn.MultiheadAttention(d, heads, batch_first=True)
        self.up, self.down = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


class GPT(nn.Module):
    """Pre-norm, embeddings tied to the output layer."""

    def __init__(self, d: int = 16, layers: int = 3, tied: bool = True) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(20, d), nn.Parameter(torch.randn(8, d))
        self.layers = nn.ModuleList(Layer(d) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, 20, bias=False)
        if tied:
            self.head.weight = self.token.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.token(tokens) + self.place[: tokens.shape[1]]
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


class ViT(nn.Module):
    def __init__(self, d: int = 16) -> None:
        super().__init__()
        self.patch, self.cls = nn.Conv2d(3, d, 4, 4), nn.Parameter(torch.randn(1, 1, d))
        self.place = nn.Parameter(torch.randn(1, 17, d))
        self.layers = nn.Sequential(Layer(d), Layer(d))
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1) + self.place
        return self.head(self.norm(self.layers(x))[:, 0])


def drawn(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
    return model


TOKENS = torch.randint(0, 20, (4, 8), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("tied", [True, False])
def test_a_gpt_becomes_an_rms_norm_network_of_the_same_logits(tied: bool) -> None:
    model = drawn(GPT(tied=tied)).eval()
    with torch.no_grad():
        wanted = model(TOKENS)
    report = convert_layer_norms(model, TOKENS)
    with torch.no_grad():
        assert torch.allclose(model(TOKENS), wanted, atol=1e-5)
    assert len(report.changed) == 7
    assert report.distance < 1e-9
    assert not any(isinstance(m, nn.LayerNorm) for m in model.modules())


def test_a_vit_with_a_class_token_too() -> None:
    model, x = drawn(ViT()).eval(), torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        wanted = model(x)
    report = convert_layer_norms(model, x)
    with torch.no_grad():
        assert torch.allclose(model(x), wanted, atol=1e-5)
    assert len(report.changed) == 5


def test_a_post_norm_network_is_left_and_said_why() -> None:
    """A norm on the stream itself leaves its bias there: the mean is not zero, and no writer can be told apart."""

    class Post(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.norm, self.fc = nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 8)
            self.last = nn.LayerNorm(8)

        def forward(self, x: Tensor) -> Tensor:
            x = self.norm(self.embed(x))
            return self.last(x + torch.relu(self.fc(x)))

    model, x = drawn(Post()), torch.randn(5, 3, 4)
    report = convert_layer_norms(model, x)
    assert report.changed == ["norm"]
    assert "writes into its stream" in report.kept["last"]
    assert isinstance(model.last, nn.LayerNorm)


@pytest.mark.parametrize("to", ["tanh", "erf", "isru"])
def test_a_fit_is_never_worse_than_a_fixed_scale_and_far_better_than_the_naive_swap(to: str) -> None:
    model = drawn(GPT()).eval()
    with torch.no_grad():
        wanted = model(TOKENS)
        report = convert_layer_norms(model, TOKENS, to)
        fitted = float((model(TOKENS) - wanted).square().mean())
        torch.manual_seed(0)
        naive = drawn(GPT()).eval()
        for path in report.changed:
            parent, _, name = path.rpartition(".")
            old = naive.get_submodule(path)
            new = ug.nn.DynamicTanh(16)
            new.weight.copy_(old.weight)
            setattr(naive.get_submodule(parent), name, new)
        swapped = float((naive(TOKENS) - wanted).square().mean())
    assert len(report.changed) == 6
    assert list(report.kept) == ["norm"]
    assert all(f.unexplained <= f.linear + 1e-3 for f in report.fits)
    assert fitted < 0.3 * swapped


def test_what_is_measured_after_each_norm_sees_the_norms_replaced_so_far_and_disturbs_none() -> None:
    torch.manual_seed(0)
    model, tokens, seen = drawn(GPT(tied=False)), torch.randint(0, 20, (16, 8)), []

    def left(model: nn.Module) -> float:
        seen.append(sum(isinstance(m, nn.LayerNorm) for m in model.modules()))
        model.train().zero_grad(set_to_none=False)
        model(tokens).sum().backward()
        return float(seen[-1])

    report = convert_layer_norms(model.eval(), tokens, "tanh", measure=left)
    assert [f.measured for f in report.fits] == seen == [6, 5, 4, 3, 2, 1]
    assert not model.training
    assert all(p.grad is None for p in model.parameters())


def test_small_alpha_is_a_fixed_scale() -> None:
    x = torch.randn(100, 8, dtype=torch.float64)
    layer = ug.nn.DynamicTanh(8, alpha=1e-4).double()
    with torch.no_grad():
        layer.weight.fill_(1e4)
        assert torch.allclose(layer(x), x, atol=1e-6)


@pytest.mark.parametrize("kind", [ug.nn.DynamicTanh, ug.nn.DynamicErf])
def test_both_styles_of_state_dicts_load(kind: type[nn.Module]) -> None:
    ours = kind(4)
    with torch.no_grad():
        for p in ours.parameters():
            p.normal_()
    state = ours.state_dict()
    other = {"gamma": state["weight"], "beta": state["bias"]}
    if kind is ug.nn.DynamicTanh:
        other["pre_tanh_scale"] = state["alpha"].reshape(())
    else:
        other |= {"alpha": state["alpha"].reshape(()), "s": state["shift"].reshape(())}
    for given in (state, other):
        new = kind(4)
        new.load_state_dict(dict(given))
        assert torch.equal(new(torch.ones(2, 4)), ours(torch.ones(2, 4)))


def test_mistakes_are_named() -> None:
    with pytest.raises(InputError, match="no torch"):
        convert_layer_norms(nn.Sequential(nn.Linear(3, 3)), torch.randn(2, 3))
    with pytest.raises(InputError, match="tanh"):
        convert_layer_norms(nn.LayerNorm(3), torch.randn(2, 3), "tanhh")


def test_channels_first_is_the_convnext_layout() -> None:
    x = torch.randn(2, 4, 3, 3)
    layer = ug.nn.DynamicTanh(4, channels_first=True)
    with torch.no_grad():
        layer.weight.copy_(torch.arange(4.0))
    assert torch.allclose(layer(x)[:, 2], 2 * torch.tanh(0.5 * x[:, 2]))


@pytest.mark.reference
@pytest.mark.usefixtures("torchvision_operators")
def test_gpt2_of_transformers_has_the_same_logits_with_rms_norms() -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"n_layer": 2, "n_head": 2, "n_embd": 16, "vocab_size": 20, "n_positions": 8}
    config = transformers.GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)
    model = drawn(transformers.GPT2LMHeadModel(config)).eval()
    with torch.no_grad():
        wanted = model(input_ids=TOKENS).logits
    report = convert_layer_norms(model, {"input_ids": TOKENS})
    with torch.no_grad():
        assert torch.allclose(model(input_ids=TOKENS).logits, wanted, atol=1e-5)
    assert len(report.changed) == 5


@pytest.mark.reference
@pytest.mark.usefixtures("torchvision_operators")
def test_timm_s_vit_has_the_same_logits_with_rms_norms() -> None:
    pytest.importorskip("timm")
    from timm.models.vision_transformer import VisionTransformer

    model = drawn(
        VisionTransformer(img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=5)
    ).eval()
    x = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        wanted = model(x)
    report = convert_layer_norms(model, x)
    with torch.no_grad():
        assert torch.allclose(model(x), wanted, atol=1e-5)
    assert len(report.changed) == 5
