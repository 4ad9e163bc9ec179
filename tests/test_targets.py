"""TARGET, --data, --dataset and --shape: what becomes a model or a batch, and what is refused and how."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from unitgain import InputError, targets
from unitgain.targets import load_batch, load_model, parse_settings, parse_shape

MODELS = """
import torch
from torch import nn
import neighbour

class Net(nn.Linear):
    def __init__(self, width: int = 4, bias: bool = True):
        super().__init__(3, width, bias=bias)

def make():
    import lazy_neighbour
    return Net(neighbour.WIDTH + lazy_neighbour.MORE)

def needs(depth): return Net(depth)
def broken(): raise ValueError("the width\\nis wrong")
def quits(): raise SystemExit(3)
def pair(): return Net(), "tokenizer"
ready = Net()
number = 7
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "models.py").write_text(MODELS)
    (tmp_path / "neighbour.py").write_text("WIDTH = 5\n")
    (tmp_path / "lazy_neighbour.py").write_text("MORE = 1\n")
    yield tmp_path
    for name in ("neighbour", "lazy_neighbour", "unitgain_target_models"):
        sys.modules.pop(name, None)


def one_line(action, *words: str) -> str:
    """Runs the action, which must raise InputError with a message of one line that contains the words."""
    with pytest.raises(InputError) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message
    return message


# ---- models ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "out"),
    [("Net", {}, 4), ("Net", {"width": 2}, 2), ("make", {}, 6), ("needs", {"depth": 3}, 3), ("ready", {}, 4)],
)
def test_a_class_a_factory_and_an_instance_all_give_a_model(folder, name, settings, out) -> None:
    model = load_model(f"{folder}/models.py:{name}", settings)
    assert isinstance(model, nn.Module)
    assert model.out_features == out


def test_loading_a_file_leaves_the_import_path_and_the_folder_alone(folder) -> None:
    path, flag, before = list(sys.path), sys.dont_write_bytecode, sorted(folder.rglob("*"))
    load_model(f"{folder}/models.py:make")
    with pytest.raises(InputError):
        load_model(f"{folder}/models.py:broken")
    assert sys.path == path
    assert sys.dont_write_bytecode == flag
    assert sorted(folder.rglob("*")) == before


def test_a_module_of_the_working_directory_can_be_named(folder, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    (folder / "mine_for_test.py").write_text("from torch import nn\nnet = nn.Linear(2, 2)\n")
    assert load_model("mine_for_test:net").in_features == 2
    sys.modules.pop("mine_for_test")


def test_built_in_models_take_settings() -> None:
    assert load_model("char_mlp_deep", {"gain": 1.0}).config.gain == 1.0


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("char_mlp_orignal", ["char_mlp_original"]),
        ("", ["empty"]),
        ("resnet", ["no built-in model", "resnet18"]),
        ("inception", ["no built-in model", "timm:NAME"]),
        ("{f}/models.py", ["{f}/models.py:Net"]),
        ("{f}/models.py:", ["nothing after the colon"]),
        (":Net", ["nothing before the colon"]),
        ("{f}/model.py:Net", ["no such file", "models.py"]),
        ("{f}/missing/model.py:Net", ["no such file"]),
        ("{f}:Net", ["is a directory"]),
        ("{f}/models.py:net", ["no 'net'", "Net"]),
        ("{f}/models.py:number", ["it is of type int"]),
        ("{f}/models.py:broken", ["ValueError: the width is wrong", "models.py, line"]),
        ("{f}/models.py:quits", ["SystemExit"]),
        ("{f}/models.py:pair", ["returned a tuple", "torch.nn.Module"]),
        ("{f}/models.py:needs", ["--set depth="]),
        ("{f}/syntax.py:Net", ["syntax.py, line 2", "SyntaxError"]),
        ("{f}/raises.py:Net", ["ZeroDivisionError", "raises.py, line 1"]),
        ("{f}/exits.py:Net", ["ends the program"]),
        ("{f}/imports.py:Net", ["ModuleNotFoundError", "no_such_package_at_all"]),
        ("{f}/binary.py:Net", ["binary.py"]),
        ("{f}/notes.txt:Net", ["must end in .py"]),
        ("no_such_package_at_all:Net", ["no module 'no_such_package_at_all'"]),
        ("torch.nn.no_such:Net", ["no module 'torch.nn.no_such'"]),
        ("torch.nn:Lineer", ["Linear"]),
        ("torch.nn:Linear", ["--set in_features="]),
        ("torch:float32", ["it is of type dtype"]),
        ("hf:bert", ["no module 'hf'"]),
        ("http://example.org/model.py:Net", ["no such file"]),
    ],
)
def test_a_wrong_target_is_one_line_that_says_what_would_be_right(folder, target, words) -> None:
    (folder / "syntax.py").write_text("x = 1\ndef f(:\n")
    (folder / "raises.py").write_text("1 / 0\n")
    (folder / "exits.py").write_text("raise SystemExit\n")
    (folder / "imports.py").write_text("import no_such_package_at_all\n")
    (folder / "binary.py").write_bytes(b"\x00\xff\x00")
    (folder / "notes.txt").write_text("")
    one_line(
        lambda: load_model(target.replace("{f}", str(folder))),
        *[w.replace("{f}", str(folder)) for w in words],
    )


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (["width"], ["key=value"]),
        (["=3"], ["key=value"]),
        (["a=1", "a=2"], ["twice"]),
        (["a b=1"], ["key=value"]),
    ],
)
def test_wrong_settings(pairs, words) -> None:
    one_line(lambda: parse_settings(pairs), *words)


