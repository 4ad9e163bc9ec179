"""Architectures of timm, torchvision and Hugging Face's transformers, at their authors' own initialization."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from architecture import Architecture, Setup, adam, adamw, add, kinds, photos, pixels, seasons, sgd, words
from torch import Tensor, nn


def _timm(name: str, optimizer: Any, **options: Any) -> Setup:
    import timm

    x = photos(16, size=options.get("img_size", 64))
    model = timm.create_model(name, **options)  # with its 1000 classes, for which its head is initialized
    return Setup(model, (x, kinds(x, 10)), nn.CrossEntropyLoss(), optimizer)


_CONVOLUTIONS = sgd(lr=0.01, momentum=0.9, weight_decay=1e-4)  # 0.1 to 0.2 for batches of 256, scaled to 16
_MOBILE = partial(torch.optim.RMSprop, lr=1e-3, alpha=0.9, eps=1e-3, momentum=0.9)
_TRANSFORMERS = adamw(lr=5e-4, weight_decay=0.05)

_TIMM: dict[str, tuple[Any, dict[str, Any]]] = {
    "dla34": (_CONVOLUTIONS, {}),
    "dla46_c": (_CONVOLUTIONS, {}),
    "dla60x_c": (_CONVOLUTIONS, {}),
    "cait_xxs24_224": (_TRANSFORMERS, {"img_size": 64}),
    "pit_ti_224": (_TRANSFORMERS, {"img_size": 64}),
    "deit3_small_patch16_224": (_TRANSFORMERS, {"img_size": 64}),
    "resnet26t": (_CONVOLUTIONS, {}),
    "skresnet18": (_CONVOLUTIONS, {}),
    "seresnext26t_32x4d": (_CONVOLUTIONS, {}),
    "hrnet_w18_small": (_CONVOLUTIONS, {}),
    "selecsls42b": (_CONVOLUTIONS, {}),
    "gernet_s": (_CONVOLUTIONS, {}),
    "regnety_002": (_CONVOLUTIONS, {}),
    "mnasnet_small": (_MOBILE, {}),
    "lcnet_050": (_MOBILE, {}),
    "tinynet_e": (_MOBILE, {}),
    "fbnetc_100": (_MOBILE, {}),
    "mobilenetv4_conv_small": (_TRANSFORMERS, {}),
    "efficientvit_b0": (_TRANSFORMERS, {}),
    "levit_128s": (_TRANSFORMERS, {"img_size": 224}),
    "convit_tiny": (_TRANSFORMERS, {"img_size": 64}),
    "crossvit_tiny_240": (_TRANSFORMERS, {"img_size": 240}),
    "pvt_v2_b0": (_TRANSFORMERS, {}),
    "gmlp_ti16_224": (_TRANSFORMERS, {"img_size": 64}),
    "resmlp_12_224": (_TRANSFORMERS, {"img_size": 64}),
    "convmixer_768_32": (_TRANSFORMERS, {}),
    "eva02_tiny_patch14_224": (_TRANSFORMERS, {"img_size": 56}),
    "inception_next_atto": (_TRANSFORMERS, {}),
    "starnet_s1": (_TRANSFORMERS, {}),
    "fastvit_t8": (_TRANSFORMERS, {}),
}


# ---- torchvision ---------------------------------------------------------------------------------------------


def _torchvision(name: str, optimizer: Any, size: int = 64) -> Setup:
    import torchvision

    x = photos(16, size=size)
    return Setup(
        getattr(torchvision.models, name)(num_classes=10), (x, kinds(x, 10)), nn.CrossEntropyLoss(), optimizer
    )


def googlenet() -> Setup:
    from torchvision import models

    def loss(outputs: Any, y: Tensor) -> Tensor:
        logits, aux2, aux1 = outputs
        return F.cross_entropy(logits, y) + 0.3 * (F.cross_entropy(aux1, y) + F.cross_entropy(aux2, y))

    x = photos(8, size=96)
    return Setup(
        models.googlenet(num_classes=10, aux_logits=True, init_weights=True),
        (x, kinds(x, 10)),
        loss,
        sgd(lr=0.01, momentum=0.9),
    )


def lraspp() -> Setup:
    from torchvision import models

    def loss(outputs: Any, y: Tensor) -> Tensor:
        return F.cross_entropy(outputs["out"], y)

    x = photos(4, size=96)
    y = torch.bucketize(x.mean(1), torch.tensor([-1.0, 0.0, 1.0]))
    model = models.segmentation.lraspp_mobilenet_v3_large(weights_backbone=None, num_classes=4)
    return Setup(model, (x, y), loss, sgd(lr=0.02, momentum=0.9))


def video_resnet() -> Setup:
    from torchvision import models

    x = photos(4 * 6, size=32).view(4, 6, 3, 32, 32).transpose(1, 2)
    return Setup(
        models.video.r3d_18(num_classes=5),
        (x, torch.arange(4)),
        nn.CrossEntropyLoss(),
        sgd(lr=0.01, momentum=0.9),
    )


def ssdlite() -> Setup:
    from torchvision import models

    model = models.detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=3)
    images = list(pixels(2, size=96))
    targets = [
        {"boxes": torch.tensor([[10.0, 12.0, 50.0, 60.0]]), "labels": torch.tensor([1])} for _ in images
    ]

    def step(net: nn.Module, batch: Any) -> Tensor:
        return sum(net(*batch).values())  # type: ignore[return-value]

    return Setup(model, (images, targets), None, sgd(lr=0.01, momentum=0.9), step=step)


_TORCHVISION: dict[str, Any] = {
    "alexnet": partial(_torchvision, "alexnet", sgd(lr=0.01, momentum=0.9)),
    "vgg11": partial(_torchvision, "vgg11", sgd(lr=0.01, momentum=0.9), 32),
    "squeezenet1_0": partial(_torchvision, "squeezenet1_0", adam(lr=1e-4)),
    "mnasnet0_5": partial(_torchvision, "mnasnet0_5", sgd(lr=0.01, momentum=0.9)),
    "shufflenet_v2_x0_5": partial(_torchvision, "shufflenet_v2_x0_5", sgd(lr=0.01, momentum=0.9)),
    "mobilenet_v3_small": partial(_torchvision, "mobilenet_v3_small", _MOBILE),
    "resnet34": partial(_torchvision, "resnet34", sgd(lr=0.01, momentum=0.9)),
    "googlenet": googlenet,
    "lraspp": lraspp,
    "video_resnet": video_resnet,
    "ssdlite": ssdlite,
}

# ---- transformers --------------------------------------------------------------------------------------------


def _ids(vocabulary: int = 120, count: int = 8, length: int = 24) -> Tensor:
    return words(count, length, vocabulary - 4) + 4


def _causal(config: str, model: str, **options: Any) -> Setup:
    import transformers

    ids = _ids()
    made = getattr(transformers, model)(
        getattr(transformers, config)(
            vocab_size=120, pad_token_id=0, bos_token_id=1, eos_token_id=2, **options
        )
    )
    return Setup(made, {"input_ids": ids, "labels": ids}, "auto", adamw(lr=3e-4), clip=1.0)


def _encoder(config: str, model: str, what: str = "sequence", **options: Any) -> Setup:
    import transformers

    ids = _ids()
    mask = (torch.arange(24) < torch.randint(10, 25, (8, 1))).long()
    ids = torch.where(mask.bool(), ids, 0)
    made = getattr(transformers, model)(
        getattr(transformers, config)(vocab_size=120, pad_token_id=0, num_labels=3, **options)
    )
    labels = {"sequence": torch.arange(8) % 3, "token": ids % 3}.get(what)
    if labels is None:  # words to guess
        chosen = (torch.rand(8, 24) < 0.2) & mask.bool()
        labels = torch.where(chosen, ids, -100)
        ids = torch.where(chosen, 3, ids)
    elif what == "token":
        labels = torch.where(mask.bool(), labels, -100)
    return Setup(
        made, {"input_ids": ids, "attention_mask": mask, "labels": labels}, "auto", adamw(lr=5e-5), clip=1.0
    )


_SIZES = {
    "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128,
}  # fmt: skip


def _bart() -> Setup:
    from transformers import BartConfig, BartForConditionalGeneration

    config = BartConfig(
        vocab_size=120, d_model=64, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=128, decoder_ffn_dim=128, max_position_embeddings=64,
    )  # fmt: skip
    ids = _ids()
    batch = {"input_ids": ids, "labels": ids[:, :12].clone()}
    return Setup(BartForConditionalGeneration(config), batch, "auto", adamw(lr=5e-5))


def _segformer() -> Setup:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    config = SegformerConfig(
        hidden_sizes=[16, 32, 48, 64], num_attention_heads=[1, 2, 3, 4], depths=[1, 1, 1, 1],
        decoder_hidden_size=64, num_labels=4,
    )  # fmt: skip
    x = photos(4, size=64)
    y = torch.bucketize(x.mean(1), torch.tensor([-1.0, 0.0, 1.0]))
    return Setup(
        SegformerForSemanticSegmentation(config), {"pixel_values": x, "labels": y}, "auto", adamw(lr=6e-5)
    )


def _mae() -> Setup:
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    config = ViTMAEConfig(
        **_SIZES, image_size=32, patch_size=4, decoder_hidden_size=32, decoder_num_hidden_layers=2,
        decoder_num_attention_heads=4, decoder_intermediate_size=64,
    )  # fmt: skip
    return Setup(ViTMAEForPreTraining(config), {"pixel_values": photos(16)}, None, adamw(lr=1.5e-4))


def _whisper() -> Setup:
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    config = WhisperConfig(
        vocab_size=120, num_mel_bins=20, d_model=64, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=128, decoder_ffn_dim=128, max_source_positions=40,
        max_target_positions=32, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    x = seasons(8, 80, 20).transpose(1, 2)
    batch = {"input_features": x, "labels": _ids(length=12)}
    return Setup(WhisperForConditionalGeneration(config), batch, "auto", adamw(lr=1e-4))


def _patchtst() -> Setup:
    from transformers import PatchTSTConfig, PatchTSTForPrediction

    config = PatchTSTConfig(
        num_input_channels=3, context_length=64, patch_length=8, patch_stride=8, prediction_length=8, d_model=32,
        num_attention_heads=4, num_hidden_layers=2, ffn_dim=64,
    )  # fmt: skip
    x = seasons(16, 72, 3) * 4 + 10
    return Setup(
        PatchTSTForPrediction(config),
        {"past_values": x[:, :64], "future_values": x[:, 64:]},
        None,
        adamw(lr=1e-3),
    )


def _clip() -> Setup:
    from transformers import CLIPConfig, CLIPModel

    text = {**_SIZES, "vocab_size": 120, "max_position_embeddings": 32, "eos_token_id": 2}
    config = CLIPConfig(
        text_config=text, vision_config={**_SIZES, "image_size": 32, "patch_size": 8}, projection_dim=32
    )
    batch = {"input_ids": _ids(), "pixel_values": photos(8), "return_loss": True}
    return Setup(CLIPModel(config), batch, None, adamw(lr=5e-4))


_TRANSFORMERS_MODELS: dict[str, Any] = {
    "hf_gpt2": partial(_causal, "GPT2Config", "GPT2LMHeadModel", n_embd=64, n_layer=3, n_head=4, n_positions=32),
    "hf_llama": partial(_causal, "LlamaConfig", "LlamaForCausalLM", **_SIZES),
    "hf_mistral": partial(_causal, "MistralConfig", "MistralForCausalLM", num_key_value_heads=2, **_SIZES),
    "hf_qwen2": partial(_causal, "Qwen2Config", "Qwen2ForCausalLM", num_key_value_heads=2, **_SIZES),
    "hf_gemma": partial(_causal, "GemmaConfig", "GemmaForCausalLM", num_key_value_heads=2, head_dim=16, **_SIZES),
    "hf_phi": partial(_causal, "PhiConfig", "PhiForCausalLM", **_SIZES),
    "hf_gpt_neox": partial(_causal, "GPTNeoXConfig", "GPTNeoXForCausalLM", **_SIZES),
    "hf_opt": partial(
        _causal, "OPTConfig", "OPTForCausalLM", hidden_size=64, num_hidden_layers=3, num_attention_heads=4, ffn_dim=128,
        word_embed_proj_dim=64, max_position_embeddings=64,
    ),
    "hf_bloom": partial(_causal, "BloomConfig", "BloomForCausalLM", hidden_size=64, n_layer=3, n_head=4),
    "hf_mamba": partial(_causal, "MambaConfig", "MambaForCausalLM", hidden_size=64, num_hidden_layers=2),
    "hf_roberta": partial(_encoder, "RobertaConfig", "RobertaForMaskedLM", "words", **_SIZES),
    "hf_distilbert": partial(
        _encoder, "DistilBertConfig", "DistilBertForTokenClassification", "token", dim=64, n_layers=3, n_heads=4,
        hidden_dim=128,
    ),
    "hf_electra": partial(
        _encoder, "ElectraConfig", "ElectraForSequenceClassification", embedding_size=64, **_SIZES
    ),
    "hf_albert": partial(_encoder, "AlbertConfig", "AlbertForSequenceClassification", embedding_size=32, **_SIZES),
    "hf_deberta": partial(_encoder, "DebertaV2Config", "DebertaV2ForSequenceClassification", **_SIZES),
    "hf_bart": _bart,
    "hf_segformer": _segformer,
    "hf_mae": _mae,
    "hf_whisper": _whisper,
    "hf_patchtst": _patchtst,
    "hf_clip": _clip,
}  # fmt: skip

for _name, (_optimizer, _options) in _TIMM.items():
    build = partial(_timm, _name, _optimizer, **_options)
    add(Architecture(_name, f"timm {_name}", build, "timm", slow=True))
for _name, build in _TORCHVISION.items():
    add(Architecture(f"torchvision_{_name}", f"torchvision {_name}", build, "torchvision", slow=True))
for _name, build in _TRANSFORMERS_MODELS.items():
    add(Architecture(_name, f"transformers {_name[3:]}, a small configuration", build, "transformers"))
