"""An engine whose every step takes as long as the test says, on a clock that only it moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from cspbench.asr.trained import Pace
from cspbench.runtime.latency.engine import Traffic

PACE = Pace(sample_rate=16_000, window=400, hop=160, stack=3)
TRAFFIC = Traffic(step=1000, joint=100, label=10, max_symbols=2)


class FakeClock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def stopwatch(self, call: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
        began = self.now
        result = call(*arguments)
        return result, self.now - began


class FakeEngine:
    """Takes `seconds` a call of accept (the next of them, if it is an iterator); emits `labels[i]` in call i."""

    description = "a fake"
    traffic = TRAFFIC
    weight_bytes = 5000
    state_bytes = 64
    file_bytes = 5200

    def __init__(
        self,
        name: str,
        clock: FakeClock,
        seconds: float | Iterator[float] = 0.001,
        labels: dict[int, Sequence[int]] | None = None,
        log: list[str] | None = None,
    ) -> None:
        self.name, self._clock, self._seconds, self._labels = name, clock, seconds, labels or {}
        self._log = [] if log is None else log
        self.pieces: list[int] = []
        self.stopwatch = clock.stopwatch

    def reset(self) -> None:
        self._log.append(self.name)
        self.pieces.clear()

    def accept(self, samples: np.ndarray) -> Sequence[int]:
        self._clock.now += self._seconds if isinstance(self._seconds, float) else next(self._seconds)
        self.pieces.append(len(samples))
        return self._labels.get(len(self.pieces) - 1, [])

    def finish(self) -> Sequence[int]:
        self._clock.now += 0.0005
        return [9]
