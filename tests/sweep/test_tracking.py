"""What MLflow shows of a sweep."""

from __future__ import annotations

import getpass
import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from support import fake_trial
from support.fake_studies import result, spec

from cspbench.config import SweepConfig
from cspbench.result import METRICS, Noise
from cspbench.store import Store, write_json, write_jsonl
from cspbench.sweep.notes import PARENT, TRIAL, git_tags, sweep_note
from cspbench.sweep.runner import run_sweep
from cspbench.sweep.tracking import Tracker, database_uri, open_client, thinned, trial_metrics
from cspbench.trials.outcome import Outcome
from cspbench.trials.progress import Lines

Configure = Callable[..., SweepConfig]
pytestmark = pytest.mark.usefixtures("fake_trials")


def runs_of(client: MlflowClient, name: str, query: str = "", order: str = "metrics.wer ASC") -> list[Run]:
    experiment = client.get_experiment_by_name(name)
    return list(client.search_runs([experiment.experiment_id], query, order_by=[order]))


def test_a_sweep_is_a_parent_with_a_sortable_child_a_trial(
    configure: Configure, store: Store, display: Lines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_sweep(configure(sparsity=[0.13, 0.9], methods=["magnitude", "csp"]), store, display)
    client = open_client(store)
    (parent,) = runs_of(client, "demo", "tags.`cspbench.kind` = 'sweep'")
    children = runs_of(client, "demo", f"tags.`{PARENT}` = '{parent.info.run_id}' AND attributes.status = 'FINISHED'")
    assert [child.data.params["method"] for child in children] == ["dense", "csp", "magnitude"]
    assert [child.data.metrics["wer"] for child in children] == pytest.approx([0.02, 0.14, 0.17])
    csp = children[1]
    assert csp.data.params["sparsity"] == "0.9"
    assert csp.data.params["csp.damping"] == "0.02"
    assert csp.data.params["damping"] == "0.02"
    assert not any(name.startswith("layer_sparsity") for name in csp.data.metrics)
    assert {"dev_wer", "test_wer", "latency_ms", "size_bytes", "sparsity", "dense_test_wer"} <= csp.data.metrics.keys()
    losses = client.get_metric_history(csp.info.run_id, "steps/loss")
    assert [(point.step, point.value) for point in losses][:2] == [(1, 1.0), (2, 0.5)]
    for run in (parent, *children):
        assert run.data.tags["cspbench.sweep"] == "demo"
        assert run.data.tags["synthetic"] == "false"
    loss = client.get_metric_history(csp.info.run_id, "curve/loss")
    assert [(point.step, point.value) for point in loss][:2] == [(0, 1.0), (1, 0.5)]
    failed = runs_of(client, "demo", "attributes.status = 'FAILED' AND tags.`cspbench.kind` = 'trial'")
    assert {run.data.tags["cspbench.error"] for run in failed} == {"thirteen is not possible"}
    assert parent.info.status == "FAILED"
    assert not (tmp_path / "mlruns").exists()


def test_artifacts_lie_under_the_root(
    configure: Configure, store: Store, display: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_sweep(configure(trials=1), store, display)
    client = open_client(store)
    (child,) = runs_of(client, "demo", "tags.`cspbench.kind` = 'trial'")
    folder = Path(urlparse(child.info.artifact_uri).path)
    assert folder.is_relative_to(store.mlflow)
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    expected = {"hypotheses.json", "spec.json", "result.json", "layers_and_curve.png"}
    expected |= {"checkpoint/model.json", "checkpoint/model.safetensors", "worst utterances/utterance-00000.mp3"}
    assert files == expected
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database_uri(store))  # `load_table` forgets what its client was told
    table = client.load_table(child.info.experiment_id, "hypotheses.json", [child.info.run_id])
    assert list(table)[:2] == ["hypothesis", "reference"]
    assert table[["reference", "hypothesis"]].to_numpy().tolist() == [["one two", "one too"]]
    (parent,) = runs_of(client, "demo", "tags.`cspbench.kind` = 'sweep'")
    assert parent.info.status == "FINISHED"
    assert [item.path for item in client.list_artifacts(parent.info.run_id, "report")] == ["report/summary.csv"]
    assert json.loads(Path(urlparse(parent.info.artifact_uri).path, "sweep.json").read_text())["identity"]["seeds"] == [
        0
    ]


def test_starting_again_logs_nothing_twice(configure: Configure, store: Store, display: Lines) -> None:
    for trials in (2, 2, 4):
        run_sweep(configure(trials=trials), store, display)
    runs = runs_of(open_client(store), "demo")
    assert len(runs) == 6  # the sweep, its dense recogniser, four trials
    assert len({run.data.tags.get(TRIAL) for run in runs}) == 5


def test_a_half_logged_or_failed_trial_is_replaced(store: Store) -> None:
    client = open_client(store)
    tracker = Tracker(client, store, "demo", {"a": 1})
    trial = spec()
    half = tracker._create_child(Outcome(trial, result(trial, 0.1)))  # killed here
    again = Tracker(client, store, "demo", {"a": 1})
    assert again.parent == tracker.parent
    again.log(Outcome(trial, error="broken"))
    again.log(Outcome(trial, error="broken"))
    Tracker(client, store, "demo", {"a": 1}).log(Outcome(trial, result(trial, 0.1)))
    children = runs_of(client, "demo", "tags.`cspbench.kind` = 'trial'")
    assert [run.info.status for run in children] == ["FINISHED"]
    assert children[0].info.run_id != half


def test_the_dense_recogniser_is_a_run_beside_its_trials(store: Store) -> None:
    client, trial = open_client(store), spec()
    tracker = Tracker(client, store, "demo", {"a": 1})
    for one in (trial, spec("magnitude")):
        tracker.log(Outcome(one, result(one, 0.1, dense=0.03)))
    Tracker(client, store, "demo", {"a": 1}).log(Outcome(spec("lottery"), result(spec("lottery"), 0.1)))
    (dense,) = runs_of(client, "demo", "tags.`cspbench.kind` = 'dense'")
    assert dense.data.params["method"] == "dense"
    assert dense.data.tags[PARENT] == tracker.parent
    metrics = dense.data.metrics
    assert (metrics["test_wer"], metrics["wer"], metrics["sparsity"], metrics["latency_ms"]) == (0.03, 0.03, 0.0, 0.8)
    assert metrics.keys() - {"wer"} <= METRICS.keys()


def test_use_of_the_machine_stands_among_system_metrics(store: Store) -> None:
    client, trial = open_client(store), spec()
    rows = [{"step": i, "time": 1000.5 + i, "cpu_utilization_percentage": 10.0 * i} for i in range(3)]
    write_jsonl(store.trial(trial.id).usage, rows)
    Tracker(client, store, "demo", {"a": 1}).log(Outcome(trial, result(trial, 0.1)))
    (child,) = runs_of(client, "demo", "tags.`cspbench.kind` = 'trial'")
    history = client.get_metric_history(child.info.run_id, "system/cpu_utilization_percentage")
    assert [(m.step, m.timestamp, m.value) for m in history] == [(i, 1_000_500 + 1000 * i, 10.0 * i) for i in range(3)]
    assert [name for name in child.data.metrics if name.startswith("system/")] == ["system/cpu_utilization_percentage"]


def test_a_half_logged_dense_recogniser_is_replaced(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    client, outcome = open_client(store), Outcome(spec(), result(spec(), 0.1))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Tracker, "_log_metrics", killed)
        with pytest.raises(KeyboardInterrupt):
            Tracker(client, store, "demo", {"a": 1}).log(outcome)
    (half,) = runs_of(client, "demo", "tags.`cspbench.kind` = 'dense'")
    Tracker(client, store, "demo", {"a": 1}).log(outcome)
    (dense,) = runs_of(client, "demo", "tags.`cspbench.kind` = 'dense'")
    assert (half.info.status, dense.info.status) == ("RUNNING", "FINISHED")


def test_workers_log_their_trials_and_one_of_them_the_dense_recogniser(store: Store) -> None:
    """The run of the sweep is made, opened and closed by its own process."""
    client, trials = open_client(store), (spec(), spec("magnitude"))
    outcomes = [Outcome(trial, result(trial, 0.1)) for trial in trials]
    with pytest.raises(MlflowException, match="the sweep 'demo' has no run yet"):
        Tracker(client, store, "demo", {"a": 1}, only=trials[0].id)
    tracker = Tracker(client, store, "demo", {"a": 1})
    tracker.finish("FINISHED")

    @contextmanager
    def second() -> Iterator[None]:
        """While the one waits for its reservation, the other logs."""
        Tracker(client, store, "demo", {"a": 1}, only=trials[1].id).log(outcomes[1])
        yield

    Tracker(client, store, "demo", {"a": 1}, only=trials[0].id, alone=second).log(outcomes[0])
    kinds = [(run.data.tags["cspbench.kind"], run.info.status) for run in runs_of(client, "demo")]
    assert sorted(kinds) == [(kind, "FINISHED") for kind in ("dense", "sweep", "trial", "trial")]


def test_runs_say_who_ran_what_on_which_data(store: Store) -> None:
    client, trial = open_client(store), spec(params={"strength": 0.5})
    Tracker(client, store, "demo", {"a": 1}).log(Outcome(trial, result(trial, 0.1)))
    (child,) = runs_of(client, "demo", "tags.`cspbench.kind` = 'trial'")
    tags = child.data.tags
    assert tags["mlflow.source.name"]
    assert tags["mlflow.user"] == getpass.getuser()
    note = tags["mlflow.note.content"]
    assert "| test WER % | 2.0 | 10.0 [7.0, 13.0] | +400 % |" in note
    assert f"get-artifact?path=layers_and_curve.png&run_uuid={child.info.run_id}" in note
    assert "`strength=0.5`" in note
    assert f"cspbench pack {store.trial(trial.id).path} model.packed.safetensors" in note
    assert [(d.dataset.name, d.tags[0].value) for d in child.inputs.dataset_inputs] == [
        ("fsdd train", "training"),
        ("fsdd dev", "selection"),
        ("fsdd test", "test"),
    ]


def test_the_revision_is_that_of_the_checkout_that_tracks_the_package(tmp_path: Path) -> None:
    assert git_tags(tmp_path) == {}
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "first"]):
        (tmp_path / "__init__.py").touch()
        subprocess.run(["git", "-C", tmp_path, *words], check=True)
    clean = git_tags(tmp_path)
    assert len(clean["mlflow.source.git.commit"]) == 40
    assert clean["mlflow.source.git.dirty"] == "false"
    (tmp_path / "__init__.py").write_text("changed")
    assert git_tags(tmp_path) == clean | {"mlflow.source.git.dirty": "true"}


