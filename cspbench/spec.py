"""Specs: values that describe a trial fully and that everything else is a function of.

An id is the sha256 of the canonical JSON of a spec, so equal work has equal ids on every machine. The path of the audio
(`CorpusSpec.path`) is not part of the identity; its contents (`CorpusSpec.fingerprint`) are.

Schema versions: a spec carries the version it was made under, and its id is computed with that version, so that results
of earlier versions keep their ids. To add a field, give it a default and mark it ``Annotated[bool, Since(2)] = False``,
or with ``Since(2, before=True)`` where earlier versions did what another value than today's default does. The field is
part of the identity only where its value is not that of earlier versions: a new option that is off changes no id.
`SCHEMA_VERSION` rises (once a release) when the same fields give another outcome. Fields are never renamed or removed.
Specs of earlier versions can be read and reported, but not run.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from cspbench.errors import ConfigError
from cspbench.hyper import Frozen, Settings

SCHEMA_VERSION = 2


_DEFAULT = object()


@dataclass(frozen=True)
class Since:
    """Schema version in which a field was added, and the value that specs of earlier versions have for it.

    Without `before` these have the default of the field.
    """

    version: int
    before: Any = _DEFAULT


def content_id(kind: str, value: Any, version: int = 1) -> str:
    """Return the first 16 hex digits of the sha256 of `value` as canonical JSON, salted with `kind` and `version`."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(f"{kind}/{version}/{canonical}".encode()).hexdigest()[:16]


def canonical(spec: BaseModel, version: int) -> dict[str, Any]:
    """Return a spec as JSON, with the fields that existed in a schema version and are not as they were before it."""
    parts = {name: inner for name in type(spec).model_fields if isinstance(inner := getattr(spec, name), BaseModel)}
    values = spec.model_dump(mode="json", exclude=set(parts))
    for name in type(spec).model_fields:
        inner = getattr(spec, name)
        since = _since(type(spec), name)
        if since > version or (since > 1 and inner == _value_before(type(spec), name)):
            values.pop(name, None)
        elif isinstance(inner, Located):
            values[name] = inner.identity()
        elif isinstance(inner, BaseModel):
            values[name] = canonical(inner, version)
    return values


def _current_version() -> int:
    return SCHEMA_VERSION


def _since(spec: type[BaseModel], name: str) -> int:
    mark = _mark(spec, name)
    return 1 if mark is None else mark.version


@functools.cache
def _mark(spec: type[BaseModel], name: str) -> Since | None:
    return next((mark for mark in spec.model_fields[name].metadata if isinstance(mark, Since)), None)


def _value_before(spec: type[BaseModel], name: str) -> Any:
    mark = _mark(spec, name)
    if mark is not None and mark.before is not _DEFAULT:
        return mark.before
    return spec.model_fields[name].get_default(call_default_factory=True)


def as_of(spec: type[BaseModel], data: Mapping[str, Any], version: int) -> dict[str, Any]:
    """Return the JSON of a spec written under a schema version, with what was taken for granted then made explicit."""
    filled = dict(data)
    for name, field in spec.model_fields.items():
        inner = field.annotation
        if _since(spec, name) > version:
            filled.setdefault(name, _value_before(spec, name))
        elif isinstance(inner, type) and issubclass(inner, BaseModel) and isinstance(filled.get(name, {}), Mapping):
            deeper = as_of(inner, filled.get(name, {}), version)
            if name in filled or deeper:
                filled[name] = deeper
    return filled


def newer_fields(spec: BaseModel, version: int, *, chosen: bool = False) -> Iterator[str]:
    """Yield the fields that say something which the schema version could not, dotted.

    Args:
        spec: any.
        version: a schema version.
        chosen: only fields that do not have their default, which a person must have set.
    """
    for name, field in type(spec).model_fields.items():
        inner = getattr(spec, name)
        if _since(type(spec), name) > version:
            usual = field.get_default(call_default_factory=True) if chosen else _value_before(type(spec), name)
            if inner != usual:
                yield name
        elif isinstance(inner, BaseModel):
            yield from (f"{name}.{deeper}" for deeper in newer_fields(inner, version, chosen=chosen))


