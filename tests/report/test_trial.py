"""Trials found by id or as the best of a study, on one screen, and two of them side by side."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from support.fake_studies import finish, record, result, spec, write_study

from cspbench.errors import ConfigError
from cspbench.report.confusions import NOTHING, confused_words, worst_utterances
from cspbench.report.results import load_results, where
from cspbench.report.screen import screen, sparkline
from cspbench.report.side_by_side import difference, tables, verdicts
from cspbench.report.trial import find_trials
from cspbench.result import Noise
from cspbench.store import Store
from cspbench.trials.records import ResultsError


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A study ``s``: ``csp`` is better than ``magnitude``, 0.5 than 0.9, and the control better than all."""
    store = Store(tmp_path)
    for method, sparsity, wer in (("csp", 0.5, 0.1), ("csp", 0.9, 0.2), ("magnitude", 0.5, 0.3), ("control", 0, 0.05)):
        for seed in (0, 1):
            trial = spec(method, sparsity, seed)
            finish(store, "s", trial, result(trial, wer, dev=wer + seed / 100))
    return store


@pytest.mark.parametrize(
    ("reference", "method", "sparsity"),
    [
        ("s", "csp", 0.5),
        ("s@0.9", "csp", 0.9),
        ("s/magnitude", "magnitude", 0.5),
        ("s/csp@0.9", "csp", 0.9),
        ("s/control", "control", 0),
    ],
)
def test_a_study_means_its_best_setting_with_all_seeds(
    store: Store, reference: str, method: str, sparsity: float
) -> None:
    found = find_trials(reference, store)
    assert [trial.id for trial in found] == [spec(method, sparsity, seed).id for seed in (0, 1)]


def test_an_id_or_its_beginning_means_one_trial(store: Store) -> None:
    id = spec("csp", 0.9, 1).id
    assert [trial.id for trial in find_trials(id, store)] == [trial.id for trial in find_trials(id[:8], store)] == [id]


