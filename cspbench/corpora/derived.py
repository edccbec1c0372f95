"""Audio that loaders make: written completely or not at all, and read back through a manifest."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from cspbench.corpora.jsonl import read_manifest
from cspbench.corpora.problems import Problems
from cspbench.corpora.utterance import Split, Utterance
from cspbench.spec import content_id
from cspbench.store import locked, write_atomic

MANIFEST = "manifest.jsonl"


@dataclass(frozen=True)
class Clip:
    """Audio that was just made: `samples` (time,) int16."""

    id: str
    samples: np.ndarray
    speaker: str
    text: str
    split: Split


def derived(
    cache: Path, name: str, sample_rate: int, identity: Any, make: Callable[[], Iterable[Clip]]
) -> list[Utterance]:
    """Return the utterances made by `make`, from the cache if they are there.

    Args:
        cache: folder of derived audio.
        name: of the corpus.
        sample_rate: Hz of every clip.
        identity: JSON value of everything that determines the clips: sources, options, version of the recipe.
        make: yields the clips; called by one process at a time, and only if they were not made before.
    """
    folder = cache / f"{name}-{content_id(name, identity)}"
    audio = folder / "audio"
    with locked(folder):
        if not audio.is_dir():
            partial = folder / "partial"
            shutil.rmtree(partial, ignore_errors=True)  # left by a killed run: we hold the lock
            _write(partial, sample_rate, make())
            partial.rename(audio)
    problems = Problems(f"corpus '{name}' cannot be used (made by cspbench: delete {folder}, and it is made again):")
    utterances = read_manifest({audio / MANIFEST: None}, problems)
    problems.check()
    return utterances


def _write(folder: Path, sample_rate: int, clips: Iterable[Clip]) -> None:
    folder.mkdir()
    lines = []
    for clip in clips:
        file = f"{clip.split}/{clip.id}.wav"
        audio = io.BytesIO()
        soundfile.write(audio, clip.samples, sample_rate, subtype="PCM_16", format="WAV")
        write_atomic(folder / file, audio.getvalue())
        row = {
            "id": clip.id, "audio": file, "duration": round(len(clip.samples) / sample_rate, 4),
            "sample_rate": sample_rate, "speaker": clip.speaker, "text": clip.text, "split": clip.split,
        }  # fmt: skip
        lines.append(json.dumps(row) + "\n")
    write_atomic(folder / MANIFEST, "".join(lines))
