"""Pretrained weights: nothing runs from a file, names go both ways, and what does not fit is said."""

from __future__ import annotations

import hashlib
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from unitgain import InputError, models
from unitgain.models import haiku
from unitgain.models.nfnet import VARIANTS
from unitgain.models.weights import HUB


@pytest.fixture
def tiny() -> nn.Module:
    model = models.create("nfnet_tiny", wiring="paper", num_classes=6)
    for parameter in model.parameters():
        nn.init.normal_(parameter, 0.5, 0.3)
    return model.eval()


class Evil:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "evil",
    [
        Evil(exec, "import pathlib; pathlib.Path('ran').touch()"),
        Evil(getattr, np.ndarray, "tofile"),
        Evil(np.load, "x.npy"),
        Evil(np.dtype, "O"),
        {"a": {"w": np.array([Evil(print, "x")], dtype=object)}},
        {"a": {"w": np.array([object()], dtype=object)}},
        {"a": {"w": Path("x")}},
        {"a": np.ones(2)},
        {"a": {"w": np.array(["text"])}},
        [np.ones(2)],
        {},
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_anything_but_arrays_in_containers_is_refused_and_not_run(
    evil, protocol, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        (tmp_path / "tree.npz").write_bytes(pickle.dumps(evil, protocol))
    except (pickle.PicklingError, TypeError):
        pytest.skip("cannot be pickled in this protocol")
    with pytest.raises(InputError, match=r"not a tree"):
        haiku.read_tree(tmp_path / "tree.npz")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "data", [b"", b"garbage", b"PK\x03\x04 broken", b"\x80\x04.", b"cos\nsystem\n(S'touch ran'\ntR."]
)
def test_damaged_files_are_refused_in_words(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "tree.npz").write_bytes(data)
    with pytest.raises(InputError, match="not a"):
        haiku.read_tree(tmp_path / "tree.npz")


@pytest.mark.parametrize("protocol", range(6))
def test_trees_of_arrays_are_read_from_every_protocol(protocol: int, tmp_path: Path) -> None:
    tree = {
        "NFNet/~/linear": {
            "w": np.arange(6, dtype=np.float32).reshape(2, 3),
            "b": np.asfortranarray(np.ones((2, 2))),
        }
    }
    (tmp_path / "t.pkl").write_bytes(pickle.dumps(tree, protocol))
    found = haiku.read_tree(tmp_path / "t.pkl")
    for name, array in tree["NFNet/~/linear"].items():
        np.testing.assert_array_equal(found["NFNet/~/linear"][name], array)
    np.savez(tmp_path / "t.npz", **{f"NFNet/~/linear/{k}": v for k, v in tree["NFNet/~/linear"].items()})
    np.testing.assert_array_equal(
        haiku.read_tree(tmp_path / "t.npz")["NFNet/~/linear"]["w"], tree["NFNet/~/linear"]["w"]
    )


def test_haiku_names_count_as_published_and_go_both_ways(tiny, tmp_path: Path) -> None:
    for n in (1, 2):
        modules = {module for module, _ in haiku.haiku_names(VARIANTS[f"dm_nfnet_f{n - 1}"]).values()}
        assert len(modules) == 94 + 84 * (n - 1)
    state = tiny.state_dict()
    tree = haiku.to_haiku(state, tiny.config)
    assert tree["NFNet/~/stem_conv0"]["w"].shape == (3, 3, 3, 4)  # H, W, I, O
    assert tree["NFNet/~/stem_conv0"]["gain"].shape == (4,)
    (tmp_path / "tree.npz").write_bytes(pickle.dumps(tree))
    twin = models.create(
        "nfnet_tiny", wiring="paper", num_classes=6, pretrained=str(tmp_path / "tree.npz")
    ).eval()
    for key, value in twin.state_dict().items():
        assert torch.equal(value, state[key]), key
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(twin(x), tiny(x))
    (tree["NFNet/~/extra"]) = {"w": np.ones(1)}
    del tree["NFNet/~/linear"]
    with pytest.raises(
        InputError,
        match=r"lacks 2 .* for example NFNet/~/linear/b and has 1 others, for example NFNet/~/extra/w",
    ):
        haiku.from_haiku(tree, tiny.config)
    with pytest.raises(InputError, match="NFNet variants"):
        haiku.haiku_names(models.create("nf_resnet_tiny").config)


def test_a_checkpoint_file_loads_and_adapts_classes_and_channels(tmp_path: Path) -> None:
    path = str(tmp_path / "model.safetensors")
    source = models.create("nf_resnet_tiny", num_classes=6)
    for parameter in source.parameters():
        nn.init.normal_(parameter, 0.0, 0.3)
    save_file(source.state_dict(), path)
    source.eval()
    x = torch.randn(2, 1, 32, 32)
    same = models.create("nf_resnet_tiny", num_classes=6, pretrained=path).eval()
    assert torch.equal(same(x.expand(2, 3, 32, 32)), source(x.expand(2, 3, 32, 32)))
    for channels in (1, 6):
        other = models.create("nf_resnet_tiny", num_classes=6, in_channels=channels, pretrained=path).eval()
        torch.testing.assert_close(
            other(x.expand(2, channels, 32, 32)), source(x.expand(2, 3, 32, 32)), rtol=1e-4, atol=1e-4
        )
    ten = models.create("nf_resnet_tiny", num_classes=10, pretrained=path)
    assert ten.head.fc.weight.shape[0] == 10
    assert torch.equal(ten.stem.conv.weight, source.stem.conv.weight)
    features = models.create("nf_resnet_tiny", features_only=True, pretrained=path).eval()
    assert torch.equal(features(x.expand(2, 3, 32, 32))[0], source.stem.conv(x.expand(2, 3, 32, 32)))
    with pytest.raises(InputError, match="possible are 1 and multiples of 3"):
        models.create("nf_resnet_tiny", in_channels=4, pretrained=path)
    with pytest.raises(InputError, match=r"weights of another network: it lacks .* and has \d+ others"):
        models.create("nfnet_tiny", pretrained=path)
    with pytest.raises(InputError, match=r"another variant|another network"):
        models.create("nf_resnet26", depths=(1, 2, 1, 1), pretrained=path)


def test_wirings_that_would_compute_something_else_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="trained in timm's wiring"):
        models.create("nf_resnet_tiny", wiring="paper", pretrained="x.safetensors")
    with pytest.raises(InputError, match="the constants of their training"):
        models.create("nfnet_tiny", wiring="calibrated", pretrained="x.safetensors")


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"nonsense")
    for file, message in (
        ("x.pth", "is a pickle"),
        ("x.h5", "weights are read from .safetensors"),
        (str(tmp_path / "none.safetensors"), "cannot be read"),
        (str(tmp_path / "bad.safetensors"), "damaged"),
    ):
        with pytest.raises(InputError, match=message):
            models.create("nf_resnet_tiny", pretrained=file)
    with pytest.raises(InputError, match="no pretrained weights are published"):
        models.create("nf_resnet_tiny", pretrained=True)


