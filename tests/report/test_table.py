import numpy as np
import pandas as pd
import pytest
from support.fake_studies import finish, record, result, spec, word_errors, write_study

from cspbench import load_results
from cspbench.report.columns import fit
from cspbench.report.display import NOISY_NOTE, VIOLATED_NOTE, display_columns, display_notes, display_rows
from cspbench.report.table import fronts, select_on_dev, summary
from cspbench.result import Noise
from cspbench.store import Store, write_json


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


def add(store, trial, wer, dev=None, **changes):
    finish(store, "s", trial, result(trial, wer, dev, **changes))


def chosen(store):
    return select_on_dev(load_results("s", store.root))


def test_dev_decides_even_where_test_would_have_chosen_otherwise(store):
    add(store, spec("csp", params={"rho": 1.0}), wer=0.30, dev=0.10)
    add(store, spec("csp", params={"rho": 2.0}), wer=0.05, dev=0.20)
    assert chosen(store)["params.rho"].tolist() == [1.0]
    row = summary(load_results("s", store.root)).query("method == 'csp'").iloc[0]
    assert (row["test_wer"], row["dev_wer"], row["settings"], row["params"]) == (0.30, 0.10, 2, "rho=1")


def test_settings_are_compared_by_their_mean_over_seeds(store):
    for rho, devs in ((1.0, (0.01, 0.50)), (2.0, (0.2, 0.2))):
        for seed, dev in enumerate(devs):
            add(store, spec("csp", seed=seed, params={"rho": rho}), wer=0.2, dev=dev)
    picked = chosen(store)
    assert picked["params.rho"].tolist() == [2.0, 2.0]
    assert picked["seed"].tolist() == [0, 1]


def test_a_setting_that_lost_a_seed_cannot_win_by_it(store):
    for seed in (0, 1):
        add(store, spec("csp", seed=seed, params={"rho": 1.0}), wer=0.2, dev=0.2)
    add(store, spec("csp", seed=0, params={"rho": 2.0}), wer=0.1, dev=0.1)
    record(store, "s", spec("csp", seed=1, params={"rho": 2.0}), "failed", "diverged")
    assert set(chosen(store)["params.rho"]) == {1.0}


def test_each_sparsity_chooses_for_itself_and_ties_go_to_the_first(store):
    for sparsity, better in ((0.5, 1.0), (0.9, 2.0)):
        for rho in (1.0, 2.0):
            add(store, spec("csp", sparsity, params={"rho": rho}), wer=0.2, dev=0.1 if rho == better else 0.3)
    for rho in (5.0, 4.0):
        add(store, spec("csp", 0.75, params={"rho": rho}), wer=0.2, dev=0.2)
    assert chosen(store).set_index("sparsity_requested")["params.rho"].to_dict() == {0.5: 1.0, 0.9: 2.0, 0.75: 5.0}


def test_summary_averages_seeds_and_relates_to_dense(store):
    for seed, wer in enumerate((0.1, 0.2)):
        add(store, spec("csp", 0.9, seed), wer=wer, dense=0.04)
    table = summary(load_results("s", store.root))
    assert table["method"].tolist() == ["dense", "csp"]
    dense, csp = table.to_dict("records")
    assert (dense["test_wer"], dense["sparsity"], dense["latency_ms"], dense["speedup"]) == (0.04, 0.0, 0.8, 1.0)
    assert csp["test_wer"] == csp["wer"] == pytest.approx(0.15)
    assert csp["wer_change"] == pytest.approx(0.15 / 0.04 - 1)
    assert (csp["test_wer_low"], csp["test_wer_high"]) == (pytest.approx(0.105), pytest.approx(0.195))
    assert csp["test_wer_std"] == pytest.approx(np.std([0.1, 0.2], ddof=1))
    assert (csp["seeds"], csp["settings"], csp["failed"]) == (2, 1, 0)
    assert csp["speedup"] == pytest.approx(0.8 / 0.21)
    assert csp["compression"] == pytest.approx(5.0)
    assert all(not isinstance(value, (list, dict, tuple)) for value in csp.values())