def test_a_long_note_keeps_within_the_limit_of_mlflow() -> None:
    summary = "# demo\n\n" + "".join(f"| csp | {number} |\n" for number in range(2000))
    note = sweep_note(summary, "run", "report/overview.png", "cspbench ui demo")
    assert len(note) < 8000
    assert note.startswith("# demo\n\n![overview](get-artifact?path=report%2Foverview.png&run_uuid=run)\n")
    assert "report/summary.md" in note
    assert note.endswith("```\ncspbench ui demo\n```")


def test_a_results_folder_that_was_moved_keeps_its_artifacts(store: Store, tmp_path: Path) -> None:
    trial = spec()
    write_json(store.trial(trial.id).result, {})
    Tracker(open_client(store), store, "demo", {"a": 1}).log(Outcome(trial, result(trial, 0.1)))
    moved = Store(store.root.rename(tmp_path / "else where"))
    client = open_client(moved)
    (child,) = runs_of(client, "demo", "tags.`cspbench.kind` = 'trial'")
    assert "result.json" in [item.path for item in client.list_artifacts(child.info.run_id)]
    assert Path(url2pathname(urlparse(child.info.artifact_uri).path)).is_relative_to(moved.root)
    again = spec("magnitude")
    write_json(moved.trial(again.id).result, {})
    Tracker(client, moved, "demo", {"a": 1}).log(Outcome(again, result(again, 0.1)))
    assert not store.root.exists()