def _filled(spec: type[BaseModel], data: Any) -> Any:
    """Make explicit what the version stated in a spec's JSON took for granted; anything else goes on to validation."""
    version = data.get("version") if isinstance(data, dict) else None
    return as_of(spec, data, version) if isinstance(version, int) and version < SCHEMA_VERSION else data


def _check_version(spec: BaseModel, version: int) -> None:
    if not 1 <= version <= SCHEMA_VERSION:
        raise ValueError(
            f"spec of schema version {version}; this cspbench reads versions up to {SCHEMA_VERSION}: update cspbench"
        )
    if names := list(newer_fields(spec, version)):
        raise ValueError(f"schema version {version} has no {', '.join(names)}: leave it out, or raise the version")


class Fold(Settings):
    """One fold of a cross-validation over speakers: fold `index` of `of` is test, the next one dev, the rest train."""

    index: int = Field(ge=0)
    of: int = Field(ge=3, description="folds; at most as many as there are speakers")

    @model_validator(mode="after")
    def _exists(self) -> Fold:
        if self.index >= self.of:
            raise ValueError(f"of {self.of} folds the last is number {self.of - 1}, not {self.index}")
        return self


class Located(Settings):
    """Something that lies in a folder: what it holds is its identity, not where it lies."""

    def identity(self) -> dict[str, Any]:
        """Return what determines it: everything but its path."""
        raise NotImplementedError


class CorpusSpec(Located):
    """Speech corpus. `options` belong to the registered corpus loader and are validated by it."""

    name: str = "spoken_commands"
    path: str | None = Field(None, description="folder of the audio; unset for corpora that make their own")
    options: dict[str, Any] = Field(default_factory=dict)
    fold: Fold | None = Field(None, description="cross-validation: divide all speakers anew, in place of the splits")
    fingerprint: str | None = Field(None, description="hash of the prepared corpus, filled in when a sweep is resolved")

    def identity(self) -> dict[str, Any]:
        known = {"name": self.name, "options": self.options, "fingerprint": self.fingerprint}
        return known if self.fold is None else known | {"fold": self.fold.model_dump(mode="json")}


LONGEST_STEP_MS = 200
"""Longest step of a model: a syllable takes about as long."""


class FeatureSpec(Settings):
    """Log-mel filterbank: `mels` bins every `hop_ms`, `stack` frames joined into one model step."""

    mels: int = Field(40, ge=8, le=128)
    window_ms: float = Field(25.0, ge=5, le=200)
    hop_ms: float = Field(10.0, ge=1, le=100)
    stack: int = Field(3, ge=1, le=8, description="frames per model step; 3 frames of 10 ms are a 30 ms step")
    floor: Annotated[float | None, Since(2, before=None)] = Field(
        4.0, ge=-15, le=15, description="natural log of the energy added to each bin, at the 16-bit scale: a background"
    )
    level_fall: Annotated[float | None, Since(2, before=None)] = Field(
        0.01,
        ge=0,
        le=1,
        description="features are relative to a reference level, which falls by at most so many nats a frame; none: "
        "they are absolute",
    )
    level_above: Annotated[float, Since(2)] = Field(
        7.0, ge=0, le=30, description="nats by which the reference level exceeds the quietest frame so far, at least"
    )
    level_follows_background: Annotated[bool, Since(2)] = Field(
        False,
        description="that least reference level falls with the quietest frame at once, and not by level_fall: for "
        "recordings that begin in mid-speech",
    )
    flush_ms: Annotated[float, Since(2, before=0.0)] = Field(
        300.0, ge=0, le=2000, description="silence after each utterance, for its last labels"
    )

    @model_validator(mode="after")
    def _follows_speech(self) -> FeatureSpec:
        step = self.hop_ms * self.stack
        if step > LONGEST_STEP_MS:
            raise ValueError(
                f"a model step of hop_ms * stack = {step:g} ms skips whole sounds: at most {LONGEST_STEP_MS} ms"
            )
        return self


class TokenizerSpec(Settings):
    """Output units of the recogniser."""

    kind: Literal["character", "sentencepiece"] = "character"
    vocab_size: int = Field(128, ge=8, le=65_536, description="sentencepiece only")


SIZES = ("encoder_layers", "encoder_width", "prediction_layers", "prediction_width", "joint_width")
"""Fields of `ModelSpec` of which a recogniser takes some."""


