"""A results folder written under schema version 1, before the version could rise: read, resumed and reported."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field

from cspbench.config import SweepConfig
from cspbench.errors import ConfigError
from cspbench.report.display import display_rows
from cspbench.report.frames import load_curves, load_hypotheses
from cspbench.report.results import load_results
from cspbench.report.table import fronts, select_on_dev, summary
from cspbench.report.write import write_report
from cspbench.spec import DenseSpec, Since, TrainSpec, TrialSpec, canonical, newer_fields
from cspbench.store import Store, read_json, write_json
from cspbench.sweep.plan import Plan
from cspbench.sweep.runner import run_sweep
from cspbench.sweep.space import space_of
from cspbench.trials.progress import Lines
from cspbench.trials.records import TrialLog
from cspbench.trials.run import run_trial

DATA = Path(__file__).resolve().parent.parent / "data" / "runs_v1"
IDS = {
    "0ea10ccbed4be471": ("csp", 0.8),
    "5f0b95fbf0d6e7e9": ("lottery", 0.8),
    "722b7e9cecb67ee1": ("movement", 0.8),
    "858e4cbb85e9b241": ("magnitude", 0.8),
}
DENSE = "dc53fd9663d56120"


@pytest.fixture
def old(store: Store) -> Store:
    """The folder, with its Optuna study, in a store that has an MLflow database."""
    shutil.copytree(DATA, store.root, dirs_exist_ok=True)
    with sqlite3.connect(store.study("smoke").optuna) as database:
        database.executescript((store.study("smoke").path / "optuna.sql").read_text())
    return store


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A later cspbench, whose schema version is higher by one."""
    from cspbench import spec

    monkeypatch.setattr("cspbench.spec.SCHEMA_VERSION", spec.SCHEMA_VERSION + 1)


def plan_of(store: Store) -> Plan:
    config = SweepConfig.model_validate(read_json(store.study("smoke").sweep)["config"])
    trial = TrialSpec.model_validate(read_json(store.trial(next(iter(IDS))).spec))
    return Plan(config, trial.dense.corpus, synthetic=True, space=space_of(config))