def test_cells_without_a_finished_trial_are_not_left_out(store):
    add(store, spec("csp", 0.9), wer=0.1)
    record(store, "s", spec("lottery", 0.9), "failed", "boom")
    record(store, "s", spec("movement", 0.9), "running")
    table = summary(load_results("s", store.root)).set_index("method")
    assert table.loc["lottery", ["seeds", "failed"]].tolist() == [0, 1]
    assert np.isnan(table.loc["lottery", "test_wer"])
    words = {row["method"]: row["test WER %"] for row in display_rows(table.reset_index())}
    assert words == {"dense": "2.0 [1.4, 2.6]", "csp": "10.0 [7.0, 13.0]", "lottery": "failed", "movement": "–"}


def test_summary_of_nothing(store):
    record(store, "s", spec(), "running")
    frame = load_results("s", store.root)
    assert summary(frame)["seeds"].tolist() == [0]
    assert len(summary(frame.head(0))) == 0
    assert display_rows(summary(frame.head(0))) == []


def test_corpora_are_kept_apart(store):
    add(store, spec("csp", corpus="an4"), wer=0.3)
    add(store, spec("csp", corpus="fsdd"), wer=0.1)
    table = summary(load_results("s", store.root))
    assert table[["corpus", "method"]].to_numpy().tolist() == [
        ["an4", "dense"],
        ["an4", "csp"],
        ["fsdd", "dense"],
        ["fsdd", "csp"],
    ]
    assert [row["corpus"] for row in display_rows(table)] == ["an4", "an4", "fsdd", "fsdd"]


def test_hyperparameters_of_any_kind_are_worded(store):
    for layers in (["a"], ["a", "b"]):
        add(store, spec("csp", params={"layers": layers, "rho": 0.123456, "flag": None}), wer=0.1)
    table = summary(load_results("s", store.root))
    assert table["params"].tolist() == ["", "layers=['a']"]


def test_wording_has_units_and_hides_what_says_nothing(tmp_path):
    write_study(tmp_path, methods=["csp"], sparsities=[0.9], seeds=[0], test=word_errors(0.1234))
    row = display_rows(summary(load_results("demo", tmp_path)))[1]
    assert (row["sparsity"], row["test WER %"], row["vs dense"]) == ("90 %", "12.3 [8.6, 16.0]", "+517 %")
    assert (row["size MB"], row["compression"], row["smallest MB"]) == ("1.40", "5.0×", "1.12")
    assert (row["latency µs"], row["speed-up"], row["real time"]) == ("210", "3.81×", "143×")
    assert (row["front"], row["formats timed"]) == ("SLB", "6 x csr16 fp32")
    assert not {"corpus", "schema", "seeds", "chosen on dev", "int8 µs", "int8 WER %"} & set(row)


def test_a_noisy_latency_is_marked_in_its_own_row(store):
    for method, conclusive in (("csp", True), ("magnitude", False)):
        trial = spec(method)
        found = result(trial, 0.1)
        report = found.latency.model_copy(update={"noise": Noise(conclusive=conclusive)})
        finish(store, "s", trial, found.model_copy(update={"latency": report}))
    table = summary(load_results("s", store.root))
    rows = {row["method"]: row for row in display_rows(table)}
    assert (rows["csp"]["latency µs"], rows["csp"]["speed-up"]) == ("210", "3.81×")
    assert (rows["magnitude"]["latency µs"], rows["magnitude"]["speed-up"]) == ("~210", "~3.81×")
    assert rows["dense"]["latency µs"] == "~800"
    assert NOISY_NOTE in display_notes(table)
    assert NOISY_NOTE not in display_notes(table[table["method"] == "csp"])


def test_changes_are_relative_to_dense_and_to_the_control(store):
    add(store, spec("csp"), wer=0.06, dense=0.04)
    assert "vs control" not in display_rows(summary(load_results("s", store.root)))[0]
    add(store, spec("control", 0.0), wer=0.05, dense=0.04)
    rows = display_rows(summary(load_results("s", store.root)))
    assert [(row["method"], row["vs dense"], row["vs control"]) for row in rows] == [
        ("dense", "–", "–"),
        ("control", "+25 %", "–"),
        ("csp", "+50 %", "+20 %"),
    ]


