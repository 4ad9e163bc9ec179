from __future__ import annotations

import hashlib
import math
import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unitgain import InputError, data, models
from unitgain.models import char_mlp
from unitgain.models.char_mlp import SEED, VARIANTS, CharMLP, UnbiasedBatchNorm1d

MAKEMORE_SHA256 = "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d"


@pytest.fixture(scope="module")
def makemore() -> data.Names:
    file = Path(os.environ.get("UNITGAIN_DATA", "")) / "names.txt"
    if not os.environ.get("UNITGAIN_DATA") or not file.is_file():
        pytest.skip("names.txt of the makemore project is not under UNITGAIN_DATA")
    if hashlib.sha256(file.read_bytes()).hexdigest() != MAKEMORE_SHA256:
        pytest.skip("names.txt under UNITGAIN_DATA is not that of the makemore project")
    return data.load_names(file)


@pytest.fixture(scope="module")
def names() -> data.Names:
    return data.load_names(data.names.EMBEDDED)


@pytest.mark.parametrize(
    ("variant", "published"),
    [("original", 27.8817), ("softmax", 3.3221), ("tanh", 3.3135), ("batchnorm", 3.3239)],
)
def test_the_first_batch_has_the_published_loss(makemore: data.Names, variant: str, published: float) -> None:
    generator = torch.Generator().manual_seed(SEED)
    model = models.create(f"char_mlp_{variant}", generator=generator)
    x, y = next(makemore.train.batches(32, generator))
    assert round(F.cross_entropy(model(x), y).item(), 4) == published


def test_weights_are_the_lecture_s_in_the_lecture_s_order() -> None:
    g = torch.Generator().manual_seed(SEED)
    c, w1, b1 = (
        torch.randn(27, 10, generator=g),
        torch.randn(30, 200, generator=g),
        torch.randn(200, generator=g),
    )
    w2, b2 = torch.randn(200, 27, generator=g), torch.randn(27, generator=g)
    model = CharMLP(VARIANTS["kaiming"])
    assert torch.equal(model.embedding.weight, c)
    torch.testing.assert_close(model.hidden.weight.t(), w1 * (5 / 3) / 30**0.5)
    assert torch.equal(model.hidden.bias, b1 * 0.01)
    assert torch.equal(model.output.weight.t(), w2 * 0.01)
    assert torch.equal(model.output.bias, b2 * 0)


def test_building_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    for config in VARIANTS.values():
        CharMLP(config)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("variant", "count"),
    [
        ("original", 11_897),
        ("kaiming", 11_897),
        ("batchnorm", 12_097),
        ("deep", 46_497),
        ("deep_batchnorm", 47_024),
    ],
)
def test_parameter_counts(variant: str, count: int) -> None:
    model = models.create(f"char_mlp_{variant}")
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == count


def test_layers_have_speaking_names() -> None:
    def layers(variant: str) -> list[str]:
        return [name for name, _ in models.create(f"char_mlp_{variant}").named_children()]

    assert layers("original") == ["embedding", "flatten", "hidden", "tanh", "output"]
    assert layers("batchnorm") == ["embedding", "flatten", "hidden", "norm", "tanh", "output"]
    assert layers("deep")[2:6] == ["hidden1", "tanh1", "hidden2", "tanh2"]
    assert layers("deep_batchnorm")[-4:] == ["norm5", "tanh5", "output", "output_norm"]


