"""Models of a study in MLflow's registry."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

import pytest
import torch
from mlflow.models import Model
from support.fake_studies import finish, result, spec
from support.talkative_model import talkative, trained

import cspbench
from cspbench.errors import ConfigError
from cspbench.store import Store
from cspbench.sweep.models import alias_of
from cspbench.sweep.tracking import Tracker, open_client
from cspbench.training.checkpoint import save_model
from cspbench.trials.outcome import Outcome

DEV = {("csp", 0.5): 0.05, ("magnitude", 0.5): 0.04, ("csp", 0.9): 0.1, ("control", 0.0): 0.01}


@pytest.fixture
def registered(store: Store) -> Store:
    """A study of four trials with a model each, registered twice: as when its sweep is started again."""
    for _ in range(2):
        tracker = Tracker(open_client(store), store, "demo", {"a": 1})
        for (method, sparsity), dev in DEV.items():
            trial = spec(method, sparsity)
            outcome = result(trial, 0.2, dev=dev)
            save_model(store.trial(trial.id).path, trained(talkative()))
            finish(store, "demo", trial, outcome)
            tracker.log(Outcome(trial, outcome))
        summary = store.root / "summary.md"
        summary.write_text("# demo")
        tracker.finish("FINISHED", files=[summary])
    return store


def test_the_best_on_dev_of_each_sparsity_are_registered_once(registered: Store) -> None:
    client = open_client(registered)
    versions = {v.version: v.tags["method"] for v in client.search_model_versions("name = 'demo'")}
    assert sorted(versions.values()) == ["csp", "magnitude"]
    aliases = client.get_registered_model("demo").aliases
    named = {alias: versions[version] for alias, version in aliases.items()}
    assert named == {"best": "magnitude", "sparsity-50": "magnitude", "sparsity-90": "csp"}
    source = client.get_model_version_by_alias("demo", "best").source
    signature = Model.load(url2pathname(urlparse(source).path)).signature
    assert signature.inputs.input_names() == ["audio"]
    assert signature.outputs.input_names() == ["text"]


def test_a_registered_model_is_loaded_from_where_the_results_lie(registered: Store, tmp_path: Path) -> None:
    moved = Store(registered.root.rename(tmp_path / "else where"))
    for uri in ("models:/demo@sparsity-90", "models:/demo/1"):
        loaded = cspbench.load_model(uri, moved)
        expected = trained(talkative()).model.state_dict()
        for name, tensor in loaded.model.state_dict().items():
            torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0)


def test_what_is_not_registered_is_refused_in_words(store: Store) -> None:
    Tracker(open_client(store), store, "demo", {"a": 1})
    for uri, message in {
        "demo": "names no model: give models:/STUDY/VERSION",
        "models:/demo@worst": "no model 'models:/demo@worst'",
        "models:/other/1": "no model 'models:/other/1'",
    }.items():
        with pytest.raises(ConfigError, match=message):
            cspbench.load_model(uri, store)


def test_aliases_are_names_that_mlflow_takes() -> None:
    assert [alias_of(sparsity) for sparsity in (0.5, 0.975, 0.9875)] == [
        "sparsity-50",
        "sparsity-97_5",
        "sparsity-98_75",
    ]
