"""Healthy networks: every one of them trains well as it is, so none may get an error or a warning.

Controls are the zoo's own networks before a defect is planted; others come from timm and transformers as their
authors initialize them; the last ones have been trained for a while.
"""

from __future__ import annotations

from functools import partial

import networks as n
import torch
import torch.nn.functional as F
from row import Case, Healthy, trained
from torch import Tensor, nn

from unitgain import models


def classify(model: nn.Module, count: int = 16) -> Case:
    return Case(model, n.images(count))


def timm_model(name: str, **options) -> Case:
    """With its 1000 classes: the initialization of the head may depend on their number."""
    import timm

    return Case(timm.create_model(name, **options), n.images(8, size=64))


def gpt2() -> Case:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        n_layer=4, n_head=4, n_embd=64, vocab_size=100, n_positions=32, bos_token_id=0, eos_token_id=0
    )
    ids = torch.randint(0, 100, (8, 24))
    return Case(GPT2LMHeadModel(config), {"input_ids": ids, "labels": ids})


def bert() -> Case:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        num_hidden_layers=2,  # the size of the smallest BERT that was published
        num_attention_heads=2,
        hidden_size=128,
        intermediate_size=512,
        vocab_size=100,
        num_labels=5,
    )
    ids = torch.randint(0, 100, (16, 20))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.arange(16) % 5}
    return Case(BertForSequenceClassification(config), batch)


def t5() -> Case:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        num_layers=3, num_heads=4, d_model=64, d_kv=16, d_ff=128, vocab_size=100, decoder_start_token_id=0
    )
    ids = torch.randint(1, 100, (8, 20))
    return Case(T5ForConditionalGeneration(config), {"input_ids": ids, "labels": ids[:, :12].clone()})


def vit() -> Case:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        num_hidden_layers=4, num_attention_heads=4, hidden_size=64, intermediate_size=128, image_size=32, patch_size=8,
        num_labels=10,
    )  # fmt: skip
    x, target = n.images(16)
    return Case(ViTForImageClassification(config), {"pixel_values": x, "labels": target})


def names(count: int = 256) -> tuple[Tensor, Tensor]:
    """Three characters and the next one, which is their sum: something to learn."""
    x = torch.randint(0, 27, (count, 3))
    return x, x.sum(1) % 27


def learnt(
    model: nn.Module, batch: tuple[Tensor, Tensor], steps: int, lr: float, loss=F.cross_entropy
) -> Case:
    return trained(Case(model, batch), steps, lambda p: torch.optim.Adam(p, lr), loss)


def pictured(model: nn.Module) -> Case:
    """Trained for 40 steps on pictures whose class shows in their colours."""
    x = n.pictures(64)
    return learnt(model, (x, x.mean((2, 3)).argmax(1)), 40, 3e-3)


CONTROLS = (
    Healthy("mlp-relu", lambda: Case(n.mlp(), n.vectors())),
    Healthy("mlp-tanh", lambda: Case(n.mlp(act=nn.Tanh, gain=n.TANH), n.vectors())),
    Healthy("mlp-tanh-gain-1.2", lambda: Case(n.mlp(act=nn.Tanh, gain=1.2), n.vectors())),
    Healthy("mlp-gelu", lambda: Case(n.mlp(act=nn.GELU, gain=1.5), n.vectors())),
    Healthy("mlp-batchnorm", lambda: Case(n.mlp(norm=nn.BatchNorm1d, bias=False), n.vectors())),
    Healthy("mlp-layernorm", lambda: Case(n.mlp(norm=nn.LayerNorm), n.vectors())),
    Healthy("mlp-regression", lambda: Case(n.mlp(out=1), n.numbers())),
    Healthy("cnn-batchnorm", lambda: classify(n.cnn())),
    Healthy("cnn-groupnorm", lambda: classify(n.cnn(norm=n.group_norm))),
    Healthy("cnn-without-norm", lambda: classify(n.cnn(norm=None, bias=True))),
    Healthy("cnn-tanh-without-norm", lambda: classify(n.cnn(norm=None, bias=True, act=nn.Tanh, gain=1.2))),
    Healthy("resnet-batchnorm", lambda: classify(n.ResNet())),
    Healthy("resnet-groupnorm", lambda: classify(n.ResNet(norm=n.group_norm))),
    Healthy("resnet-without-norm-zero-branches", lambda: classify(n.ResNet(8, norm=nn.Identity))),
    Healthy("transformer-causal", lambda: Case(n.Transformer(), n.tokens())),
    Healthy("transformer-relu-pooled", lambda: Case(n.Transformer(pooled=True, act=nn.ReLU), n.texts())),
    Healthy("rnn-cell", lambda: Case(n.Cell(), n.series())),
    Healthy("rnn-lstm-words", lambda: Case(n.Recurrent(words=True), n.texts())),
    Healthy("rnn-gru", lambda: Case(n.Recurrent(nn.GRU), n.series())),
    Healthy("autoencoder", lambda: Case(n.Autoencoder(), n.same(n.low_rank()))),
    Healthy("unet-batchnorm", lambda: Case(n.UNet(), n.masks())),
    Healthy("unet-without-norm", lambda: Case(n.UNet(norm=None, bias=True), n.masks())),
)

BUILT_IN = (
    *(
        Healthy(f"built-in-{name}", lambda name=name: Case(models.create(name), names()))
        for name in ("char_mlp_kaiming", "char_mlp_batchnorm", "char_mlp_deep", "char_mlp_deep_batchnorm")
    ),
    Healthy(
        "built-in-convnet-kaiming",
        lambda: Case(models.create("convnet", init="kaiming"), n.images(64, 1, 28)),
    ),
)

HUGGING_FACE = tuple(
    Healthy(f"transformers-{make.__name__}", make, "transformers") for make in (gpt2, bert, t5, vit)
)

TRAINED = (
    Healthy("trained-mlp-relu", lambda: learnt(n.mlp(), n.vectors(), 60, 1e-3)),
    Healthy("trained-char-mlp", lambda: learnt(models.create("char_mlp_kaiming"), names(), 60, 3e-3)),
    Healthy("trained-cnn", lambda: pictured(n.cnn())),
    Healthy("trained-resnet", lambda: pictured(n.ResNet(3, 12))),
    Healthy(
        "trained-autoencoder", lambda: learnt(n.Autoencoder(), n.same(n.low_rank()), 80, 2e-3, F.mse_loss)
    ),
    Healthy("trained-gru", lambda: learnt(n.Recurrent(nn.GRU), n.series(), 40, 3e-3)),
)

TIMM = tuple(
    Healthy(f"timm-{name}", partial(timm_model, name, **options), "timm")
    for name, options in {
        "resnet18": {},
        "resnetv2_50": {},
        "nf_resnet26": {},
        "nf_regnet_b0": {},
        "regnetx_002": {},
        "efficientnet_b0": {},
        "mobilenetv2_050": {},
        "mobilenetv3_small_100": {},
        "densenet121": {},
        "convnext_atto": {},
        "repvgg_a0": {},
        "ghostnet_100": {},
        "edgenext_xx_small": {},
        "mobilevit_xxs": {},
        "poolformer_s12": {},
        "vit_tiny_patch16_224": {"img_size": 64},
        "deit_tiny_patch16_224": {"img_size": 64},
        "mixer_s32_224": {"img_size": 64},
        "swin_tiny_patch4_window7_224": {"img_size": 64},
        "xcit_nano_12_p16_224": {},
    }.items()
)

ROWS: tuple[Healthy, ...] = (*CONTROLS, *BUILT_IN, *HUGGING_FACE, *TRAINED, *TIMM)