def test_int8_is_shown_only_with_its_own_wer(store):
    trial = spec()
    found = result(trial, 0.1)
    report = found.latency.model_copy(update={"engines": {"int8": found.latency.packed}})
    finish(store, "s", trial, found.model_copy(update={"latency": report}))
    assert "int8 µs" not in display_rows(summary(load_results("s", store.root)))[0]
    finish(store, "s", trial, found.model_copy(update={"latency": report, "int8_test": word_errors(0.11)}))
    row = display_rows(summary(load_results("s", store.root)))[1]
    assert (row["int8 µs"], row["int8 WER %"]) == ("210", "11.0")


def test_unimportant_columns_are_dropped_until_the_table_fits(tmp_path):
    write_study(tmp_path, seeds=[0, 1])
    columns = display_columns(summary(load_results("demo", tmp_path)))
    narrow = fit(columns, 80)
    assert sum(column.width for column in narrow) + 2 * (len(narrow) - 1) <= 80
    kept = [column.heading for column in narrow]
    assert kept[:6] == ["method", "sparsity", "test WER %", "vs dense", "size MB", "latency µs"]
    assert {column.rank for column in fit(columns, 1)} == {0}
    assert fit(columns, 1000) == columns


def test_columns_survive_csv(tmp_path):
    write_study(tmp_path / "runs", sparsities=[0.5], seeds=[0])
    table = summary(load_results("demo", tmp_path / "runs"))
    table.to_csv(tmp_path / "t.csv", index=False)
    back = pd.read_csv(tmp_path / "t.csv").assign(params="", violated="").fillna({"formats": ""})
    pd.testing.assert_frame_equal(back, table, check_dtype=False)


def constrain(store, *constraints):
    write_json(store.study("s").sweep, {"config": {"constraints": constraints}})


def test_a_setting_that_meets_the_constraints_is_chosen_before_a_better_one(store):
    """The fast latency is that of 90 % sparsity in these studies: 0.21 ms; its file has 1.4 MB, the dense one 7 MB."""
    add(store, spec("csp", params={"rho": 1.0}), wer=0.1, dev=0.1, latency=slower(0.4))
    add(store, spec("csp", params={"rho": 2.0}), wer=0.2, dev=0.2)
    add(store, spec("lottery"), wer=0.1, dev=0.1, latency=slower(0.4))
    assert set(load_results("s", store.root)["violated"]) == {""}
    constrain(store, "latency_us <= 300", "size_mb <= 2")
    frame = load_results("s", store.root)
    assert frame["violated"].tolist() == ["latency_us <= 300", "", "latency_us <= 300"]
    assert set(frame["dense_violated"]) == {"latency_us <= 300, size_mb <= 2"}
    table = summary(frame).set_index("method")
    assert table.loc["csp", ["params", "violated"]].tolist() == ["rho=2", ""]
    assert table.loc["lottery", "violated"] == "latency_us <= 300"
    assert table.loc["dense", "violated"] == "latency_us <= 300, size_mb <= 2"
    assert set(fronts(table.reset_index())["method"]) == {"csp"}
    rows = {row["method"]: row for row in display_rows(table.reset_index())}
    assert (rows["lottery"]["violates"], rows["csp"]["violates"], rows["lottery"]["front"]) == (
        "latency_us <= 300",
        "",
        "",
    )
    assert VIOLATED_NOTE in display_notes(table)


def test_constraints_hold_for_the_mean_over_seeds(store):
    for seed, latency in enumerate((0.2, 0.38)):
        add(store, spec("csp", seed=seed), wer=0.1, latency=slower(latency))
    constrain(store, "latency_ms <= 0.3")
    assert load_results("s", store.root)["violated"].tolist() == ["", ""]
    constrain(store, "latency_ms <= 0.28")
    assert set(load_results("s", store.root)["violated"]) == {"latency_ms <= 0.28"}


def slower(median):
    report = result(spec(), 0.1).latency
    return report.model_copy(update={"packed": report.packed.model_copy(update={"median_ms": median})})
