"""Trained recognisers that trials start from, in place of one that is trained for them."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from cspbench.asr.recognisers.lstm_transducer import PRESETS
from cspbench.asr.tokenizer import Tokenizer, load_tokenizer
from cspbench.asr.trained import TrainedModel
from cspbench.errors import ConfigError, CspbenchError, FileAccessError
from cspbench.spec import SIZES, DenseSpec, FeatureSpec, ModelSpec, PretrainedSpec
from cspbench.store import NAME, DenseFolder, Store, atomic_file, read_object
from cspbench.training.checkpoint import TRANSDUCER, load_model, model_config, save_model, save_tensors

SHIPPED = Store(Path(__file__).parent / "shipped")
"""Recognisers that cspbench comes with, in half precision; each has the spec and the result of its training."""


def shipped_names() -> list[str]:
    """Return the names of the recognisers that cspbench comes with."""
    return sorted(folder.name for folder in SHIPPED.root.glob("dense/*"))


def pretrained_folder(spec: PretrainedSpec) -> DenseFolder:
    """Return the folder of a pretrained recogniser.

    Raises:
        ConfigError: it holds no recogniser, or a pruned one.
        FileAccessError: it cannot be read.
    """
    named = NAME.fullmatch(spec.path) and spec.path in shipped_names()
    folder = SHIPPED.dense(spec.path) if named else DenseFolder(Path(spec.path).expanduser().absolute())
    try:
        note = model_config(folder).get("note", {})
    except OSError as error:  # a name too long for the file system, a folder that must not be looked into
        raise FileAccessError.of(error) from None
    except FileAccessError:
        raise
    except CspbenchError as error:
        raise ConfigError(f"{error} (cspbench comes with: {', '.join(shipped_names())})") from None
    if "trial_id" in note:
        raise ConfigError(f"{folder.path} holds a pruned recogniser; give a dense one")
    return folder


def resolved(spec: PretrainedSpec) -> PretrainedSpec:
    """Return a spec with an absolute path, unless that is a name, and with the hash of the files.

    Raises:
        ConfigError: as `pretrained_folder`.
    """
    folder = pretrained_folder(spec)
    path = spec.path if folder.path.is_relative_to(SHIPPED.root) else str(folder.path)
    return PretrainedSpec(path=path, fingerprint=fingerprint(folder))


def fingerprint(folder: DenseFolder) -> str:
    """Return the hash of a recogniser: of its shape, its weights, and those kept during its training."""
    digest = hashlib.sha256()
    for path in (folder.model, folder.weights, *folder.snapshots):
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:16]


def recogniser_specs(spec: PretrainedSpec) -> tuple[ModelSpec, FeatureSpec]:
    """Return shape and front end of a pretrained recogniser.

    Raises:
        ConfigError: as `pretrained_folder`.
    """
    config = model_config(pretrained_folder(spec))
    if config["format"] != TRANSDUCER:
        return ModelSpec.model_validate(config["model"]), config["features"]
    shape, kind = config["model"]["shape"], config["tokenizer"]["kind"]
    sizes = {name: shape[name] for name in SIZES}
    preset = next((name for name, known in PRESETS.items() if known == sizes), None)
    pieces = {"vocab_size": shape["units"]} if kind == "sentencepiece" else {}
    given = sizes if preset is None else {"preset": preset}
    return ModelSpec.model_validate(given | {"tokenizer": {"kind": kind} | pieces}), config["features"]


def pretrained_tokenizer(spec: PretrainedSpec) -> Tokenizer:
    """Return the output units of a pretrained recogniser.

    Raises:
        ConfigError: as `pretrained_folder`.
    """
    return load_tokenizer(model_config(pretrained_folder(spec))["tokenizer"])


def adopt(spec: DenseSpec, folder: DenseFolder, sample_rate: int) -> tuple[int, float]:
    """Copy the pretrained recogniser of a spec, with the weights kept during its training if there are any.

    Args:
        spec: with a pretrained recogniser.
        folder: where the copy goes.
        sample_rate: of the corpus, Hz.

    Returns:
        Steps and seconds of its training, 0 where they are not known.

    Raises:
        ConfigError: it is not what the spec says, or takes audio of another sample rate.
    """
    assert spec.pretrained is not None
    source = pretrained_folder(spec.pretrained)
    found = fingerprint(source)
    if spec.pretrained.fingerprint not in (None, found):
        raise ConfigError(
            f"{source.path} has fingerprint {found} where the trial was made for {spec.pretrained.fingerprint}: "
            "put the recogniser back, or start a new study"
        )
    trained = load_model(source.path)
    if trained.sample_rate != sample_rate:
        raise ConfigError(
            f"{source.path} takes audio of {trained.sample_rate} Hz, and the corpus has {sample_rate} Hz: resample it"
        )
    shape, features = recogniser_specs(spec.pretrained)
    if (shape.model_copy(update={"dropout": spec.model.dropout}), features) != (spec.model, spec.features):
        raise ConfigError(f"{source.path} has another shape or front end than the spec: leave model and features out")
    note = {**trained.note, "pretrained": spec.pretrained.path, "fingerprint": found}
    save_model(folder.path, TrainedModel(trained.model, trained.tokenizer, features, sample_rate, note))
    for snapshot in source.snapshots:
        with snapshot.open("rb") as kept, atomic_file(folder.path / snapshot.name) as copy:
            shutil.copyfileobj(kept, copy)
    if not source.result.is_file():
        return 0, 0.0
    known = read_object(source.result)
    return known.get("steps", 0), known.get("train_seconds", 0.0)


def ship(source: DenseFolder, target: DenseFolder) -> str:
    """Write a trained dense recogniser in half precision, with its spec and result, and return its hash.

    Statistics of features stay in single precision. Snapshots are left out.
    """
    trained = load_model(source.path)
    save_model(target.path, trained)
    state = trained.model.state_dict()
    halves = {name: value if name.startswith("feature_") else value.half() for name, value in state.items()}
    save_tensors(target.weights, halves)
    for kept in (source.spec, source.result):
        shutil.copyfile(kept, target.path / kept.name)
    return fingerprint(target)
