"""The stages of a trial, on a corpus of six noises: each is done once, whatever interrupts the trial."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch

from cspbench.asr.speech_model import prunable_weights
from cspbench.machine import stop
from cspbench.runtime import extension
from cspbench.spec import (
    CorpusSpec,
    DenseSpec,
    LatencySpec,
    MethodSpec,
    ModelSpec,
    PretrainedSpec,
    TrainSpec,
    TrialSpec,
)
from cspbench.store import Store
from cspbench.training.checkpoint import load_checkpoint, load_model
from cspbench.training.dense import new_model
from cspbench.training.events import Event, StoppedEarly
from cspbench.training.speech import prepare_speech
from cspbench.trials import run
from cspbench.trials.executors import attempt
from cspbench.trials.records import read_rows
from cspbench.trials.run import run_trial

STAGES = ("dense", "prune", "evaluate", "pack", "measure")
FILES = ("training.json", "evaluation.json", "size.json", "latency.json")


@pytest.fixture
def spec(corpus: dict[str, Any]) -> TrialSpec:
    dense = DenseSpec(
        corpus=CorpusSpec.model_validate(corpus), model=ModelSpec(preset="tiny"), training=TrainSpec(epochs=1)
    )
    return TrialSpec(
        dense=dense,
        method=MethodSpec(name="magnitude"),
        sparsity=0.5,
        training=TrainSpec(epochs=2, batch_size=1),
        latency=LatencySpec(utterances=1, warmup=0, repeats=1),
    )


class Killed(BaseException):
    """Ends a trial as a signal would: nothing handles it."""


def work_done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record every call of what a stage spends its time on."""
    calls: list[str] = []

    def watch(name: str) -> None:
        original = getattr(run, name)

        def watched(*args: Any, **options: Any) -> Any:
            calls.append(name)
            return original(*args, **options)

        monkeypatch.setattr(run, name, watched)

    for name in ("TrainingRun", "dev_metrics", "recognise", "packed_bytes", "measure_latency"):
        watch(name)
    return calls


