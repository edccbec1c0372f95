"""One trial: prune the dense recogniser by one method to one sparsity, then measure everything about the result.

`run_trial` is a function of its spec alone. Its folder in the store is its cache: a finished trial is read back, an
interrupted one goes on from its last checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import Tensor, nn

from cspbench.asr.model import Transducer, observe_inputs, prunable_weights
from cspbench.errors import ConfigError, CspbenchError
from cspbench.machine.lock import working
from cspbench.pruning import PruningContext, PruningMethod
from cspbench.pruning.registry import methods
from cspbench.result import TrialResult
from cspbench.runtime.latency.engines import Source
from cspbench.runtime.latency.paired import measure_latency
from cspbench.runtime.packing import dense_bytes, packed_bytes
from cspbench.spec import TrialSpec
from cspbench.store import DenseFolder, Store, TrialFolder, locked, write_json, write_jsonl
from cspbench.training.checkpoint import load_model, save_model
from cspbench.training.dense import (
    DenseResult,
    device_name,
    model_note,
    resolve_device,
    train_dense,
)
from cspbench.training.evaluate import errors, recognise
from cspbench.training.events import Event, Listener, silent
from cspbench.training.loop import TrainingRun
from cspbench.training.speech import Speech, prepare_speech
from cspbench.trials.records import read_result

CALIBRATION_UTTERANCES = 192

__all__ = ["run_trial", "train_dense"]


def run_trial(spec: TrialSpec, store: Store, *, device: str = "auto", progress: Listener = silent) -> TrialResult:
    """Run a trial, or return its result at once if it has been run.

    Args:
        spec: everything the outcome depends on.
        store: where the trial is kept, in ``trials/<id>``, and the dense recogniser it starts from.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; latency is measured on the CPU either way.
        progress: hears how it goes.

    Raises:
        ConfigError: an unknown method or a hyperparameter it does not take.
        CorpusError: audio or transcripts that cannot be used.
        PruningError: a method that cannot do what it is asked.
    """
    folder = store.trial(spec.id)
    with locked(folder.path):
        if not folder.finished:
            _Trial(spec, store, folder, resolve_device(device), progress).run()
    return read_result(folder)


@dataclass
class _Trial:
    spec: TrialSpec
    store: Store
    folder: TrialFolder
    device: torch.device
    progress: Listener
    busy_seconds: float = 0.0

    @contextmanager
    def _busy(self) -> Iterator[None]:
        """Count what a trial is for; the rest of its time is overhead."""
        began = time.monotonic()
        yield
        self.busy_seconds += time.monotonic() - began

    def run(self) -> None:
        began = time.monotonic()
        write_json(self.folder.spec, self.spec.model_dump(mode="json"))
        speech = prepare_speech(self.spec.dense, self.store, self.progress)
        with self._busy():
            dense_result = train_dense(
                self.spec.dense, self.store, device=str(self.device), progress=self.progress, speech=speech
            )
        dense, *_ = load_model(self.store.dense(self.spec.dense.id).path)
        model, *_ = load_model(self.store.dense(self.spec.dense.id).path)
        model.set_dropout(self.spec.dense.model.dropout)
        training = self._prune(model.to(self.device), speech)
        note = model_note(speech) | {"trial_id": self.spec.id}
        features = self.spec.dense.features
        save_model(self.folder.path, model, speech.tokenizer, features, speech.corpus.sample_rate, note)
        write_jsonl(self.folder.curve, training.curve)
        self._measure(dense, model, speech, dense_result, training, began)
        training.checkpoint.unlink()  # type: ignore[union-attr]

    def _prune(self, model: Transducer, speech: Speech) -> TrainingRun:
        data = speech.training()
        budget = self.spec.training.epochs * data.steps_per_epoch(self.spec.training.batch_size)
        method = make_method(self.spec, model, speech, budget, self.store.dense(self.spec.dense.id))
        run = TrainingRun(
            model=model,
            data=data,
            spec=self.spec.training,
            # Offset so that pruning does not replay the very batches of the dense training.
            seed=self.spec.seed + 1_000,
            phases=method.phases(),
            method=method,
            checkpoint=self.folder.checkpoint,
            evaluate=lambda: {"dev_wer": errors(recognise(model, speech, "dev")).wer},
            listener=self.progress,
            stage="prune",
        )
        with self._busy():
            run.run()
        return run

    def _measure(
        self,
        dense: Transducer,
        model: Transducer,
        speech: Speech,
        dense_result: DenseResult,
        training: TrainingRun,
        began: float,
    ) -> None:
        self.progress(Event("measure", message="recognising dev and test, measuring latency"))
        with self._busy(), working() as step_aside:
            dev = recognise(model, speech, "dev")
            step_aside()
            test = recognise(model, speech, "test")
        write_jsonl(self.folder.hypotheses, (utterance.row() for utterance in test))
        model.cpu()
        with self._busy():
            front = (speech.tokenizer, self.spec.dense.features, speech.corpus.sample_rate)
            before, after = Source(dense, *front), Source(model, *front)
            latency = measure_latency(before, after, speech.corpus.split("test"), self.spec.latency)
        layers = layer_sparsity(prunable(model, self.spec))
        result = TrialResult(
            trial_id=self.spec.id,
            dense_id=self.spec.dense.id,
            method=self.spec.method.name,
            sparsity_requested=self.spec.sparsity,
            sparsity=overall_sparsity(prunable(model, self.spec)),
            layer_sparsity=layers,
            seed=self.spec.seed,
            dev=errors(dev),
            test=errors(test),
            dense_dev=dense_result.dev,
            dense_test=dense_result.test,
            latency=latency,
            size_bytes=packed_bytes(model),
            dense_size_bytes=dense_bytes(dense),
            steps=training.total,
            train_seconds=training.seconds,
            seconds=time.monotonic() - began,
            overhead_seconds=time.monotonic() - began - self.busy_seconds,
            device=device_name(self.device),
            synthetic=speech.corpus.synthetic,
        )
        write_json(self.folder.result, result.model_dump(mode="json"))


def make_method(spec: TrialSpec, model: Transducer, speech: Speech, budget: int, dense: DenseFolder) -> PruningMethod:
    """The pruning method of a spec, bound to a model and to what it may ask for."""
    chosen = methods.get(spec.method.name)
    try:
        params = chosen.Params.model_validate(spec.method.params)
    except ValidationError as error:
        raise ConfigError(f"method '{spec.method.name}': {error}") from error
    weights = prunable(model, spec)

    def restore(tensors: Mapping[str, Tensor]) -> None:
        model.load_state_dict({**model.state_dict(), **tensors})

    context = PruningContext(
        weights=weights,
        sparsity=spec.sparsity,
        steps=budget,
        seed=spec.seed,
        grams=input_grams(model, speech, list(weights)),
        snapshot=lambda share: _snapshot(dense, share, model.device),
        restore=restore,
    )
    return chosen(params, context)


def _snapshot(dense: DenseFolder, share: float, device: torch.device) -> dict[str, Tensor]:
    path = dense.snapshot(share)
    if not path.is_file():
        raise CspbenchError(f"{path} is missing: the dense run kept no weights at {share:g} of its training")
    return load_file(path, device=str(device))


def prunable(model: Transducer, spec: TrialSpec) -> dict[str, nn.Parameter]:
    """Weight matrices whose name matches one of the spec's patterns."""
    matrices = prunable_weights(model)
    return {n: w for n, w in matrices.items() if any(fnmatchcase(n, pattern) for pattern in spec.prunable)}


