"""The record file: what goes in comes out, and what is not ours, damaged or newer is refused with a clear line."""

from __future__ import annotations

import contextlib
import math
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import unitgain as ug
from unitgain import InputError, Record, RecordError
from unitgain.record import (
    APPLICATION_ID,
    SCHEMA_VERSION,
    STATISTICS,
    Facts,
    Histogram,
    LossFacts,
    pack_map,
    unpack_map,
)

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda s: "\0" not in s
)


def filled(path: Path | None = None) -> Record:
    record = Record(path)
    fc = record.add_site(
        "activation", "fc", module="Linear", shape=(4, 3), channel_axis=1, attributes={"role": "linear"}
    )
    weight = record.add_site("parameter", "fc.weight", shape=(3, 2))
    for step in (0, 10, 20):
        record.add_scalars(
            step, {fc.id: {"mean": 0.5 * step, "std": 1.0, "absmax": math.nan}, weight.id: {"std": 2.0}}
        )
        record.add_histograms([(step, fc.id, "signed", 0.0, 2.0, np.arange(131))])
        record.log(step, loss=1.0 / (step + 1))
    record.set_meta("facts", {"mode": "training", "loss": {"value": math.inf}, "list": [1, math.nan]})
    record.add_finding("UG303", "warning", "fc", {"code": "UG303"})
    record.commit()
    return record


def assert_filled(record: Record) -> None:
    assert record.steps() == [0, 10, 20]
    assert [s.name for s in record.sites()] == ["fc", "fc.weight"]
    assert record.site("activation", "fc").shape == (4, 3)
    assert record.site("activation", "fc").attributes == {"role": "linear"}
    assert record.values("activation", 10) == {"fc": {"mean": 5.0, "std": 1.0}}
    assert record.value("parameter", "fc.weight", "std") == 2.0
    assert math.isnan(record.value("activation", "fc", "absmax"))
    assert math.isnan(record.value("gradient", "fc", "std"))
    steps, means = record.series("activation", "fc", "mean")
    assert (steps.tolist(), means.tolist()) == ([0, 10, 20], [0.0, 5.0, 10.0])
    histogram = record.histograms("activation", "fc", step=10)[0]
    assert histogram.counts.tolist() == list(range(128))
    assert histogram.atoms == (128, 129, 130)
    assert histogram.total == sum(range(131))
    assert histogram.edges[[0, -1]].tolist() == [0.0, 2.0]
    assert record.metric("loss")[1].tolist() == pytest.approx([1, 1 / 11, 1 / 21])
    assert record.metric_names() == ["loss"]
    assert record.meta["facts"] == {"mode": "training", "loss": {"value": "inf"}, "list": [1, "nan"]}
    assert record.facts == Facts(mode="training", loss=LossFacts(value=math.inf))
    assert record.findings() == [{"code": "UG303"}]
    frame = record.frame("activation")
    assert len(frame) == 3
    assert frame.where(step=20)["mean"].tolist() == [10.0]


def test_what_was_written_is_read_in_memory_from_a_file_and_from_a_copy(tmp_path: Path) -> None:
    assert_filled(filled())
    path, copy = tmp_path / "run 1 #%?.sqlite", tmp_path / "copy.sqlite"
    record = filled(path)
    assert_filled(record)
    assert_filled(Record.load(path))
    record.save(copy)
    record.close()
    record.close()
    assert_filled(Record.load(path))
    assert_filled(Record.load(str(copy)))
    filled().save(tmp_path / "from memory.sqlite")
    assert_filled(Record.load(tmp_path / "from memory.sqlite"))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.dictionaries(NAMES, st.dictionaries(st.sampled_from(STATISTICS), st.floats()), min_size=1, max_size=4),
    st.dictionaries(NAMES, st.floats() | st.text(max_size=5) | st.none() | st.booleans(), max_size=3),
)  # fmt: skip
def test_any_name_and_any_value_survives(sites, meta) -> None:
    record = Record()
    for name, values in sites.items():
        site = record.add_site("gradient", name, attributes=meta)
        assert record.add_site("gradient", name) is site
        record.add_scalars(3, {site.id: values})
    for name, values in sites.items():
        for statistic in STATISTICS:
            want = values.get(statistic, math.nan)
            got = record.value("gradient", name, statistic, 3)
            assert got == want or (math.isnan(got) and math.isnan(want))
    assert set(record.values("gradient", 3)) == set(sites)
    record.set_meta("meta", meta)
    for key, value in record.meta["meta"].items():
        want = meta[key]
        if isinstance(want, float) and not math.isfinite(want):
            want = "nan" if math.isnan(want) else "inf" if want > 0 else "-inf"
        assert value == want


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 9), st.integers(0, 20), st.integers(0, 999))
def test_maps_survive_packing(rows: int, cols: int, seed: int) -> None:
    flags = np.random.default_rng(seed).random((rows, cols)) < 0.5
    assert np.array_equal(unpack_map(pack_map(flags)), flags)