@pytest.mark.parametrize("killed", [*STAGES, "_conclude"])
def test_a_trial_killed_between_two_stages_repeats_neither(
    killed: str, spec: TrialSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed where a stage begins: those before it have left their outcome, and are not run again."""
    store = Store(tmp_path)

    def kill(*_: Any) -> None:
        raise Killed

    done = work_done(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(run, killed, kill)
        with pytest.raises(Killed):
            run_trial(spec, store)
    result = run_trial(spec, store)
    assert done.count("TrainingRun") == done.count("packed_bytes") == done.count("measure_latency") == 1
    assert done.count("dev_metrics") == 2  # after each epoch
    assert done.count("recognise") == 2  # dev and test at the end
    assert result.trial_id == spec.id
    assert not store.trial(spec.id).checkpoint.exists()


def test_a_trial_that_is_asked_to_stop_saves_its_last_step_and_resumes_identically(
    spec: TrialSpec, tmp_path: Path
) -> None:
    whole, stopped = Store(tmp_path / "whole"), Store(tmp_path / "stopped")
    run_trial(spec, whole)

    def ask(event: Event) -> None:
        if event.stage == "prune" and event.step == 3:
            signal.raise_signal(signal.SIGTERM)

    with stop.stoppable("stopping"), pytest.raises(KeyboardInterrupt):
        run_trial(spec, stopped, progress=ask)
    assert load_checkpoint(stopped.trial(spec.id).checkpoint, torch.device("cpu"))["step"] == 3
    steps: list[int] = []
    run_trial(spec, stopped, progress=lambda event: steps.append(event.step) if event.stage == "prune" else None)
    assert steps == [4]
    weights = [store.trial(spec.id).weights.read_bytes() for store in (whole, stopped)]
    assert weights[0] == weights[1]


def test_a_trial_stopped_early_keeps_its_curve_and_goes_on_identically(spec: TrialSpec, tmp_path: Path) -> None:
    whole, stopped = Store(tmp_path / "whole"), Store(tmp_path / "stopped")
    run_trial(spec, whole)
    evaluations: list[dict[str, float]] = []

    def judge(event: Event) -> None:
        if event.stage == "prune" and event.evaluation:
            evaluations.append(dict(event.evaluation))
            if len(evaluations) == 1:
                raise StoppedEarly(f"step {event.step}")

    outcome = attempt(spec, stopped, "cpu", judge)
    assert (outcome.state, outcome.stopped, outcome.result, outcome.error) == ("stopped", "step 2", None, None)
    folder = stopped.trial(spec.id)
    assert not folder.finished
    assert not folder.evaluation.exists(), "test is not decoded"
    assert read_rows(folder.curve) == evaluations
    assert {"epoch", "dev_loss", "dev_wer"} <= evaluations[0].keys()
    assert attempt(spec, stopped, "cpu", judge).state == "complete"
    assert [evaluation["step"] for evaluation in evaluations] == [2, 4], "it went on from the checkpoint"
    counts = [read_rows(store.trial(spec.id).weight_log) for store in (whole, stopped)]
    assert counts[0] == counts[1]
    assert [sum(row["removed"]) / sum(row["kept"] + row["removed"]) for row in counts[0]][-1] == 0.5
    weights = [store.trial(spec.id).weights.read_bytes() for store in (whole, stopped)]
    assert weights[0] == weights[1]


def test_the_result_holds_what_the_stages_left(spec: TrialSpec, tmp_path: Path) -> None:
    store = Store(tmp_path)
    result = run_trial(spec, store).model_dump(mode="json")
    folder = store.trial(spec.id)
    assert {path.name for path in folder.path.iterdir()} >= {*FILES, "result.json", "model.safetensors", "curve.jsonl"}
    assert [path.name for path in folder.clips] == ["utterance-00000.mp3", "utterance-00001.mp3"]
    assert all(soundfile.info(path).duration == pytest.approx(0.5, abs=0.1) for path in folder.clips)
    assert result["train_seconds"] > 0
    assert result["steps"] == 4
    assert result["sparsity"] == 0.5
    assert result["overhead_seconds"] < result["seconds"]
    assert result["dense_test"]["words"] == result["test"]["words"] == 4
    assert (result["int8_test"]["words"] == 4) if extension.available() else (result["int8_test"] is None)


def test_a_trial_interrupted_by_an_older_version_resumes(
    spec: TrialSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It left a model and the checkpoint of the finished training, but no ``training.json``."""
    store, events = Store(tmp_path), []

    def kill(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(run, "evaluate", kill)
        with pytest.raises(Killed):
            run_trial(spec, store)
    store.trial(spec.id).training.unlink()
    assert run_trial(spec, store, progress=events.append).steps == 4
    assert [event.stage for event in events] == ["evaluate", "measure"]


def test_a_trial_for_selection_never_decodes_test(
    spec: TrialSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Test figures of tuning trials do not exist, so that nobody can look at them."""
    decoded: list[str] = []
    recognise = run.recognise
    monkeypatch.setattr(run, "recognise", lambda *args: decoded.append(args[2]) or recognise(*args))
    monkeypatch.setattr(run, "measure_latency", lambda *_: pytest.fail("no latency is measured"))
    store = Store(tmp_path)
    chosen = spec.model_copy(update={"selection_only": True})
    result = run_trial(chosen, store)
    assert decoded == ["dev"]
    assert chosen.id != spec.id
    assert (result.test, result.latency) == (None, None)
    assert not store.trial(chosen.id).hypotheses.exists()
    metrics = result.metrics()
    assert metrics["dev_wer"] == result.dev.wer
    assert metrics["dev_loss"] == result.dev.loss
    assert not [name for name in metrics if name.startswith(("test_", "latency")) or name == "size_bytes"]


def test_distillation_pulls_the_pruned_recogniser_towards_the_dense_one(spec: TrialSpec, tmp_path: Path) -> None:
    store = Store(tmp_path)

    def divergence(weight: float) -> float:
        changes = {"distillation": weight, "epochs": 6, "evaluate_every": 6, "learning_rate": 1e-2}
        training = spec.training.model_copy(update=changes)
        given = spec.model_copy(update={"training": training, "selection_only": True})
        run_trial(given, store)
        speech = prepare_speech(spec.dense, store)
        dense = load_model(store.dense(spec.dense.id).path).model.eval()
        pruned = load_model(store.trial(given.id).path).model.eval()
        (batch, *_) = speech.calibration(6, 0)
        batch = replace(batch, features=pruned.normalise(batch.features))
        with torch.no_grad():
            return float(pruned.distillation(pruned.outputs(batch), dense, batch))

    assert divergence(30.0) < 0.7 * divergence(0.0)


def test_distillation_that_is_off_is_no_part_of_the_identity(spec: TrialSpec) -> None:
    off, on = (
        spec.model_copy(update={"training": spec.training.model_copy(update={"distillation": weight})})
        for weight in (0.0, 0.5)
    )
    assert off.id == spec.id != on.id


@pytest.mark.parametrize("training", [{"distillation": 0.5}, {"start": "fresh"}])
def test_a_dense_recogniser_has_no_teacher_and_no_other_beginning(spec: TrialSpec, training: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="belongs under `prune`"):
        DenseSpec.model_validate(spec.dense.model_dump() | {"training": training})


def test_a_fresh_start_has_the_weights_that_the_dense_training_began_with(spec: TrialSpec, tmp_path: Path) -> None:
    still = TrainSpec(epochs=1, batch_size=6, learning_rate=1e-12, start="fresh")
    control = {"method": MethodSpec(name="control"), "sparsity": 0.0, "training": still, "selection_only": True}
    given = spec.model_copy(update=control)
    assert given.id != given.model_copy(update={"training": still.model_copy(update={"start": "dense"})}).id
    store = Store(tmp_path)
    run_trial(given, store)
    fresh = prunable_weights(new_model(spec.dense, prepare_speech(spec.dense, store)))
    after, dense = (
        prunable_weights(load_model(folder.path).model)
        for folder in (store.trial(given.id), store.dense(spec.dense.id))
    )
    for name, weight in fresh.items():
        torch.testing.assert_close(after[name], weight, rtol=0, atol=1e-8)
        assert not torch.allclose(dense[name], weight, rtol=0, atol=1e-4)


def test_a_pretrained_recogniser_has_no_fresh_weights(spec: TrialSpec) -> None:
    pretrained = DenseSpec(corpus=spec.dense.corpus, pretrained=PretrainedSpec(path="spoken_commands"))
    values = spec.model_dump() | {"dense": pretrained.model_dump(), "training": {"start": "fresh"}}
    with pytest.raises(ValueError, match="no fresh weights"):
        TrialSpec.model_validate(values)
