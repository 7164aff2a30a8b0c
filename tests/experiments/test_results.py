"""The results file: what was written stays, foreign and broken files are refused and left alone."""

import sqlite3

import pytest

from mpsim.experiments.results import Results, ResultsError, settings_key


@pytest.fixture
def results(tmp_path):
    with Results.in_folder(tmp_path) as opened:
        yield opened


def start(results, key="k"):
    results.start(key, {"seed": 0, "scheme": "float32"}, plan="{}", environment={"backend": "reference"})


def test_epochs_and_result_come_back(results):
    start(results)
    results.add_epoch("k", 0, {"train_loss": 2.5}, b"one")
    results.add_epoch("k", 1, {"train_loss": 2.0}, b"two")
    assert results.checkpoint("k") == (1, b"two")
    assert results.history("k") == [{"train_loss": 2.5}, {"train_loss": 2.0}]
    assert results.epochs_done() == {"k": 2}
    assert results.result("k") is None
    results.finish("k", {"test_accuracy": 0.5, "semantics_version": 2}, final_plan="{1}")
    assert results.result("k") == {"test_accuracy": 0.5, "semantics_version": 2}
    assert results.checkpoint("k") is None
    assert results.plans("k") == ("{}", "{1}")
    (run,) = results.runs()
    assert run.settings == {"seed": 0, "scheme": "float32"}


def test_the_key_depends_on_every_setting_and_not_on_their_order():
    settings = {"scheme": "largest_first", "ratio": 0.5, "seed": 0}
    keys = {settings_key({**settings, name: 7}) for name in settings} | {settings_key(settings)}
    assert len(keys) == 4
    assert settings_key(dict(reversed(settings.items()))) == settings_key(settings)


def test_starting_twice_keeps_the_first(results):
    start(results)
    results.add_epoch("k", 0, {}, b"state")
    start(results)
    assert results.checkpoint("k") == (0, b"state")


def test_two_readers_and_writers(tmp_path):
    with Results.in_folder(tmp_path) as one, Results.in_folder(tmp_path) as two:
        start(one)
        start(two, "other")
        assert [run.key for run in two.runs()] == [run.key for run in one.runs()] == ["k", "other"]


def test_a_full_disk_is_told_and_loses_nothing(results):
    start(results)
    results.add_epoch("k", 0, {"epoch": 0}, b"small")
    pages = results._database.execute("PRAGMA page_count").fetchone()[0]
    results._database.execute(f"PRAGMA max_page_count = {pages}")  # SQLite then says what it says on a full disk
    with pytest.raises(ResultsError, match=r"disk is full.*Earlier entries are kept"):
        results.add_epoch("k", 1, {"epoch": 1}, bytes(1 << 20))
    assert results.history("k") == [{"epoch": 0}]
    assert results.checkpoint("k") == (0, b"small")
    results._database.execute("PRAGMA max_page_count = 100000")
    results.add_epoch("k", 1, {"epoch": 1}, bytes(1 << 20))
    assert len(results.history("k")) == 2


@pytest.mark.parametrize("content", [b"not a database at all, but long enough" * 30, b"SQLite format 3\0"])
def test_a_file_of_another_kind_is_refused_and_left_alone(tmp_path, content):
    file = tmp_path / "mpsim.sqlite"
    file.write_bytes(content)
    with pytest.raises(ResultsError, match="not a database"):
        Results.in_folder(tmp_path)
    assert file.read_bytes() == content


def test_another_programs_database_is_refused_and_left_alone(tmp_path):
    file = tmp_path / "mpsim.sqlite"
    database = sqlite3.connect(file)
    database.execute("CREATE TABLE recipes (name TEXT)")
    database.commit()
    database.close()
    content = file.read_bytes()
    with pytest.raises(ResultsError, match="another program"):
        Results.in_folder(tmp_path)
    assert file.read_bytes() == content


def test_a_newer_version_is_refused(tmp_path):
    with Results.in_folder(tmp_path) as results:
        results._database.execute("PRAGMA user_version = 99")
    with pytest.raises(ResultsError, match="version 99"):
        Results.in_folder(tmp_path)


def test_a_missing_file_is_told_where_none_should_be_made(tmp_path):
    with pytest.raises(ResultsError, match="mpsim sweep"):
        Results.in_folder(tmp_path, create=False)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="cannot create the results folder"):
        Results.in_folder(tmp_path / "file" / "results")