@pytest.mark.parametrize(
    ("model", "pairs", "found"),
    [
        ("char_mlp_deep", ["fan_in_scaling=none", "norm=None"], {"fan_in_scaling": "none", "norm": "none"}),
        ("char_mlp_deep", ["hidden_bias=none", "hidden=[8]"], {"hidden_bias": None, "hidden": (8,)}),
        ("char_mlp_deep", ["hidden_bias=null", "tanh=False"], {"hidden_bias": None, "tanh": False}),
        ("char_mlp_deep", ["gain=1", "vocabulary=9"], {"gain": 1.0, "vocabulary": 9}),
        ("nf_resnet_tiny", ["activation=silu"], {"activation": "silu"}),
    ],
)
def test_settings_of_a_built_in_model_are_read_as_its_options_types(
    model: str, pairs: list[str], found
) -> None:
    config = load_model(model, parse_settings(pairs)).config
    assert {key: getattr(config, key) for key in found} == found


def test_none_is_a_norm_of_a_resnet_and_no_drop_rate_of_a_normalizer_free_one() -> None:
    resnet = load_model("resnet_tiny", parse_settings(["norm=none", "num_classes=4"]))
    assert not [m for m in resnet.modules() if "Norm" in type(m).__name__]
    assert load_model("nf_resnet_tiny", parse_settings(["drop_rate=none", "num_classes=4"])) is not None


def test_settings_of_a_callable_of_ones_own_follow_its_annotations_and_defaults(tmp_path) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Linear):\n"
        "    def __init__(self, norm='batch', rate=None, size: int | None = 3, kind: 'Missing' = 'a', **more):\n"
        "        super().__init__(2, 2)\n"
        "        self.found = norm, rate, size, kind, more\n"
        "def make(norm: str | None = 'batch'):\n"
        "    return Net(norm)\n"
    )
    pairs = ["norm=none", "rate=none", "size=null", "kind=None", "other=none", "name=relu"]
    net = load_model(f"{tmp_path}/mine.py:Net", parse_settings(pairs))
    assert net.found == ("none", None, None, "None", {"other": None, "name": "relu"})
    assert load_model(f"{tmp_path}/mine.py:make", parse_settings(["norm=none"])).found[0] is None


def test_settings_that_the_model_does_not_take(folder) -> None:
    one_line(lambda: load_model(f"{folder}/models.py:Net", {"widht": 3}), "--set widht=3", "width")
    one_line(lambda: load_model(f"{folder}/models.py:make", {"width": 3}), "no arguments")
    one_line(lambda: load_model(f"{folder}/models.py:ready", {"width": 3}), "finished model")


@pytest.mark.reference
def test_timm_and_torchvision_models_come_untrained_and_by_name() -> None:
    from unitgain.targets.model import import_torchvision

    import_torchvision()
    pytest.importorskip("timm")
    assert load_model("timm:resnet18", {"num_classes": 3}).fc.out_features == 3
    assert load_model("torchvision:squeezenet1_1").num_classes == 1000
    one_line(lambda: load_model("timm:resnet5"), "resnet50")
    one_line(lambda: load_model("torchvision:resnet_50"), "resnet50")
    one_line(lambda: load_model("timm:resnet18", {"no_such": 1}), "no_such")


