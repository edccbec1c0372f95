"""Comparisons from start to end on a stand-in for training: tuning, choosing on dev, finals, resuming, failing."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console
from support import fake_trial
from support.fake_studies import result
from support.fake_trial import calls

from cspbench.comparison.config import ComparisonConfig
from cspbench.comparison.plan import ALL, Subset, resolve_comparison
from cspbench.comparison.run import collect_comparison, missing_specs, run_comparison
from cspbench.errors import ConfigError, PruningError
from cspbench.report.results import load_results
from cspbench.result import TrialResult
from cspbench.spec import TrialSpec
from cspbench.store import Store, read_json, write_json
from cspbench.sweep.runner import InterruptedSweepError
from cspbench.trials.outcome import Outcome
from cspbench.trials.progress import Lines
from cspbench.trials.records import TrialLog
from cspbench.trials.remote import run_specs

Configure = Callable[..., ComparisonConfig]
Rates = Callable[[TrialSpec], tuple[float, float]]
pytestmark = pytest.mark.usefixtures("fake_trials")

TUNED = {"name": "magnitude", "tune": {"end": [0.4, 0.6, 0.8]}}


@pytest.fixture
def comparison(corpus: dict[str, Any]) -> Configure:
    """Make a comparison: two methods tuned and one not, at two sparsities, two seeds."""

    def make(**changes: Any) -> ComparisonConfig:
        data = {
            "name": "demo",
            "corpora": [{"label": "noise", "corpus": corpus}],
            "sparsity": [0.9, 0.5],
            "methods": [{"name": "csp", "tune": {"damping": [0.01, 0.03, 0.05]}}, TUNED, "movement"],
            "tuning": {"trials": 3, "at": [0.9], "seed": 0},
            "seeds": [1, 2],
            "control": False,
        }
        return ComparisonConfig.model_validate(data | changes)

    return make


@pytest.fixture(autouse=True)
def quick_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither MLflow nor statistics and figures, which take seconds: `test_compare_cli` has all of them."""

    class NoLogbook:
        def __init__(self, *_: Any) -> None: ...

        def log(self, outcome: Outcome) -> None: ...

        def begin(self) -> None: ...

        def finish(self, status: str, metrics: Any = None, files: Any = ()) -> None: ...

    monkeypatch.setattr("cspbench.comparison.run.Logbook", NoLogbook)
    monkeypatch.setattr("cspbench.comparison.report.write_evaluation", lambda *_: [])
    monkeypatch.setattr("cspbench.comparison.report.evaluate_finals", lambda *_, **__: None)


@pytest.fixture
def error_rates(fake_trials: Callable[..., None]) -> Callable[[Rates], None]:
    """Decide the (dev, test) word error rates of trials; an exception fails the trial."""

    def decide(rates: Rates) -> None:
        def run_trial(spec: TrialSpec, store: Store, **_: Any) -> TrialResult:
            fake_trial._count(store.root / "trials.log", spec.id)
            dev, test = rates(spec)
            outcome = result(spec, test, dev=dev)
            row = {"id": "u1", "speaker": "s", "reference": "one", "hypothesis": "", "edits": 1, "words": 1}
            store.trial(spec.id).path.mkdir(parents=True, exist_ok=True)
            store.trial(spec.id).hypotheses.write_text(json.dumps(row) + "\n")
            write_json(store.trial(spec.id).result, outcome.model_dump(mode="json"))
            return outcome

        fake_trials(run_trial)

    return decide


def flat(_: TrialSpec) -> tuple[float, float]:
    return 0.1, 0.1


def finals(store: Store) -> pd.DataFrame:
    return pd.read_csv(store.study("demo").comparison / "finals.csv")


def choices(store: Store) -> dict[tuple[str, float], dict[str, Any]]:
    found = read_json(store.study("demo").comparison / "choices.json")
    return {(choice["method"], choice["sparsity"]): choice for choice in found}


def test_from_file_to_tables(comparison: Configure, store: Store, display: Lines) -> None:
    summary = run_comparison(comparison(), store, display)
    assert summary.failures == []
    assert all("no choice" in warning for warning in summary.warnings)
    ran = calls(store.root)
    assert len(ran) == len(set(ran)) == 2 * 3 + 2 * 2 * 3
    assert len(calls(store.root, "dense")) == 1
    table = finals(store)
    assert len(table) == 2 * 2 * 3
    assert set(table["state"]) == {"complete"}
    assert Counter(table["tuning_trials"]) == {3: 8, 0: 4}
    # Both sparsities run with what was chosen at 90 %.
    assert table.groupby("method")["params"].nunique().to_dict() == {"csp": 1, "magnitude": 1, "movement": 1}
    tuning = pd.read_csv(store.study("demo").comparison / "tuning.csv")
    assert Counter(tuning["method"]) == {"csp": 3, "magnitude": 3}
    assert set(tuning["seed"]) == {0}
    assert tuning["taken"].sum() == 2
    assert not [column for column in tuning.columns if "test" in column or column == "wer"]


