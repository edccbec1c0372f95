"""The dense recogniser every trial of a sweep starts from: trained once, under the hash of its own spec."""

from __future__ import annotations

from typing import Any

import torch

from cspbench.asr.recognisers import SpeechModel, build_model
from cspbench.asr.trained import TrainedModel
from cspbench.corpora.features import train_statistics
from cspbench.errors import ConfigError, CspbenchError
from cspbench.hyper import Frozen
from cspbench.machine.cpu import environment
from cspbench.pruning.method import REWIND_POINTS, Phase
from cspbench.result import WordErrors
from cspbench.spec import DenseSpec, refuse_to_run
from cspbench.store import DenseFolder, ModelFolder, Store, locked, read_json, write_json, write_jsonl
from cspbench.training.checkpoint import load_model, save_model, save_tensors
from cspbench.training.evaluate import dev_metrics, errors, recognise
from cspbench.training.events import Event, Listener, silent
from cspbench.training.loop import TrainingRun
from cspbench.training.pretrained import adopt
from cspbench.training.speech import Speech, prepare_speech


class DenseResult(Frozen):
    """Outcome of a dense training.

    `weights` counts all parameters of the recogniser, without auxiliary ones. Steps and seconds of a pretrained
    recogniser are those of its training, 0 where they are not known.
    """

    dense_id: str
    dev: WordErrors
    test: WordErrors
    weights: int
    steps: int
    train_seconds: float
    device: str
    synthetic: bool


def resolve_device(name: str) -> torch.device:
    """``auto`` takes CUDA where there is one.

    Raises:
        ConfigError: no name of a device.
        CspbenchError: CUDA asked for and absent, or a number that no device here has.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device '{name}' is none: use auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise CspbenchError(f"device '{name}' was asked for, but this torch sees no CUDA device; use cpu or auto")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise CspbenchError(
            f"device '{name}' was asked for; this machine has cuda:0 to cuda:{torch.cuda.device_count() - 1}"
        )
    return device


def device_name(device: torch.device) -> str:
    """A device in words, for records."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def environments(folder: ModelFolder) -> list[dict[str, Any]]:
    """Return the environments of the processes that worked on a folder, each once; none where they were not recorded.

    See `environment` for their keys; ``device`` is in them too.
    """
    return read_json(folder.environment) if folder.environment.is_file() else []


def record_environment(folder: ModelFolder, device: torch.device) -> None:
    """Add the environment of this process to those that worked on a folder, unless it is there."""
    here, known = environment() | {"device": device_name(device)}, environments(folder)
    if here not in known:
        write_json(folder.environment, [*known, here])


def new_model(spec: DenseSpec, speech: Speech) -> SpeechModel:
    """A recogniser with fresh weights drawn from the spec's seed, and the feature statistics of the training set."""
    torch.manual_seed(spec.seed)
    model = build_model(spec.model, spec.features, speech.tokenizer.size)
    mean, scale = train_statistics(speech.features["train", 1.0])
    model.feature_mean.copy_(torch.from_numpy(mean))
    model.feature_scale.copy_(torch.from_numpy(scale))
    return model


def train_dense(
    spec: DenseSpec, store: Store, *, device: str = "auto", progress: Listener = silent, speech: Speech | None = None
) -> DenseResult:
    """Train the dense recogniser of a spec, or take over a pretrained one; return at once if that has been done.

    Args:
        spec: what to train.
        store: where it is kept, in ``dense/<id>``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        progress: called with events while the training runs.
        speech: the prepared corpus, if the caller has it.
    """
    folder = store.dense(spec.id)
    with locked(folder.path):
        if not folder.finished:
            _train(spec, store, folder, resolve_device(device), progress, speech)
    return DenseResult.model_validate(read_json(folder.result))


def _train(
    spec: DenseSpec, store: Store, folder: DenseFolder, device: torch.device, progress: Listener, speech: Speech | None
) -> None:
    refuse_to_run(spec)
    speech = speech or prepare_speech(spec, store, progress)
    write_json(folder.spec, spec.model_dump(mode="json"))
    record_environment(folder, device)
    if spec.pretrained is None:
        model, steps, seconds = _fit(spec, folder, device, progress, speech)
    else:
        steps, seconds = adopt(spec, folder, speech.corpus.sample_rate)
        model = load_model(folder.path).model.to(device)
    progress(Event("dense", steps, steps, message="recognising dev and test"))
    result = DenseResult(
        dense_id=spec.id,
        dev=errors(recognise(model, speech, "dev")),
        test=errors(recognise(model, speech, "test")),
        weights=sum(v.numel() for k, v in model.recogniser_state().items() if not k.startswith("feature_")),
        steps=steps,
        train_seconds=seconds,
        device=device_name(device),
        synthetic=speech.corpus.synthetic,
    )
    write_json(folder.result, result.model_dump(mode="json"))
    folder.checkpoint.unlink(missing_ok=True)


def _fit(
    spec: DenseSpec, folder: DenseFolder, device: torch.device, progress: Listener, speech: Speech
) -> tuple[SpeechModel, int, float]:
    """Train and save a recogniser; return it with the steps and seconds of the training."""
    model = new_model(spec, speech).to(device)
    data = speech.training()
    total = spec.training.epochs * data.steps_per_epoch(spec.training.batch_size)
    keep = {round(fraction * total): fraction for fraction in reversed(REWIND_POINTS)}

    def snapshot(step: int) -> None:
        if step in keep and not folder.snapshot(keep[step]).is_file():
            save_tensors(folder.snapshot(keep[step]), model.state_dict())

    run = TrainingRun(
        model=model,
        data=data,
        spec=spec.training,
        seed=spec.seed,
        phases=[Phase(total)],
        checkpoint=folder.checkpoint,
        evaluate=lambda: dev_metrics(model, speech),
        on_step=snapshot,
        steps=folder.steps,
        listener=progress,
        stage="dense",
    )
    run.run()
    trained = TrainedModel(model, speech.tokenizer, spec.features, speech.corpus.sample_rate, model_note(speech))
    save_model(folder.path, trained)
    write_jsonl(folder.curve, run.curve)
    return model, total, run.seconds


def model_note(speech: Speech) -> dict[str, object]:
    """Facts kept beside a model."""
    return {"corpus": speech.corpus.name, "synthetic_speech": speech.corpus.synthetic}
