"""Latency of any callable: who is called when, and what is said of it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from cspbench.errors import ConfigError
from cspbench.runtime.latency import calls
from cspbench.runtime.latency.calls import latency


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A clock that only calls move: "slow" takes 3 ms, "fast" 1 ms."""
    now, log = [0.0], []

    class Clock:
        @staticmethod
        def perf_counter() -> float:
            return now[0]

    monkeypatch.setattr(calls, "time", Clock)
    log.append(now)  # type: ignore[arg-type]
    return log


def takes(log: list, name: str, milliseconds: float):
    def call() -> None:
        log.append(name)
        log[0][0] += milliseconds / 1000

    return call


def test_calls_take_turns_in_blocks_and_the_first_takes_part_twice(log: list) -> None:
    named = {"slow": takes(log, "slow", 3.0), "fast": takes(log, "fast", 1.0)}
    found = latency(named, warmup=1, repeats=6, block_seconds=0.01)
    assert found.protocol["calls_per_block"] == 10  # of the fastest
    assert found.calls["slow"].median_ms == pytest.approx(3.0)
    assert found.calls["fast"].median_ms == pytest.approx(1.0)
    assert found.calls["fast"].calls == 6 * 10
    assert list(found.ratios) == ["slow/fast"]
    assert found.ratios["slow/fast"].value == pytest.approx(3.0)
    assert found.ratios["slow/fast"].verdict == "faster"
    assert found.noise.same is not None
    assert found.noise.same.value == pytest.approx(1.0)
    counted = Counter(log[1:])
    assert counted == {"slow": 5 + 2 * 7 * 10, "fast": 5 + 7 * 10}
    starts = [log[1 + 10 + 30 * block] for block in range(7)]
    assert set(starts) == {"slow", "fast"}
    assert type(found).model_validate_json(found.model_dump_json()) == found


def test_one_callable_has_no_ratio(log: list) -> None:
    found = latency(takes(log, "x", 2.0), repeats=3)
    assert list(found.calls) == ["call"]
    assert found.ratios == {}
    assert found.protocol["caches"] == "as the call before left them"


def test_cold_calls_find_their_caches_read_over(log: list, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "last_cache_bytes", lambda: 1 << 12)
    read = []

    class Buffer(np.ndarray):
        def sum(self) -> float:  # type: ignore[override]
            read.append(len(log))
            return 0.0

    monkeypatch.setattr(calls.np, "ones", lambda n: np.zeros(n).view(Buffer))
    found = latency(takes(log, "x", 2.0), repeats=2, cold=True)
    assert found.protocol["caches"] == "cold"
    assert read == list(range(1, len(log)))  # once before each call


@pytest.mark.parametrize("options", [{"calls": {}}, {"repeats": 0}, {"warmup": -1}])
def test_nothing_to_measure_is_refused(options: dict) -> None:
    with pytest.raises(ConfigError, match="at least one"):
        latency(**{"calls": lambda: None} | options)


def test_more_threads_than_there_are_are_refused() -> None:
    with pytest.raises(ConfigError, match="9999 threads cannot run"):
        latency(lambda: None, threads=9999)
