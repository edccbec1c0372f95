"""Trials repeated from their records: equal on the same machine, and every difference said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from cspbench.errors import ConfigError
from cspbench.spec import CorpusSpec, DenseSpec, LatencySpec, MethodSpec, ModelSpec, TrainSpec, TrialSpec
from cspbench.store import Store, read_json, write_json
from cspbench.training.checkpoint import save_tensors
from cspbench.trials.reproduce import reproduce
from cspbench.trials.run import run_trial

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def spec(corpus: dict[str, Any]) -> TrialSpec:
    dense = DenseSpec(
        corpus=CorpusSpec.model_validate(corpus), model=ModelSpec(preset="tiny"), training=TrainSpec(epochs=1)
    )
    return TrialSpec(
        dense=dense,
        method=MethodSpec(name="magnitude"),
        sparsity=0.5,
        training=TrainSpec(epochs=1, batch_size=1),
        latency=LatencySpec(utterances=1, warmup=0, repeats=1),
    )


@pytest.fixture
def store(spec: TrialSpec, tmp_path: Path) -> Store:
    """Holds the trial, which ran on one thread."""
    store, threads = Store(tmp_path / "runs"), torch.get_num_threads()
    torch.set_num_threads(1)
    run_trial(spec, store)
    torch.set_num_threads(threads)
    return store


def test_a_trial_repeated_on_the_same_machine_is_equal(spec: TrialSpec, store: Store, tmp_path: Path, run: Run) -> None:
    threads = torch.get_num_threads()
    code, out, _ = run("reproduce", spec.id[:6], "--root", store.root, "--out", tmp_path / "again")
    assert (code, torch.get_num_threads()) == (0, threads)
    assert out.splitlines() == [
        f"trial {spec.id}, same machine, threads and versions: equal bit for bit",
        "masks, weights and word error rates agree exactly",
    ]
    again = Store(tmp_path / "again").trial(spec.id)
    assert again.weights.read_bytes() == store.trial(spec.id).weights.read_bytes()
    assert read_json(again.environment)[0]["threads"] == 1
    with pytest.raises(ConfigError, match="holds a result of trial"):
        reproduce(spec.id, store, tmp_path / "again")


def test_what_differs_is_said_and_fails_only_where_it_must_not(
    spec: TrialSpec, store: Store, tmp_path: Path, run: Run
) -> None:
    """As if the first run had pruned one weight less, and recognised an utterance in another way."""
    folder = store.trial(spec.id)
    weights, result = load_file(folder.weights), read_json(folder.result)
    name = next(iter(result["layer_sparsity"]))
    zero = int((weights[name] == 0).flatten().nonzero()[0])
    weights[name].view(-1)[zero] = 0.25
    save_tensors(folder.weights, weights)
    row = json.loads(folder.hypotheses.read_text().splitlines()[0])
    folder.hypotheses.write_text(json.dumps(row | {"hypothesis": "quite another text"}) + "\n")
    write_json(folder.result, result | {"steps": 99})
    code, out, err = run("reproduce", spec.id, "--root", store.root, "--json")
    assert code == 1
    assert "gave other results under the same circumstances" in err
    found = json.loads(out)
    assert (found["level"], found["failed"], found["environment"]) == ("same", True, [])
    assert {each["name"]: (each["before"], each["now"]) for each in found["results"]} == {
        "steps": (99, result["steps"]),
        "test utterances recognised differently": (0, 2),
        "weights pruned in one run only": (0, 1),
        "weights with another value": (0, 1),
        "largest difference of a weight": (0.0, 0.25),
    }
    write_json(folder.environment, [here := read_json(folder.environment)[0], here | {"processor": "an abacus"}])
    elsewhere = reproduce(spec.id, store, tmp_path / "elsewhere")
    assert (elsewhere.level, elsewhere.failed) == ("elsewhere", False)
    assert [(each.name, each.before) for each in elsewhere.environment] == [("trial.processor", "an abacus")]


def test_older_versions_and_missing_weights_are_said(spec: TrialSpec, store: Store, tmp_path: Path, run: Run) -> None:
    folder = store.trial(spec.id)
    (here,) = read_json(folder.environment)
    write_json(folder.environment, [here | {"versions": here["versions"] | {"torch": "1.0"}}])
    folder.weights.unlink()
    code, out, _ = run("reproduce", spec.id, "--root", store.root)
    assert code == 0
    assert f"trial {spec.id}, other versions" in out
    assert "trial.versions.torch" in out
    assert "masks and weights were not compared" in out
    folder.environment.unlink()
    assert reproduce(spec.id, store, tmp_path / "unknown").level == "unknown"