def test_what_comes_from_the_hub_is_checked_against_its_sum(tmp_path: Path, monkeypatch) -> None:
    source = models.create("test_nfnet")
    blob = tmp_path / "blob"
    save_file(source.state_dict(), blob)
    digest = hashlib.sha256(blob.read_bytes()).hexdigest()
    blob.rename(tmp_path / digest)
    link = tmp_path / "model.safetensors"
    link.symlink_to(tmp_path / digest)
    asked = []

    def download(repository: str, filename: str) -> str:
        asked.append((repository, filename))
        return str(link)

    hub = types.ModuleType("huggingface_hub")
    hub.hf_hub_download = download
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    model = models.create("test_nfnet", pretrained=True)
    assert asked == [("timm/test_nfnet.r160_in1k", "model.safetensors")]
    assert torch.equal(model.head.fc.weight, source.head.fc.weight)
    with open(tmp_path / digest, "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    with pytest.raises(InputError, match="is damaged"):
        models.create("test_nfnet", pretrained=True)

    def offline(repository: str, filename: str) -> str:
        raise OSError("no route to host")

    hub.hf_hub_download = offline
    with pytest.raises(InputError, match=r"could not be fetched \(OSError: no route to host\)"):
        models.create("test_nfnet", pretrained=True)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"pip install 'unitgain\[hub\]'"):
        models.create("test_nfnet", pretrained=True)


@pytest.mark.reference
def test_the_hub_names_are_timms(torchvision_operators) -> None:
    timm = pytest.importorskip("timm")
    for name, tag in HUB.items():
        assert timm.get_pretrained_cfg(name).hf_hub_id == f"timm/{name}.{tag}"
