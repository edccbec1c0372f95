"""`cspbench compare` at the command line: from a file to tables, statistics and MLflow, with training stood in for."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import fake_trial
from support.fake_studies import hypotheses
from support.fake_trial import calls

from cspbench.result import TrialResult
from cspbench.spec import TrialSpec
from cspbench.store import Store
from cspbench.sweep.notes import SWEEP
from cspbench.sweep.tracking import open_client

Run = Callable[..., tuple[int, str, str]]
pytestmark = pytest.mark.usefixtures("fake_trials")

FILE = """\
name: demo
corpora:
  - label: noise
    corpus: CORPUS
sparsity: [0.9, 0.5]
seeds: [1, 2]
control: false
tuning: {trials: 2, at: [0.9], seed: 0}
methods:
  - {name: csp, tune: {damping: [0.01, 0.03]}}
  - {name: magnitude, tune: {end: [0.4, 0.6]}}
  - movement
"""


@pytest.fixture
def file(tmp_path: Path, corpus: dict[str, Any]) -> Path:
    path = tmp_path / "compare.yaml"
    path.write_text(FILE.replace("CORPUS", json.dumps(corpus)))
    return path


@pytest.fixture
def compare(run: Run, file: Path, store: Store) -> Run:
    """Run `cspbench compare` on the file: exit code, stdout, stderr."""
    return lambda *words: run("compare", file, *words, "--root", store.root)


@pytest.fixture
def sixty_utterances(fake_trials: Callable[..., None]) -> None:
    """Give trials hypotheses that agree with their word error rates, for statistics to be made of."""

    def run_trial(spec: TrialSpec, store: Store, **options: Any) -> TrialResult:
        outcome = fake_trial.run_trial(spec, store, **options)
        rows = hypotheses(spec, outcome)
        store.trial(spec.id).hypotheses.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return outcome

    fake_trials(run_trial)


@pytest.mark.usefixtures("sixty_utterances")
def test_from_file_to_tables(compare: Run, store: Store) -> None:
    code, out, err = compare("--dry-run")
    assert code == 0, err
    assert "demo: 16 of 16 trials left" in out
    assert "dense recognisers to train first: 1" in out
    assert calls(store.root) == []
    code, out, err = compare()
    assert code == 0, err
    assert len(calls(store.root)) == 4 + 12
    # The stand-in's WER: 5, 6 and 8 % by method, a tenth of the sparsity, a thousandth of the seed; 300 words.
    assert re.search(r"csp +│ 10\.17 +│ 14\.17", out)
    assert "noise, trained, 90 %: csp 14.17, best rival movement 15.17: better" in out
    folder = store.study("demo").comparison
    assert f"tables and figures: {folder}" in out
    names = {path.name for path in folder.iterdir()}
    assert names >= {"finals.csv", "tuning.csv", "choices.json", "cells.csv", "tests.csv", "verdicts.csv", "summary.md"}
    assert "Made by `cspbench compare" in (folder / "summary.md").read_text()
    client = open_client(store)
    experiment = client.get_experiment_by_name("demo").experiment_id
    query = f"tags.`cspbench.kind` = 'trial' AND tags.`{SWEEP}` = 'demo'"
    assert len(client.search_runs([experiment], query)) == 12  # the finals
    code, out, _ = compare("--dry-run")
    assert "demo: 0 of 16 trials left" in out
    assert "about 0 s with 1 workers" in out
    assert sum(row["left"] for row in json.loads(compare("--dry-run", "--json")[1])) == 0
    found = json.loads(compare("--stage", "report", "--json")[1])
    assert {row["method"] for row in found["cells"]} >= {"csp", "magnitude"}
    assert found["name"] == "demo"


@pytest.mark.usefixtures("sixty_utterances")
def test_the_time_left_of_an_open_entry_is_that_of_its_own_epochs(compare: Run) -> None:
    def left(epochs: int) -> float:
        longer = f"{{name: movement, label: long, division: open, training: {{epochs: {epochs}}}}}"
        methods = f"methods=[csp, movement, {longer}]"
        _, out, _ = compare("--only", "movement,long", "--dry-run", "--json", "--set", methods, "--set", "tuning=null")
        return sum(row["seconds"] for row in json.loads(out))

    assert compare("--only", "movement")[0] == 0
    assert left(24) > 0
    assert left(240) == pytest.approx(10 * left(24))


def test_export_lists_what_is_missing_now(compare: Run) -> None:
    code, out, _ = compare("--export", "--only", "csp, movement")
    assert code == 0
    specs = [json.loads(line) for line in out.splitlines()]
    assert [(spec["method"]["name"], spec["seed"]) for spec in specs] == [("csp", 0)] * 2
    code, out, err = compare("--export", "--stage", "final")
    assert (code, out) == (2, "")
    assert "4 tuning trials have not ended" in err
    code, out, _ = compare("--export", "--stage", "final", "--only", "movement", "--sparsity", "0.5")
    assert [json.loads(line)["sparsity"] for line in out.splitlines()] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ("--only", "csp,magnitud"),
            "the file has no 'magnitud'; did you mean 'magnitude'? (labels: csp",
        ),
        (("--corpus", "nose"), "the file has no 'nose'; did you mean 'noise'? (labels: noise)"),
        (("--sparsity", "0.7"), "--sparsity 0.7: must be sparsities of the file (0.9, 0.5)"),
        (("--sparsity", "most"), "--sparsity most: must be numbers of the file (0.9, 0.5)"),
        (("--stage", "choose"), "'choose' is not one of"),
        (("--set", "tuning.seed=1"), "--set tuning.seed=1: tuning.seed: 1 is among the final seeds"),
        (("--workers", "0"), "--workers 0: workers: should be greater than or equal to 1"),
        (("--trials-per-gpu", "many"), "trials_per_gpu: 'many' is not allowed (allowed: auto, or a whole number)"),
        (("--trials-per-gpu", "0"), "trials_per_gpu: should be greater than or equal to 1"),
    ],
)
def test_wrong_options_are_one_message(compare: Run, words: tuple[str, ...], expected: str) -> None:
    code, out, err = compare(*words)
    assert (code, out) == (2, "")
    assert expected in " ".join(err.split())
