"""Features of a stream: the numbers of `cspbench.corpora.features`, computed as samples arrive."""

from __future__ import annotations

import kaldi_native_fbank as knf
import numpy as np

from cspbench.corpora.features import SAMPLE_SCALE, fbank_options, log_energies
from cspbench.corpora.frames import ReferenceLevel
from cspbench.spec import FeatureSpec


class OnlineFeatures:
    """The front end of one stream.

    Args:
        spec: the front end.
        sample_rate: of the samples, Hz.

    Attributes:
        level: the reference level, which is carried from frame to frame.
    """

    def __init__(self, spec: FeatureSpec, sample_rate: int) -> None:
        self.spec, self.sample_rate = spec, sample_rate
        self.reset()

    def reset(self) -> None:
        """Begin an utterance."""
        self._bank = knf.OnlineFbank(fbank_options(self.spec, self.sample_rate))
        self.level = ReferenceLevel(self.spec)
        self._next_frame = 0

    def accept(self, samples: np.ndarray) -> np.ndarray:
        """Return the features of the model steps that more samples complete.

        Args:
            samples: mono in [-1, 1], (N,), N >= 0.

        Returns:
            Float32, (T, stack * mels), T >= 0; not normalised.
        """
        self._bank.accept_waveform(self.sample_rate, (samples * SAMPLE_SCALE).tolist())
        stack = self.spec.stack
        steps = (self._bank.num_frames_ready - self._next_frame) // stack
        rows = np.empty((steps, stack * self.spec.mels), np.float32)
        for row in rows:
            frames = np.concatenate([self._bank.get_frame(self._next_frame + i) for i in range(stack)])
            self._next_frame += stack
            row[:] = self.level.relate(log_energies(frames, self.spec.floor).reshape(stack, -1)).reshape(-1)
        self._bank.pop(steps * stack)
        return rows
