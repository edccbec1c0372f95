"""Mutated recordings and manifests end in samples and utterances, or in a CorpusError."""

from __future__ import annotations

import importlib.util
import io
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from support import fuzz_doors

from cspbench.corpora.audio import AudioFile

ROOT = Path(__file__).resolve().parents[2]
ITERATIONS = 60
GUIDED_RUNS = 10_000
"""Inputs of guided fuzzing: a number and a seed, not a time, so that each machine tries the same ones."""
STREAM_INFO = {16: 16, 32: 16, 56: 24, 80: 24, 100: 20, 103: 3, 108: 5, 144: 36, 272: 128}
"""Ends of the fields of a FLAC's first metadata block, in bits, and their widths."""
STREAM_INFO_BITS = 272


def mutated(data: bytes, seed: int) -> bytes:
    """Some bytes changed, mostly in the header, and now and then the end cut off."""
    rng = random.Random(seed)
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 6)):
        changed[rng.randrange(min(len(changed), 120) if rng.random() < 0.7 else len(changed))] = rng.randrange(256)
    return bytes(changed[: rng.randrange(len(changed))] if rng.random() < 0.3 else changed)


@pytest.mark.parametrize("container", fuzz_doors.CONTAINERS)
def test_mutated_recordings(container: str, capfd: pytest.CaptureFixture[str]) -> None:
    data = fuzz_doors.recording(container)
    for seed in range(ITERATIONS):
        fuzz_doors.audio(mutated(data, seed))
    assert "Traceback" not in capfd.readouterr().err


def test_a_chunk_of_negative_length_is_the_same_in_a_stream_as_in_a_file() -> None:
    """A length of -2^60 sends libsndfile to a place before the start."""
    data = bytearray(fuzz_doors.recording("W64"))
    at = data.index(b"data") + 16
    data[at : at + 8] = (-(2**60)).to_bytes(8, "little", signed=True)
    fuzz_doors.audio(bytes(data))
    fmt = data.index(b"fmt ") + 16
    data[fmt + 5] = 0x2D  # a length that hides the data from a walk over the chunks
    fuzz_doors.audio(bytes(data))


def test_mutated_manifests() -> None:
    data = fuzz_doors.lines()
    for seed in range(5 * ITERATIONS):
        fuzz_doors.manifest(mutated(data, seed))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes(data: bytes) -> None:
    fuzz_doors.one_input(data)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**16 - 1))
def test_any_numbers_in_a_wav_header(whole: int, data: int, rate: int, channels: int) -> None:
    header = bytearray(fuzz_doors.recording("WAV"))
    header[4:8], header[40:44] = whole.to_bytes(4, "little"), data.to_bytes(4, "little")
    header[24:28], header[22:24] = rate.to_bytes(4, "little"), channels.to_bytes(2, "little")
    fuzz_doors.audio(bytes(header))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_numbers_in_the_header_of_a_flac(data: st.DataObject) -> None:
    """Block and frame sizes, rate, channels, bits, length and digest of STREAMINFO, each as it is or any number."""
    whole = fuzz_doors.recording("FLAC")
    fields = int.from_bytes(whole[8:42])
    for end, width in STREAM_INFO.items():
        if data.draw(st.booleans(), label=f"change {width} bits before {end}"):
            shift = STREAM_INFO_BITS - end
            value = data.draw(st.integers(0, 2**width - 1))
            fields = fields & ~((2**width - 1) << shift) | value << shift
    fuzz_doors.audio(whole[:8] + fields.to_bytes(STREAM_INFO_BITS // 8) + whole[42:])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 127), st.binary(max_size=40), st.integers(0, 2**24 - 1)), max_size=3),
    st.booleans(),
)
def test_any_blocks_in_the_header_of_a_flac(blocks: list[tuple[int, bytes, int]], honest: bool) -> None:
    """Metadata blocks of any kind after STREAMINFO, with their own or with any length."""
    whole = fuzz_doors.recording("FLAC")
    added = b"".join(
        bytes([kind]) + (len(body) if honest else length).to_bytes(3) + body for kind, body, length in blocks
    )
    fuzz_doors.audio(b"fLaC\0" + whole[5:42] + added + whole[42:])


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 8), st.integers(1, 20_000), st.sampled_from([8000, 16_000, 44_100, 96_000]), st.booleans())
def test_every_sound_flac_is_decoded_whole(channels: int, frames: int, rate: int, streamed: bool) -> None:
    """Whatever its rate and channels, and whether or not its header states a length."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros((frames, channels)), rate, format="FLAC")
    data = bytearray(buffer.getvalue())
    if streamed:
        data[21] &= 0xF0
        data[22:26] = bytes(4)
    with AudioFile(io.BytesIO(data)) as audio:
        assert (audio.sample_rate, audio.channels) == (rate, channels)
        assert sum(map(len, audio.blocks())) == frames


def test_guided_by_coverage(tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("ATHERIS ABSENT: the doors are fuzzed without guidance only; there are wheels for Linux on x86_64")
    words = ["-m", "support.fuzz_doors", f"-runs={GUIDED_RUNS}", "-seed=1", f"-artifact_prefix={tmp_path}/"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"Done {GUIDED_RUNS} runs" in done.stderr, done.stderr[-3000:]
