"""The interface of recognisers: all that a sweep needs to train, prune, decode and time one.

A recogniser is one class in one file, registered by name. Its inputs are log-mel features, its outputs labels; a sweep
file chooses it with ``model: {name: ...}``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Protocol, TypeGuard

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from cspbench.corpora.batches import Batch
from cspbench.errors import ConfigError
from cspbench.hyper import Hyperparameters, explain
from cspbench.registry import Registry
from cspbench.spec import FeatureSpec, ModelSpec

Positions = Callable[[Tensor], AbstractContextManager[None]]


class LabelStream(Protocol):
    """One utterance decoded as its features arrive."""

    def accept(self, features: Tensor) -> list[int]:
        """Decode normalised features (T, C), T >= 1; return the labels they brought."""

    def finish(self) -> list[int]:
        """End the utterance; return its last labels."""

    def state(self) -> list[Tensor]:
        """Return the tensors that are carried from one chunk to the next."""


class SpeechModel(nn.Module, ABC):
    """Base of all recognisers: a torch module that turns log-mel features into labels.

    Label 0 is the blank. The constructor of a subclass takes what `build` takes and calls this one with the mel bins of
    a frame. All training, pruning and evaluation goes through `outputs`, `loss` and `decode`.

    Attributes:
        summary: one line on what it is.
        source: paper or package.
        Options: keys that a sweep file may give under ``model.options``.
        presets: sizes by preset; their keys are the sizes of `ModelSpec` that the recogniser takes. Empty if it takes
            none of them.
        AUXILIARY: prefixes of the names of parameters that only training needs.
        distils: `distillation` is there.
        chunk: steps of the model that a `stream` decodes at a time; None if it takes whole utterances only.
        spec: what it was built from, set by `build_model`.
    """

    summary: ClassVar[str] = ""
    source: ClassVar[str] = ""
    Options: ClassVar[type[Hyperparameters]] = Hyperparameters
    presets: ClassVar[Mapping[str, Mapping[str, int]]] = {}
    AUXILIARY: ClassVar[str | tuple[str, ...]] = ()
    distils: ClassVar[bool] = False

    chunk: int | None = None
    spec: ModelSpec | None = None
    feature_mean: Tensor
    feature_scale: Tensor

    def __init__(self, mels: int) -> None:
        super().__init__()
        self.mels = mels
        self.register_buffer("feature_mean", torch.zeros(mels))
        self.register_buffer("feature_scale", torch.ones(mels))

    @classmethod
    def build(cls, spec: ModelSpec, features: FeatureSpec, units: int) -> SpeechModel:
        """Make a recogniser with fresh weights, drawn from torch's global generator.

        Args:
            spec: sizes, dropout and options; `sizes` and `options` read them.
            features: the front end; a step of the model is ``features.mels * features.stack`` numbers.
            units: size of the vocabulary, blank included.
        """
        return cls(spec, features, units)  # type: ignore[arg-type, call-arg]

    @classmethod
    def sizes(cls, spec: ModelSpec) -> dict[str, int]:
        """Return the sizes of a spec by name: those given, and the preset's for the others."""
        preset = cls.presets[spec.preset]
        return {name: getattr(spec, name) or usual for name, usual in preset.items()}

    @classmethod
    def options(cls, spec: ModelSpec) -> Any:
        """Return ``spec.options`` as an instance of `Options`.

        Raises:
            ConfigError: options that the recogniser does not take.
        """
        try:
            return cls.Options.model_validate(spec.options)
        except ValidationError as error:
            raise ConfigError(f"model.options of '{spec.name}': {explain(error, cls.Options)}") from error

    def normalise(self, features: Tensor) -> Tensor:
        """Scale stacked log-mel features (N, T, stack * mels) to zero mean and unit variance of the training set."""
        split = features.unflatten(-1, (-1, self.mels))
        return ((split - self.feature_mean) * self.feature_scale).flatten(-2)

    @abstractmethod
    def outputs(self, batch: Batch) -> Any:
        """Run the network on a batch whose features are normalised; the result is for `loss` and `decode`.

        Targets are part of the batch, for networks that are fed with labels. Padding must not change what comes before.
        """

    @abstractmethod
    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the negative log-likelihood of each utterance's labels in nats, (N,), with its gradient."""

    @abstractmethod
    def decode(self, outputs: Any, batch: Batch) -> list[list[int]]:
        """Return the labels of each utterance; the targets of the batch have no part in it."""

    def auxiliary_loss(self, outputs: Any, batch: Batch) -> Tensor | None:
        """Return a loss that training adds, mean over utterances, weighted by ``ctc_weight``; None for none."""
        return None

    def distillation(self, outputs: Any, teacher: SpeechModel, batch: Batch) -> Tensor:
        """Return the divergence of these outputs from those of a teacher of the same kind, mean over utterances."""
        raise ConfigError(f"distillation is not defined for {type(self).__name__}: set prune.distillation to 0")

    def calibrate(self, batch: Batch, positions: Positions) -> None:
        """Use every prunable matrix on a batch of normalised features, while what they multiply is measured.

        Args:
            batch: of training utterances.
            positions: context manager that takes a bool mask, (N, T): within it, inputs of layers at positions where
                the mask is False are padding, and are not measured.
        """
        with positions(valid(batch.frames, batch.features.shape[1])):
            self.outputs(batch)

    def stream(self) -> LabelStream:
        """Open a stream, for recognisers with a `chunk`; the model is in evaluation mode."""
        raise NotImplementedError(f"{type(self).__name__} takes whole utterances only")

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.feature_mean.device

    def set_dropout(self, probability: float) -> None:
        """Set the dropout of every part, e.g. before a saved model is trained further."""
        for module in self.modules():
            if isinstance(module, nn.Dropout):
                module.p = probability

    def recogniser_state(self) -> dict[str, Tensor]:
        """Tensors that recognition needs: all but those of `AUXILIARY`."""
        return {k: v for k, v in self.state_dict().items() if not k.startswith(self.AUXILIARY)}


recognisers: Registry[type[SpeechModel]] = Registry("recogniser", "cspbench.recognisers")
register = recognisers.register


def valid(lengths: Tensor, longest: int) -> Tensor:
    """Bool (N, `longest`), True before the length (N,) of each row."""
    return torch.arange(longest, device=lengths.device) < lengths[:, None]


def prunable_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """Every weight matrix by name, but for embeddings and what only training needs.

    Kernels (out, in, 1) of pointwise convolutions are matrices and among them. Embeddings are look-ups (one row is read
    a label), biases are vectors, and kernels of depthwise convolutions are small: none of them costs what a matrix
    does.
    """
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    pointwise = {id(module.weight) for module in model.modules() if _is_pointwise(module)}
    auxiliary = getattr(model, "AUXILIARY", ())
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if (parameter.dim() == 2 or id(parameter) in pointwise)
        and id(parameter) not in embeddings
        and not name.startswith(auxiliary)
    }


def _is_pointwise(module: nn.Module) -> TypeGuard[nn.Conv1d]:
    return isinstance(module, nn.Conv1d) and module.kernel_size == (1,) and module.groups == 1