def test_a_library_that_is_not_installed_is_said_so(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "timm", None)
    one_line(lambda: load_model("timm:resnet50"), "timm")


# ---- batches -----------------------------------------------------------------------------------------------

LINEAR = nn.Linear(3, 4)


def save(path: Path, **arrays) -> str:
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        from safetensors.torch import save_file

        save_file({k: torch.as_tensor(v) for k, v in arrays.items()}, path)
    return str(path)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_file_gives_the_same_batch_in_both_formats(tmp_path, suffix) -> None:
    x, y = np.random.default_rng(0).normal(size=(6, 3)), np.arange(6, dtype=np.int32) % 4
    inputs, targets = load_batch(LINEAR, data=save(tmp_path / f"b{suffix}", images=x, labels=y))
    assert inputs.dtype == torch.float32
    assert targets.dtype == torch.int64
    assert torch.equal(inputs, torch.tensor(x).float())
    assert targets.tolist() == y.tolist()
    few, _ = load_batch(LINEAR, data=save(tmp_path / f"b{suffix}", x=x, y=y), count=2)
    assert torch.equal(few, inputs[:2])


def test_positional_savez_and_a_lone_array_are_understood(tmp_path) -> None:
    np.savez(tmp_path / "p.npz", np.zeros((2, 3)), np.zeros(2, dtype=np.int64))
    assert len(load_batch(LINEAR, data=str(tmp_path / "p.npz"))) == 2
    assert load_batch(LINEAR, data=save(tmp_path / "one.npz", features=np.zeros((2, 3)))).shape == (2, 3)


def test_arrays_named_like_forward_s_arguments_become_a_mapping(tmp_path) -> None:
    class Two(nn.Module):
        def forward(self, input_ids, attention_mask=None, labels=None):
            return input_ids

    ids = np.zeros((2, 5), dtype=np.int64)
    batch = load_batch(Two(), data=save(tmp_path / "b.npz", input_ids=ids, labels=ids))
    assert sorted(batch) == ["input_ids", "labels"]


def test_bytes_are_pixels_for_an_image_model_and_numbers_for_a_token_model(tmp_path) -> None:
    pixels = save(tmp_path / "p.npz", x=np.full((2, 1, 3, 3), 255, dtype=np.uint8))
    assert load_batch(nn.Conv2d(1, 1, 3), data=pixels).max() == 255.0
    tokens = save(tmp_path / "t.npz", x=np.full((2, 3), 9, dtype=np.uint8))
    assert load_batch(nn.Embedding(10, 2), data=tokens).dtype == torch.int64


def test_the_model_s_floating_type_is_taken(tmp_path) -> None:
    path = save(tmp_path / "b.npz", x=np.zeros((2, 3), dtype=np.float32))
    assert load_batch(nn.Linear(3, 4).bfloat16(), data=path).dtype == torch.bfloat16


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin"])
def test_pickle_formats_are_refused_unopened_with_the_way_out(tmp_path, suffix) -> None:
    path = tmp_path / f"b{suffix}"
    path.write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    one_line(lambda: load_batch(LINEAR, data=str(path)), "pickle", "safetensors.torch.save_file")


def test_a_pickled_npz_is_refused(tmp_path) -> None:
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "pwned",))

    np.savez(tmp_path / "b.npz", x=np.array([Bomb(), 1], dtype=object), y=np.zeros(2))
    one_line(lambda: load_batch(LINEAR, data=str(tmp_path / "b.npz")), "pickled")
    assert not (tmp_path / "pwned").exists()


def test_text_named_npz_is_not_called_a_pickle(tmp_path) -> None:
    (tmp_path / "b.npz").write_text("x,y")
    with pytest.raises(InputError) as error:
        load_batch(LINEAR, data=str(tmp_path / "b.npz"))
    assert "pickle" not in str(error.value)
    assert "not an .npz archive" in str(error.value)


