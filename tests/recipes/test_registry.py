"""What holds for every recipe, and for settings that a person writes."""

from __future__ import annotations

import dataclasses
import json
from typing import Literal

import pytest

import unitgain as ug
from unitgain import recipes
from unitgain.recipes._settings import as_json, from_json, from_text


@pytest.mark.parametrize("name", recipes.names())
def test_settings_of_every_recipe_survive_a_file(name: str) -> None:
    recipe = recipes.get(name)
    for config in (recipe.config, *recipe.presets.values()):
        assert dataclasses.fields(config)
        assert type(config).__dataclass_params__.frozen
        assert from_json(type(config), json.loads(json.dumps(as_json(config)))) == config
    assert recipe.summary


def test_explanations_are_read_from_the_docstring() -> None:
    from unitgain.cli.ladder import _explained

    recipe = recipes.get("makemore")
    found = _explained(recipe.config)
    assert {f.name for f in dataclasses.fields(recipe.config)} == set(found)
    assert found["every"].endswith("the weights are the same, bit for bit")


def test_an_unknown_recipe_is_refused_with_the_closest() -> None:
    with pytest.raises(ug.InputError, match="did you mean 'makemore'"):
        recipes.get("make-more")


@dataclasses.dataclass(frozen=True)
class Plan:
    epochs: int = 3
    lr: float = 0.1
    kind: Literal["a", "b"] = "a"
    sizes: tuple[int, ...] = (1, 2)
    note: str = ""
    limit: int | None = None
    fast: bool = False


@dataclasses.dataclass(frozen=True)
class Words:
    norm: Literal["none", "layer"] = "layer"
    rate: float | None = 0.1
    width: int | None = 3
    name: str = ""
    label: str | None = ""
    on: bool = False


@pytest.mark.parametrize("none", ["none", "None", "NONE", "null"])
def test_none_is_what_the_setting_means_by_it(none: str) -> None:
    """A text for a setting that has "none" among its values: `--set norm=none` was "expected one of none, layer"."""
    norm = [f"norm={none}"] if none != "null" else []
    found = from_text(Words(), [*norm, f"rate={none}", f"width={none}", f"name={none}", f"label={none}"])
    assert found == Words("none" if norm else "layer", None, None, none, None)


def test_texts_stay_as_they_were_typed_and_booleans_are_read_in_any_case() -> None:
    texts = ["1e3", "007", "True", "1_000", "[1]", "a=b"]
    assert [from_text(Words(), [f"name={text}"]).name for text in texts] == texts
    assert from_text(Words(), ["name='quoted'"]).name == "quoted"
    assert [from_text(Words(), [f"on={text}"]).on for text in ("true", "True", "FALSE")] == [
        True,
        True,
        False,
    ]


def test_every_setting_of_every_recipe_takes_its_own_value_as_text() -> None:
    for name in recipes.names():
        for config in (recipes.get(name).config, *recipes.get(name).presets.values()):
            for field in dataclasses.fields(config):
                value = getattr(config, field.name)
                assert getattr(from_text(config, [f"{field.name}={value}"]), field.name) == value, (
                    name,
                    field.name,
                )


def test_text_becomes_what_the_fields_want() -> None:
    found = from_text(Plan(), ["lr=1", "sizes=[3]", "note=7", "limit=none", "fast=true", "kind=b"])
    assert found == Plan(lr=1.0, sizes=(3,), note="7", fast=True, kind="b")
    assert isinstance(found.lr, float)
    assert from_text(Plan(), ["preset=long", "lr=2"], {"long": Plan(epochs=30)}) == Plan(epochs=30, lr=2.0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("epoch=3", "did you mean 'epochs'"),
        ("epochs=3.5", "--set epochs=3.5: expected a whole number"),
        ("epochs=true", "expected a whole number"),
        ("lr=fast", "expected a number"),
        ("kind=c", "expected one of a, b"),
        ("sizes=[1, x]", "expected a list"),
        ("fast=1", "expected true or false"),
        ("limit=x", "expected a whole number or none"),
        ("epochs", "write it as key=value"),
        ("preset=lnog", "did you mean 'long'"),
    ],
)
def test_text_that_fits_no_field_is_refused(text: str, says: str) -> None:
    with pytest.raises(ug.InputError) as refused:
        from_text(Plan(), [text], {"long": Plan(epochs=30)})
    assert says in str(refused.value)
