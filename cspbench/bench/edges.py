"""Word error rate of a recogniser when speakers step back, recordings begin in silence or end with the last sound.

Every condition changes the recordings of a test split, rounds them to 16 bits as a file would, and streams them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cspbench.asr.wer import Edits, count_edits
from cspbench.bench import Benchmark, machine
from cspbench.corpora import load_corpus
from cspbench.corpora.audio import read_utterance
from cspbench.errors import ConfigError
from cspbench.runtime.recogniser import Recogniser
from cspbench.spec import CorpusSpec
from cspbench.store import Store

SILENCE_BEFORE, SILENCE_AFTER = 0.5, 0.66
"""Seconds of digital silence."""

LEVEL_WINDOW = 0.01
"""Seconds over which the level of a recording is measured."""

ABOVE_BACKGROUND = 3.0
"""Factor by which speech exceeds the level of the background, which is that of the quietest fifth of the recording."""

Change = Callable[[np.ndarray, int], np.ndarray]

CONDITIONS: dict[str, Change] = {
    "plain": lambda samples, rate: samples,
    "silence_before": lambda samples, rate: np.concatenate([_zeros(SILENCE_BEFORE, rate), samples]),
    "cut_at_end_of_speech": lambda samples, rate: samples[: end_of_speech(samples, rate)],
    "silence_after": lambda samples, rate: np.concatenate([samples, _zeros(SILENCE_AFTER, rate)]),
    "20_db_quieter": lambda samples, rate: samples * np.float32(0.1),
    "6_db_louder": lambda samples, rate: samples * np.float32(2.0),
}
"""Changes of a recording, (N,) in [-1, 1], at a rate in Hz."""


def run(
    *,
    model: Path,
    corpus: str,
    path: Path | None = None,
    utterances: int | None = None,
    root: Path = Path("runs"),
    progress: Callable[[str], None] = lambda _: None,
) -> Benchmark:
    """Decode the test split of a corpus under every condition of `CONDITIONS`, and recordings without any speech.

    Args:
        model: packed file, or folder of a trial or dense recogniser.
        corpus: name of a registered corpus.
        path: folder of its audio; None for corpora that make their own.
        utterances: the first so many of the test split; None for all.
        root: results root, for corpora that make their own audio.
        progress: called with status lines.

    Returns:
        Rows: WER and its parts by condition, and the text decoded from each recording without speech. Ratios:
        ``condition:wer`` in %, ``condition-plain`` in points, ``silent:texts`` the number of those that are not empty.

    Raises:
        ConfigError: the corpus has another sample rate than the model.
        CspbenchError: a model or a corpus that cannot be read.
    """
    recogniser = Recogniser.load(model)
    loaded = load_corpus(CorpusSpec(name=corpus, path=str(path) if path else None), Store(root).corpora, progress)
    if loaded.sample_rate != recogniser.sample_rate:
        raise ConfigError(f"{corpus} has {loaded.sample_rate} Hz, the model takes {recogniser.sample_rate} Hz")
    chosen = loaded.split("test")[:utterances]
    recordings = [(u.text, read_utterance(u)) for u in chosen]
    rows: list[dict[str, Any]] = []
    for name, change in CONDITIONS.items():
        edits = [
            count_edits(text, _decode(recogniser, change(samples, loaded.sample_rate))) for text, samples in recordings
        ]
        rows.append({"condition": name} | _totals(edits))
        progress(f"{name}: {rows[-1]['wer_percent']:.2f} %")
    ratios = {f"{row['condition']}:wer": row["wer_percent"] for row in rows}
    ratios |= {
        f"{row['condition']}-plain": row["wer_percent"] - rows[0]["wer_percent"]
        for row in rows
        if row["condition"] != "plain"
    }
    silent = [
        {"condition": name, "text": _decode(recogniser, samples)} for name, samples in _silent(loaded.sample_rate)
    ]
    ratios["silent:texts"] = float(sum(bool(row["text"]) for row in silent))
    protocol = {"model": str(model), "corpus": corpus, "utterances": len(chosen), "synthetic": loaded.synthetic}
    return Benchmark([*rows, *silent], ratios, protocol | machine())


def end_of_speech(samples: np.ndarray, sample_rate: int) -> int:
    """Number of samples up to the end of the last window that stands out from the background."""
    size = max(1, round(LEVEL_WINDOW * sample_rate))
    windows = len(samples) // size
    if not windows:
        return len(samples)
    levels = np.sqrt(np.mean(samples[: windows * size].reshape(windows, size) ** 2, axis=1))
    background = float(np.median(np.sort(levels)[: max(1, windows // 5)]))
    loud = np.flatnonzero(levels > ABOVE_BACKGROUND * background)
    return (int(loud[-1]) + 1) * size if len(loud) else len(samples)


def _silent(sample_rate: int) -> list[tuple[str, np.ndarray]]:
    seconds = {"3 s of zeros": 3.0, "30 s of zeros": 30.0, "5 ms of zeros": 0.005}
    made = [(name, _zeros(length, sample_rate)) for name, length in seconds.items()]
    return [*made, ("1 sample", np.full(1, 0.5, np.float32)), ("0 samples", np.zeros(0, np.float32))]


def _zeros(seconds: float, sample_rate: int) -> np.ndarray:
    return np.zeros(round(seconds * sample_rate), np.float32)


def _decode(recogniser: Recogniser, samples: np.ndarray) -> str:
    stream = recogniser.stream()
    stream.accept(np.round(samples.clip(-1, 32767 / 32768) * 32768).astype(np.float32) / np.float32(32768))
    return stream.finish()


def _totals(edits: list[Edits]) -> dict[str, Any]:
    words = sum(e.words for e in edits)
    total = sum(e.edits for e in edits)
    parts = ("substitutions", "deletions", "insertions")
    return {"wer_percent": 100 * total / words, "edits": total, "words": words} | {
        name: sum(getattr(e, name) for e in edits) for name in parts
    }
