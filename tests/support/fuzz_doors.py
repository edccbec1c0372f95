"""Fuzz target for the manifest reader and the audio door: they take an input or raise CorpusError, nothing else.

By hand, guided by coverage, until it is stopped::

    pip install 'cspbench[fuzz]' && PYTHONPATH=tests python -m support.fuzz_doors

The tests run a bounded number of mutated inputs through the same function.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from cspbench.corpora.audio import MAX_AMPLITUDE, AudioFile, read_header
from cspbench.corpora.jsonl import read_manifest
from cspbench.corpora.problems import Problems
from cspbench.errors import CorpusError

FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-doors-"))


def one_input(data: bytes) -> None:
    """Give bytes to both doors; the first byte chooses."""
    if data[:1] < b"\x80":
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


def main() -> None:
    """Run under atheris."""
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