def test_a_condition_narrows_the_choice(store: Store) -> None:
    (trial, _) = find_trials("s", store, "size_bytes < 2e6")
    assert trial.spec.sparsity == 0.9
    with pytest.raises(ConfigError, match="no trial has finished for which the condition holds"):
        find_trials("s", store, "size_bytes < 0")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("s/cps", r"no method 'cps'; did you mean 'csp'\? \(it has control, csp, magnitude\)"),
        ("s@0.8", "no trial at sparsity 0.8; there are 0.5, 0.9"),
        ("s@most", "'most' is no sparsity: write a fraction, such as 0.9"),
        ("zzz", "no trial 'zzz'"),
    ],
)
def test_what_is_not_there_is_said(store: Store, reference: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find_trials(reference, store)


def test_a_study_that_is_not_there_is_said(store: Store) -> None:
    with pytest.raises(ResultsError, match="no study 'x'"):
        find_trials("x/csp", store)


def test_a_study_without_finished_trials_is_said(tmp_path: Path) -> None:
    record(Store(tmp_path), "s", spec(), "failed", "boom")
    with pytest.raises(ConfigError, match="'s': no trial has finished"):
        find_trials("s", tmp_path)


def test_conditions_are_on_columns(store: Store) -> None:
    frame = load_results("s", store)
    assert len(where(frame, "method == 'csp' and sparsity_requested < 0.6")) == 2
    with pytest.raises(ConfigError, match=r"no column 'size_byte'; did you mean 'size_bytes'\?"):
        where(frame, "size_byte < 3")
    for wrong in ("size_bytes", "size_bytes = 3", "(", "method < 3", "1 == 1", "__import__('os').getcwd()"):
        with pytest.raises(ConfigError, match="no condition, such as size_bytes < 5e5"):
            where(frame, wrong)


def test_confused_words_are_counted_by_pair() -> None:
    rows = pd.DataFrame(
        [
            {"reference": "one two three", "hypothesis": "one too three"},
            {"reference": "two", "hypothesis": "too"},
            {"reference": "one two", "hypothesis": "one"},
            {"reference": "one", "hypothesis": "one one"},
            {"reference": "", "hypothesis": "noise"},
        ]
    )
    found = confused_words(rows)
    assert list(found.iloc[0]) == ["two", "too", 2]
    rest = set(found.iloc[1:].itertuples(index=False, name=None))
    assert rest == {("two", NOTHING, 1), (NOTHING, "one", 1), (NOTHING, "noise", 1)}


def test_the_worst_utterances_are_those_with_the_most_errors() -> None:
    rows = pd.DataFrame({"id": list("abcd"), "edits": [1, 0, 3, 1]})
    assert worst_utterances(rows, 5)["id"].tolist() == ["c", "a", "d"]


def test_sparklines_rise_and_fall_with_the_numbers() -> None:
    assert sparkline([3, 2, 1, 1.5]) == "█▅▁▃"
    assert sparkline([1, 1]) == "▁▁"
    assert sparkline(range(1000), 8) == "▁▂▃▄▅▆▇█"


def test_a_screen_has_numbers_with_intervals_layers_curve_and_hypotheses(store: Store) -> None:
    lines = list(screen(find_trials("s/csp@0.9", store)[0], hypotheses=2, width=80))
    text = "\n".join(lines)
    assert lines[0] == "csp at 90 % sparsity, seed 0, on fsdd"
    assert "test WER        20.0 % [14.0, 26.0]" in text
    assert "× smaller than dense (7.00 MB)" in text
    assert "90.0 % zeros  ██████████████████" in text
    assert "loss            █▄▂▂▁▁  2 to 0.333" in text
    assert "most confused: one → <wrong>" in text
    assert text.count("  reference   one two three four five") == 2
    assert len(lines) <= 40
    assert max(len(line) for line in lines[2:]) <= 80


def test_a_noisy_latency_is_called_that(store: Store) -> None:
    trial = spec("csp", 0.75)
    latency = result(trial, 0.1).latency
    assert latency is not None
    finish(
        store,
        "s",
        trial,
        result(trial, 0.1, latency=latency.model_copy(update={"noise": Noise(conclusive=False, verdict="noisy")})),
    )
    assert "TOO NOISY TO BELIEVE" in "\n".join(screen(*find_trials(trial.id, store)))
    found = difference(find_trials(trial.id, store), find_trials("s/csp@0.9", store))
    (metrics,) = (columns for title, columns in tables(found) if title == "metrics")
    rows = dict(zip(metrics[0].cells, zip(*(c.cells for c in metrics[1:]), strict=True), strict=True))
    assert [cell[:1] == "~" for cell in rows["latency_ms"]] == [True, False, True]
    assert "~" not in "".join(rows["size_bytes"])
    assert verdicts(found)[0].startswith("~: latency too noisy")


def test_a_difference_names_settings_metrics_and_layers(tmp_path: Path) -> None:
    store = write_study(tmp_path, "s", methods=["csp", "lottery", "magnitude"], sparsities=[0.9], seeds=[0, 1])
    found = difference(find_trials("s/csp", store), find_trials("s/magnitude", store))
    assert found.spec.to_dict("records") == [{"field": "method.name", "a": "csp", "b": "magnitude"}]
    own = load_results("s", store).groupby("method")["test_wer"].mean()
    wer = found.metrics.set_index("metric").loc["test_wer"]
    assert (wer["a"], wer["b"]) == pytest.approx((own["csp"], own["magnitude"]))
    assert found.layers.to_dict("records")[0].keys() == {"layer", "a", "b"}
    assert found.test is not None
    assert found.test.difference == pytest.approx(wer["a"] - wer["b"], abs=0.01)
    assert found.by_speaker is not None
    assert found.by_speaker.units == 6
    assert verdicts(found)[0].startswith("a is better: test WER a − b = -")


def test_trials_of_other_test_speech_have_no_paired_test(store: Store) -> None:
    other = spec("csp", 0.5, corpus="an4")
    finish(store, "t", other, result(other, 0.1))
    path = store.trial(other.id).hypotheses
    path.write_text(path.read_text().replace("one two", "two one"))
    found = difference(find_trials(other.id, store), find_trials("s/csp@0.5", store))
    assert found.test is None
    assert verdicts(found) == ["no paired test: the two were not tested on the same utterances"]
