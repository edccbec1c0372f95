import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from support.fake_studies import finish, record, result, spec, write_study

import cspbench
from cspbench import load_results
from cspbench.errors import CspbenchError
from cspbench.report.results import ResultsError, load_curve, load_hypotheses, load_result
from cspbench.store import Store

ASKED = {
    *("trial_id", "method", "sparsity_requested", "sparsity", "wer", "wer_low", "wer_high", "latency_ms"),
    *("latency_p95_ms", "rtf", "size_bytes", "dense_wer", "dense_latency_ms", "seed", "state", "dev_wer"),
    *("dense_dev_wer", "dense_latency_p95_ms", "dense_size_bytes", "dense_rtf", "steps", "train_seconds"),
    *("corpus", "synthetic", "error"),
}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


def test_a_row_says_what_the_result_says(store):
    trial = spec("magnitude", 0.75, seed=3, params={"scope": "layer", "begin": 0.1})
    finish(store, "s", trial, result(trial, wer=0.25, dev=0.2, dense=0.01))
    frame = load_results("s", store.root)
    assert set(frame.columns) >= ASKED
    row = frame.iloc[0]
    assert (row["trial_id"], row["method"], row["seed"], row["state"]) == (trial.id, "magnitude", 3, "complete")
    assert (row["wer"], row["dev_wer"], row["dense_wer"], row["dense_dev_wer"]) == (0.25, 0.2, 0.01, 0.01)
    assert row["wer_low"] < row["wer"] < row["wer_high"]
    assert row["latency_ms"] == pytest.approx(0.1 + 1.1 * 0.25)
    assert (row["dense_latency_ms"], row["dense_latency_p95_ms"], row["dense_size_bytes"]) == (0.8, 0.9, 7_000_000)
    assert (row["params.scope"], row["params.begin"]) == ("layer", 0.1)
    assert (row["protocol.threads"], row["protocol.execution"]) == (1, "packed CSR")
    assert pd.isna(row["error"])
    assert not row["synthetic"]


def test_one_row_a_trial_the_last_line_counts(store):
    first, second = spec(seed=0), spec(seed=1)
    record(store, "s", first, "running")
    record(store, "s", second, "running")
    finish(store, "s", first, result(first, 0.1))
    record(store, "s", second, "failed", error="diverged")
    frame = load_results("s", store.root)
    assert frame["trial_id"].tolist() == [first.id, second.id]
    assert frame["state"].tolist() == ["complete", "failed"]
    assert frame["error"].fillna("").tolist() == ["", "diverged"]


@pytest.mark.parametrize("state", ["failed", "running", "pruned"])
def test_unfinished_trials_have_no_measures(store, state):
    trial = spec("csp", 0.9, params={"rho": 2.0})
    record(store, "s", trial, state, error="out of memory" if state == "failed" else None)
    row = load_results("s", store.root).iloc[0]
    assert row["state"] == state
    assert np.isnan(row[["wer", "sparsity", "latency_ms", "size_bytes", "dense_wer"]].astype(float)).all()
    assert (row["sparsity_requested"], row["params.rho"]) == (0.9, 2.0)


def test_hyperparameters_are_a_union(store):
    for trial in (spec("csp", params={"rho": 1.0}), spec("lottery", params={"rounds": 3})):
        finish(store, "s", trial, result(trial, 0.1))
    frame = load_results("s", store.root).set_index("method")
    assert frame.loc["csp", "params.rho"] == 1.0
    assert np.isnan(frame.loc["csp", "params.rounds"])
    assert frame.loc["lottery", "params.rounds"] == 3


def test_result_on_disk_counts_when_the_sweep_died_before_noting_it(store):
    trial = spec()
    finish(store, "s", trial, result(trial, 0.1))
    record(store, "s", trial, "running")
    assert load_results("s", store.root)["state"].tolist() == ["complete"]


def test_a_result_that_vanished_is_said_to_be_missing(store):
    trial = spec()
    record(store, "s", trial, "complete")
    row = load_results("s", store.root).iloc[0]
    assert row["state"] == "missing"
    assert trial.id in row["error"]
    with pytest.raises(ResultsError, match="has no result"):
        load_result(store, trial.id)


