"""The values everything else is a function of: a trial is fully described by a `TrialSpec`.

An id is the sha256 of the canonical JSON of a spec, so equal work has equal ids on every machine. Where the audio lies
(`CorpusSpec.path`) is not part of the identity; what it holds (`CorpusSpec.fingerprint`) is.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import Field, model_validator

from cspbench.hyper import Frozen

SCHEMA_VERSION = 1


def content_id(kind: str, value: Any) -> str:
    """First 16 hex digits of the sha256 of `value` as canonical JSON, salted with kind and schema version."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(f"{kind}/{SCHEMA_VERSION}/{canonical}".encode()).hexdigest()[:16]


class Fold(Frozen):
    """One fold of a cross-validation over speakers: fold `index` of `of` is test, the next one dev, the rest train."""

    index: int = Field(ge=0)
    of: int = Field(ge=3, description="folds; at most as many as there are speakers")

    @model_validator(mode="after")
    def _exists(self) -> Fold:
        if self.index >= self.of:
            raise ValueError(f"of {self.of} folds the last is number {self.of - 1}, not {self.index}")
        return self


class CorpusSpec(Frozen):
    """Which speech. `options` belong to the registered corpus loader and are validated by it."""

    name: str = "spoken_commands"
    path: str | None = Field(None, description="where the audio lies; unset for corpora that make their own")
    options: dict[str, Any] = Field(default_factory=dict)
    fold: Fold | None = Field(None, description="cross-validation: divide all speakers anew, in place of the splits")
    fingerprint: str | None = Field(None, description="hash of the prepared corpus, filled in when a sweep is resolved")

    def identity(self) -> dict[str, Any]:
        """What determines the corpus: everything but its place on disk."""
        known = {"name": self.name, "options": self.options, "fingerprint": self.fingerprint}
        return known if self.fold is None else known | {"fold": self.fold.model_dump(mode="json")}


class FeatureSpec(Frozen):
    """Log-mel filterbank: `mels` bins each 10 ms, `stack` frames joined into one model step."""

    mels: int = Field(40, ge=8, le=128)
    window_ms: float = Field(25.0, gt=0)
    hop_ms: float = Field(10.0, gt=0)
    stack: int = Field(3, ge=1, le=8, description="frames per model step; 3 frames of 10 ms are a 30 ms step")


class TokenizerSpec(Frozen):
    """Output units of the recogniser."""

    kind: Literal["character", "sentencepiece"] = "character"
    vocab_size: int = Field(128, ge=8, description="sentencepiece only")


class ModelSpec(Frozen):
    """RNN-T shape; `preset` fills what is not given (see `cspbench.asr.model.PRESETS`)."""

    preset: Literal["tiny", "small", "paper"] = "small"
    encoder_layers: int | None = Field(None, ge=1)
    encoder_width: int | None = Field(None, ge=1)
    prediction_layers: int | None = Field(None, ge=1)
    prediction_width: int | None = Field(None, ge=1)
    joint_width: int | None = Field(None, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1, description="between encoder layers and on the prediction network")
    tokenizer: TokenizerSpec = TokenizerSpec()


class AugmentSpec(Frozen):
    """Training-time augmentation; never applied to dev or test."""

    speeds: tuple[float, ...] = Field(
        (1.0,), min_length=1, description="speed perturbation factors, one drawn an epoch"
    )
    frequency_masks: int = Field(1, ge=0)
    frequency_width: int = Field(8, ge=0, description="mel bins, at most")
    time_masks: int = Field(1, ge=0)
    time_width: int = Field(6, ge=0, description="model steps, at most")
    start_epoch: int = Field(0, ge=0, description="SpecAugment begins here: earlier it delays alignment")


class TrainSpec(Frozen):
    """One training run: AdamW under a one-cycle learning rate, transducer loss plus auxiliary CTC."""

    epochs: int = Field(12, ge=1)
    batch_size: int = Field(16, ge=1)
    learning_rate: float = Field(2e-3, gt=0)
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the steps in which the rate rises")
    weight_decay: float = Field(1e-3, ge=0)
    clip: float = Field(5.0, gt=0, description="gradient norm, at most")
    ctc_weight: float = Field(0.3, ge=0, description="weight of the auxiliary CTC loss on the encoder")
    evaluate_every: int = Field(1, ge=1, description="epochs between dev evaluations")
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    augment: AugmentSpec = AugmentSpec()


class DenseSpec(Frozen):
    """The dense recogniser the trials of a sweep start from; trained once under its own id."""

    corpus: CorpusSpec = CorpusSpec()
    features: FeatureSpec = FeatureSpec()
    model: ModelSpec = ModelSpec()
    training: TrainSpec = TrainSpec()
    seed: int = Field(0, ge=0)

    @property
    def id(self) -> str:
        return content_id("dense", self.model_dump(mode="json") | {"corpus": self.corpus.identity()})


class MethodSpec(Frozen):
    """A registered pruning method with its fully resolved hyperparameters."""

    name: str
    params: dict[str, Any] = Field(default_factory=dict)


class LatencySpec(Frozen):
    """How latency is measured; recorded beside every number."""

    threads: int = Field(1, ge=1)
    utterances: int = Field(8, ge=1, description="test utterances streamed in each repetition")
    warmup: int = Field(1, ge=0, description="repetitions discarded")
    repeats: int = Field(5, ge=1, description="repetitions counted, dense and packed alternating")


class TrialSpec(Frozen):
    """Everything `run_trial` depends on."""

    dense: DenseSpec
    method: MethodSpec
    sparsity: float = Field(ge=0, lt=1, description="share of zeros among the prunable weights")
    training: TrainSpec = Field(description="the pruning run that follows the dense one")
    prunable: tuple[str, ...] = Field(("*",), description="glob patterns over the names of weight matrices")
    latency: LatencySpec = LatencySpec()
    seed: int = Field(0, ge=0)
    version: int = SCHEMA_VERSION

    @property
    def id(self) -> str:
        dense = {"dense": self.dense.id}
        return content_id("trial", self.model_dump(mode="json", exclude={"dense"}) | dense)

    @model_validator(mode="after")
    def _known_version(self) -> TrialSpec:
        if self.version != SCHEMA_VERSION:
            raise ValueError(f"spec of schema version {self.version}; this cspbench reads version {SCHEMA_VERSION}")
        return self