class ModelSpec(Settings):
    """Recogniser and its sizes; `preset` fills what is not given. A recogniser takes the sizes that it has a use for.

    `options` belong to the registered recogniser and are validated by it.
    """

    name: Annotated[str, Since(2)] = Field("lstm_transducer", description="registered recogniser")
    preset: Literal["tiny", "small", "paper"] = "small"
    encoder_layers: int | None = Field(None, ge=1, le=64)
    encoder_width: int | None = Field(None, ge=1, le=16_384)
    prediction_layers: int | None = Field(None, ge=1, le=64)
    prediction_width: int | None = Field(None, ge=1, le=16_384)
    joint_width: int | None = Field(None, ge=1, le=16_384)
    dropout: float = Field(0.1, ge=0, lt=1, description="between encoder layers and on the prediction network")
    tokenizer: TokenizerSpec = TokenizerSpec()
    options: Annotated[dict[str, Any], Since(2)] = Field(
        default_factory=dict, description="further settings of the recogniser"
    )

    @property
    def label(self) -> str:
        """Preset of the default recogniser; the name of another, with its preset if that is not the default one."""
        usual = ModelSpec()
        if self.name == usual.name:
            return self.preset
        return self.name if self.preset == usual.preset else f"{self.name} {self.preset}"


class AugmentSpec(Settings):
    """Training-time augmentation; never applied to dev or test."""

    speeds: tuple[Annotated[float, Field(ge=0.5, le=2)], ...] = Field(
        (1.0,), min_length=1, description="speed perturbation factors, one drawn an epoch"
    )
    frequency_masks: int = Field(1, ge=0, le=100)
    frequency_width: int = Field(8, ge=0, description="mel bins, at most")
    time_masks: int = Field(1, ge=0, le=100)
    time_width: int = Field(6, ge=0, description="model steps, at most")
    start_epoch: int = Field(0, ge=0, description="masks and changed edges begin here: earlier they delay alignment")
    edges: Annotated[float, Since(2, before=0.0)] = Field(
        0.4, ge=0, le=1, description="probability that an end of an utterance loses background and gets silence"
    )
    silence_frames: Annotated[int, Since(2)] = Field(80, ge=0, description="silence put before and after, at most")


class TrainSpec(Settings):
    """One training run: AdamW under a one-cycle learning rate, the recogniser's loss plus auxiliary CTC."""

    epochs: int = Field(12, ge=1, le=100_000)
    batch_size: int = Field(16, ge=1, le=65_536)
    learning_rate: float = Field(2e-3, gt=0, le=10)
    warmup: float = Field(0.1, ge=0, lt=1, description="fraction of the steps in which the rate rises")
    weight_decay: float = Field(1e-3, ge=0, le=100)
    clip: float = Field(5.0, gt=0, description="gradient norm, at most")
    ctc_weight: float = Field(
        0.3, ge=0, le=1000, description="weight of the auxiliary CTC loss on the encoder of a transducer"
    )
    evaluate_every: int = Field(1, ge=1, description="epochs between dev evaluations")
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    augment: AugmentSpec = AugmentSpec()
    distillation: Annotated[float, Since(2)] = Field(
        0.0,
        ge=0,
        le=1000,
        description="weight of the divergence from the dense recogniser over the lattice, where a method prunes",
    )
    start: Annotated[Literal["dense", "fresh"], Since(2)] = Field(
        "dense",
        description="weights that a method begins with: the dense recogniser's, or those that its training began with, "
        "which is sparse training from scratch",
    )


class PretrainedSpec(Located):
    """Trained dense recogniser, taken as it is."""

    path: str = Field(
        min_length=1,
        description="folder with model.json and model.safetensors, or the name of a shipped one",
    )
    fingerprint: str | None = Field(None, description="hash of its files, filled in when a sweep file is read")

    def identity(self) -> dict[str, Any]:
        return {"fingerprint": self.fingerprint}


