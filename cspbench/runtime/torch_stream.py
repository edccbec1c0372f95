"""The torch decoder behind the interface of the native streams: what runs where the native module is absent."""

from __future__ import annotations

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from cspbench.runtime.packing import PackedModel
from cspbench.runtime.streaming import StreamingRecogniser

LOUDEST = 64.0
"""As in the native engine: above any recording, below 16-bit samples that nobody has scaled."""


class TorchStream:
    """One stream of a `StreamingRecogniser` on CSR matrices."""

    def __init__(self, recogniser: StreamingRecogniser) -> None:
        self._recogniser = recogniser
        self.reset()

    @classmethod
    def of(cls, model: PackedModel, max_symbols: int) -> TorchStream:
        """A stream on the weights of a packed model, in fp32 whatever they were packed as."""
        header = model.header
        return cls(
            StreamingRecogniser(
                model.transducer(), model.tokenizer, header.features, header.sample_rate, "csr", max_symbols
            )
        )

    def sibling(self) -> TorchStream:
        """Another stream on the same weights."""
        return TorchStream(self._recogniser.sibling())

    def reset(self) -> None:
        """Forget everything heard."""
        self._recogniser.reset()
        self._rest = np.zeros(0, np.float32)  # samples from the step under way on, which knf does not give back
        self.steps = 0

    def accept(self, samples: np.ndarray) -> list[int]:
        """Hear samples (N,) at the model's rate; return the new labels."""
        if not (np.abs(samples) <= LOUDEST).all():
            raise ValueError("samples must be finite and lie in [-1, 1]; divide 16-bit samples by 32768")
        before = len(self._recogniser.labels)
        steps = self._recogniser.accept(samples)
        self.steps += steps
        self._rest = np.concatenate([self._rest, samples])[steps * self._recogniser.step_samples :]
        return self._recogniser.labels[before:]

    def finish(self) -> None:
        """End the utterance; a rest that fills no step is dropped."""

    def state(self) -> bytes:
        """Everything about the stream but the labels it has emitted."""
        own = {"rest": torch.from_numpy(self._rest.copy()), "steps": torch.tensor(self.steps)}
        return save({**{k: v.contiguous() for k, v in self._recogniser.state().items()}, **own})

    def restore(self, state: bytes) -> None:
        """Go on from a `state`; ValueError if it is none of a stream of this shape."""
        try:
            tensors = load(state)
            rest, steps = tensors.pop("rest").numpy(), int(tensors.pop("steps"))
        except (SafetensorError, KeyError) as error:
            raise ValueError("this is no state of a stream") from error
        self._recogniser.restore(tensors)
        self._recogniser.accept(rest)  # fills no step
        self._rest, self.steps = rest, steps