def test_a_misspelt_data_file_suggests_only_what_can_be_read(tmp_path) -> None:
    (tmp_path / "batch.py").write_text("")
    save(tmp_path / "batches.npz", x=np.ones((2, 3)))
    with pytest.raises(InputError, match=r"did you mean 'batches\.npz'\?$"):
        load_batch(LINEAR, data=str(tmp_path / "batch.npz"))


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "swapped"])
def test_a_damaged_file_is_one_line(tmp_path, suffix, damage) -> None:
    good = Path(save(tmp_path / f"good{suffix}", x=np.ones((50, 3)), y=np.zeros(50, dtype=np.int64)))
    other = Path(save(tmp_path / f"o{'.npz' if suffix != '.npz' else '.safetensors'}", x=np.ones((50, 3))))
    content = {
        "truncated": good.read_bytes()[: good.stat().st_size // 2],
        "empty": b"",
        "text": b"x,y\n1,2\n",
        "swapped": other.read_bytes(),
    }[damage]
    bad = tmp_path / f"bad{suffix}"
    bad.write_bytes(content)
    one_line(lambda: load_batch(LINEAR, data=str(bad)), f"--data {bad}")


def test_a_npz_with_a_flipped_bit_is_one_line(tmp_path) -> None:
    path = tmp_path / "b.npz"
    np.savez_compressed(path, x=np.random.default_rng(0).normal(size=(50, 3)))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    one_line(lambda: load_batch(LINEAR, data=str(path)), "damaged")


def test_batches_that_do_not_fit_together_are_refused(tmp_path) -> None:
    path = tmp_path / "b.npz"

    def batch(**arrays):
        return lambda: load_batch(LINEAR, data=save(path, **arrays))

    one_line(batch(x=np.zeros((4, 3)), y=np.zeros(3)), "x 4, y 3")
    one_line(batch(x=np.zeros((0, 3)), y=np.zeros(0)), "empty")
    one_line(batch(x=np.zeros((2, 3)), z=np.zeros(2)), "x, z", "y (targets)")
    one_line(batch(x=np.zeros((2, 3)), inputs=np.zeros((2, 3))), "name the arrays")
    one_line(batch(x=np.array(["a", "b"])), "not numbers")
    one_line(batch(), "no arrays")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    one_line(lambda: load_batch(LINEAR, data=str(path)), str(path))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, ["--data", "--dataset", "--shape"]),
        ({"data": "b.npz", "shape": "2,3"}, ["only one"]),
        ({"dataset": "names", "shape": "2,3"}, ["only one"]),
        ({"data": "no/such/file.npz"}, ["no such file"]),
        ({"data": "b.csv"}, [".npz"]),
        ({"dataset": "mnist"}, ["fashion-mnist"]),
        ({"dataset": ""}, ["unknown"]),
        ({"shape": "8,x"}, ["'x'", "8,3,224,224"]),
        ({"shape": ""}, ["8,3,224,224"]),
        ({"shape": "8x3x224x224"}, ["8,3,224,224"]),
        ({"shape": "8,,3"}, ["whole number"]),
        ({"shape": "0,3"}, ["at least 1"]),
        ({"shape": "-8,3"}, ["at least 1"]),
        ({"shape": "8,3.5"}, ["whole number"]),
        ({"shape": "99999,3,99999,99999"}, ["GiB"]),
        ({"shape": "8,3", "tokens": 0}, ["--tokens 0"]),
        ({"dataset": "names", "tokens": 5}, ["--shape"]),
        ({"shape": "8,3", "count": 4}, ["--batch 4"]),
        ({"dataset": "names", "count": 0}, ["--batch 0"]),
        ({"shape": "8,5", "loss": "mse"}, ["--shape 8,5", "cannot take"]),
        ({"shape": "8,3", "tokens": 9, "loss": "mse"}, ["cannot take this token input"]),
    ],
)
def test_wrong_batch_options_are_one_line(tmp_path, monkeypatch, options, words) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.csv").write_text("1")
    save(tmp_path / "b.npz", x=np.zeros((2, 3)))
    one_line(lambda: load_batch(LINEAR, **options), *words)


def test_random_input_is_the_same_for_the_same_seed_and_leaves_the_model_alone() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 5))
    model[2].eval()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    random = torch.get_rng_state()
    batches = [load_batch(model, shape="8,3", loss="cross_entropy", seed=s) for s in (1, 1, 2)]
    assert torch.equal(batches[0][0], batches[1][0])
    assert torch.equal(batches[0][1], batches[1][1])
    assert not torch.equal(batches[0][0], batches[2][0])
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert [m.training for m in model.modules()] == [True, True, True, False, True]


@pytest.mark.parametrize(
    ("loss", "dtype"),
    [
        ("cross_entropy", torch.int64),
        ("nll", torch.int64),
        ("mse", torch.float32),
        ("bce_with_logits", torch.float32),
    ],
)
def test_random_targets_fit_the_loss_and_the_output(loss, dtype) -> None:
    x, y = load_batch(LINEAR, shape="8,3", loss=loss)
    assert y.dtype == dtype
    assert y.shape == ((8,) if dtype == torch.int64 else (8, 4))
    assert int(y.min()) >= 0 or loss == "mse"
    assert dtype != torch.int64 or int(y.max()) < 4
    assert load_batch(LINEAR, shape="8,3").shape == x.shape  # "auto": no targets are invented


