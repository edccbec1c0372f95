"""Records on disk: one policy for damaged lines, wherever they are read."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.fake_studies import finish, record, result, spec
from support.full_disk import largest_file

from cspbench.errors import ConfigError
from cspbench.store import Store, StudyFolder, write_json, write_jsonl
from cspbench.trials.records import ResultsError, TrialLog, read_result, read_rows, study_rows


def test_a_line_cut_short_by_a_kill_is_left_out(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    path = tmp_path / "curve.jsonl"
    write_jsonl(path, [{"step": 1}, {"step": 2}])
    with path.open("a") as file:
        file.write('{"step": 3')
    assert read_rows(path) == [{"step": 1}, {"step": 2}]
    assert not recwarn.list


@pytest.mark.parametrize(
    ("damaged", "told"),
    [
        (1, "damaged line 2 left out"),
        (3, "3 damaged lines left out: 2, 3, 4"),
        (9, "9 damaged lines left out: 2, 3, 4 and 6 more"),
    ],
)
def test_damaged_lines_of_a_file_are_left_out_with_one_warning(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, damaged: int, told: str
) -> None:
    path = tmp_path / "hypotheses.jsonl"
    path.write_text('{"id": "a"}\n' + '{"id": "b\n' * (damaged - 1) + "[" * 100_000 + '\n{"id": "c"}\n')
    assert read_rows(path) == [{"id": "a"}, {"id": "c"}]
    assert [str(warning.message) for warning in recwarn] == [f"{path}: {told}"]


def test_lines_that_are_no_records_and_files_that_are_missing_are_errors(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("[1]\n")
    with pytest.raises(ResultsError, match=r"a\.jsonl:1: not a record"):
        read_rows(tmp_path / "a.jsonl")
    with pytest.raises(ResultsError, match="is missing"):
        read_rows(tmp_path / "b.jsonl")


def test_a_log_goes_on_after_a_line_cut_short(tmp_path: Path) -> None:
    log = TrialLog(tmp_path / "trials.jsonl")
    log.write(spec(seed=0), "failed", "diverged")
    with log.path.open("a") as file:
        file.write('{"trial_id": "ab')
    log.write(spec(seed=1), "failed", "no space left")
    with pytest.warns(UserWarning, match=r"trials\.jsonl: damaged line 2 left out"):
        failures = log.failures()
    assert failures == {spec(seed=0).id: "diverged", spec(seed=1).id: "no space left"}
    log.path.write_text("")
    log.write(spec(seed=0), "failed", "diverged")
    log.write(spec(seed=0), "complete")
    assert log.failures() == {}
    assert [(r.trial_id, r.state, r.parse()) for r in log.records()] == [(spec(seed=0).id, "complete", spec(seed=0))]


def test_a_line_that_a_full_disk_takes_half_of_leaves_nothing(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    log = TrialLog(tmp_path / "trials.jsonl")
    log.write(spec(seed=0), "complete")
    with largest_file(log.path.stat().st_size + 20), pytest.raises(OSError, match=r"trials\.jsonl"):
        log.write(spec(seed=1), "running")
    log.write(spec(seed=2), "complete")
    assert [record.trial_id for record in log.records()] == [spec(seed=0).id, spec(seed=2).id]
    assert not recwarn.list


def test_a_record_whose_spec_is_another_is_refused(tmp_path: Path) -> None:
    log = TrialLog(tmp_path / "trials.jsonl")
    log.write(spec(), "complete")
    log.path.write_text(log.path.read_text().replace(spec().id, "0" * 16))
    with pytest.raises(ResultsError, match=f"trials.jsonl:1: the spec has the id {spec().id}, the record says 0000"):
        log.records()[0].parse()


def test_a_result_must_be_of_its_folder(tmp_path: Path) -> None:
    store, trial = Store(tmp_path), spec()
    with pytest.raises(ResultsError, match=f"trial {trial.id} has no result"):
        read_result(store.trial(trial.id))
    write_json(store.trial("other").result, result(trial, 0.1).model_dump(mode="json"))
    with pytest.raises(ResultsError, match=f"is the result of trial {trial.id}, not of other"):
        read_result(store.trial("other"))


def test_studies_are_described(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert study_rows(store) == []
    finish(store, "s", spec(), result(spec(), 0.1))
    record(store, "s", spec("magnitude"), "failed", "boom")
    (row,) = study_rows(store)
    assert (row["study"], row["trials"], row["finished"], row["failed"]) == ("s", 2, 1, 1)
    assert (row["corpus"], row["methods"]) == ("fsdd", "csp, magnitude")


def test_a_store_finds_a_trial_by_its_first_digits(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for id in ("ab12", "ab34", "cd56"):
        store.trial(id).path.mkdir(parents=True)
    assert store.find_trial("c") == store.trial("cd56")
    assert store.find_trial("ab12") == store.trial("ab12")
    with pytest.raises(ConfigError, match="no trial 'ab': 2 trials start so: ab12, ab34"):
        store.find_trial("ab")
    assert Store(store).root == store.root
    assert StudyFolder(tmp_path).trials == tmp_path / "trials.jsonl"
