"""Sweeps from start to end on a stand-in for training: resuming, failing, dying, refusing."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from rich.console import Console
from support import fake_trial
from support.fake_trial import calls

from cspbench.config import SweepConfig
from cspbench.errors import ConfigError
from cspbench.machine import stop
from cspbench.report import table
from cspbench.report.results import load_results
from cspbench.spec import DenseSpec, TrialSpec
from cspbench.store import Store, read_json
from cspbench.sweep.database import sqlite_url
from cspbench.sweep.runner import InterruptedSweepError, SweepBusyError, TooManyFailuresError, run_sweep, study_lock
from cspbench.sweep.tracking import Tracker
from cspbench.training.events import Event
from cspbench.trials.executors import InProcess, LocalProcesses
from cspbench.trials.outcome import Outcome
from cspbench.trials.progress import Lines

Configure = Callable[..., SweepConfig]
pytestmark = pytest.mark.usefixtures("fake_trials")


def log_of(store: Store, name: str = "demo") -> list[dict[str, Any]]:
    return [json.loads(line) for line in store.study(name).trials.read_text().splitlines()]


def study_of(store: Store, name: str = "demo") -> optuna.Study:
    return optuna.load_study(study_name=name, storage=sqlite_url(store.study("demo").optuna))


def quiet(_: TrialSpec | DenseSpec, __: Event) -> None:
    return None


def test_a_grid_runs_every_setting_once_a_seed(configure: Configure, store: Store, display: Lines) -> None:
    summary = run_sweep(configure(seeds=[0, 1]), store, display)
    assert summary.failures == []
    assert len(calls(store.root)) == len(set(calls(store.root))) == len(summary.ended) == 8
    assert len(calls(store.root, "dense")) == 1
    frame = load_results("demo", store.root)
    assert (frame["state"] == "complete").all()
    assert {*zip(frame["method"], frame["sparsity"], frame["seed"], strict=True)} == {
        (method, sparsity, seed) for method in ("csp", "magnitude") for sparsity in (0.5, 0.9) for seed in (0, 1)
    }
    # Optuna is told the mean over seeds of the dev WER, not of test.
    expected = (0.05 + 0.05 + 0.01) + 0.0005
    assert study_of(store).best_value == pytest.approx(expected)
    assert (store.study("demo").report / "summary.csv").exists()
    states = [record["state"] for record in log_of(store)]
    assert states == ["running", "complete"] * 8


def test_a_finished_sweep_does_nothing_when_started_again(configure: Configure, store: Store, display: Lines) -> None:
    run_sweep(configure(), store, display)
    before = calls(store.root), log_of(store)
    assert run_sweep(configure(), store, display).ended == {}
    assert (calls(store.root), log_of(store)) == before


def test_trials_limits_a_grid_and_raising_it_goes_on(configure: Configure, store: Store, display: Lines) -> None:
    run_sweep(configure(trials=1), store, display)
    assert len(calls(store.root)) == 1
    run_sweep(configure(trials=3), store, display)
    assert len(calls(store.root)) == len(set(calls(store.root))) == 3
    run_sweep(configure(), store, display)
    assert len(calls(store.root)) == len(set(calls(store.root))) == 4


def test_each_seed_may_have_its_own_dense_model(configure: Configure, store: Store, display: Lines) -> None:
    run_sweep(configure(seeds=[0, 1, 2], dense={"seed": "each"}, trials=1), store, display)
    assert len(set(calls(store.root, "dense"))) == 3


def test_a_search_respects_the_number_of_trials_over_restarts(
    configure: Configure, store: Store, display: Lines
) -> None:
    search = {"sampler": "tpe", "sparsity": {"low": 0.3, "high": 0.8}, "objectives": ["wer", "latency", "size"]}
    run_sweep(configure(trials=3, **search), store, display)
    assert len(calls(store.root)) == 3
    run_sweep(configure(trials=5, **search), store, display)
    sparsities = [record["spec"]["sparsity"] for record in log_of(store) if record["state"] == "complete"]
    assert len(set(sparsities)) == 5  # a sampler that began anew would repeat its first draws
    trial = study_of(store).trials[0]
    result = load_results("demo", store.root).iloc[0]
    assert trial.values == pytest.approx([result["dev_wer"], result["latency_ms"], result["smallest_bytes"]])


def lines(run: Callable[[Lines], object]) -> list[str]:
    """Return what a sweep shows."""
    stream = io.StringIO()
    run(Lines(Console(file=stream, width=200)))
    return stream.getvalue().splitlines()


def test_a_repeated_setting_runs_once_and_is_told_again(configure: Configure, store: Store, display: Lines) -> None:
    search = {"sampler": "random", "sparsity": [0.5, 0.6, 0.7, 0.8, 0.9]}
    run_sweep(configure(trials=3, **search), store, display)
    shown = lines(lambda display: run_sweep(configure(trials=8, **search), store, display))
    trials_of_study = study_of(store).trials
    assert [trial.state.name for trial in trials_of_study] == ["COMPLETE"] * 8
    distinct = len({tuple(trial.params.items()) for trial in trials_of_study})
    assert distinct < 8
    assert len(calls(store.root)) == len(set(calls(store.root))) == distinct
    assert f"8 settings, {distinct} distinct; done" in shown
    by_values: dict[tuple[Any, ...], set[float]] = {}
    for trial in trials_of_study:
        by_values.setdefault(tuple(trial.params.items()), set()).add(trial.value)
    assert all(len(values) == 1 for values in by_values.values())


def test_an_exhausted_space_ends_the_sweep(configure: Configure, store: Store) -> None:
    """TPE over two settings, eight trials: two runs, and no more proposals once both were had."""
    config = configure(sampler="tpe", trials=8, sparsity=[0.5, 0.9], methods=["csp"])
    shown = lines(lambda display: run_sweep(config, store, display))
    assert len(calls(store.root)) == 2
    assert len(study_of(store).trials) == 3
    assert next(line for line in shown if line.startswith("[")).startswith("[1/2] csp")
    assert "3 settings, 2 distinct: the search space holds no others; done" in shown
    lines(lambda display: run_sweep(config, store, display))
    assert len(study_of(store).trials) == 3
    assert len(calls(store.root)) == 2


def test_an_exhausted_space_leaves_no_setting_running(configure: Configure, store: Store, display: Lines) -> None:
    """A killed process may leave a repeated setting behind."""
    config = configure(sampler="tpe", trials=4, sparsity=[0.5], methods=["csp"])
    run_sweep(config, store, display)
    study = study_of(store)
    values = {"fixed_params": study.trials[0].params}
    study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING, system_attrs=values))
    run_sweep(config, store, display)
    assert [trial.state.name for trial in study_of(store).trials] == ["COMPLETE"] * 2
    assert len(calls(store.root)) == 1


def test_finished_trials_are_shared_between_studies(configure: Configure, store: Store, display: Lines) -> None:
    run_sweep(configure(), store, display)
    run_sweep(configure(name="other"), store, display)
    assert len(calls(store.root)) == 4
    assert (load_results("other", store.root)["state"] == "complete").all()


def test_a_failing_trial_is_recorded_and_the_others_go_on(configure: Configure, store: Store, display: Lines) -> None:
    summary = run_sweep(configure(sparsity=[0.13, 0.5]), store, display)
    assert [failure.split(":")[1] for failure in summary.failures] == [" thirteen is not possible"] * 2
    frame = load_results("demo", store.root)
    assert sorted(frame["state"]) == ["complete", "complete", "failed", "failed"]
    assert set(frame["error"].dropna()) == {"thirteen is not possible"}
    story = store.trial(frame[frame["state"] == "failed"]["trial_id"].iloc[0]).error
    assert "Traceback" in story.read_text()


def test_a_failed_trial_is_tried_again_by_the_next_run(
    configure: Configure, store: Store, display: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_sweep(configure(sparsity=[0.13, 0.5], methods=["csp"]), store, display)
    monkeypatch.setattr(fake_trial, "_misbehave", lambda spec, store: None)
    for _ in range(2):
        assert run_sweep(configure(sparsity=[0.13, 0.5], methods=["csp"]), store, display).failures == []
        assert len(calls(store.root)) == 3
        assert (load_results("demo", store.root)["state"] == "complete").all()


def test_a_sweep_that_lost_all_trials_still_ends(configure: Configure, store: Store, display: Lines) -> None:
    summary = run_sweep(configure(sparsity=[0.13]), store, display)
    assert len(summary.failures) == 2


def test_controls_run_first_once_a_seed_and_stand_beside_the_dense_model(
    configure: Configure, store: Store, display: Lines
) -> None:
    config = configure(control=True, seeds=[0, 1], prune={"epochs": 3, "learning_rate": 1e-4}, trials=2)
    run_sweep(config, store, display)
    frame = load_results("demo", store.root)
    controls = frame[frame["method"] == "control"]
    assert frame["method"].tolist()[:2] == ["control", "control"]
    assert controls["sparsity_requested"].tolist() == [0.0, 0.0]
    assert sorted(controls["seed"]) == [0, 1]
    specs = [read_json(store.trial(id).spec) for id in calls(store.root)]
    assert len(specs) == 2 + 2 * 2
    assert len({json.dumps([spec["training"], spec["prunable"], spec["dense"]], sort_keys=True) for spec in specs}) == 1
    assert table.summary(frame)["method"].tolist()[:2] == ["dense", "control"]
    assert len(study_of(store).trials) == 2, "a control is no setting of the study"
    before = len(calls(store.root))
    run_sweep(config, store, display)
    assert len(calls(store.root)) == before
    run_sweep(configure(control=True, seeds=[0, 1], prune=config.prune.model_dump(), trials=3), store, display)
    assert len(calls(store.root)) == before + 2


def test_a_finished_study_gets_no_controls_afterwards(configure: Configure, store: Store, display: Lines) -> None:
    run_sweep(configure(), store, display)
    assert run_sweep(configure(control=True), store, display).ended == {}


SCRIPT = """
import sys
from support import fake_trial
fake_trial.install()
from cspbench.cli import main
sys.argv = ["cspbench", "sweep", sys.argv[1], "--root", sys.argv[2]]
main()
"""


def test_a_killed_sweep_goes_on_and_redoes_nothing(configure: Configure, store: Store, display: Lines) -> None:
    """SIGKILL in the middle of the third trial, in a process of its own; then started again here."""
    config = configure()
    file = store.root / "sweep.yaml"
    file.write_text(config.model_dump_json())  # JSON is YAML
    (store.root / "kill-after").write_text("2")
    tests = Path(fake_trial.__file__).parents[1]
    dead = subprocess.run([sys.executable, "-c", SCRIPT, file, store.root], cwd=tests, check=False, capture_output=True)
    assert dead.returncode == -9, dead.stderr.decode()
    assert [record["state"] for record in log_of(store)] == ["running", "complete"] * 2 + ["running"]
    (store.root / "kill-after").unlink()
    run_sweep(config, store, display)
    worked = calls(store.root)
    assert len(worked) == 5  # four trials, the third twice
    assert worked[2] == worked[3]
    assert len(set(worked)) == 4
    assert (load_results("demo", store.root)["state"] == "complete").all()
    finished = [trial for trial in study_of(store).trials if trial.state.name == "COMPLETE"]
    assert len(finished) == 4
    assert run_sweep(config, store, display).ended == {}


def test_ctrl_c_ends_with_a_word_on_how_to_go_on(
    configure: Configure, store: Store, display: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(spec: TrialSpec, store: Store) -> None:
        if len(calls(store.root)) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(fake_trial, "_misbehave", interrupt)
    with pytest.raises(InterruptedSweepError, match="the same command goes on from here") as caught:
        run_sweep(configure(), store, display)
    assert caught.value.exit_code == 130
    run_sweep(configure(), store, display)
    assert len(calls(store.root)) == 5
    assert len(set(calls(store.root))) == 4


@pytest.mark.parametrize("workers", [1, 2])
def test_the_first_signal_stops_at_a_checkpoint(
    workers: int, configure: Configure, store: Store, display: Lines
) -> None:
    """The trials under way stop by themselves, no other begins, and MLflow and the next run know."""

    under_way: set[str] = set()

    def ask(work: TrialSpec | DenseSpec, event: Event) -> None:
        if event.stage == "prune":
            under_way.add(work.id)
        if len(under_way) == workers and not stop.requested():
            signal.raise_signal(signal.SIGTERM)

    config = configure(sparsity=[0.29, 0.5, 0.9], methods=["csp"], workers=workers, seeds=list(range(workers)))
    executor = InProcess(store, "cpu", ask) if workers == 1 else LocalProcesses(2, store, "cpu", ask)
    with stop.stoppable("stopping"), pytest.raises(InterruptedSweepError):
        run_sweep(config, store, display, executor)
    assert not stop.requested()
    states = {record["trial_id"]: record["state"] for record in log_of(store)}
    assert list(states.values()) == ["running"] * workers
    run_sweep(config, store, display, InProcess(store, "cpu", quiet))
    assert (load_results("demo", store.root)["state"] == "complete").all()
    assert {calls(store.root).count(id) for id in calls(store.root)} <= {1, 2}


def test_results_are_on_disk_before_anybody_is_told(
    configure: Configure, store: Store, display: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    told: list[str] = []
    fsync, log = os.fsync, Tracker.log

    def watch(descriptor: int) -> None:
        fsync(descriptor)
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())

    def check(tracker: Tracker, outcome: Outcome) -> None:
        folder = store.trial(outcome.spec.id)
        assert [path.parent for path in synced].count(folder.path) >= 2, "spec, curve, result and so on"
        assert synced.index(folder.path) < len(synced) - 1 - synced[::-1].index(store.study("demo").trials)
        assert folder.path.parent in synced
        assert store.study("demo").path in synced
        told.append(outcome.spec.id)
        synced.clear()
        synced.extend([folder.path.parent, store.study("demo").path])
        log(tracker, outcome)

    monkeypatch.setattr(os, "fsync", watch)
    monkeypatch.setattr(Tracker, "log", check)
    run_sweep(configure(), store, display)
    assert len(told) == 4


def test_two_workers_do_the_same_work(configure: Configure, store: Store, display: Lines) -> None:
    """With a trial whose worker dies once, one whose worker dies always, and one that fails by itself."""
    seen = []
    executor = LocalProcesses(2, store, "cpu", lambda _, event: seen.append(event))
    config = configure(sparsity=[0.13, 0.17, 0.19, 0.5], methods=["csp"], workers=2)
    summary = run_sweep(config, store, display, executor)
    assert [trial.result is not None for trial in summary.ended.values()].count(True) == 2
    by_sparsity = {o.spec.sparsity: o for o in summary.ended.values()}
    assert [by_sparsity[s].reason for s in (0.13, 0.17, 0.19, 0.5)] == ["refused", "killed", None, None]
    failures = {trial.params["sparsity"]: trial.user_attrs["failure"] for trial in study_of(store).trials[:2]}
    assert failures == {0.13: "refused", 0.17: "killed"}
    assert by_sparsity[0.13].error == "thirteen is not possible"
    assert by_sparsity[0.17].error == "its worker died 3 times, at last by SIGKILL, perhaps for lack of memory"
    tried = calls(store.root)
    assert [tried.count(by_sparsity[s].spec.id) for s in (0.13, 0.17, 0.19, 0.5)] == [1, 3, 2, 1]
    assert Event("prune", 1, 2, metrics={"loss": 1.0}) in seen
    assert any("its trial starts again" in event.message for event in seen)


EARLY = {
    "mode": "cells",
    "sparsity": [0.5],
    "methods": [{"name": "csp", "params": {"damping": [0.02, 0.05, 0.01, 0.04]}}],
    "early_stopping": {"name": "median", "startup": 1},
}


@pytest.mark.parametrize("trial_timeout", [None, 600], ids=["in-process", "worker"])
def test_trials_worse_than_the_median_are_stopped_early(
    configure: Configure, store: Store, trial_timeout: float | None
) -> None:
    """In the order of the grid: the second and the last do worse than those before. A limit needs a worker process."""
    config = configure(trial_timeout=trial_timeout, **EARLY)
    shown = lines(lambda display: run_sweep(config, store, display))
    frame = load_results("demo", store.root)
    assert frame["state"].tolist() == ["complete", "stopped", "complete", "stopped"]
    assert frame["params.damping"].tolist() == [0.02, 0.05, 0.01, 0.04]
    assert frame.loc[frame["state"] == "stopped", "test_wer"].isna().all()
    assert frame["error"].isna().all()
    study = study_of(store, "demo/csp/0.5")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED", "COMPLETE", "PRUNED"]
    assert study.trials[1].intermediate_values == {1: pytest.approx(0.1 + 0.05)}
    assert any("csp 50 % seed 0: stopped early at step 1 of 2 (dev_wer 0.1, dev_loss 0.15)" in line for line in shown)
    before = calls(store.root)
    assert run_sweep(config, store, Lines(Console(quiet=True))).ended == {}
    assert calls(store.root) == before


def test_a_trial_that_hangs_fails_and_the_others_go_on(configure: Configure, store: Store, display: Lines) -> None:
    config = configure(sparsity=[0.23, 0.5], methods=["csp"], trial_timeout=1)
    ended = {o.spec.sparsity: o for o in run_sweep(config, store, display).ended.values()}
    assert (ended[0.23].reason, ended[0.23].error) == ("timeout", "it took longer than 1 seconds")
    assert ended[0.5].result is not None


def test_a_hopeless_sweep_stops(configure: Configure, store: Store, display: Lines) -> None:
    config = configure(sparsity=[0.5, 0.13, 0.9], methods=["csp", "magnitude"], max_failures=1)
    with pytest.raises(TooManyFailuresError, match=r"stopped after 1 failures .*\n  csp 13 % seed 0: thirteen"):
        run_sweep(config, store, display)
    assert len(calls(store.root)) == 3
    assert run_sweep(configure(sparsity=[0.5, 0.13, 0.9]), store, display).failures
    assert len(set(calls(store.root))) == 6


def test_a_changed_sweep_is_not_mixed_into_the_old_study(configure: Configure, store: Store, display: Lines) -> None:
    run_sweep(configure(trials=1), store, display)
    with pytest.raises(ConfigError) as caught:
        run_sweep(configure(trials=1, prune={"epochs": 5}, sparsity=[0.5]), store, display)
    lines = str(caught.value).splitlines()
    assert "  prune.epochs: was 12, is 5" in lines
    assert "  space.sparsity: was [0.5, 0.9], is [0.5]" in lines
    assert lines[-1].startswith("Give this sweep another name, or delete that folder")
    assert len(calls(store.root)) == 1


def test_a_sweep_that_grows_runs_what_is_new_and_shows_all(configure: Configure, store: Store) -> None:
    run_sweep(configure(methods=["csp"], sparsity=[0.13, 0.9]), store, Lines(Console(quiet=True)))
    grown = configure(methods=["magnitude", "csp"], sparsity=[0.13, 0.7, 0.9])
    shown = lines(lambda display: run_sweep(grown, store, display))
    assert "the search space has changed: 2 settings that had finished are part of it" in shown
    assert len(set(calls(store.root))) == 6
    assert len(calls(store.root)) == 7, "the failed one is tried again"
    frame = load_results("demo", store.root)
    assert len(frame) == 6
    assert frame["state"].value_counts().to_dict() == {"complete": 4, "failed": 2}
    complete = [trial for trial in study_of(store).trials if trial.state.name == "COMPLETE"]
    assert len({tuple(sorted(trial.params.items())) for trial in complete}) == 4
    assert len(run_sweep(grown, store, Lines(Console(quiet=True))).failures) == 2


def test_where_audio_lies_and_how_work_is_spread_may_change(
    configure: Configure, store: Store, display: Lines, corpus: dict[str, Any], tmp_path: Path
) -> None:
    run_sweep(configure(trials=1), store, display)
    (tmp_path / "moved").symlink_to(corpus["path"])
    moved = corpus | {"path": str(tmp_path / "moved")}
    executor = InProcess(store, "cpu", quiet)
    run_sweep(configure(trials=2, corpus=moved, workers=2, device="cpu"), store, display, executor)
    assert len(calls(store.root)) == 2


def test_two_sweeps_of_one_name_do_not_run_at_once(configure: Configure, store: Store, display: Lines) -> None:
    with study_lock(store.study("demo")), pytest.raises(SweepBusyError, match="another process is at work"):
        run_sweep(configure(), store, display)