def tanh_outputs(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    found = []
    with torch.no_grad():
        for layer in model.children():
            x = layer(x)
            if isinstance(layer, nn.Tanh):
                found.append(x)
    return found


@pytest.mark.parametrize(
    ("variant", "gain", "std", "saturated"),
    [
        ("deep", 5 / 3, (0.60, 0.80), (0.0, 0.25)),
        ("deep_batchnorm", 5 / 3, (0.60, 0.70), (0.0, 0.05)),
        ("deep_batchnorm", 0.2, (0.60, 0.70), (0.0, 0.05)),  # BatchNorm: the gain no longer matters
        ("deep", 3.0, (0.75, 1.0), (0.25, 1.0)),
    ],
)
def test_deep_statistics_are_the_reference_s(names: data.Names, variant, gain, std, saturated) -> None:
    model = models.create(f"char_mlp_{variant}", gain=gain)
    outputs = tanh_outputs(model, names.train.x[:1000])
    assert len(outputs) == 5
    for out in outputs:
        assert std[0] < out.std() < std[1]
        assert saturated[0] <= (out.abs() > 0.97).float().mean() < saturated[1]


def test_gain_one_shrinks_layer_by_layer_with_tanh_and_holds_without(names: data.Names) -> None:
    stds = [
        float(o.std()) for o in tanh_outputs(models.create("char_mlp_deep", gain=1.0), names.train.x[:1000])
    ]
    assert stds == sorted(stds, reverse=True)
    assert stds[-1] < 0.6 * stds[0]
    linear = models.create("char_mlp_deep", gain=1.0, tanh=False)
    hidden = nn.Sequential(*linear.children())[:-1](names.train.x[:1000])
    assert 0.7 < hidden.std() < 1.3


def test_every_variant_but_the_original_starts_near_ln_27(names: data.Names) -> None:
    x, y = names.train.x[:2000], names.train.y[:2000]
    for variant in VARIANTS:
        loss = F.cross_entropy(models.create(f"char_mlp_{variant}")(x), y).item()
        assert (loss > 20) if variant == "original" else abs(loss - math.log(27)) < 0.05, variant


def test_unbiased_batchnorm_averages_std_not_variance() -> None:
    norm = UnbiasedBatchNorm1d(4, momentum=0.25)
    mean, std = torch.zeros(4), torch.ones(4)
    for seed in range(5):
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(seed)) * 3 + 1
        torch.testing.assert_close(norm(x), (x - x.mean(0)) / x.std(0))
        mean, std = 0.75 * mean + 0.25 * x.mean(0), 0.75 * std + 0.25 * x.std(0)
    torch.testing.assert_close(norm.running_mean, mean)
    torch.testing.assert_close(norm.running_std, std)
    assert torch.equal(norm.running_var, norm.running_std.square())
    norm.eval()
    torch.testing.assert_close(norm(x), (x - mean) / std)
    assert norm.state_dict().keys() == {*nn.BatchNorm1d(4).state_dict(), "running_std"}


def test_unbiased_batchnorm_takes_over_a_running_var_that_was_set_from_outside() -> None:
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    older = nn.BatchNorm1d(4)  # as the weights of unitgain 0.1: without running_std
    older.running_var.fill_(4.0)
    norm = UnbiasedBatchNorm1d(4, momentum=0.0)
    norm.load_state_dict(older.state_dict())
    assert norm.running_std.tolist() == [2.0] * 4
    norm.running_var.fill_(9.0)  # as a recalibration does
    norm(x)
    assert norm.running_std.tolist() == [3.0] * 4
    norm.running_std[0] = norm.running_var[0] = 1e-30
    norm.running_var[0].square_()  # too small for float32: 0
    norm(x)
    assert float(norm.running_std[0]) == pytest.approx(1e-30)


def test_unbiased_batchnorm_refuses_a_batch_of_one_in_training() -> None:
    norm = UnbiasedBatchNorm1d(4)
    with pytest.raises(InputError, match="at least 2 examples"):
        norm(torch.zeros(1, 4))
    assert norm.eval()(torch.zeros(1, 4)).isfinite().all()


def test_sampling_is_repeatable_and_leaves_flags_and_statistics_as_they_were() -> None:
    model = models.create("char_mlp_batchnorm")
    model.norm.eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    first = models.sample(model, torch.Generator().manual_seed(1), n=5)
    assert first == models.sample(model, torch.Generator().manual_seed(1), n=5)
    assert len(first) == 5
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz") and len(name) <= 30 for name in first)
    assert model.training
    assert not model.norm.training
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_sampling_a_diverged_or_foreign_model_is_one_clear_line() -> None:
    model = models.create("char_mlp_original")
    nn.init.constant_(model.output.bias, math.nan)
    with pytest.raises(InputError, match="diverged"):
        models.sample(model)
    with pytest.raises(InputError, match="30 characters"):
        models.sample(models.create("char_mlp_original", vocabulary=30))


def test_models_and_data_agree_on_the_characters() -> None:
    assert char_mlp.CHARACTERS == data.CHARACTERS


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden": 50}, "hidden is 50; expected the widths"),
        ({"hidden": ()}, "hidden is empty"),
        ({"hidden": (0,)}, "hidden is 0"),
        ({"context": 0}, "context is 0"),
        ({"norm": "layer"}, "one of none, unbiased, batch"),
        ({"fan_in_scaling": "some"}, "one of none, hidden, all"),
    ],
)
def test_impossible_options_are_refused(changes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        models.create("char_mlp_original", **changes)
