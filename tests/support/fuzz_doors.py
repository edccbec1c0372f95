"""Fuzz target for the manifest reader and the audio door: they take an input or raise CorpusError, nothing else.

By hand, guided by coverage, until it is stopped; options of libFuzzer may follow::

    PYTHONPATH=tests python -m support.fuzz_doors -max_total_time=600

The tests run it for some thousand inputs, and mutated inputs without guidance through the same function.
"""

from __future__ import annotations

import gc
import io
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType

import numpy as np
import soundfile

from cspbench.corpora.audio import MAX_AMPLITUDE, AudioFile, read_header
from cspbench.corpora.jsonl import read_manifest
from cspbench.corpora.problems import Problems
from cspbench.errors import CorpusError

CONTAINERS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "NIST", "FLAC", "OGG", "CAF")
AUDIO, MANIFEST = b"\x00", b"\x80"
"""First bytes that choose a door."""
FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-doors-"))


def one_input(data: bytes) -> None:
    """Give bytes to both doors; the first byte chooses."""
    if data[:1] < MANIFEST:
        audio(data[1:])
    else:
        manifest(data[1:])


def audio(data: bytes) -> None:
    """Decode as a stream and as a file: both give the same samples, or both refuse."""
    results = []
    file = FOLDER / "input.audio"
    file.write_bytes(data)
    for source in (io.BytesIO(data), file):
        try:
            with AudioFile(source) as opened:
                blocks = list(opened.blocks())
            results.append(sum(map(len, blocks)))
            assert all(abs(block).max() <= MAX_AMPLITUDE for block in blocks)
        except CorpusError:
            results.append(None)
    assert results[0] == results[1], results
    try:
        read_header(file)
    except CorpusError:
        assert results[0] is None


def manifest(data: bytes) -> None:
    """Read as a manifest: every line gives an utterance or a problem."""
    file = FOLDER / "manifest.jsonl"
    file.write_bytes(data)
    problems = Problems("manifest:")
    found = read_manifest({file: None}, problems)
    for utterance in found:
        assert utterance.duration > 0
        assert utterance.text == " ".join(utterance.text.split())
        utterance.text.encode()
    for problem in problems.found:
        str(problem).encode()


def recording(container: str) -> bytes:
    """A short recording."""
    buffer = io.BytesIO()
    noise = 0.1 * np.random.default_rng(0).standard_normal(3000)
    soundfile.write(buffer, noise, 16000, format=container)
    return buffer.getvalue()


def lines() -> bytes:
    """Lines of a manifest, for a recording that lies beside it."""
    (FOLDER / "a.wav").write_bytes(recording("WAV"))
    row = {"audio": "a.wav", "text": "größe 12", "split": "train", "offset": 0.01, "duration": 0.1, "speaker": "s"}
    return "\n".join(json.dumps(row, ensure_ascii=ascii) for ascii in (True, False, True)).encode()


def seeds() -> Iterator[bytes]:
    """Sound inputs to start from."""
    yield MANIFEST + lines()
    for container in CONTAINERS:
        yield AUDIO + recording(container)


def main() -> None:
    """Run under atheris, which watches the functions that read corpora."""
    import atheris

    for found in gc.get_objects():
        if isinstance(found, FunctionType) and (found.__module__ or "").startswith("cspbench.corpora"):
            atheris.instrument_func(found)
    start = FOLDER / "seeds"
    start.mkdir()
    for number, seed in enumerate(seeds()):
        (start / str(number)).write_bytes(seed)
    atheris.Setup([*sys.argv, "-max_len=8192", str(start)], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
