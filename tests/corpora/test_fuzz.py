"""Mutated recordings and manifests end in samples and utterances, or in a CorpusError."""

from __future__ import annotations

import io
import json
import random

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from support import fuzz_doors

CONTAINERS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "NIST", "FLAC", "OGG", "CAF")
ITERATIONS = 60


def encoded(container: str) -> bytes:
    buffer = io.BytesIO()
    noise = 0.1 * np.random.default_rng(0).standard_normal(3000)
    soundfile.write(buffer, noise, 16000, format=container)
    return buffer.getvalue()


def mutated(data: bytes, seed: int) -> bytes:
    """Some bytes changed, mostly in the header, and now and then the end cut off."""
    rng = random.Random(seed)
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 6)):
        changed[rng.randrange(min(len(changed), 120) if rng.random() < 0.7 else len(changed))] = rng.randrange(256)
    return bytes(changed[: rng.randrange(len(changed))] if rng.random() < 0.3 else changed)


@pytest.mark.parametrize("container", CONTAINERS)
def test_mutated_recordings(container: str, capfd: pytest.CaptureFixture[str]) -> None:
    data = encoded(container)
    for seed in range(ITERATIONS):
        fuzz_doors.audio(mutated(data, seed))
    assert "Traceback" not in capfd.readouterr().err


def test_mutated_manifests() -> None:
    (fuzz_doors.FOLDER / "a.wav").write_bytes(encoded("WAV"))
    row = {"audio": "a.wav", "text": "größe 12", "split": "train", "offset": 0.01, "duration": 0.1, "speaker": "s"}
    data = "\n".join(json.dumps(row, ensure_ascii=seed % 2 == 0) for seed in range(3)).encode()
    for seed in range(5 * ITERATIONS):
        fuzz_doors.manifest(mutated(data, seed))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes(data: bytes) -> None:
    fuzz_doors.one_input(data)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**16 - 1))
def test_any_numbers_in_a_wav_header(whole: int, data: int, rate: int, channels: int) -> None:
    header = bytearray(encoded("WAV"))
    header[4:8], header[40:44] = whole.to_bytes(4, "little"), data.to_bytes(4, "little")
    header[24:28], header[22:24] = rate.to_bytes(4, "little"), channels.to_bytes(2, "little")
    fuzz_doors.audio(bytes(header))
