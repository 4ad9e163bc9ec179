"""GroupNorm and InstanceNorm: left alone unless asked for, then taken out or refused with the reason."""

from __future__ import annotations

import pytest
import torch
from normfree_networks import conv, drawn
from torch import nn

import unitgain as ug
from unitgain import InputError
from unitgain.normfree import convert, rebuild
from unitgain.normfree.measuring import channel_variance

X = torch.randn(8, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def net(norm: type[nn.Module] | None = None, **options: object) -> nn.Sequential:
    torch.manual_seed(0)

    def make(channels: int) -> nn.Module:
        return nn.GroupNorm(4, channels) if norm is None else norm(channels, **options)

    return nn.Sequential(
        conv(3, 16), make(16), nn.ReLU(), conv(16, 32), make(32), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(32, 4),
    )  # fmt: skip


def test_they_are_left_alone_and_listed_unless_asked_for() -> None:
    model = net()
    report = convert(model, X)
    assert report.left == {"1": "GroupNorm", "4": "GroupNorm"}
    assert report.edits == []
    with pytest.raises(InputError, match="convert: norms: 'groups'; did you mean 'group'"):
        convert(model, X, norms="groups")


@pytest.mark.parametrize("norms", ["group", ["instance", "group"]])
def test_group_norms_go_in_train_and_the_layers_are_standardized(norms: object) -> None:
    model = net()
    report = convert(model, X, norms=norms)  # type: ignore[arg-type]
    assert [(c.path, c.how) for c in report.changes] == [("1", "removed"), ("4", "removed")]
    assert report.left == {}
    assert report.standardized == 2
    for path in ("0", "3"):
        seen = []
        handle = model.get_submodule(path).register_forward_hook(lambda m, i, o, seen=seen: seen.append(o))
        model(X)
        handle.remove()
        assert 0.9 < channel_variance(seen[0], 1) < 1.1
    again = rebuild(net(), report.edits)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(X), model(X))


def test_our_group_norm_and_instance_norm_are_known() -> None:
    for norm, kind in ((ug.nn.InstanceNorm, "instance"), (nn.InstanceNorm2d, "instance")):
        report = convert(net(norm), X, norms=kind)
        assert [c.how for c in report.changes] == ["removed", "removed"]


def test_timms_norm_with_an_activation_keeps_that(torchvision_operators: None) -> None:
    layers = pytest.importorskip("timm.layers")
    model = nn.Sequential(conv(3, 16), layers.GroupNormAct(16, num_groups=4), conv(16, 4))
    report = convert(model, X, norms="group")
    assert [c.how for c in report.changes] == ["removed"]
    assert any(isinstance(m, nn.ReLU) for m in model.modules())
    assert not any("GroupNorm" in type(m).__name__ for m in model.modules())


@pytest.mark.parametrize("mode", ["preserve", "fold"])
def test_a_group_norm_cannot_be_kept_as_a_scale_and_is_refused_by_name(mode: str) -> None:
    model = net()
    wanted = model.eval()(X)
    report = convert(model, X, mode, norms="group")
    assert [c.path for c in report.refused] == ["1", "4"]
    assert "normalizes each example by its own statistics" in report.refused[0].why
    assert torch.equal(model(X), wanted)


@pytest.mark.parametrize("mode", ["preserve", "fold"])
def test_an_instance_norm_with_running_statistics_folds_exactly(mode: str) -> None:
    model = drawn(net(nn.InstanceNorm2d, affine=True, track_running_stats=True)).double().eval()
    wanted = model(X.double())
    report = convert(model, X.double(), mode, norms="instance")
    assert [c.how for c in report.changes] == ["absorbed", "absorbed"]
    torch.testing.assert_close(model(X.double()), wanted, rtol=1e-9, atol=1e-9)