def input_grams(model: Transducer, speech: Speech, names: list[str]) -> Callable[..., dict[str, Tensor]]:
    """Return a function that computes ``E[x x^T]`` of each named matrix's inputs over calibration utterances."""
    wanted = set(names)

    def grams(utterances: int = CALIBRATION_UTTERANCES, skip: int = 0) -> dict[str, Tensor]:
        sums: dict[str, Tensor] = {}
        counts: dict[str, int] = {}

        def see(name: str, inputs: Tensor) -> None:
            if name in wanted:
                sums[name] = sums.get(name, 0) + inputs.T @ inputs
                counts[name] = counts.get(name, 0) + len(inputs)

        was_training = model.training
        model.eval()
        with torch.no_grad():
            for batch in (b.to(model.device) for b in speech.calibration(utterances, skip)):
                features = model.normalise(batch.features)
                observe_inputs(model, features, batch.frames, batch.targets, batch.labels, see)
        model.train(was_training)
        return {name: sums[name] / counts[name] for name in names}

    return grams


def overall_sparsity(weights: Mapping[str, Tensor]) -> float:
    """Share of zeros among all the weights together, counted."""
    total = sum(w.numel() for w in weights.values())
    return sum(int((w == 0).sum()) for w in weights.values()) / total if total else 0.0


def layer_sparsity(weights: Mapping[str, Tensor]) -> dict[str, float]:
    """Share of zeros of each matrix, counted."""
    return {name: overall_sparsity({name: w}) for name, w in weights.items()}
