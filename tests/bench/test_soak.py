"""The soak finds what it is there for: outputs that change, memory that grows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cspbench.bench import soak
from cspbench.bench.peers import end_to_end
from cspbench.errors import ConfigError
from cspbench.runtime import extension
from cspbench.runtime.latency.audio import Audio, noise
from cspbench.runtime.recogniser import Recogniser

HOURS = 60 / 3600


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny recogniser, short recordings, and streams that are saved often."""
    tiny = end_to_end.random_recogniser("tiny")
    bursts = noise(16_000, 5)
    audio = Audio([x[: 8_000 + 3_000 * i] for i, x in enumerate(bursts.utterances)], bursts.origin)
    monkeypatch.setattr(soak, "make_decoding", lambda model, path: end_to_end.Decoding(tiny, audio, "tiny"))
    monkeypatch.setattr(soak, "SAVED", 0.2)


def test_nothing_changes(capsys: pytest.CaptureFixture[str]) -> None:
    found = soak.run(hours=HOURS, streams=3)
    assert found.ratios["unchanged/transcripts"] == 1
    assert found.ratios["audio/time"] > 0
    assert found.ratios["memory:before/last_quarter"] > 0.5
    assert found.protocol["transcripts"] > 30
    assert found.protocol["changed_at"] == []
    assert found.protocol["saved_and_restored"] > 10
    assert found.protocol["streams"] == 3
    assert found.protocol["audio_hours"] >= round(HOURS, 3)
    assert len(found.rows) == soak.READINGS
    seconds = [row["audio_s"] for row in found.rows]
    assert seconds == sorted(seconds)
    assert all(row["memory_mb"] > 1 for row in found.rows)


def test_the_same_seed_hears_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    first, again = (soak.run(hours=HOURS, streams=2, seed=5).rows for _ in range(2))
    assert [r["transcripts"] for r in first] == [r["transcripts"] for r in again]
    assert [r["saved"] for r in first] == [r["saved"] for r in again]


def test_outputs_that_change_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    finish, count = Recogniser.finish, [0]

    def faulty(self: Recogniser) -> str:
        text = finish(self)
        count[0] += 1
        if count[0] % 10 == 0:
            self.labels = [*self.labels, 1]
        return text

    monkeypatch.setattr(Recogniser, "finish", faulty)
    found = soak.run(hours=HOURS, streams=3)
    assert found.protocol["changed"] > 0
    assert found.ratios["unchanged/transcripts"] == 1 - found.protocol["changed"] / found.protocol["transcripts"]
    assert len(found.protocol["changed_at"]) == min(20, found.protocol["changed"])


def test_memory_that_grows_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: Iterator[int] = iter(range(1_000_000, 10_000_000, 10_000))

    class Memory:
        @property
        def rss(self) -> int:
            return next(sizes)

    monkeypatch.setattr(soak.psutil.Process, "memory_info", lambda self: Memory())
    found = soak.run(hours=HOURS, streams=2)
    assert found.ratios["memory:before/last_quarter"] < 1
    # 10 kB a reading, as many readings as there are in so much audio
    assert found.protocol["growth_bytes_per_audio_hour"] == pytest.approx(10_000 * soak.READINGS / HOURS, rel=0.1)


def test_without_the_native_module_it_runs_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extension, "available", lambda: False)
    found = soak.run(hours=HOURS / 4, streams=2)
    assert found.ratios["unchanged/transcripts"] == 1
    assert "torch" in found.protocol["engine"]


def test_no_time_and_no_streams_are_refused() -> None:
    for wrong in ({"hours": 0}, {"streams": 0}):
        with pytest.raises(ConfigError, match="have to be positive"):
            soak.run(**wrong)  # type: ignore[arg-type]


def test_the_command_prints_one_object(run: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = run("bench", "soak", "--hours", HOURS, "--streams", 2, "--json")
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    assert set(found) == {"rows", "ratios", "protocol"}
    assert set(found["ratios"]) == {"audio/time", "unchanged/transcripts", "memory:before/last_quarter"}
    assert "noise" in found["protocol"]["recogniser"]