def test_finals_run_sparsity_by_sparsity_and_seed_by_seed(comparison: Configure, store: Store, display: Lines) -> None:
    run_comparison(comparison(), store, display)
    specs = [json.loads(store.trial(id).spec.read_text()) for id in calls(store.root)]
    order = [(spec["sparsity"], spec["seed"], spec["method"]["name"]) for spec in specs[6:]]
    assert order == [(s, n, m) for s in (0.9, 0.5) for n in (1, 2) for m in ("csp", "magnitude", "movement")]
    # Every candidate number of all methods before the next: stopped early, methods are even.
    assert [spec["method"]["name"] for spec in specs[:6]] == ["csp", "magnitude"] * 3


def test_the_choice_is_by_dev_and_blind_to_test(
    comparison: Configure, store: Store, display: Lines, error_rates: Callable[[Rates], None]
) -> None:
    """A trap: what is best on dev is worst on test and the other way round."""

    def trap(spec: TrialSpec) -> tuple[float, float]:
        dev = spec.method.params.get("damping", spec.method.params.get("end", 0.5))
        return dev, 1 - dev

    error_rates(trap)
    run_comparison(comparison(), store, display)
    for (method, _), choice in choices(store).items():
        name = {"csp": "damping", "magnitude": "end"}[method]
        values = [candidate["params"][name] for candidate in choice["candidates"]]
        assert len(set(values)) == 3
        assert choice["candidates"][choice["taken"]]["params"][name] == min(values)
        assert choice["candidates"][choice["taken"]]["dev_wer"] == min(values)


def test_word_error_rates_of_test_are_not_shown(
    comparison: Configure, store: Store, error_rates: Callable[[Rates], None]
) -> None:
    error_rates(lambda _: (0.3, 0.1))
    stream = io.StringIO()
    run_comparison(comparison(), store, Lines(Console(file=stream)))
    assert stream.getvalue().count("dev WER 30.0 %") == 18
    assert "10.0 %" not in stream.getvalue()


def test_equal_dev_is_no_choice_and_runs_the_default(
    comparison: Configure, store: Store, display: Lines, error_rates: Callable[[Rates], None]
) -> None:
    error_rates(flat)
    summary = run_comparison(comparison(), store, display)
    for choice in choices(store).values():
        assert (choice["state"], choice["taken"]) == ("no choice", 0)
    assert summary.warnings[0] == "csp at 90 %: no choice, dev cannot tell candidates 0, 1, 2 apart; 0 is run"
    table = finals(store)
    assert set(table.loc[table["method"] != "movement", "selection"]) == {"no choice"}
    assert set(table.loc[table["method"] == "movement", "selection"]) == {"default"}
    assert choices(store)["csp", 0.9]["candidates"][0]["params"]["damping"] == 0.02
    assert choices(store)["csp", 0.9]["serves"] == [{"sparsity": 0.9, "budget": 1.0}, {"sparsity": 0.5, "budget": 1.0}]


def test_every_tuned_method_has_the_same_number_of_trials(comparison: Configure, store: Store, display: Lines) -> None:
    config = comparison(tuning={"trials": 4, "at": [0.5, 0.9]})
    tasks = resolve_comparison(config, store, print).tuning_tasks()
    counted = Counter((task.method, task.spec.sparsity) for task in tasks)
    assert counted == {(m, s): 4 for m in ("csp", "magnitude") for s in (0.5, 0.9)}
    assert len({task.spec.id for task in tasks}) == len(tasks)
    # The same settings at each sparsity, drawn from the seed alone.
    drawn = [[t.spec.method for t in tasks if t.spec.sparsity == s and t.method == "csp"] for s in (0.5, 0.9)]
    assert drawn[0] == drawn[1]
    again = resolve_comparison(config, store, print).tuning_tasks()
    assert [task.spec.id for task in again] == [task.spec.id for task in tasks]


