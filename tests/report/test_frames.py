"""Curves, layers and hypotheses of many trials, from every kind of source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure
from support.fake_studies import record, spec, write_study

from cspbench.report.frames import TRIAL, load_curves, load_hypotheses, load_layers
from cspbench.report.plots import plot_confused_words, plot_curves, plot_layers
from cspbench.report.results import load_results
from cspbench.store import Store
from cspbench.trials.records import ResultsError

LOADERS: list[Callable[..., pd.DataFrame]] = [load_results, load_curves, load_layers, load_hypotheses]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two studies: ``one`` of two methods and two seeds, ``two`` of one of them, and a trial that failed."""
    store = write_study(tmp_path / "runs", "one", methods=["csp", "magnitude"], sparsities=[0.5, 0.9], seeds=[0, 1])
    write_study(tmp_path / "runs", "two", methods=["csp"], sparsities=[0.9], seeds=[0])
    record(store, "two", spec("csp", 0.99), "failed", "boom")
    return store


@pytest.mark.parametrize("load", LOADERS)
def test_every_row_says_whose_it_is(store: Store, load: Callable[..., pd.DataFrame]) -> None:
    frame = load(["one", "two"], store)
    assert set(TRIAL) <= set(frame)
    finished = frame[frame["state"] == "complete"] if "state" in frame else frame
    assert finished.drop_duplicates(list(TRIAL)).groupby("study")["trial_id"].count().to_dict() == {"one": 8, "two": 1}


@pytest.mark.parametrize("load", LOADERS)
def test_sources_of_all_kinds_give_the_same(
    store: Store, load: Callable[..., pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = load("one", store)
    for source in (store.study("one").path, str(store.study("one").path), ["one"]):
        pd.testing.assert_frame_equal(load(source, store), frame)
    monkeypatch.chdir(store.root.parent)
    pd.testing.assert_frame_equal(load("one"), frame)
    both = load(["one", "two"], store)
    pd.testing.assert_frame_equal(load(store.root), both)
    pd.testing.assert_frame_equal(load("runs"), both)
    (store.mlflow).mkdir()
    pd.testing.assert_frame_equal(load(f"sqlite:///{store.mlflow}/mlflow.db"), both)
    id = str(frame["trial_id"].iloc[0])
    assert set(load(id[:10], store)["trial_id"]) == set(load(store.trial(id).path)["trial_id"]) == {id}


@pytest.mark.parametrize("load", LOADERS)
def test_what_is_not_there_is_said(store: Store, load: Callable[..., pd.DataFrame]) -> None:
    with pytest.raises(ResultsError, match=r"no study 'ones'.*did you mean 'one'"):
        load("ones", store)
    with pytest.raises(ResultsError, match="no study"):
        load(store.root / "nowhere")
    assert load([], store).empty


def test_columns_have_types_and_numbers_are_right(store: Store) -> None:
    curves, layers, texts = load_curves("one", store), load_layers("one", store), load_hypotheses("one", store)
    assert curves["step"].dtype == int
    assert curves["learning_rate"].isna().all()  # not recorded by these trials
    assert (layers["sparsity"] == layers["sparsity_requested"]).all()
    totals = texts.groupby("trial_id")[["edits", "words"]].sum()
    trials = load_results("one", store).set_index("trial_id")
    assert (totals["edits"] / totals["words"]).to_numpy() == pytest.approx(
        trials.loc[totals.index, "test_wer"], abs=0.01
    )


def test_plots_take_the_frames(store: Store) -> None:
    axes = plot_curves(load_curves("one", store), "loss", axes=Figure().subplots())
    assert len(axes.lines) == 8
    assert {text.get_text() for text in axes.get_legend().get_texts()} == {"csp", "magnitude"}
    axes = plot_layers(load_layers("one", store).query("sparsity_requested == 0.9"), Figure().subplots())
    assert {text.get_text() for text in axes.texts} == {"90"}
    axes = plot_confused_words(load_hypotheses("one", store), 3, Figure().subplots())
    assert len(axes.patches) == 3
