"""Trials that run on another machine and come back."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from support.fake_trial import calls

from cspbench.config import SweepConfig
from cspbench.errors import ConfigError
from cspbench.report.results import load_results
from cspbench.spec import TrialSpec
from cspbench.store import Store
from cspbench.sweep.collect import collect
from cspbench.sweep.plan import resolve
from cspbench.sweep.tracking import open_client
from cspbench.trials.progress import Lines
from cspbench.trials.records import ResultsError
from cspbench.trials.remote import read_specs, run_specs

Configure = Callable[..., SweepConfig]
pytestmark = pytest.mark.usefixtures("fake_trials")


@pytest.fixture
def specs(configure: Configure, store: Store) -> list[TrialSpec]:
    return resolve(configure(sparsity=[0.13, 0.5, 0.9], methods=["csp"]), store, print).grid_specs()


def write(path: Path, specs: list[TrialSpec]) -> Path:
    path.write_text("".join(spec.model_dump_json() + "\n" for spec in specs))
    return path


def children(client: MlflowClient, name: str) -> int:
    experiment = client.get_experiment_by_name(name)
    return len(client.search_runs([experiment.experiment_id], "tags.`cspbench.kind` = 'trial'"))


def test_there_and_back(specs: list[TrialSpec], store: Store, display: Lines, tmp_path: Path) -> None:
    there = tmp_path / "there"
    file = write(tmp_path / "specs.jsonl", specs)
    for _ in range(2):
        outcomes = run_specs(read_specs(file), there, 1, "cpu", display)
        assert [outcome.error for outcome in outcomes] == ["thirteen is not possible", None, None]
    assert sorted(calls(there).count(spec.id) for spec in specs) == [1, 1, 2]
    for _ in range(2):
        collect(there, "far", store, display)
        frame = load_results("far", store.root)
        assert frame["state"].tolist() == ["failed", "complete", "complete"]
        assert children(open_client(store), "far") == 3
    assert (store.trial(specs[1].id).weights).read_bytes() == b"weights"
    assert store.dense(specs[1].dense.id).finished


def test_a_trial_that_hangs_fails(configure: Configure, store: Store, display: Lines, tmp_path: Path) -> None:
    specs = resolve(configure(sparsity=[0.23, 0.5], methods=["csp"]), store, print).grid_specs()
    outcomes = run_specs(specs, tmp_path / "there", 1, "cpu", display, timeout=1)
    assert {outcome.spec.sparsity: outcome.reason for outcome in outcomes} == {0.23: "timeout", 0.5: None}


def test_where_audio_lies_does_not_change_what_a_trial_is(specs: list[TrialSpec], tmp_path: Path) -> None:
    moved = read_specs(write(tmp_path / "specs.jsonl", specs), corpus_path=tmp_path)
    assert [spec.id for spec in moved] == [spec.id for spec in specs]
    assert {spec.dense.corpus.path for spec in moved} == {str(tmp_path)}


def test_lines_that_are_no_specs_are_named_all_at_once(specs: list[TrialSpec], tmp_path: Path) -> None:
    wrong = json.loads(specs[0].model_dump_json()) | {"sparsity": 2}
    path = tmp_path / "specs.jsonl"
    path.write_text(f"{specs[0].model_dump_json()}\n{json.dumps(wrong)}\nnonsense\n")
    with pytest.raises(ConfigError) as caught:
        read_specs(path)
    assert [line.split(":")[0] for line in str(caught.value).splitlines()[1:]] == ["  line 2", "  line 3"]


def test_a_result_of_another_trial_is_refused(
    specs: list[TrialSpec], store: Store, display: Lines, tmp_path: Path
) -> None:
    there = tmp_path / "there"
    run_specs(specs[1:], there, 1, "cpu", display)
    source = Store(there)
    shutil.copy(source.trial(specs[1].id).result, source.trial(specs[2].id).result)
    with pytest.raises(ResultsError, match=f"is the result of trial {specs[1].id}, not of {specs[2].id}"):
        collect(there, "far", store, display)
    assert not store.study("far").path.exists()


def test_a_folder_without_trials_is_refused(store: Store, display: Lines, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*trials\.jsonl"):
        collect(tmp_path, "far", store, display)


def test_running_needs_neither_optuna_nor_mlflow(specs: list[TrialSpec], tmp_path: Path) -> None:
    heavy = ["optuna", "mlflow", "pandas", "matplotlib", "scipy", "sklearn"]
    code = f"""
import sys
sys.modules.update(dict.fromkeys({heavy}))  # importing any of them raises
import cspbench.trials.run  # all that a trial needs, before a light one takes its place
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
import fake_trial_light
fake_trial_light.install()
from cspbench.cli import main
main()
"""
    light = tmp_path / "fake_trial_light.py"
    light.write_text((Path(__file__).parents[1] / "support" / "light_trial.py").read_text())
    file = write(tmp_path / "specs.jsonl", specs[1:])
    command = [sys.executable, "-c", code, "trials", "run", file, "--out", tmp_path / "there"]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "ModuleNotFoundError" not in done.stderr, done.stderr
    assert "0 of 2 trials finished" in done.stdout
    assert "not today" in done.stderr