def test_damaged_maps_are_refused() -> None:
    packed = pack_map(np.ones((8, 8), dtype=bool))
    with pytest.raises(RecordError, match="damaged"):
        unpack_map({**packed, "rows": 80})
    with pytest.raises(InputError, match="shape"):
        pack_map(np.ones(3, dtype=bool))


def read_all(path: Path) -> None:
    record = Record.load(path)
    try:
        for read in (record.sites, record.steps, record.frame, record.metric_names, record.findings):
            read()
        assert isinstance(record.meta, dict)
        record.histograms("activation")
    finally:
        record.close()


def refused(path: Path, message: str) -> None:
    with pytest.raises(RecordError, match=message) as caught:
        read_all(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"
    filled(path).close()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    connection.close()
    refused(path, "newer")


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.sqlite"
    with contextlib.closing(sqlite3.connect(foreign, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE meta (key, value)")
    connection.close()
    refused(foreign, "not a unitgain record")
    for name, content in {
        "text": b"step,loss\n1,2\n" * 100,
        "empty": b"",
        "zip": b"PK\x03\x04" + bytes(500),
    }.items():
        path = tmp_path / name
        path.write_bytes(content)
        refused(path, "not a unitgain record")
    refused(tmp_path / "missing.sqlite", "no such file")
    refused(tmp_path, "no such file")
    marked = tmp_path / "marked.sqlite"
    with contextlib.closing(sqlite3.connect(marked, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        connection.execute("CREATE TABLE other (x)")
    connection.close()
    refused(marked, "cannot be read|not a unitgain")


@pytest.mark.parametrize("keep", [10, 99, 4096, 6000, 0.5, 0.9])
def test_truncated_files_are_refused(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "run.sqlite"
    filled(path).close()
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    refused(path, "not a unitgain record|cannot be read")


def test_corrupt_files_are_refused_or_read_but_never_crash(tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"
    filled(path).close()
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(40):
        damaged = bytearray(whole)
        start = int(rng.integers(100, len(whole) - 200))
        damaged[start : start + 200] = rng.integers(0, 256, 200, dtype=np.uint8).tobytes()
        path.write_bytes(damaged)
        try:
            read_all(path)
            outcomes.add("read")
        except RecordError:
            outcomes.add("refused")
    assert "refused" in outcomes


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"
    filled(path).close()
    with pytest.raises(InputError, match="exists"):
        Record(path)
    with pytest.raises(InputError, match="exists"):
        filled().save(path)
    with pytest.raises(InputError, match=r"run\.sqlite"):
        Record(tmp_path / "no" / "such" / "folder" / "run.sqlite")


def test_wrong_names_are_refused_by_name() -> None:
    record = filled()
    with pytest.raises(InputError, match="activations"):
        record.add_site("activations", "fc")
    with pytest.raises(InputError, match="stddev"):
        record.value("activation", "fc", "stddev")
    with pytest.raises(InputError, match="stddev"):
        record.series("activation", "fc", "stddev")
    for read in (
        lambda: record.frame("actvation"),
        lambda: record.values("actvation"),
        lambda: record.value("actvation", "fc", "std"),
        lambda: record.series("actvation", "fc", "std"),
        lambda: record.histograms("actvation"),
        lambda: record.sites("actvation"),
    ):
        with pytest.raises(InputError, match="'actvation' is unknown; did you mean 'activation'"):
            read()
    with pytest.raises(KeyError, match="stddev"):
        record.frame()["stddev"]


def test_a_loaded_record_is_not_written_to(tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"
    filled(path).close()
    before = path.read_bytes()
    loaded = Record.load(path)
    for write in (
        lambda: loaded.log(30, loss=1.0),
        lambda: loaded.set_meta("x", 1),
        lambda: loaded.add_site("gradient", "new"),
        lambda: loaded.add_scalars(1, {1: {"std": 1.0}}),
        lambda: loaded.add_histograms([(1, 1, "signed", 0.0, 1.0, np.zeros(131))]),
        lambda: loaded.add_finding("UG101", "error", None, {}),
    ):
        with pytest.raises(InputError, match=r"run\.sqlite: it was opened for reading"):
            write()
    loaded.close()
    assert path.read_bytes() == before


def test_overwriting_replaces_a_record_and_never_anything_else(tmp_path: Path) -> None:
    path, weights = tmp_path / "run.sqlite", tmp_path / "model.pt"
    filled(path).close()
    with pytest.raises(InputError) as refused:
        Record(path)
    assert f"to a Learner: record=ug.Record({str(path)!r}, overwrite=True)" in str(refused.value)
    record = Record(path, overwrite=True)
    assert record.steps() == []
    record.close()
    weights.write_bytes(b"PK" + bytes(200))
    with pytest.raises(InputError, match="no unitgain record"):
        Record(weights, overwrite=True)
    with pytest.raises(InputError, match="no unitgain record"):
        filled().save(weights, overwrite=True)
    with pytest.raises(InputError, match="that is a folder"):
        Record(tmp_path, overwrite=True)
    assert weights.stat().st_size == 202
    filled().save(path, overwrite=True)
    assert_filled(Record.load(path))
    own = filled(tmp_path / "own.sqlite")
    with pytest.raises(InputError, match="over itself"):
        own.save(tmp_path / "own.sqlite", overwrite=True)


def test_a_record_whose_writer_was_killed_can_be_overwritten_with_its_log(tmp_path: Path) -> None:
    """Before the first checkpoint everything is in the write-ahead log; a new file must not inherit it."""
    source, path = tmp_path / "a.sqlite", tmp_path / "b.sqlite"
    record = filled(source)
    for end in ("", "-wal", "-shm"):
        Path(f"{path}{end}").write_bytes(Path(f"{source}{end}").read_bytes())
    record.close()
    with pytest.raises(InputError, match="overwrite=True"):
        Record(path)
    again = Record(path, overwrite=True)
    assert (again.steps(), again.sites()) == ([], [])
    again.close()


def test_a_closed_record_says_so(tmp_path: Path) -> None:
    record = filled(tmp_path / "run.sqlite")
    record.close()
    with pytest.raises(InputError, match="closed"):
        record.log(1, loss=1.0)


def test_a_file_that_is_refused_is_closed_again(tmp_path: Path, monkeypatch) -> None:
    """The connection to a file that is no SQLite database stayed open, and on Windows the file locked."""
    opened = []
    connect = sqlite3.connect

    def remember(*args, **kwargs):
        opened.append(connect(*args, **kwargs))
        return opened[-1]

    monkeypatch.setattr(sqlite3, "connect", remember)
    path = tmp_path / "notes.txt"
    path.write_text("no database" * 100)
    with pytest.raises(RecordError):
        Record.load(path)
    assert len(opened) == 1
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        opened[0].execute("SELECT 1")


def test_a_record_of_the_first_schema_is_read_and_continued(tmp_path: Path) -> None:
    """It holds histograms of magnitudes where later ones are signed."""
    path = tmp_path / "old.sqlite"
    record = Record(path)
    site = record.add_site("activation", "fc", module="Linear", shape=(4, 3))
    for step in (0, 10):
        record.add_scalars(step, {site.id: {"std": 1.0}})
        record.add_histograms([(step, site.id, "linear", 0.0, 2.5, np.arange(64))])
    record.close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version=1")
        connection.commit()
    old = Record.load(path).histograms("activation", "fc")
    assert [(h.step, h.scale, h.high, h.total) for h in old] == [
        (0, "linear", 2.5, 2016),
        (10, "linear", 2.5, 2016),
    ]
    assert ug.plots.color_dim(Record.load(path)).axes
    continued = Record.reopen(path, before=10)
    continued.add_scalars(10, {site.id: {"std": 1.0}})
    continued.add_histograms([(10, site.id, "signed", -1.0, 1.0, np.arange(131))])
    continued.close()
    assert [h.scale for h in Record.load(path).histograms("activation", "fc")] == ["linear", "signed"]
    assert Record.load(path).meta["schema_version"] == SCHEMA_VERSION


def test_histograms_of_an_unknown_scale_are_refused_by_name() -> None:
    with pytest.raises(InputError, match="scale 'log10' is unknown"):
        Record().histograms("activation", scale="log10")


def test_counts_drawn_on_other_bins_are_all_there() -> None:
    histogram = Histogram(0, "fc", "signed", -2.0, 2.0, np.full(128, 2), (3, 5, 7))
    for edges in (np.linspace(-2, 2, 65), np.linspace(-1, 8, 11), np.array([-0.5, 0.25, 0.3])):
        assert histogram.onto(edges).sum() == pytest.approx(256 + 15)
    assert histogram.onto(np.array([-2.0, -1.0, 0.0, 1.0, 2.0])).tolist() == [64, 67, 69, 71]
    assert histogram.onto(np.array([-2.0, 0.0, 2.0]), atoms=False).tolist() == [128, 128]