def resume(store: Store, display: Lines, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Start the sweep again where preparing speech, and so any training, fails."""
    plan = plan_of(store)

    def refuse(*_: object) -> None:
        raise AssertionError("nothing is to be trained")

    monkeypatch.setattr("cspbench.sweep.runner.resolve", lambda *_: plan)
    for module in ("cspbench.trials.run", "cspbench.training.dense"):
        monkeypatch.setattr(f"{module}.prepare_speech", refuse)
    return run_sweep(plan.config, store, display)


def check_report(store: Store) -> None:
    frame = load_results("smoke", store.root)
    assert {row.trial_id: (row.method, row.sparsity_requested) for row in frame.itertuples()} == IDS
    assert set(frame["schema"]) == {1}
    assert set(frame["state"]) == {"complete"}
    assert frame.set_index("method")["latency_ms"]["csp"] == pytest.approx(0.01312, rel=1e-6)
    assert len(load_hypotheses(frame["trial_id"][0], store)) == 12
    assert load_curves(frame["trial_id"][0], store)["sparsity"].tolist() == [0.8]
    assert len(display_rows(summary(frame))) == 5
    assert store.study("smoke").report / "report.html" in write_report("smoke", store)


def test_ids_are_those_under_which_the_trials_lie(old: Store) -> None:
    for id in IDS:
        spec = TrialSpec.model_validate(read_json(old.trial(id).spec))
        assert (spec.id, spec.dense.id, spec.version, spec.dense.version) == (id, DENSE, 1, 1)


def test_a_later_version_keeps_old_ids_and_gives_new_specs_others(old: Store, later: None) -> None:
    for id in IDS:
        spec = TrialSpec.model_validate_json(old.trial(id).spec.read_bytes())
        assert (spec.id, spec.dense.id) == (id, DENSE)
        values = spec.model_dump(exclude={"version": True, "dense": {"version"}})
        new = TrialSpec.model_validate(values)
        assert new.version == new.dense.version > 1
        assert new.id != id
        assert new.dense.id != DENSE
        assert new.dense.id_under(1) == DENSE


def test_the_folder_is_resumed_without_training_and_reported(
    old: Store, display: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in old.root.rglob("trials/*/*")}
    summary = resume(old, display, monkeypatch)
    assert summary.ended == {}  # all of its settings had finished
    assert {path: path.read_bytes() for path in before} == before
    check_report(old)


def test_what_a_person_changes_is_another_study(old: Store, display: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """New defaults go on with an old study; a new option that is set does not."""
    stored = read_json(old.study("smoke").sweep)
    stored["config"] |= {"features": stored["config"]["features"] | {"floor": 2.0}}
    write_json(old.study("smoke").sweep, stored)
    with pytest.raises(ConfigError, match=r"features\.floor: new"):
        resume(old, display, monkeypatch)


def test_an_old_spec_is_not_run_under_a_later_version(old: Store, later: None) -> None:
    id = next(iter(IDS))
    spec = TrialSpec.model_validate(read_json(old.trial(id).spec))
    old.trial(id).result.unlink()
    with pytest.raises(ConfigError, match="schema version 1 and can only be read"):
        run_trial(spec, old)


@pytest.mark.parametrize("version", [0, 99])
def test_a_spec_of_an_unknown_version_is_refused(old: Store, version: int) -> None:
    values = read_json(old.trial(next(iter(IDS))).spec) | {"version": version}
    with pytest.raises(ValueError, match=f"spec of schema version {version}.*update cspbench"):
        TrialSpec.model_validate(values)


def test_versions_are_shown_apart(old: Store) -> None:
    """The same settings again under a later version, with another outcome."""
    log = TrialLog(old.study("smoke").trials)
    for id in IDS:
        values = json.loads(old.trial(id).spec.read_text())
        del values["version"]
        spec = TrialSpec.model_validate(values)
        result = read_json(old.trial(id).result) | {"trial_id": spec.id, "dense_id": spec.dense.id}
        result["dev"] = result["test"] = result["dev"] | {"wer": 0.5}
        write_json(old.trial(spec.id).result, result)
        log.write(spec, "complete")
    frame = load_results("smoke", old.root)
    assert frame["schema"].value_counts().to_dict() == {1: 4, 2: 4}
    assert len(select_on_dev(frame)) == 8  # the better version does not displace the other
    table = summary(frame)
    assert table.groupby("schema")["test_wer"].max().to_dict() == {1: 1.0, 2: 1.0}  # the dense recogniser's is 1
    assert table.query("method == 'csp'").set_index("schema")["test_wer"].to_dict() == {1: 1.0, 2: 0.5}
    assert set(fronts(table)["schema"]) == {1, 2}
    assert {row["schema"] for row in display_rows(table)} == {"1", "2"}
    written = write_report("smoke", old)
    assert {"overview_schema1.png", "overview_schema2.png"} <= {path.name for path in written}
    assert "schema versions 1 and 2 are shown apart" in written[-1].read_text()


class Wider(TrainSpec):
    """A training spec with a field of a later version."""

    warm_restarts: Annotated[int, Since(3)] = Field(0, ge=0)
    decay: Annotated[str, Since(3, before="linear")] = "cosine"


class Dense(DenseSpec):
    training: Wider = Wider()


def test_a_new_field_leaves_old_ids_alone(later: None) -> None:
    old, new = (DenseSpec(version=version) for version in (2, 3))
    before = {"warm_restarts": 0, "decay": "linear"}
    assert Dense.model_validate({"version": 2}).id == old.id
    assert Dense.model_validate({"version": 2}).training.model_dump().items() >= before.items()
    assert Dense(training=Wider(decay="linear")).id == new.id  # an option that is off changes no id
    assert canonical(Dense(), 3)["training"]["decay"] == "cosine"
    assert "decay" not in canonical(Dense(), 2)["training"]
    assert list(newer_fields(Dense(training=Wider(warm_restarts=1)), 2, chosen=True)) == ["training.warm_restarts"]
    assert list(newer_fields(Dense(), 2)) == ["training.decay"]
    with pytest.raises(ValueError, match=r"schema version 2 has no training\.warm_restarts"):
        Dense.model_validate({"version": 2, "training": {"warm_restarts": 1}})