class DenseSpec(Frozen):
    """The dense recogniser the trials of a sweep start from; trained once under its own id, unless it is there."""

    corpus: CorpusSpec = CorpusSpec()
    features: FeatureSpec = FeatureSpec()
    model: ModelSpec = ModelSpec()
    training: TrainSpec = TrainSpec()
    seed: int = Field(0, ge=0)
    pretrained: Annotated[PretrainedSpec | None, Since(2)] = Field(
        None, description="recogniser taken in place of one that is trained; features and model are its own"
    )
    version: int = Field(default_factory=_current_version, description="schema version of the spec")

    @property
    def id(self) -> str:
        return self.id_under(self.version)

    def id_under(self, version: int) -> str:
        """Return the id this spec has under a schema version."""
        values = canonical(self, version)
        del values["version"]
        return content_id("dense", values, version)

    @model_validator(mode="before")
    @classmethod
    def _of_its_version(cls, data: Any) -> Any:
        return _filled(cls, data)

    @model_validator(mode="after")
    def _known_version(self) -> DenseSpec:
        _check_version(self, self.version)
        return self

    @model_validator(mode="after")
    def _nothing_of_a_dense_recogniser(self) -> DenseSpec:
        if self.training.distillation:
            raise ValueError("distillation is from the dense recogniser, so it belongs under `prune`, not `dense`")
        if self.training.start != "dense":
            raise ValueError("`start` says where a method begins, so it belongs under `prune`, not `dense`")
        return self

    @model_validator(mode="after")
    def _nothing_to_train(self) -> DenseSpec:
        if self.pretrained is not None and (self.training != TrainSpec() or self.seed):
            raise ValueError("a pretrained recogniser is not trained: leave `training` and `seed` as they are")
        return self


class MethodSpec(Settings):
    """A registered pruning method with its fully resolved hyperparameters."""

    name: str
    params: dict[str, Any] = Field(default_factory=dict)


class LatencySpec(Settings):
    """Protocol of latency measurements; recorded beside every number."""

    threads: int = Field(1, ge=1, le=256)
    utterances: int = Field(8, ge=1, le=100_000, description="test utterances streamed in each repetition")
    warmup: int = Field(1, ge=0, le=10_000, description="repetitions discarded")
    repeats: int = Field(5, ge=1, le=10_000, description="repetitions counted, dense and packed alternating")


class TrialSpec(Frozen):
    """Everything `run_trial` depends on."""

    dense: DenseSpec
    method: MethodSpec
    sparsity: float = Field(ge=0, lt=1, description="fraction of zeros among the prunable weights")
    training: TrainSpec = Field(description="the pruning run that follows the dense one")
    prunable: tuple[str, ...] = Field(("*",), description="glob patterns over the names of weight matrices")
    latency: LatencySpec = LatencySpec()
    seed: int = Field(0, ge=0)
    selection_only: Annotated[bool, Since(2)] = Field(
        False, description="the trial only serves to choose settings: test is not decoded and no latency is measured"
    )
    version: int = Field(default_factory=_current_version, description="schema version of the spec")

    @property
    def id(self) -> str:
        return content_id("trial", canonical(self, self.version) | {"dense": self.dense.id}, self.version)

    @model_validator(mode="before")
    @classmethod
    def _version_of_dense(cls, data: Any) -> Any:
        """Version 1 wrote no version into the dense spec: it has that of the trial."""
        if isinstance(data, dict) and isinstance(data.get("dense"), dict) and "version" in data:
            return _filled(cls, data | {"dense": {"version": data["version"]} | data["dense"]})
        return data

    @model_validator(mode="after")
    def _known_version(self) -> TrialSpec:
        _check_version(self, self.version)
        if self.dense.version != self.version:
            raise ValueError(f"a trial of schema version {self.version} cannot start from one of {self.dense.version}")
        return self

    @model_validator(mode="after")
    def _fresh_weights_are_known(self) -> TrialSpec:
        if self.training.start == "fresh" and self.dense.pretrained is not None:
            raise ValueError("training.start: a pretrained recogniser has no fresh weights")
        return self


def refuse_to_run(spec: DenseSpec | TrialSpec) -> None:
    """Refuse to run a spec of an earlier schema version.

    Raises:
        ConfigError: the spec was made under an earlier version.
    """
    if spec.version != SCHEMA_VERSION:
        raise ConfigError(
            f"{spec.id} is of schema version {spec.version} and can only be read: the same fields may give another "
            f"outcome under version {SCHEMA_VERSION}. Make the spec again, e.g. with `cspbench trials export`"
        )
