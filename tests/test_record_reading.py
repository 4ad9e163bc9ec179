"""A Record as a file: what is written comes back, and reading does not grow with what is not asked for."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import unitgain as ug
from unitgain import InputError
from unitgain.record import Record


def filled(record: Record, steps: list[int], sites: int = 1) -> Record:
    made = [record.add_site("activation", f"layer{i}", shape=(4, 8), channel_axis=1) for i in range(sites)]
    for step in steps:
        record.add_scalars(step, {site.id: {"std": 1.0 + step} for site in made})
    record.commit()
    return record


@given(steps=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20))
def test_steps_are_ascending_and_each_is_there_once(steps: list[int]) -> None:
    assert filled(Record(), steps, sites=2).steps() == sorted(set(steps))


READS = {
    "steps": lambda record: record.steps(),
    "series": lambda record: record.series("activation", "layer1", "std")[1].tolist(),
    "value": lambda record: record.value("activation", "layer1", "std"),
    "value at a step": lambda record: record.value("activation", "layer1", "std", 20),
}
EXPECTED = {"steps": [0, 10, 20], "series": [1.0, 11.0, 21.0], "value": 1.0, "value at a step": 21.0}


@pytest.mark.parametrize("read", READS)
def test_reading_steps_or_one_site_does_not_read_every_row(read: str) -> None:
    """A page that asks for the steps of a long run of a large model again and again must not crawl."""

    def work(sites: int) -> int:
        record = filled(Record(), [0, 10, 20], sites)
        instructions = 0

        def count() -> int:
            nonlocal instructions
            instructions += 1
            return 0

        record._connection.set_progress_handler(count, 1)
        assert READS[read](record) == EXPECTED[read]
        record._connection.set_progress_handler(None, 1)
        return instructions

    assert work(sites=1000) == work(sites=10)


def test_a_site_that_came_later_has_its_first_value() -> None:
    record = filled(Record(), [0, 10])
    late = record.add_site("activation", "late")
    assert record.value("activation", "late", "std") != record.value("activation", "late", "std")
    record.add_scalars(10, {late.id: {"std": 7.0}})
    assert record.value("activation", "late", "std") == 7.0
    assert record.value("activation", "late", "std", 10) == 7.0
    assert record.series("activation", "late", "std")[0].tolist() == [10]


def test_a_reader_sees_the_steps_that_were_added_after_it_opened(tmp_path: Path) -> None:
    writer = filled(Record(tmp_path / "run.sqlite"), [0])
    reader = Record.load(tmp_path / "run.sqlite")
    assert reader.steps() == [0]
    filled(writer, [5])
    assert reader.steps() == [0, 5]
    reader.close()
    writer.close()


def test_a_foreign_or_newer_file_is_refused(tmp_path: Path) -> None:
    foreign, newer = tmp_path / "foreign.sqlite", tmp_path / "newer.sqlite"
    for path, application, version in ((foreign, 1, 1), (newer, 0x75676E31, 99)):
        connection = sqlite3.connect(path)
        connection.execute(f"PRAGMA application_id={application}")
        connection.execute(f"PRAGMA user_version={version}")
        connection.close()
    with pytest.raises(ug.RecordError, match="not a unitgain record"):
        Record.load(foreign)
    with pytest.raises(ug.RecordError, match="newer unitgain"):
        Record.load(newer)


def test_reading_leaves_no_files_behind(tmp_path: Path) -> None:
    written = Record(str(tmp_path / "run.sqlite"))
    filled(written, [0, 10])
    written.close()
    record = Record.load(str(tmp_path / "run.sqlite"))
    assert record.steps() == [0, 10]
    assert [p.name for p in tmp_path.iterdir()] == ["run.sqlite"]


def test_a_record_that_is_being_written_is_read_through_a_link_too(tmp_path: Path) -> None:
    written = filled(Record(str(tmp_path / "run.sqlite")), [0, 10])
    (tmp_path / "link.sqlite").symlink_to(tmp_path / "run.sqlite")
    assert Record.load(str(tmp_path / "link.sqlite")).steps() == [0, 10]
    written.close()


def test_refresh_sees_a_run_that_went_on(tmp_path: Path) -> None:
    path = str(tmp_path / "run.sqlite")
    filled(Record(path), [0, 10]).close()
    reader = Record.load(path)
    writer = Record.reopen(path, before=20)
    filled(writer, [20])
    reader.refresh()
    assert reader.steps() == [0, 10, 20]
    writer.close()


# ---- names that are not there ------------------------------------------------------------------------------------


@pytest.fixture
def named() -> Record:
    record = Record()
    activation = record.add_site("activation", "encoder.fc1")
    weight = record.add_site("parameter", "encoder.fc1.weight")
    record.add_scalars(0, {activation.id: {"std": 1.0}, weight.id: {"std": 0.5}})
    record.log(0, loss=2.0)
    return record


def test_a_mistyped_site_is_told_and_not_taken_for_one_that_was_not_measured(named: Record) -> None:
    for ask in (named.value, named.series):
        with pytest.raises(
            InputError, match=r"no site is called 'encoder\.fc2'; did you mean 'encoder\.fc1'"
        ):
            ask("activation", "encoder.fc2", "std")
    with pytest.raises(InputError, match=r"no site is called 'encoder\.fc2'"):
        named.histograms("activation", "encoder.fc2")
    assert np.isnan(
        named.value("gradient", "encoder.fc1", "std")
    )  # it is there, its gradient was not measured
    assert len(named.series("update", "encoder.fc1.weight", "ratio")[0]) == 0


def test_a_mistyped_metric_is_told_unless_it_is_optional(named: Record) -> None:
    with pytest.raises(InputError, match="no metric is called 'los'; did you mean 'loss'"):
        named.metric("los")
    assert len(named.metric("lr", optional=True)[0]) == 0
    assert len(named.metric("loss", after=0)[0]) == 0


def test_of_an_empty_record_nothing_is_mistyped() -> None:
    record = Record()
    assert np.isnan(record.value("activation", "fc1", "std"))
    assert len(record.metric("loss")[0]) == 0


def test_what_is_read_at_one_moment_does_not_grow_while_a_run_is_judged(tmp_path: Path) -> None:
    """Rules put tables side by side that were read one after the other: of a run that was written meanwhile one had a
    step more, and judging ended in a ValueError."""
    written = Record(tmp_path / "run.sqlite")
    written.add_site("activation", "a", position=0, module="ReLU", shape=(1,))
    written.add_scalars(0, {1: {"mean": 1.0}})
    written.commit()
    read = Record.load(tmp_path / "run.sqlite")
    with read.at_one_moment():
        written.add_site("activation", "b", position=1, module="ReLU", shape=(1,))
        written.add_scalars(1, {1: {"mean": 1.0}, 2: {"mean": 1.0}})
        written.commit()
        assert read.steps() == [0]
    with read.at_one_moment():
        assert read.steps() == [0, 1]
        assert [site.name for site in read.sites()] == ["a", "b"]
    read.close()
    written.close()