def test_a_killed_comparison_goes_on_and_does_nothing_twice(
    comparison: Configure, store: Store, display: Lines, tmp_path: Path
) -> None:
    file = tmp_path / "config.json"
    file.write_text(comparison().model_dump_json())
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from support import fake_trial
fake_trial.install()
from pathlib import Path
from rich.console import Console
from cspbench.comparison.config import ComparisonConfig
from cspbench.store import Store
from unittest.mock import MagicMock
from cspbench.comparison import run
run.open_client = run.Tracker = MagicMock()
from cspbench.trials.progress import Lines
config = ComparisonConfig.model_validate_json(Path({str(file)!r}).read_text())
run.run_comparison(config, Store({str(store.root)!r}), Lines(Console(quiet=True)))
"""
    for limit in (4, 10):  # in the middle of tuning, in the middle of the finals
        (store.root / "kill-after").write_text(str(limit))
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    (store.root / "kill-after").unlink()
    summary = run_comparison(comparison(), store, display)
    assert summary.failures == []
    ran = Counter(calls(store.root))
    assert len(ran) == 18
    assert sorted(ran.values())[-3:] == [1, 2, 2]  # those that were under way when it was killed
    assert set(finals(store)["state"]) == {"complete"}
    before = len(calls(store.root))
    run_comparison(comparison(), store, display)
    assert len(calls(store.root)) == before


@pytest.mark.parametrize("stages", [("tune", "final", "report"), ("report",)])
def test_trials_that_another_comparison_ran_are_listed(
    comparison: Configure, store: Store, display: Lines, stages: tuple[Any, ...]
) -> None:
    run_comparison(comparison(), store, display)
    before = len(calls(store.root))
    for _ in range(2):  # the second time they are listed already
        run_comparison(comparison(name="again"), store, display, stages=stages)
        assert pd.read_csv(store.study("again").comparison / "finals.csv")["state"].eq("complete").all()
        assert len(TrialLog(store.study("again").trials).path.read_text().splitlines()) == 12
    assert len(calls(store.root)) == before
    assert set(load_results("again", store)["trial_id"]) == set(load_results("demo", store)["trial_id"])


def test_a_candidate_that_fails_is_left_out_and_told_of(
    comparison: Configure, store: Store, display: Lines, error_rates: Callable[[Rates], None]
) -> None:
    def fails(spec: TrialSpec) -> tuple[float, float]:
        if spec.seed == 0 and spec.method.params.get("damping") == 0.02:
            raise PruningError("not today")
        return 0.1, 0.1

    error_rates(fails)
    summary = run_comparison(comparison(), store, display)
    assert summary.failures == ["noise: csp 90 % seed 0: not today"]
    assert summary.warnings[0] == "csp at 90 % goes on without candidate 0, which failed: not today"
    choice = choices(store)["csp", 0.9]
    assert choice["taken"] == 1
    assert choice["candidates"][0]["dev_wer"] is None
    assert choice["candidates"][0]["errors"] == ["not today"]
    assert set(finals(store)["state"]) == {"complete"}


def test_a_cell_whose_candidates_all_fail_stays_visible(
    comparison: Configure, store: Store, display: Lines, error_rates: Callable[[Rates], None]
) -> None:
    def fails(spec: TrialSpec) -> tuple[float, float]:
        if spec.method.name == "csp":
            raise PruningError("not today")
        return 0.1, 0.1

    error_rates(fails)
    summary = run_comparison(comparison(), store, display)
    assert summary.warnings[:1] == ["csp at 90 % has no setting left after candidate 0, 1, 2, which failed: not today"]
    table = finals(store)
    lost = table[table["method"] == "csp"]
    assert lost["state"].tolist() == ["not run"] * 4
    assert set(lost["error"]) == {"all of its settings failed"}
    assert set(table[table["method"] != "csp"]["state"]) == {"complete"}


def test_a_final_that_fails_stays_visible_and_is_tried_again(
    comparison: Configure, store: Store, display: Lines, error_rates: Callable[[Rates], None]
) -> None:
    def fails(spec: TrialSpec) -> tuple[float, float]:
        if (spec.method.name, spec.seed, spec.sparsity) == ("movement", 2, 0.5):
            raise PruningError("not today")
        return 0.1, 0.1

    error_rates(fails)
    run_comparison(comparison(), store, display)
    table = finals(store)
    assert Counter(table["state"]) == {"complete": 11, "failed": 1}
    failed = table[table["state"] == "failed"].iloc[0]
    assert (failed["method"], failed["seed"], failed["error"]) == ("movement", 2, "not today")
    assert pd.isna(failed["test_wer"])
    before = len(calls(store.root))
    error_rates(flat)
    run_comparison(comparison(), store, display)
    assert len(calls(store.root)) == before + 1
    assert set(finals(store)["state"]) == {"complete"}


def test_finals_wait_for_tuning(comparison: Configure, store: Store, display: Lines) -> None:
    with pytest.raises(ConfigError, match=r"6 tuning trials have not ended, so nothing is chosen for csp at 90 %, mag"):
        run_comparison(comparison(), store, display, stages=["final"])
    assert calls(store.root) == []
    run_comparison(comparison(), store, display, stages=["tune"])
    assert len(calls(store.root)) == 6
    run_comparison(comparison(), store, display, stages=["final"])
    assert len(calls(store.root)) == 18


def test_a_person_may_stop_it_anywhere(
    comparison: Configure, store: Store, display: Lines, error_rates: Callable[[Rates], None]
) -> None:
    def stops(spec: TrialSpec) -> tuple[float, float]:
        if spec.seed == 2:
            raise KeyboardInterrupt
        return 0.1, 0.1

    error_rates(stops)
    with pytest.raises(InterruptedSweepError, match="the same command goes on from here"):
        run_comparison(comparison(), store, display)
    assert len(calls(store.root)) == 6 + 3 + 1
    error_rates(flat)
    run_comparison(comparison(), store, display)
    assert len(calls(store.root)) == 18 + 1
    assert set(finals(store)["state"]) == {"complete"}


def test_a_trial_that_takes_too_long_fails(comparison: Configure, store: Store, display: Lines) -> None:
    config = comparison(methods=["movement", "csp"], sparsity=[0.23, 0.5], tuning=None, seeds=[1], trial_timeout=1)
    summary = run_comparison(config, store, display, only=Subset(methods=frozenset({"movement"})))
    assert summary.failures == ["noise: movement 23 % seed 1: it took longer than 1 seconds"]
    assert finals(store)["state"].tolist().count("complete") == 1


def test_parts_of_a_comparison(comparison: Configure, store: Store, display: Lines) -> None:
    config = comparison(tuning={"trials": 3, "at": [0.9, 0.5]})
    run_comparison(config, store, display, only=Subset(frozenset({"csp", "movement"}), frozenset({0.5})))
    assert len(calls(store.root)) == 3 + 2 * 2
    table = finals(store)
    assert len(table) == 12  # all that is asked for is listed
    done = table[table["state"] == "complete"]
    assert set(zip(done["method"], done["sparsity_requested"], strict=True)) == {("csp", 0.5), ("movement", 0.5)}
    run_comparison(config, store, display)
    assert len(calls(store.root)) == len(set(calls(store.root))) == 12 + 12


def test_labels_keep_variants_of_a_method_apart(comparison: Configure, store: Store, display: Lines) -> None:
    variants = ["csp", {"name": "csp", "label": "csp_identity", "params": {"ensemble": "identity"}}]
    run_comparison(comparison(methods=variants, tuning=None), store, display)
    table = finals(store)
    assert Counter(table["method"]) == {"csp": 4, "csp_identity": 4}
    ensembles = {row.method: json.loads(str(row.params))["ensemble"] for row in table.itertuples()}
    assert ensembles == {"csp": "activation", "csp_identity": "identity"}


@pytest.mark.parametrize(
    ("pair", "expected"),
    [("each", [(1, 0), (2, 1), (3, 0)]), ("cross", [(1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1)])],
)
def test_folds_and_seeds(
    comparison: Configure, corpus: dict[str, Any], store: Store, pair: str, expected: list[tuple[int, int]]
) -> None:
    entry = {"label": "noise", "corpus": corpus, "folds": {"of": 3, "use": [0, 1], "pair": pair}}
    config = comparison(corpora=[entry], seeds=[1, 2, 3], methods=["csp"], tuning=None, sparsity=[0.9])
    tasks = resolve_comparison(config, store, print).final_tasks({})
    assert [(task.spec.seed, task.fold) for task in tasks] == expected
    assert [task.spec.dense.corpus.fold.index for task in tasks if task.spec.dense.corpus.fold] == [
        fold for _, fold in expected
    ]
    assert len({task.spec.dense.id for task in tasks}) == 2  # a dense recogniser a fold


def test_settings_tuned_on_one_corpus_are_carried_to_another(
    comparison: Configure, corpus: dict[str, Any], store: Store, display: Lines
) -> None:
    corpora = [
        {"label": "whole", "corpus": corpus},
        {"label": "divided", "corpus": corpus, "folds": {"of": 3, "use": [0, 1]}},
    ]
    tuning = {"trials": 3, "at": [0.9], "corpora": ["divided"], "folds": [1]}
    config = comparison(corpora=corpora, tuning=tuning)
    run_comparison(config, store, display)
    assert choices(store)["csp", 0.9]["tuned_on"] == ["divided fold 1"]
    table = finals(store)
    assert Counter(table["corpus"]) == {"whole": 12, "divided": 12}
    assert set(table[table["corpus"] == "divided"]["fold"]) == {0, 1}
    assert table.groupby("method")["params"].nunique().max() == 1
    assert len(calls(store.root, "dense")) == 3


def test_there_and_back(comparison: Configure, store: Store, display: Lines, tmp_path: Path) -> None:
    config, there = comparison(), tmp_path / "there"
    for count in (6, 12):  # tuning, then finals
        specs = missing_specs(config, store, display)
        assert len(specs) == count
        run_specs(specs, there, 1, "cpu", display)
        assert collect_comparison(config, there, store, display) == (6 if count == 6 else 18)
    assert missing_specs(config, store, display) == []
    assert calls(store.root) == []
    run_comparison(config, store, display, stages=["report"])
    assert set(finals(store)["state"]) == {"complete"}
    assert calls(store.root) == []


def test_what_failed_elsewhere_does_not_hold_up_the_finals(
    comparison: Configure, store: Store, display: Lines, tmp_path: Path
) -> None:
    there = tmp_path / "there"
    config = comparison(sparsity=[0.13], tuning={"trials": 2, "at": [0.13]}, methods=[TUNED, "csp"])
    run_specs(missing_specs(config, store, display), there, 1, "cpu", display)
    assert collect_comparison(config, there, store, display) == 2
    assert [spec.method.name for spec in missing_specs(config, store, display)] == ["csp"] * 2
    assert len(missing_specs(config, store, display, ["tune"])) == 2  # asked for by name


def test_dense_recognisers_of_several_machines_are_told_of(comparison: Configure, store: Store, display: Lines) -> None:
    run_comparison(comparison(), store, display)
    path = store.trial(calls(store.root)[-1]).result
    other = read_json(path)
    other["dense_test"]["edits"] += 1
    write_json(path, other)
    summary = run_comparison(comparison(), store, display)
    doubts = [warning for warning in summary.warnings if "trials did not all start from the same weights" in warning]
    assert len(doubts) == 1


def test_too_few_settings_are_refused(comparison: Configure, store: Store) -> None:
    methods = [{"name": "csp", "tune": {"damping": [0.02, 0.03]}}]  # 0.02 is the default
    with pytest.raises(ConfigError, match=r"'csp' has 2 different settings to try and tuning\.trials asks for 3"):
        resolve_comparison(comparison(methods=methods), store, print)


def test_ranges_are_drawn_inside_their_bounds(comparison: Configure, store: Store) -> None:
    axes = {"damping": {"low": 0.001, "high": 0.1, "log": True}, "interval": {"low": 5, "high": 9}}
    config = comparison(methods=[{"name": "csp", "tune": axes}], tuning={"trials": 20, "at": [0.9]})
    settings = [task.spec.method.params for task in resolve_comparison(config, store, print).tuning_tasks(ALL)]
    assert (settings[0]["damping"], settings[0]["interval"]) == (0.02, 20)
    assert all(0.001 <= params["damping"] <= 0.1 for params in settings)
    assert {params["interval"] for params in settings[1:]} <= {5, 6, 7, 8, 9}
    strata = sorted(int(19 * math.log(params["damping"] / 0.001) / math.log(100)) for params in settings[1:])
    assert strata == list(range(19))  # one in each


def test_every_method_is_dealt_the_same_values_of_common_axes(comparison: Configure, store: Store) -> None:
    methods = [
        {"name": "csp", "tune": {"damping": [0.01, 0.02, 0.05]}},
        {"name": "magnitude", "tune": {"interval": [5, 10, 20]}},
    ]
    rates = [0.5, 1, 2]
    tuning = {"trials": 7, "at": [0.9], "learning_rate": rates, "every": {"allocation": ["global", "erk"]}}
    plan = resolve_comparison(comparison(methods=methods, tuning=tuning), store, print)
    csp, magnitude = (
        [(setting.learning_rate, setting.method.params["allocation"]) for setting in cell.candidates]
        for cell in plan.cells
    )
    assert csp == magnitude
    assert csp[0] == (1, "global")
    for axis, values in zip(zip(*csp[1:], strict=True), (rates, ["global", "erk"]), strict=True):
        assert {value: axis.count(value) for value in values} == dict.fromkeys(values, 6 // len(values))