def test_a_last_line_cut_short_is_left_out(store, recwarn):
    trial = spec()
    finish(store, "s", trial, result(trial, 0.1))
    with store.study("s").trials.open("a") as file:
        file.write('{"trial_id": "abc", "state": "compl')
    assert load_results("s", store.root)["trial_id"].tolist() == [trial.id]
    assert not recwarn.list


def test_a_damaged_line_before_others_is_warned_of(store):
    path = store.study("s").trials
    path.parent.mkdir(parents=True)
    path.write_text('{"trial_id": "abc", "sta\n')
    trial = spec()
    finish(store, "s", trial, result(trial, 0.1))
    with pytest.warns(UserWarning, match=r"trials\.jsonl:1: damaged"):
        assert len(load_results("s", store.root)) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [('["a"]', "not a record"), ("{}", "no trial_id"), ('{"trial_id": "a", "state": "running"}', "no spec")],
)
def test_records_that_are_no_trials_are_refused_with_their_line(store, line, message):
    path = store.study("s").trials
    path.parent.mkdir(parents=True)
    path.write_text(line + "\n")
    with pytest.raises(ResultsError, match=rf"trials\.jsonl:1: .*{message}"):
        load_results("s", store.root)


def test_a_result_of_another_schema_is_refused(store):
    trial = spec()
    finish(store, "s", trial, result(trial, 0.1))
    path = store.trial(trial.id).result
    path.write_text(json.dumps(json.loads(path.read_text()) | {"surprise": 1}))
    with pytest.raises(ResultsError, match="surprise"):
        load_results("s", store.root)


def test_an_unknown_study_lists_those_there(store):
    with pytest.raises(CspbenchError, match="none yet"):
        load_results("rnnt", store.root)
    for name in ("rnnt", "smoke"):
        record(store, name, spec(), "running")
    assert store.studies() == ["rnnt", "smoke"]
    with pytest.raises(CspbenchError, match=r"no study 'rntt'.*did you mean 'rnnt'.*rnnt, smoke"):
        load_results("rntt", store.root)


@pytest.mark.parametrize("name", ["../etc", "a/b", "", ".."])
def test_a_study_cannot_name_a_path(store, name):
    with pytest.raises(CspbenchError, match="cannot name a folder"):
        load_results(name, store.root)


def test_an_empty_list_of_trials_is_an_empty_frame(store):
    path = store.study("s").trials
    path.parent.mkdir(parents=True)
    path.write_text("")
    frame = load_results("s", store.root)
    assert len(frame) == 0
    assert set(frame.columns) >= ASKED


def test_settings_differ_by_what_was_chosen_and_not_by_sparsity_or_seed(store):
    trials = [
        spec("csp", 0.5, 0),
        spec("csp", 0.9, 1),
        spec("csp", 0.5, 0, params={"rho": 1.0}),
        spec("lottery", 0.5, 0),
    ]
    for trial in trials:
        record(store, "s", trial, "running")
    same, also, other, method = load_results("s", store.root)["setting"]
    assert same == also
    assert len({same, other, method}) == 3


def test_hypotheses_and_curves_are_read_back(tmp_path):
    store = write_study(tmp_path, methods=["csp"], sparsities=[0.5], seeds=[0])
    frame = load_results("demo", tmp_path)
    hypotheses = load_hypotheses(store, frame["trial_id"][0])
    assert hypotheses["edits"].sum() / hypotheses["words"].sum() == pytest.approx(frame["wer"][0], abs=0.01)
    assert load_curve(store, frame["trial_id"][0])["loss"].is_monotonic_decreasing
    with pytest.raises(ResultsError, match="missing"):
        load_hypotheses(store, "nothing")


def test_the_package_does_not_import_pandas_until_results_are_asked_for():
    code = (
        "import sys, cspbench; assert not {'pandas', 'torch', 'matplotlib'} & set(sys.modules); "
        "cspbench.load_results; assert 'pandas' in sys.modules; assert 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="load_result'"):
        _ = cspbench.load_result