def test_classes_of_every_pixel_and_of_every_token() -> None:
    _, y = load_batch(nn.Conv2d(3, 7, 1), shape="2,3,5,6", loss="cross_entropy")
    assert y.shape == (2, 5, 6)
    assert int(y.max()) < 7
    x, y = load_batch(nn.Embedding(50, 50), shape="2,9", tokens=50, loss="cross_entropy")
    assert x.dtype == torch.int64
    assert y.shape == (2, 9)


def test_a_model_that_names_its_labels_gets_them() -> None:
    class Causal(nn.Module):
        main_input_name = "input_ids"

        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(20, 20)

        def forward(self, input_ids=None, labels=None):
            return {"logits": self.table(input_ids)}

    batch = load_batch(Causal(), shape="2,7", tokens=20)
    assert torch.equal(batch["labels"], batch["input_ids"])


def test_data_sets_by_name() -> None:
    x, y = load_batch(load_model("char_mlp_tanh"), dataset="names", count=5)
    assert x.shape == (5, 3)
    assert y.shape == (5,)


# ---- images ------------------------------------------------------------------------------------------------


def picture(path: Path, colour: int | tuple[int, int, int], size: tuple[int, int] = (6, 4)) -> None:
    image = pytest.importorskip("PIL.Image")
    path.parent.mkdir(exist_ok=True)
    image.new("L" if isinstance(colour, int) else "RGB", size, colour).save(path)


def test_class_folders_give_labels_and_few_images_still_show_every_class(tmp_path) -> None:
    for label, name in enumerate(("cat", "dog", "emu")):
        for i in range(3 - label):
            picture(tmp_path / name / f"{i}.png", (80 * label, 10, i))
    images, labels = load_batch(nn.Conv2d(3, 2, 1), data=str(tmp_path), count=4, normalize=False)
    assert images.shape == (4, 3, 4, 6)
    assert labels.tolist() == [0, 1, 2, 0]
    assert images[1, 0, 0, 0] == pytest.approx(80 / 255)
    images, _ = load_batch(nn.Conv2d(3, 2, 1), data=str(tmp_path), shape="5,1,8,9")
    assert images.shape == (5, 1, 8, 9)
    assert images.mean().abs() < 1e-5
    assert images.std(correction=0) == pytest.approx(1, abs=1e-3)


def test_a_folder_without_classes_has_no_labels_and_constant_images_stay_finite(tmp_path) -> None:
    picture(tmp_path / "b.png", 7)
    picture(tmp_path / "a.png", 7, size=(3, 3))
    images = load_batch(nn.Conv2d(1, 1, 1), data=str(tmp_path))
    assert images.shape == (2, 1, 3, 3)
    assert images.isfinite().all()


def test_wrong_image_folders_are_one_line(tmp_path, monkeypatch) -> None:
    conv = nn.Conv2d(3, 2, 1)
    one_line(lambda: load_batch(conv, data=str(tmp_path)), "no images")
    (tmp_path / "a.png").write_bytes(b"not a picture")
    one_line(lambda: load_batch(conv, data=str(tmp_path)), "a.png", "cannot be read")
    picture(tmp_path / "a.png", 3, size=(40, 40))
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    one_line(lambda: load_batch(conv, data=str(tmp_path)), "a.png", "cannot be read")
    one_line(lambda: load_batch(conv, data=str(tmp_path), shape="4,4"), "64,3,224,224")
    one_line(lambda: load_batch(conv, data=str(tmp_path), shape="4,2,8,8"), "2 channels")
    monkeypatch.setitem(sys.modules, "PIL", None)
    one_line(lambda: load_batch(conv, data=str(tmp_path)), "pillow", "unitgain[data]")


def test_shapes_are_read() -> None:
    assert parse_shape("8, 3,224,224") == (8, 3, 224, 224)


def test_a_list_of_numbers_is_no_class_to_compare_with() -> None:
    """Python 3.10 says that list[int] is a type, and isinstance then raised."""
    assert targets.fit(3, list[int]) is targets.WRONG
    assert targets.read("3", Sequence[int] | int) == 3
