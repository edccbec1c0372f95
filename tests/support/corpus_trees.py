"""Small corpora in several layouts, made from real AN4 audio or from noise."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from cspbench.corpora import Corpus, load_corpus
from cspbench.spec import CorpusSpec

RATE = 16000


def load(name: str, path: Path | None, cache: Path, **options: Any) -> Corpus:
    """`load_corpus` with options as keywords."""
    spec = CorpusSpec(name=name, path=None if path is None else str(path), options=options)
    return load_corpus(spec, cache)


def tone(file: Path, seconds: float = 0.5, rate: int = RATE, channels: int = 1) -> None:
    """Write a quiet noise; its samples depend on the file's name, so that no two are equal."""
    file.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(list(file.name.encode()))
    soundfile.write(file, 0.1 * rng.standard_normal((round(seconds * rate), channels)), rate)


def row(name: str, split: str = "train", **changes: Any) -> dict[str, Any]:
    """One line of a manifest for `tone`'s default audio, spoken by the letters before the first digit of its name."""
    speaker = name.rstrip("0123456789")
    base = {"audio": f"{name}.wav", "duration": 0.5, "speaker": speaker, "text": f"hello {name}", "split": split}
    return {key: value for key, value in (base | changes).items() if value is not None}


def write_manifest(file: Path, rows: list[dict[str, Any] | str]) -> Path:
    """Write rows (dicts, or lines as they are) as JSONL."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
    return file


def small_manifest(folder: Path) -> list[dict[str, Any]]:
    """Audio and manifest rows of ten train utterances (five speakers), two of dev and two of test."""
    names = [f"{speaker}{i}" for speaker in "abcde" for i in range(2)]
    rows = [row(name) for name in names]
    rows += [row(f"x{i}", "dev") for i in range(2)] + [row(f"y{i}", "test") for i in range(2)]
    for r in rows:
        tone(folder / r["audio"])
    write_manifest(folder / "manifest.jsonl", list(rows))
    return rows


def an4_rows(an4_path: Path) -> list[dict[str, Any]]:
    """The rows of the AN4 manifest."""
    return [json.loads(line) for line in (an4_path / "manifest.jsonl").read_text().splitlines()]


def cmu_tree(an4_path: Path, root: Path) -> Path:
    """All of AN4 in the layout CMU published it in."""
    folders = {"train": "an4_clstk", "test": "an4test_clstk"}
    fileids: dict[str, list[str]] = {"train": [], "test": []}
    lines: dict[str, list[str]] = {"train": [], "test": []}
    for r in an4_rows(an4_path):
        source = an4_path / r["audio"]
        name = f"{folders[r['split']]}/{r['speaker']}/{source.stem}"
        target = root / "wav" / f"{name}.wav"
        target.parent.mkdir(parents=True, exist_ok=True)
        samples, rate = soundfile.read(source, dtype="int16")
        soundfile.write(target, samples, rate)
        fileids[r["split"]].append(name)
        text = r["text"].upper()
        spoken = f"<s> {text} </s>" if r["split"] == "train" else text
        lines[r["split"]].append(f"{spoken} ({source.stem})")
    (root / "etc").mkdir()
    for split in folders:
        (root / "etc" / f"an4_{split}.fileids").write_text("\n".join(fileids[split]) + "\n")
        (root / "etc" / f"an4_{split}.transcription").write_text("\n".join(lines[split]) + "\n")
    return root


def libri_tree(an4_path: Path, root: Path, speakers: dict[str, int]) -> Path:
    """Some AN4 speakers as LibriSpeech folders: folder name -> number of speakers, two chapters each."""
    rows = an4_rows(an4_path)
    names = iter(sorted({r["speaker"] for r in rows}))
    for number, folder in enumerate(folder for folder, count in speakers.items() for _ in range(count)):
        speaker = next(names)
        spoken = [r for r in rows if r["speaker"] == speaker][:4]
        for index, r in enumerate(spoken):
            reader, chapter = str(100 + number), str(7000 + index % 2)
            place = root / folder / reader / chapter
            place.mkdir(parents=True, exist_ok=True)
            id = f"{reader}-{chapter}-{index:04d}"
            shutil.copy(an4_path / r["audio"], place / f"{id}.flac")
            with (place / f"{reader}-{chapter}.trans.txt").open("a") as file:
                file.write(f"{id} {r['text'].upper()}\n")
    return root
