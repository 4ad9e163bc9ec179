# ruff: noqa: E501
"""What a person reads off the definitions of 96 architectures: the table that the graph is tested against.

Every number was written down from the source code of the architecture, not from what the tracer said. The rules for
residual branches were made with FIRST in sight; SECOND, THIRD and FOURTH were held out until they were done, each in
its turn (docs/decisions/0011-one-graph.md has the first tries).

branches     residual branches; a sum with two parallel branches counts twice
transitions  of these, with weights on the skip path
pre, post    pre-activation (norm or activation before the branch's first weight), post (right behind the sum)
nested       branches inside another branch
concats      concatenations
before, after   {a layer: what made its input, what takes its output}: a kind, or the activation's name
fed          {a norm: what feeds it}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import own_models as own
import torch
from torch import nn

import unitgain as ug
from unitgain._batch import Batch


@dataclass(frozen=True)
class Row:
    make: Callable[[], nn.Module]
    batch: Callable[[], Any]
    branches: int
    transitions: int = 0
    pre: int = 0
    post: int = 0
    nested: int = 0
    concats: int | None = 0
    before: Mapping[str, str] = field(default_factory=dict)
    after: Mapping[str, str] = field(default_factory=dict)
    fed: Mapping[str, str] = field(default_factory=dict)
    scales: tuple[float | None, ...] | None = None  # of all branches
    skip_scales: tuple[float | None, ...] | None = None


def images(side: int = 32, channels: int = 3) -> Callable[[], Any]:
    return lambda: torch.randn(2, channels, side, side)


def tokens(length: int = 6, vocabulary: int = 20) -> Callable[[], Any]:
    return lambda: {"input_ids": torch.randint(1, vocabulary, (2, length))}


def timm(name: str, **options: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        import timm as library

        return library.create_model(name, num_classes=10, **options)

    return make


def timm_class(module: str, name: str, **options: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        import importlib

        found = importlib.import_module(f"timm.models.{module}")
        given = {
            k: getattr(found, v[1:]) if isinstance(v, str) and v[:1] == "=" else v for k, v in options.items()
        }
        return getattr(found, name)(num_classes=10, **given)

    return make


def vision(name: str, **options: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        import torchvision

        return getattr(torchvision.models, name)(num_classes=10, **options)

    return make


def hugging(model: str, config: str, **options: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        import transformers

        return getattr(transformers, model)(getattr(transformers, config)(**options))

    return make


# fmt: off
_BERT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 20}

FIRST: dict[str, Row] = {
    "timm resnet18": Row(
        timm("resnet18"), images(64), 8, transitions=3, post=8,
        before={"conv1": "data", "layer1.0.conv1": "relu", "layer1.0.conv2": "relu", "layer2.0.downsample.0": "relu", "fc": "relu"},
        after={"conv1": "norm", "layer1.0.conv1": "norm", "fc": "output"},
        fed={"bn1": "conv1", "layer1.0.bn2": "layer1.0.conv2"}),
    "timm densenet": Row(
        timm_class("densenet", "DenseNet", growth_rate=8, block_config=(3, 2)), images(64), 0, concats=5,
        before={"features.denseblock1.denselayer1.conv1": "relu", "features.denseblock1.denselayer2.conv1": "relu",
                "features.denseblock1.denselayer2.conv2": "relu", "features.transition1.conv": "relu"},
        fed={"features.denseblock1.denselayer3.norm1:batch_norm": "concat",
             "features.denseblock1.denselayer3.norm2:batch_norm": "features.denseblock1.denselayer3.conv1"}),
    "timm mobilenetv2": Row(
        timm("mobilenetv2_050"), images(), 10,
        before={"blocks.1.0.conv_dw": "relu6", "blocks.1.1.conv_pw": "norm", "blocks.1.1.conv_pwl": "relu6"},
        after={"blocks.1.1.conv_pwl": "norm"}),
    "timm convnext": Row(
        timm_class("convnext", "ConvNeXt", depths=(1, 1, 2, 1), dims=(8, 16, 16, 16)), images(64), 5,
        before={"stages.0.blocks.0.conv_dw": "norm", "stages.0.blocks.0.mlp.fc1": "norm",
                "stages.0.blocks.0.mlp.fc2": "gelu"},
        after={"stages.0.blocks.0.conv_dw": "norm", "stages.0.blocks.0.mlp.fc2": "sum"},
        fed={"stages.0.blocks.0.norm": "stages.0.blocks.0.conv_dw"}),
    "timm vit": Row(
        timm_class("vision_transformer", "VisionTransformer", img_size=32, patch_size=8, embed_dim=16, depth=3, num_heads=2),
        images(), 6, pre=6,
        before={"blocks.0.attn.qkv": "norm", "blocks.1.mlp.fc1": "norm", "blocks.1.mlp.fc2": "gelu", "head": "norm"},
        after={"blocks.0.mlp.fc1": "gelu", "blocks.0.attn.proj": "sum", "head": "output"}, fed={"blocks.0.norm2": "sum"}),
    "timm cait": Row(
        timm_class("cait", "Cait", img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2, depth_token_only=2),
        images(), 8, pre=8, concats=2,
        before={"blocks.0.mlp.fc2": "gelu", "blocks_token_only.0.attn.q": "norm", "head": "norm"}),
    "timm poolformer": Row(
        timm_class("metaformer", "MetaFormer", depths=(1, 1, 1, 1), dims=(8, 16, 16, 24), token_mixers="=Pooling",
                   mlp_act=nn.GELU, norm_layers="=GroupNorm1", layer_scale_init_values=1e-5, res_scale_init_values=None,
                   downsample_norm=None, use_mlp_head=False), images(64), 8, pre=8,
        before={"stages.0.blocks.0.mlp.fc1": "norm", "stages.0.blocks.0.mlp.fc2": "gelu"}),
    "timm ghostnet": Row(
        timm("ghostnet_050"), images(64), 16, transitions=5, concats=32,
        before={"blocks.1.0.conv_dw": "relu", "blocks.1.0.ghost1.cheap_operation.0": "relu"}),
    "timm hrnet": Row(
        timm("hrnet_w18_small"), images(64), 23, transitions=5, post=23,
        before={"layer1.0.conv2": "relu", "stage2.0.branches.0.0.conv1": "relu"}),
    "inception v3": Row(
        vision("inception_v3", aux_logits=False, init_weights=False), images(96), 0, concats=15,
        before={"Mixed_5c.branch1x1.conv": "relu", "Mixed_5b.branch5x5_2.conv": "relu"}, after={"Conv2d_1a_3x3.conv": "norm"}),
    "timm swin": Row(
        timm_class("swin_transformer", "SwinTransformer", img_size=32, patch_size=2, window_size=4, embed_dim=16,
                   depths=(2, 2), num_heads=(2, 2)), images(), 8, pre=8,
        before={"layers.0.blocks.0.attn.qkv": "norm", "layers.0.blocks.1.mlp.fc2": "gelu", "layers.1.downsample.reduction": "norm"}),
    "gpt2": Row(
        hugging("GPT2LMHeadModel", "GPT2Config", n_layer=2, n_head=2, n_embd=16, vocab_size=20, n_positions=8,
                bos_token_id=0, eos_token_id=0), tokens(), 4, pre=4,
        before={"transformer.h.0.attn.c_attn": "norm", "transformer.h.1.mlp.c_fc": "norm",
                "transformer.h.1.mlp.c_proj": "gelu", "lm_head": "norm"},
        after={"transformer.h.0.mlp.c_fc": "gelu", "transformer.h.0.mlp.c_proj": "sum"}, fed={"transformer.ln_f": "sum"}),
    "t5": Row(
        hugging("T5ForConditionalGeneration", "T5Config", d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, vocab_size=20,
                decoder_start_token_id=0),
        lambda: {"input_ids": torch.randint(1, 20, (2, 6)), "decoder_input_ids": torch.randint(1, 20, (2, 4))},
        10, pre=10,
        before={"encoder.block.0.layer.1.DenseReluDense.wo": "relu", "encoder.block.1.layer.0.SelfAttention.q": "norm",
                "decoder.block.0.layer.1.EncDecAttention.q": "norm", "decoder.block.0.layer.1.EncDecAttention.k": "norm"}),
    "gpt-j (parallel branches)": Row(
        hugging("GPTJForCausalLM", "GPTJConfig", n_layer=2, n_head=2, n_embd=16, vocab_size=20, n_positions=8, rotary_dim=4,
                bos_token_id=0, eos_token_id=0), tokens(), 4, pre=4, concats=None,
        before={"transformer.h.0.attn.q_proj": "norm", "transformer.h.1.mlp.fc_in": "norm", "transformer.h.0.mlp.fc_out": "gelu"}),
    "wav2vec2": Row(
        hugging("Wav2Vec2Model", "Wav2Vec2Config", hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                intermediate_size=32, conv_dim=(8, 8), conv_stride=(4, 2), conv_kernel=(8, 4), num_feat_extract_layers=2,
                num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2, layerdrop=0.0, mask_time_prob=0.0),
        lambda: torch.randn(2, 800), 5, post=5,
        before={"encoder.layers.0.feed_forward.output_dense": "gelu", "encoder.layers.0.attention.q_proj": "norm",
                "feature_projection.projection": "norm"}),
    "llama": Row(
        hugging("LlamaForCausalLM", "LlamaConfig", hidden_size=16, intermediate_size=32, num_hidden_layers=2,
                num_attention_heads=2, num_key_value_heads=2, vocab_size=20), tokens(), 4, pre=4, concats=None,
        before={"model.layers.0.self_attn.q_proj": "norm", "model.layers.1.mlp.gate_proj": "norm",
                "model.layers.1.mlp.down_proj": "product"},
        after={"model.layers.0.mlp.gate_proj": "silu"}),
    "generator": Row(
        own.generator, lambda: torch.randn(4, 8, 1, 1), 0,
        before={"0": "data", "3": "relu", "6": "relu"}, after={"0": "norm", "6": "tanh"}, fed={"4": "3"}),
    "unet": Row(
        own.UNet, images(), 0, concats=2,
        before={"down1": "data", "down2": "relu", "up2": "relu", "join2": "concat", "head": "relu"}, after={"down1": "relu"}),
    "lstm": Row(own.Reader, lambda: torch.randint(20, (2, 5)), 0, before={"rnn": "linear", "head": "other"}),
    "graph net": Row(
        own.GraphNet, lambda: (torch.randn(6, 5), torch.randint(6, (2, 9)), torch.zeros(1)), 2, post=2,
        before={"messages.0": "linear", "messages.1": "relu", "head": "relu"}, after={"messages.0": "relu"}),
    "highway": Row(
        own.Highway, lambda: torch.randn(4, 6), 3, skip_scales=(None,) * 3,
        before={"carry.0": "linear", "carry.1": "sum", "head": "sum"}, after={"plain.0": "relu", "carry.0": "sigmoid"}),
    "makemore on bare parameters": Row(
        own.BareMLP, lambda: torch.randint(27, (8, 3)), 0,
        before={":matmul": "linear", ":matmul#2": "tanh"}, after={":matmul": "tanh", ":matmul#2": "output"}),
    "wavenet": Row(own.WaveNet, lambda: torch.randn(2, 1, 16), 3,
        before={"residual.0": "product", "filters.1": "sum", "head": "relu"}, after={"filters.0": "tanh"}),
    "spellings of a sum": Row(
        own.Spellings, lambda: torch.randn(4, 6), 6,
        scales=(0.25, 0.1, 0.3, 0.2, 1.0, 1.0), skip_scales=(1.0, 0.9, 1.0, 1.0, 0.5, 1.0)),
    "detector": Row(
        own.Detector, lambda: Batch(args=([torch.randn(3, 32, 32), torch.randn(3, 32, 32)],)), 3, transitions=2, post=3,
        concats=None, before={"lateral.2": "relu", "boxes": "sum"}),
    "resnet with squeeze-and-excitation": Row(
        partial(own.resnet, True), images(), 3, transitions=1, post=3,
        before={"1.conv2": "relu", "1.squeeze.0": "norm", "1.squeeze.2": "relu"}, after={"1.squeeze.2": "sigmoid", "1.conv2": "norm"}),
}

SECOND: dict[str, Row] = {
    "torchvision resnet50": Row(
        vision("resnet50"), images(64), 16, transitions=4, post=16,
        before={"layer1.0.conv1": "relu", "layer1.1.conv3": "relu", "layer1.0.downsample.0": "relu", "fc": "relu"},
        after={"layer1.0.conv3": "norm"}, fed={"layer1.0.downsample.1": "layer1.0.downsample.0"}),
    "timm resnetv2 (pre-activation)": Row(
        timm("resnetv2_50"), images(64), 16, transitions=4, pre=16,
        before={"stages.0.blocks.0.conv1": "relu", "stages.0.blocks.0.downsample.conv": "relu", "stages.0.blocks.1.conv2": "relu"},
        after={"stages.0.blocks.0.conv3": "sum", "stages.0.blocks.0.conv1": "norm"}),
    "timm dual path network": Row(
        timm_class("dpn", "DPN", k_sec=(2, 1, 1, 1), inc_sec=(4, 4, 4, 4), k_r=16, groups=4, num_init_features=16, small=True),
        images(64), 5, transitions=4, pre=5, concats=5),
    "timm mobilenetv3": Row(
        timm("mobilenetv3_small_100"), images(64), 6,
        before={"blocks.1.1.conv_dw": "relu", "blocks.2.1.conv_pwl": "product"}),
    "timm regnety": Row(
        timm("regnety_002"), images(64), 13, transitions=4, post=13,
        before={"s1.b1.conv2.conv": "relu", "s1.b1.conv3.conv": "product", "s2.b1.downsample.conv": "relu"}),
    "timm nf_resnet": Row(
        timm("nf_resnet26"), images(64), 8, transitions=4, pre=8, scales=(0.2,) * 8,
        before={"stages.0.0.conv1": "relu", "stages.0.1.conv2": "relu", "stages.0.1.conv3": "relu"},
        after={"stages.0.0.conv1": "relu"}),
    "timm mixer": Row(
        timm_class("mlp_mixer", "MlpMixer", img_size=32, patch_size=8, num_blocks=2, embed_dim=16), images(), 4, pre=4,
        before={"blocks.0.mlp_tokens.fc1": "norm", "blocks.0.mlp_tokens.fc2": "gelu", "head": "norm"}),
    "timm resmlp": Row(
        timm_class("mlp_mixer", "MlpMixer", img_size=32, patch_size=8, num_blocks=2, embed_dim=16, block_layer="=ResBlock",
                   norm_layer="=Affine", mlp_ratio=4), images(), 4,
        before={"blocks.0.mlp_channels.fc2": "gelu", "blocks.1.linear_tokens": "sum"}),
    "timm xcit": Row(
        timm_class("xcit", "Xcit", img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2, cls_attn_layers=1),
        images(), 8, pre=7, concats=None,
        before={"blocks.0.attn.qkv": "norm", "blocks.0.mlp.fc2": "gelu", "blocks.0.local_mp.conv1": "norm"}),
    "timm davit": Row(
        timm_class("davit", "DaVit", depths=(1, 1), embed_dims=(16, 32), num_heads=(2, 2), window_size=4),
        images(64), 16, pre=8, before={"stages.0.blocks.0.0.mlp.fc2": "gelu", "stages.0.blocks.0.1.attn.qkv": "norm"}),
    "timm repvgg": Row(
        timm("repvgg_a0"), images(64), 34, post=34,
        before={"stages.0.0.conv_kxk.conv": "relu", "stages.0.1.conv_1x1.conv": "relu"}),
    "timm coat lite": Row(
        timm_class("coat", "CoaT", img_size=64, patch_size=4, embed_dims=(16, 16, 16, 16), serial_depths=(1, 1, 1, 1),
                   num_heads=8, mlp_ratios=(2, 2, 2, 2)), images(64), 12, pre=8, concats=None,
        before={"serial_blocks1.0.mlp.fc2": "gelu", "serial_blocks1.0.factoratt_crpe.qkv": "norm"}),
    "timm efficientnet": Row(
        timm("efficientnet_b0"), images(64), 9,
        before={"blocks.1.1.conv_pw": "norm", "blocks.1.1.conv_pwl": "product", "blocks.1.1.se.conv_expand": "silu"}),
    "shufflenet": Row(
        vision("shufflenet_v2_x0_5"), images(64), 0, concats=16, before={"stage2.0.branch2.3": "relu"}),
    "googlenet": Row(
        vision("googlenet", aux_logits=False, init_weights=False), images(64), 0, concats=9,
        before={"inception3a.branch2.1.conv": "relu", "inception3b.branch1.conv": "relu"}),
    "torchvision vit": Row(
        vision("VisionTransformer", image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32),
        images(), 4, pre=4, before={"encoder.layers.encoder_layer_0.self_attention": "norm",
                                    "encoder.layers.encoder_layer_0.mlp.3": "gelu"}),
    "bert": Row(
        hugging("BertModel", "BertConfig", **_BERT), tokens(), 4, post=4,
        before={"encoder.layer.0.attention.self.query": "norm", "encoder.layer.0.intermediate.dense": "norm",
                "encoder.layer.0.output.dense": "gelu"},
        fed={"encoder.layer.0.output.LayerNorm": "sum"}),
    "convnext of transformers": Row(
        hugging("ConvNextModel", "ConvNextConfig", hidden_sizes=[8, 16], depths=[1, 2], num_stages=2), images(64), 3,
        before={"encoder.stages.0.layers.0.pwconv1": "norm", "encoder.stages.0.layers.0.pwconv2": "gelu"}),
    "vit of transformers": Row(
        hugging("ViTModel", "ViTConfig", hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
                image_size=32, patch_size=8), images(), 4, pre=4),
    "whisper": Row(
        hugging("WhisperModel", "WhisperConfig", d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
                decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, num_mel_bins=8, max_source_positions=10,
                max_target_positions=8, vocab_size=20, pad_token_id=0, bos_token_id=1, eos_token_id=2,
                decoder_start_token_id=1, suppress_tokens=None, begin_suppress_tokens=None),
        lambda: {"input_features": torch.randn(2, 8, 20), "decoder_input_ids": torch.randint(1, 20, (2, 4))}, 10, pre=10,
        before={"encoder.conv2": "gelu", "encoder.layers.0.fc2": "gelu", "decoder.layers.1.encoder_attn.k_proj": "norm"}),
    "gpt-neox (parallel branches)": Row(
        hugging("GPTNeoXForCausalLM", "GPTNeoXConfig", hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                intermediate_size=32, vocab_size=20, max_position_embeddings=8), tokens(), 4, pre=4, concats=None,
        before={"gpt_neox.layers.0.mlp.dense_4h_to_h": "gelu", "gpt_neox.layers.0.attention.query_key_value": "norm"}),
    "swin v2 of transformers": Row(
        hugging("Swinv2Model", "Swinv2Config", image_size=32, patch_size=2, embed_dim=16, depths=[1, 1], num_heads=[2, 2],
                window_size=4), images(), 4, concats=None),
    "mixtral": Row(
        hugging("MixtralForCausalLM", "MixtralConfig", hidden_size=16, intermediate_size=32, num_hidden_layers=2,
                num_attention_heads=2, num_key_value_heads=2, num_local_experts=2, vocab_size=20), tokens(), 4, pre=4,
        concats=None),
    "discriminator": Row(
        own.discriminator, images(16), 0, before={"2": "leaky_relu", "5": "leaky_relu"}, after={"0": "leaky_relu", "5": "output"}),
    "unet that adds": Row(
        partial(own.UNet, True), images(), 2, nested=1, before={"join1": "sum", "up1": "relu"}, after={"up2": "sum"}),
    "gru": Row(partial(own.Reader, nn.GRU), lambda: torch.randint(20, (2, 5)), 0, before={"head": "other"}),
    "gru written out": Row(own.GRUCell, lambda: torch.randint(20, (2, 5)), 4, concats=None, skip_scales=(None,) * 4),
    "elman": Row(partial(own.Elman, False), lambda: torch.randn(2, 4, 6), 0, concats=None),
    "elman, inputs at once": Row(partial(own.Elman, True), lambda: torch.randn(2, 4, 6), 0, concats=None),
    "gpt written out": Row(
        own.GPT, lambda: torch.randint(20, (2, 8)), 4, pre=4,
        before={"layers.0.qkv": "norm", "layers.0.mlp.2": "gelu", "layers.0.out": "product", "head": "norm"}),
    "vq-vae": Row(own.VQVAE, lambda: torch.randn(6, 12), 0, before={"encoder.2": "relu", "decoder.2": "relu"}),
    "learned latents": Row(own.Latents, lambda: torch.randn(2, 4, 5), 2, pre=2),
    "nn.Transformer": Row(
        partial(nn.Transformer, 16, 2, 1, 1, 32, batch_first=True),
        lambda: (torch.randn(2, 5, 16), torch.randn(2, 4, 16), torch.zeros(1)), 5, post=5,
        before={"encoder.layers.0.linear2": "relu", "encoder.layers.0.linear1": "norm"}, fed={"encoder.layers.0.norm1": "sum"}),
    "a residual sum inside a subclass of Linear": Row(
        lambda: nn.Sequential(own.LeafResidual(8, 8), own.LeafResidual(8, 8), nn.Linear(8, 2)), lambda: torch.randn(4, 8),
        2, pre=2, scales=(0.5, 0.5)),
    "unitgain nf_resnet": Row(
        partial(ug.models.create, "nf_resnet26", num_classes=10), images(64), 8, transitions=4, pre=8),
}
THIRD: dict[str, Row] = {
    "timm skresnet18": Row(
        timm("skresnet18"), images(64), 8, transitions=3, post=8, concats=None, before={"fc": "relu"}),
    "timm convmixer": Row(
        timm_class("convmixer", "ConvMixer", dim=16, depth=3, kernel_size=3, patch_size=4), images(), 3,
        before={"blocks.0.1": "sum", "blocks.0.0.fn.0": "norm"}, after={"blocks.0.0.fn.0": "gelu"}),
    "timm xception": Row(
        timm("legacy_xception"), images(96), 12, transitions=4, pre=11, before={"block2.rep.1.conv1": "relu"}),
    "timm dla34": Row(timm("dla34"), images(64), 12, transitions=4, post=12, concats=6),
    "timm pvt v2": Row(timm("pvt_v2_b0"), images(64), 16, pre=16, before={"stages.0.blocks.0.mlp.fc2": "gelu"}),
    "timm edgenext": Row(
        timm_class("edgenext", "EdgeNeXt", dims=(8, 16, 24, 32), depths=(2, 2, 2, 2), heads=(2, 2, 2, 2)), images(64), 11,
        pre=3, nested=3, concats=None),
    "distilbert": Row(
        hugging("DistilBertModel", "DistilBertConfig", dim=16, n_layers=2, n_heads=2, hidden_dim=32, vocab_size=20), tokens(),
        4, post=4, before={"transformer.layer.0.ffn.lin2": "gelu"}),
    "albert (shared layers)": Row(
        hugging("AlbertModel", "AlbertConfig", embedding_size=8, **_BERT), tokens(), 4, post=4),
    "opt": Row(
        hugging("OPTModel", "OPTConfig", hidden_size=16, num_hidden_layers=2, num_attention_heads=2, ffn_dim=32, vocab_size=20,
                max_position_embeddings=16, word_embed_proj_dim=16), tokens(), 4, pre=4),
    "bloom": Row(hugging("BloomModel", "BloomConfig", hidden_size=16, n_layer=2, n_head=2, vocab_size=20), tokens(), 4, pre=4),
    "falcon (parallel branches)": Row(
        hugging("FalconModel", "FalconConfig", hidden_size=16, num_hidden_layers=2, num_attention_heads=2, vocab_size=20,
                parallel_attn=True, new_decoder_architecture=False, multi_query=True), tokens(), 4, pre=4, concats=None),
    "deberta v2": Row(
        hugging("DebertaV2Model", "DebertaV2Config", relative_attention=True, position_buckets=4, pos_att_type=["p2c", "c2p"],
                **_BERT), tokens(), 4, post=4),
    "bart": Row(
        hugging("BartModel", "BartConfig", d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
                decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, vocab_size=20, pad_token_id=0,
                max_position_embeddings=16),
        lambda: {"input_ids": torch.randint(1, 20, (2, 6)), "decoder_input_ids": torch.randint(1, 20, (2, 4))}, 10, post=10),
    "mamba": Row(
        hugging("MambaModel", "MambaConfig", hidden_size=16, num_hidden_layers=2, vocab_size=20, state_size=4), tokens(), 4,
        pre=4, nested=2, concats=None),  # the state space's D x is a skip connection too
    "segformer": Row(
        hugging("SegformerModel", "SegformerConfig", depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16],
                num_attention_heads=[1, 1, 2, 2]), images(64), 8, pre=8),
    "xlnet": Row(
        hugging("XLNetModel", "XLNetConfig", d_model=16, n_layer=2, n_head=2, d_inner=32, vocab_size=20), tokens(), 4, post=4,
        concats=None),
    "gemma 2 (norms before and behind)": Row(
        hugging("Gemma2Model", "Gemma2Config", hidden_size=16, num_hidden_layers=2, num_attention_heads=2, head_dim=8,
                num_key_value_heads=2, intermediate_size=32, vocab_size=20, pad_token_id=0), tokens(), 4, pre=4, concats=None),
    "phi (parallel branches)": Row(
        hugging("PhiModel", "PhiConfig", hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
                vocab_size=20, pad_token_id=0), tokens(), 4, pre=4, concats=None),
}
# fmt: on
# fmt: off
FOURTH: dict[str, Row] = {
    "torchvision convnext": Row(
        vision("convnext_tiny"), images(64), 18, before={"features.1.0.block.3": "norm", "features.1.0.block.5": "gelu"}),
    "squeezenet": Row(
        vision("squeezenet1_1"), images(64), 0, concats=8, before={"features.3.expand1x1": "relu", "features.4.squeeze": "relu"}),
    "mnasnet": Row(vision("mnasnet0_5"), images(64), 10, before={"layers.8.0.layers.3": "relu"}),
    "timm focalnet": Row(
        timm_class("focalnet", "FocalNet", depths=(1, 1), embed_dim=8), images(64), 4, pre=4, concats=None),
    "timm res2net": Row(timm("res2net50_26w_4s"), images(64), 16, transitions=4, post=16, concats=16),
    "timm levit": Row(  # behind the attention that shrinks, skip and branch both begin at its norm
        timm("levit_128s"), images(224), 20, pre=2, concats=None),
    "timm cspresnet": Row(timm("cspresnet50"), images(64), 13, post=13, concats=4),
    "timm vovnet": Row(timm("ese_vovnet19b_dw"), images(64), 0, concats=4),
    "openai gpt": Row(
        hugging("OpenAIGPTModel", "OpenAIGPTConfig", n_embd=16, n_layer=2, n_head=2, vocab_size=20, n_positions=8), tokens(),
        4, post=4, before={"h.0.mlp.c_proj": "gelu"}),
    "cohere (parallel branches)": Row(
        hugging("CohereModel", "CohereConfig", hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                num_key_value_heads=2, intermediate_size=32, vocab_size=20, pad_token_id=0), tokens(), 4, pre=4, concats=None),
    "olmo 2 (norms behind the branches)": Row(
        hugging("Olmo2Model", "Olmo2Config", hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                num_key_value_heads=2, intermediate_size=32, vocab_size=20, pad_token_id=0), tokens(), 4, concats=None),
    "fnet (Fourier transforms for attention)": Row(
        hugging("FNetModel", "FNetConfig", hidden_size=16, num_hidden_layers=2, intermediate_size=32, vocab_size=20,
                max_position_embeddings=8, tpu_short_seq_length=8), tokens(), 4, post=4),
    "rwkv": Row(
        hugging("RwkvModel", "RwkvConfig", hidden_size=16, num_hidden_layers=2, attention_hidden_size=16,
                intermediate_size=32, vocab_size=20), tokens(), 4, pre=4, concats=None),
    "convnext v2": Row(
        hugging("ConvNextV2Model", "ConvNextV2Config", hidden_sizes=[8, 16], depths=[1, 2], num_stages=2), images(64), 3,
        before={"encoder.stages.0.layers.0.pwconv1": "norm"}),
    "beit": Row(
        hugging("BeitModel", "BeitConfig", hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
                image_size=32, patch_size=8), images(), 4, pre=4, concats=None),
    "one layer, four Euler steps": Row(own.EulerSteps, lambda: torch.randn(4, 6), 4, scales=(0.25,) * 4),
    "diffusion unet": Row(
        own.Denoiser, lambda: (torch.randn(2, 3, 8, 8), torch.rand(2, 1), torch.zeros(1)), 4, transitions=3, pre=4, concats=2,
        before={"down1.conv2": "silu", "down1.time": "silu", "last": "sum"}),
}
# fmt: on
