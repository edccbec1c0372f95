import json

import numpy as np
import pandas as pd
import pytest
from support.fake_studies import finish, record, result, spec, word_errors, write_study

from cspbench import load_results
from cspbench.errors import CspbenchError
from cspbench.report.frames import load_curves, load_hypotheses, load_layers
from cspbench.report.results import count_states
from cspbench.result import METRICS, Memory
from cspbench.store import Store
from cspbench.trials.records import ResultsError

ASKED = {
    *("trial_id", "method", "seed", "state", "corpus", "synthetic", "error", "schema", "formats", "wer"),
    *METRICS,
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
    rates = (row["test_wer"], row["dev_wer"], row["dense_test_wer"], row["dense_dev_wer"])
    assert rates == (0.25, 0.2, 0.01, 0.01)
    assert row["wer"] == row["test_wer"]
    assert row["wer_change"] == pytest.approx(24)
    assert row["test_wer_low"] < row["test_wer"] < row["test_wer_high"]
    assert (row["size_bytes"], row["smallest_bytes"], row["formats"]) == (2_975_000, 2_380_000, "6 x csr16 fp32")
    assert row["compression"] == pytest.approx(7_000_000 / 2_975_000)
    assert row["latency_ms"] == pytest.approx(0.1 + 1.1 * 0.25)
    assert (row["dense_latency_ms"], row["dense_latency_p95_ms"], row["dense_size_bytes"]) == (0.8, 0.9, 7_000_000)
    assert (row["params.scope"], row["params.begin"]) == ("layer", 0.1)
    assert (row["protocol.threads"], row["protocol.execution"]) == (1, "packed CSR")
    assert pd.isna(row["error"])
    assert not row["synthetic"]


def test_metrics_are_those_of_the_table_and_what_is_unknown_is_absent():
    trial = spec()
    found = result(trial, 0.1)
    metrics = found.metrics()
    assert metrics.keys() < METRICS.keys()
    assert not {"int8_wer", "test_cer", "test_loss", "test_deletions", "latency_conclusive"} & metrics.keys()
    errors = found.test.model_copy(
        update={"cer": 0.04, "loss": 1.5, "deletions": 3, "substitutions": 2, "insertions": 1}
    )
    more = found.model_copy(update={"test": errors, "int8_test": word_errors(0.12)}).metrics()
    assert (more["test_cer"], more["test_loss"], more["test_deletions"], more["int8_wer"]) == (0.04, 1.5, 3, 0.12)
    assert list(more) == [name for name in METRICS if name in more]
    assert "wer_change" not in found.model_copy(update={"dense_test": word_errors(0.0)}).metrics()


def test_a_result_that_did_not_record_its_file_has_the_size_of_the_weights_that_were_timed():
    found = result(spec(), 0.1)
    times = {"packed": found.latency.packed, "dense": found.latency.dense}
    old = {name: time.model_copy(update={"file_bytes": None}) for name, time in times.items()}
    report = found.latency.model_copy(update=old)
    metrics = found.model_copy(update={"latency": report}).metrics()
    assert not {"size_bytes", "compression"} & metrics.keys()
    assert metrics["dense_size_bytes"] == 7_000_000
    held = {"packed": Memory(weights=500, state=0), "dense": Memory(weights=2000, state=0)}
    report = report.model_copy(update={name: old[name].model_copy(update={"memory": held[name]}) for name in old})
    metrics = found.model_copy(update={"latency": report}).metrics()
    assert (metrics["size_bytes"], metrics["dense_size_bytes"], metrics["compression"]) == (500, 2000, 4)


def test_one_row_a_trial_the_last_line_counts(store):
    first, second = spec(seed=0), spec(seed=1)
    record(store, "s", first, "running")
    record(store, "s", second, "running")
    finish(store, "s", first, result(first, 0.1))
    record(store, "s", second, "failed", error="diverged")
    frame = load_results("s", store.root)
    assert frame["trial_id"].tolist() == [first.id, second.id]
    assert frame["state"].tolist() == ["complete", "failed"]
    assert count_states("s", store) == {"complete": 1, "failed": 1}
    assert frame["error"].fillna("").tolist() == ["", "diverged"]


@pytest.mark.parametrize("state", ["failed", "running", "stopped"])
def test_unfinished_trials_have_no_measures(store, state):
    trial = spec("csp", 0.9, params={"rho": 2.0})
    record(store, "s", trial, state, error="out of memory" if state == "failed" else None)
    row = load_results("s", store.root).iloc[0]
    assert row["state"] == state
    assert np.isnan(
        row[["test_wer", "wer", "sparsity", "latency_ms", "size_bytes", "dense_test_wer"]].astype(float)
    ).all()
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
    assert count_states("s", store) == {"missing": 1}
    assert trial.id in row["error"]
    assert load_layers("s", store).empty


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
    with pytest.warns(UserWarning, match=r"trials\.jsonl: damaged line 1"):
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
    with pytest.raises(CspbenchError, match="no study"):
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
    hypotheses = load_hypotheses(frame["trial_id"][0], tmp_path)
    assert hypotheses["edits"].sum() / hypotheses["words"].sum() == pytest.approx(frame["wer"][0], abs=0.01)
    assert load_curves(frame["trial_id"][0], tmp_path)["loss"].is_monotonic_decreasing
    with pytest.raises(ResultsError, match="no study 'nothing'"):
        load_hypotheses("nothing", store)