def test_artifacts_that_lie_in_a_bucket_stay_there(store: Store) -> None:
    client = open_client(store)
    made = client.create_experiment("demo", artifact_location="s3://bucket/mlflow/artifacts/demo")
    assert open_client(store).get_experiment(made).artifact_location == "s3://bucket/mlflow/artifacts/demo"


def test_a_noisy_latency_is_a_tag_of_its_run(store: Store) -> None:
    client, trial = open_client(store), spec()
    found = result(trial, 0.1)
    report = found.latency.model_copy(update={"noise": Noise(conclusive=False)})
    Tracker(client, store, "demo", {"a": 1}).log(Outcome(trial, found.model_copy(update={"latency": report})))
    (child,) = runs_of(client, "demo", "tags.`cspbench.kind` = 'trial'")
    assert child.data.tags["cspbench.latency"] == "noisy"
    assert child.data.metrics["latency_conclusive"] == 0


def test_a_parameter_longer_than_mlflow_takes_is_short_there_and_whole_in_the_spec(store: Store) -> None:
    trial = spec(params={"note": "x" * 7000})
    client = open_client(store)
    write_json(store.trial(trial.id).spec, trial.model_dump(mode="json"))
    Tracker(client, store, "demo", {"a": 1}).log(Outcome(trial, result(trial, 0.1)))
    (child,) = runs_of(client, "demo", "tags.`cspbench.kind` = 'trial'")
    assert child.data.params["csp.note"] == "x" * 6000
    whole = client.download_artifacts(child.info.run_id, "spec.json")
    assert json.loads(Path(whole).read_text())["method"]["params"] == {"note": "x" * 7000}


def test_another_content_gets_a_parent_of_its_own(store: Store) -> None:
    client = open_client(store)
    assert Tracker(client, store, "demo", {"a": 1}).parent != Tracker(client, store, "demo", {"a": 2}).parent


def test_curves_are_thinned_but_keep_what_matters() -> None:
    records = [{"step": step, "loss": 1.0} for step in range(1000)]
    records[501]["dev_wer"] = 0.5
    kept = thinned(records)
    assert len(kept) < 155
    assert {0, 501, 999} <= {record["step"] for record in kept}
    assert thinned([]) == []


def test_metrics_are_named_as_in_the_report() -> None:
    metrics = trial_metrics(result(spec(), 0.1, dev=0.12))
    assert (metrics["test_wer"], metrics["wer"], metrics["dev_wer"]) == (0.1, 0.1, 0.12)
    assert metrics.keys() - {"wer"} <= METRICS.keys()
    assert metrics["speedup"] == pytest.approx(metrics["dense_latency_ms"] / metrics["latency_ms"])
    assert all(isinstance(value, float) for value in metrics.values())


def test_the_fake_is_really_in_use() -> None:
    from cspbench.trials.run import run_trial

    assert run_trial is fake_trial.run_trial
