"""One espeak-ng in one fresh process: requests come in on standard input, audio goes out on standard output.

Run as a process of its own by `cspbench.corpora.espeak`: espeak-ng repeats itself to the byte only when it starts
afresh, is seeded once and says the same things in the same order, and it hangs when it is initialised twice.
"""

from __future__ import annotations

import ctypes
import json
import os
import struct
import sys
from pathlib import Path
from typing import Any

import espeakng_loader

SYNCHRONOUS, POSITION_CHARACTER, UTF8 = 2, 1, 1  # enumerators of espeak-ng's speak_lib.h
SPEED, PITCH = 1, 3
CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def main() -> None:
    """Answer each line ``{"voice", "pitch", "speed", "text"}`` with its byte count and its 16-bit samples."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever the library prints must not land among the samples
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    data = Path(espeakng_loader.get_data_path())
    blocks: list[bytes] = []

    def collect(samples: object, count: int, _: object) -> int:
        if samples and count > 0:
            blocks.append(ctypes.string_at(samples, 2 * count))  # type: ignore[arg-type]
        return 0

    callback = CALLBACK(collect)
    rate = library.espeak_Initialize(SYNCHRONOUS, 0, os.fsencode(data), 0)
    if rate <= 0:
        sys.exit(f"espeak-ng cannot start from {data}")
    library.espeak_SetSynthCallback(callback)
    library.espeak_ng_SetRandSeed(ctypes.c_long(1))
    out.write(struct.pack("<I", rate))
    for line in sys.stdin:
        request = json.loads(line)
        _choose_voice(library, data, request)
        blocks.clear()
        text = request["text"].encode() + b"\0"
        failed = library.espeak_Synth(text, len(text), 0, POSITION_CHARACTER, 0, UTF8, None, None)
        if failed or library.espeak_Synchronize() or not blocks:
            sys.exit(f"espeak-ng cannot say {request}")
        audio = b"".join(blocks)
        out.write(struct.pack("<I", len(audio)) + audio)
    out.flush()


def _choose_voice(library: ctypes.CDLL, data: Path, request: dict[str, Any]) -> None:
    variant = request["voice"].partition("+")[2]
    # espeak-ng says nothing of a variant it lacks and speaks with the plain voice.
    missing = variant and variant not in {entry.name for entry in (data / "voices" / "!v").iterdir()}
    if missing or library.espeak_SetVoiceByName(request["voice"].encode()):
        sys.exit(f"espeak-ng has no voice '{request['voice']}'")
    library.espeak_SetParameter(SPEED, request["speed"], 0)
    library.espeak_SetParameter(PITCH, request["pitch"], 0)


if __name__ == "__main__":
    main()
