"""Synthetic speech by espeak-ng, the same to the byte each time it is asked for the same list."""

from __future__ import annotations

import importlib.util
import json
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import IO

import numpy as np

from cspbench.errors import CorpusError

WORKER = "cspbench.corpora.espeak_worker"
PACKAGE = "espeakng_loader"


@dataclass(frozen=True)
class Request:
    """One sentence to synthesise: `voice` is ``accent+variant``, `pitch` 0-99, `speed` words a minute."""

    voice: str
    pitch: int
    speed: int
    text: str


def espeak_version() -> str:
    """Version of the package that brings espeak-ng.

    Raises:
        CorpusError: it is not installed.
    """
    if importlib.util.find_spec(PACKAGE) is None:
        raise CorpusError(
            "synthetic speech needs espeak-ng, which is not installed: pip install 'cspbench[synthesis]' (it is"
            " licensed under GPL-3, therefore an extra), or choose a corpus of real speech"
        )
    return version(PACKAGE)


def synthesise(requests: Iterable[Request]) -> Iterator[tuple[np.ndarray, int]]:
    """Yield samples (time,) int16 and sample rate (Hz) for each request, in order, from one fresh process.

    Raises:
        CorpusError: espeak-ng is not installed, or failed.
    """
    espeak_version()
    with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as complaints:
        count = 0
        for count, request in enumerate(requests, start=1):  # noqa: B007 - used below
            asked.write(json.dumps(asdict(request)).encode() + b"\n")
        asked.seek(0)
        with subprocess.Popen(
            [sys.executable, "-m", WORKER], stdin=asked, stdout=subprocess.PIPE, stderr=complaints
        ) as process:
            assert process.stdout is not None
            try:
                rate = _number(process.stdout)
                for _ in range(count):
                    yield np.frombuffer(_bytes(process.stdout, _number(process.stdout)), dtype="<i2"), rate
            except EOFError:
                process.wait()
                complaints.seek(0)
                said = complaints.read().decode(errors="replace").strip() or f"exit status {process.returncode}"
                raise CorpusError(f"speech synthesis failed: {said}") from None
            finally:
                process.kill()  # a caller that stops early leaves nothing behind; no effect on a finished process


def _number(stream: IO[bytes]) -> int:
    return int(struct.unpack("<I", _bytes(stream, 4))[0])


def _bytes(stream: IO[bytes], count: int) -> bytes:
    data = stream.read(count)
    if len(data) != count:
        raise EOFError
    return data
