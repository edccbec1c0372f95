"""A trained recogniser as one value: the model with everything that is needed to run it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from cspbench.corpora.frames import whole_samples
from cspbench.errors import CspbenchError
from cspbench.spec import FeatureSpec

if TYPE_CHECKING:
    from cspbench.asr.recognisers.lstm_transducer import LSTMTransducer
    from cspbench.asr.speech_model import SpeechModel
    from cspbench.asr.tokenizer import Tokenizer


@dataclass(frozen=True)
class TrainedModel:
    """A trained recogniser.

    Attributes:
        model: the network.
        tokenizer: its output units.
        features: its front end.
        sample_rate: of the audio it takes, Hz.
        note: JSON values worth keeping with it: corpus, whether the training speech was synthetic, method, sparsity.
    """

    model: SpeechModel
    tokenizer: Tokenizer
    features: FeatureSpec
    sample_rate: int
    note: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_packed_file(self) -> bool:
        """True for a recogniser that the native runtime runs from a packed file."""
        from cspbench.asr.recognisers.lstm_transducer import LSTMTransducer

        return isinstance(self.model, LSTMTransducer)

    @property
    def transducer(self) -> LSTMTransducer:
        """The network, of a recogniser that the native runtime runs.

        Raises:
            CspbenchError: another recogniser.
        """
        if not self.has_packed_file:
            name = "this recogniser" if self.model.spec is None else f"'{self.model.spec.name}'"
            raise CspbenchError(
                f"{name} has no packed file: the native runtime runs 'lstm_transducer' alone. Its trials measure it in "
                "torch, on packed layers; `cspbench.runtime.packed` makes them"
            )
        return cast("LSTMTransducer", self.model)

    @property
    def pace(self) -> Pace:
        """Samples of a step of the model: of a chunk, where its streams decode several steps at a time."""
        return Pace.of(self.features, self.sample_rate, self.model.chunk or 1)


@dataclass(frozen=True)
class Pace:
    """Samples that make a step of the model: whole windows only, `stack` of them a step."""

    sample_rate: int
    window: int
    hop: int
    stack: int

    @classmethod
    def of(cls, features: FeatureSpec, sample_rate: int, chunk: int = 1) -> Pace:
        """Return the pace of a front end, for a model that takes `chunk` of its steps at a time."""
        window, hop = (whole_samples(ms, sample_rate) for ms in (features.window_ms, features.hop_ms))
        return cls(sample_rate, window, hop, features.stack * chunk)

    @property
    def step_samples(self) -> int:
        """Samples from one step to the next."""
        return self.hop * self.stack

    @property
    def step_seconds(self) -> float:
        """Seconds of audio from one step to the next."""
        return self.step_samples / self.sample_rate

    def steps_in(self, samples: int) -> int:
        """Steps of the model that so many samples complete."""
        return 0 if samples < self.window else ((samples - self.window) // self.hop + 1) // self.stack
