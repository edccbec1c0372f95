"""One trial in five stages: dense, prune, evaluate, pack, measure.

`run_trial` is a function of its spec alone. Its folder in the store is its cache: a finished trial is read back. Each
stage leaves its outcome in the folder and begins with a look whether it is there, so that a trial killed between two
stages repeats neither; one killed while it trains resumes from the last checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from cspbench.asr.speech_model import SpeechModel, prunable_weights
from cspbench.corpora.base import Split
from cspbench.errors import CspbenchError
from cspbench.machine import stop
from cspbench.machine.lock import working
from cspbench.pruning import PruningContext, PruningMethod
from cspbench.pruning.matrices import as_matrix
from cspbench.pruning.moments import layer_sparsity, overall_sparsity
from cspbench.pruning.registry import create
from cspbench.result import TrialResult
from cspbench.runtime import extension
from cspbench.runtime.evaluate import packed_word_errors
from cspbench.runtime.latency.paired import measure_latency
from cspbench.runtime.packing import dense_bytes, pack_model, packed_bytes
from cspbench.spec import TrialSpec, refuse_to_run
from cspbench.store import DenseFolder, Store, TrialFolder, locked, read_json, write_json, write_jsonl
from cspbench.training.checkpoint import load_model, save_model
from cspbench.training.dense import (
    device_name,
    model_note,
    new_model,
    record_environment,
    resolve_device,
    train_dense,
)
from cspbench.training.evaluate import dev_metrics, errors, recognise
from cspbench.training.events import Event, Listener, StoppedEarly, silent
from cspbench.training.loop import TrainingRun, one_cycle
from cspbench.training.speech import Speech, prepare_speech
from cspbench.training.weight_log import WeightLog
from cspbench.trials.calibration import input_grams, teacher_responses
from cspbench.trials.clips import save_clips
from cspbench.trials.records import read_result

__all__ = ["run_trial", "train_dense"]


def run_trial(
    spec: TrialSpec, root: Store | Path | str = "runs", *, device: str = "auto", progress: Listener = silent
) -> TrialResult:
    """Run a trial, or return its result at once if it has been run.

    Args:
        spec: everything the outcome depends on.
        root: folder of all results; keeps the trial, in ``trials/<id>``, and the dense recogniser it starts from.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; latency is measured on the CPU either way.
        progress: called with events while the trial runs.

    Raises:
        ConfigError: an unknown method, a hyperparameter it does not take, or a spec of an earlier schema version.
        CorpusError: audio or transcripts that cannot be used.
        PruningError: a method that cannot do what it is asked.
        StoppedEarly: `progress` raised it at an evaluation; the next call goes on from there.
    """
    store = Store(root)
    folder = store.trial(spec.id)
    with locked(folder.path):
        if not folder.finished:
            refuse_to_run(spec)
            began = time.monotonic()
            place = resolve_device(device)
            write_json(folder.spec, spec.model_dump(mode="json"))
            record_environment(folder, place)
            speech = prepare_speech(spec.dense, store, progress, spec.training.augment.speeds)
            trial = _Trial(spec, store, place, progress, speech)
            for stage in (dense, prune, evaluate, pack, measure):
                stop.check()
                stage(trial)
            _conclude(trial, time.monotonic() - began)
    return read_result(folder)


@dataclass
class _Trial:
    """A trial under way. `busy_seconds` went into training, evaluation and measurement; the rest is overhead."""

    spec: TrialSpec
    store: Store
    device: torch.device
    progress: Listener
    speech: Speech
    busy_seconds: float = 0.0

    @property
    def folder(self) -> TrialFolder:
        return self.store.trial(self.spec.id)

    @property
    def dense_folder(self) -> DenseFolder:
        return self.store.dense(self.spec.dense.id)

    @contextmanager
    def busy(self) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.busy_seconds += time.monotonic() - began


def dense(trial: _Trial) -> None:
    """Train the dense recogniser, unless it is there; see `train_dense`."""
    with trial.busy():
        train_dense(
            trial.spec.dense, trial.store, device=str(trial.device), progress=trial.progress, speech=trial.speech
        )


def prune(trial: _Trial) -> None:
    """Prune and train: writes the model, its curve and last ``training.json``."""
    spec, speech, folder = trial.spec, trial.speech, trial.folder
    if folder.training.is_file():
        return
    trained = load_model(trial.dense_folder.path)
    if spec.training.start == "fresh":
        trained = replace(trained, model=new_model(spec.dense, speech))
    model = trained.model
    model.set_dropout(spec.dense.model.dropout)
    model.to(trial.device)
    data = speech.training()
    budget = spec.training.epochs * data.steps_per_epoch(spec.training.batch_size)
    method = make_method(spec, model, speech, budget, trial.dense_folder)
    training = TrainingRun(
        model=model,
        data=data,
        spec=spec.training,
        # Offset so that pruning does not replay the very batches of the dense training.
        seed=spec.seed + 1_000,
        phases=method.phases(),
        method=method,
        teacher=_teacher(trial) if spec.training.distillation else None,
        checkpoint=folder.checkpoint,
        evaluate=lambda: dev_metrics(model, speech),
        steps=folder.steps,
        stage="prune",
    )
    weights = WeightLog(folder.weight_log, prunable(model, spec), training.total)

    def listen(event: Event) -> None:
        weights.after(event.step)
        trial.progress(event)

    training.listener = listen
    try:
        with trial.busy():
            training.run()
            weights.count(training.total)  # some methods make the last zeros at the very end
    except StoppedEarly:
        write_jsonl(folder.curve, training.curve)
        raise
    save_model(folder.path, replace(trained, note=model_note(speech) | {"trial_id": spec.id}))
    write_jsonl(folder.curve, training.curve)
    write_json(folder.training, {"steps": training.total, "seconds": training.seconds})


def _teacher(trial: _Trial) -> SpeechModel:
    """Load the dense recogniser for the pruned one to learn from."""
    return load_model(trial.dense_folder.path).model.to(trial.device).eval()


def evaluate(trial: _Trial) -> None:
    """Decode dev, and test unless the trial is for selection only.

    Writes ``hypotheses.jsonl``, of test, the audio of its worst utterances, and last ``evaluation.json``, the errors of
    each split, and those on test with weights in int8 where the native engine, which decodes in int8, is there and runs
    the recogniser.
    """
    folder, speech = trial.folder, trial.speech
    if folder.evaluation.is_file():
        return
    splits: tuple[Split, ...] = ("dev",) if trial.spec.selection_only else ("dev", "test")
    trial.progress(Event("evaluate", message=f"decoding {' and '.join(splits)}"))
    trained = load_model(folder.path)
    model = trained.model.to(trial.device)
    found: dict[str, Any] = {}
    with trial.busy(), working() as step_aside:
        for split in splits:
            step_aside()
            recognised = recognise(model, speech, split)
            found[split] = errors(recognised).model_dump(mode="json")
            if split == "test":
                write_jsonl(folder.hypotheses, (utterance.row() for utterance in recognised))
                save_clips(folder, recognised, speech.corpus, split)
        if "test" in splits and trained.has_packed_file and extension.available():
            step_aside()
            # Equal in every format, bit for bit: none needs to be timed.
            packed = pack_model(trained, format="smallest", values="int8")
            found["int8_test"] = packed_word_errors(packed, speech.corpus.split("test")).model_dump(mode="json")
    write_json(folder.evaluation, found)


def pack(trial: _Trial) -> None:
    """Pack the model: writes ``size.json`` with its bytes, those of the dense recogniser, and the zeros it has."""
    if trial.folder.size.is_file():
        return
    pruned = load_model(trial.folder.path)
    weights = prunable(pruned.model, trial.spec)
    sizes = {
        "sparsity": overall_sparsity(weights),
        "layer_sparsity": layer_sparsity(weights),
        "size_bytes": packed_bytes(pruned),
        "dense_size_bytes": dense_bytes(load_model(trial.dense_folder.path)),
    }
    write_json(trial.folder.size, sizes)


def measure(trial: _Trial) -> None:
    """Measure the latency of the packed beside the dense recogniser, unless the trial is for selection only.

    Writes ``latency.json``.
    """
    spec, speech = trial.spec, trial.speech
    if spec.selection_only or trial.folder.latency.is_file():
        return
    trial.progress(Event("measure", message="measuring latency"))
    before, pruned = load_model(trial.dense_folder.path), load_model(trial.folder.path)
    with trial.busy():
        report = measure_latency(before, pruned, speech.corpus.split("test"), spec.latency)
    write_json(trial.folder.latency, report.model_dump(mode="json"))


def _conclude(trial: _Trial, seconds: float) -> None:
    """Write the result from what the stages left; the folder is complete with it."""
    spec, folder = trial.spec, trial.folder
    training, evaluation = read_json(folder.training), read_json(folder.evaluation)
    dense_result = read_json(trial.dense_folder.result)
    result = TrialResult(
        trial_id=spec.id,
        dense_id=spec.dense.id,
        method=spec.method.name,
        sparsity_requested=spec.sparsity,
        seed=spec.seed,
        dev=evaluation["dev"],
        test=evaluation.get("test"),
        int8_test=evaluation.get("int8_test"),
        dense_dev=dense_result["dev"],
        dense_test=dense_result["test"],
        latency=None if spec.selection_only else read_json(folder.latency),
        **read_json(folder.size),
        steps=training["steps"],
        train_seconds=training["seconds"],
        seconds=seconds,
        overhead_seconds=seconds - trial.busy_seconds,
        device=device_name(trial.device),
        synthetic=trial.speech.corpus.synthetic,
    )
    folder.checkpoint.unlink(missing_ok=True)
    write_json(folder.result, result.model_dump(mode="json"))


def make_method(spec: TrialSpec, model: SpeechModel, speech: Speech, budget: int, dense: DenseFolder) -> PruningMethod:
    """The pruning method of a spec, bound to a model and to what it may ask for."""
    weights = {name: as_matrix(name, weight) for name, weight in prunable(model, spec).items()}

    def restore(tensors: Mapping[str, Tensor]) -> None:
        model.load_state_dict({**model.state_dict(), **tensors})

    context = PruningContext(
        weights=weights,
        sparsity=spec.sparsity,
        steps=budget,
        seed=spec.seed,
        grams=input_grams(model, speech, list(weights)),
        responses=teacher_responses(dense, model, speech, list(weights)),
        learning_rate=lambda step: one_cycle(step, budget, spec.training.learning_rate, spec.training.warmup),
        dense_steps=read_json(dense.result)["steps"] or None,
        snapshot=(lambda fraction: _snapshot(dense, fraction, model.device)) if dense.snapshots else None,
        restore=restore,
    )
    return create(spec.method.name, spec.method.params, context)


def _snapshot(dense: DenseFolder, fraction: float, device: torch.device) -> dict[str, Tensor]:
    path = dense.snapshot(fraction)
    if not path.is_file():
        raise CspbenchError(f"{path} is missing: the dense run kept no weights at {fraction:g} of its training")
    return load_file(path, device=str(device))


def prunable(model: SpeechModel, spec: TrialSpec) -> dict[str, nn.Parameter]:
    """Weight matrices whose name matches one of the spec's patterns."""
    matrices = prunable_weights(model)
    return {n: w for n, w in matrices.items() if any(fnmatchcase(n, pattern) for pattern in spec.prunable)}
