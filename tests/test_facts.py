"""Facts: whatever a record holds can be read, what is written comes back, and the schema is documented."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import unitgain as ug
from unitgain.record import (
    AskedFacts,
    BatchNormFacts,
    Break,
    ClipFacts,
    CouplingFacts,
    CouplingInMode,
    Facts,
    LossFacts,
    OutputFacts,
    TargetFacts,
    UnitFacts,
    is_blank,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
KEYS = sorted({f.name for f in dataclasses.fields(Facts)})
FULL = Facts(
    mode="check",
    rehearsed_steps=3,
    loss=LossFacts("cross_entropy", "cross_entropy", math.inf),
    target=TargetFacts("class_index", 10, 64),
    output=OutputFacts(site="head", shape=(64, 10), rms=0.5, examples=64, zero_head=False),
    unblocked=(),
    coupling=CouplingFacts(4, CouplingInMode(True, 0.1, "norm", "BatchNorm1d", True)),
    batch_norms=(BatchNormFacts("bn", None, 7, 0.1, 0.2), BatchNormFacts("other", 0.1, 0)),
    same_units={"fc.weight": UnitFacts(8, 2, 1)},
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no defect
@given(st.dictionaries(st.sampled_from(KEYS), JSON) | JSON)
def test_whatever_stands_in_a_record_is_read_as_facts(body: object) -> None:
    facts = Facts.from_json(body)
    assert repr(Facts.from_json(facts.to_json())) == repr(facts)


def test_facts_come_back_from_a_file(tmp_path: Path) -> None:
    with_nan = dataclasses.replace(FULL, loss=LossFacts("mse", "mse", math.nan))
    for number, facts in enumerate((FULL, with_nan, Facts())):
        record = ug.Record(tmp_path / f"{number}.sqlite")
        record.set_facts(facts)
        record.close()
        found = ug.Record.load(tmp_path / f"{number}.sqlite").facts
        assert found.to_json().keys() == facts.to_json().keys()
        assert repr(found) == repr(facts)  # NaN included


def test_nothing_known_is_nothing_known_whichever_nan_says_so() -> None:
    """Python 3.13 compares dataclasses field by field, so that NaN made every pair of facts differ."""
    assert is_blank(AskedFacts(power=float("nan"), lowest=float("nan")))
    assert not is_blank(AskedFacts(power=2.0))
    assert Facts(clip=ClipFacts(max_norm=float("nan"))).to_json() == Facts().to_json()


def test_a_loss_of_nan_is_not_taken_for_no_loss() -> None:
    assert Facts.from_json({"loss": {"value": "nan"}}).loss.value is not None
    assert Facts.from_json({"loss": {"kind": "mse"}}).loss.value is None


def test_older_records_without_a_key_and_newer_ones_with_more_are_read() -> None:
    body = {
        "mode": "training",
        "model": {"class": "Net", "parameters": {"all": 5}},
        "loss": {"kind": "cross_entropy", "value": 2.5, "reduction": "sum"},
        "target": {"classes": 10},
        "optimizer": {"name": "SGD", "lr": [0.1]},
        "graph": {"nodes": []},
    }
    facts = Facts.from_json(body)
    assert (facts.model.name, facts.model.parameters.all, facts.classes) == ("Net", 5, 10)
    assert facts.optimizer.lr == (0.1,)
    assert is_blank(facts.output)
    assert facts.same_units is None
    assert facts.loss_of_a_constant == pytest.approx(math.log(10))


@pytest.mark.parametrize("wrong", [{"target": {"classes": "ten"}}, {"target": {"classes": 2.5}}, {"target": 3},
                                   {"target": {"classes": True}}, {"target": {"classes": 10**400}}])  # fmt: skip
def test_a_value_of_the_wrong_type_is_not_known_and_spoils_nothing_else(wrong: dict) -> None:
    facts = Facts.from_json({"mode": "check", **wrong})
    assert (facts.mode, facts.target.classes) == ("check", None)


def test_breaks_of_a_damaged_record_are_left_out() -> None:
    assert Break.from_json([{"function": "exp", "module": "block", "position": 3}]) == (
        Break("exp", "block", 3),
    )
    for body in (None, {}, "exp", [3], [None]):
        assert Break.from_json(body) == ()


def test_every_fact_is_documented() -> None:
    page = (Path(__file__).parents[1] / "docs" / "reference" / "record.md").read_text(encoding="utf-8")
    section = page.split("## Facts")[1].split("\n## ")[0]
    rows = {line.split("|")[1].strip(): line for line in section.splitlines() if line.startswith("| ")}
    for name, kind in get_type_hints(Facts).items():
        assert name in rows, f"fact {name} has no row in docs/reference/record.md"
        inner = [kind, *getattr(kind, "__args__", ())]
        inner += [k for one in inner for k in getattr(one, "__args__", ())]
        for one in inner:
            for part in dataclasses.fields(one) if dataclasses.is_dataclass(one) else ():
                key = part.metadata.get("key", part.name)
                assert key in rows[name], f"{name}.{key} is not documented"
