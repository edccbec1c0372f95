"""AN4 (CMU, 1991): spelled words, numbers and commands, 16 kHz, 84 speakers, published as train and test."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field

from cspbench.corpora.base import Corpus, CorpusLoader, Notify, Split, Utterance, register
from cspbench.corpora.carve import carve_dev
from cspbench.corpora.jsonl import read_manifest
from cspbench.corpora.problems import Problems, measured, normalised
from cspbench.errors import CorpusError
from cspbench.hyper import Hyperparameters

MANIFEST = "manifest.jsonl"
TRANSCRIPTS: dict[str, Split] = {"etc/an4_train": "train", "etc/an4_test": "test"}
SUFFIXES = (".wav", ".sph", ".flac")
# "<s> HELLO </s> (an251-fash-b)"; the test file leaves the sentence marks out.
LINE = re.compile(r"(?:<s>)?(?P<text>.*?)(?:</s>)?\s*\((?P<id>[^()\s]+)\)\s*")


@register("an4")
class AN4(CorpusLoader):
    """AN4 from a manifest with FLAC files, or from the layout CMU published."""

    summary = "AN4: 50 minutes of spelled words and numbers, 84 speakers, 16 kHz (real speech)"

    class Options(Hyperparameters):
        """The published data has no dev split: one is taken from train, by speaker."""

        dev_share: float = Field(0.1, gt=0, lt=1, description="fraction of the train speakers held out as dev")
        seed: int = Field(0, ge=0, description="selects the speakers that become dev")

    def load(self, path: Path | None, options: Any, cache: Path, progress: Notify) -> Corpus:
        """Read either layout, at `path` or in its sub-folder ``an4``."""
        assert path is not None
        utterances = carve_dev(_published(path), options.dev_share, options.seed)
        return Corpus("an4", 16000, tuple(sorted(utterances, key=lambda u: u.id)))

    @classmethod
    def fits(cls, path: Path) -> bool:
        """CMU's layout; AN4 from a manifest is a manifest like any other."""
        return any((folder / "etc" / "an4_train.fileids").is_file() for folder in (path, path / "an4"))


def _published(path: Path) -> list[Utterance]:
    for folder in (path, path / "an4"):
        if (folder / MANIFEST).is_file():
            problems = Problems("AN4 cannot be read:")
            utterances = read_manifest({folder / MANIFEST: None}, problems)
            problems.check()
            return [replace(u, id=u.audio.stem) for u in utterances]
        if (folder / "etc").is_dir() and (folder / "wav").is_dir():
            return _read_cmu(folder)
    raise CorpusError(
        f"{path}: not AN4; expected {MANIFEST} beside flac/, or CMU's layout (wav/ and etc/an4_train.transcription)"
    )


def _read_cmu(folder: Path) -> list[Utterance]:
    problems = Problems("AN4 cannot be read:")
    found: list[Utterance] = []
    for stem, split in TRANSCRIPTS.items():
        recordings = _recordings(folder, folder / f"{stem}.fileids", problems)
        transcripts = folder / f"{stem}.transcription"
        for number, line in enumerate(_lines(transcripts, problems), start=1):
            if not line.strip():
                continue
            origin = f"{transcripts}:{number}"
            match = LINE.fullmatch(line.strip())
            if match is None:
                problems.add(origin, "not of the form '<s> WORDS </s> (id)'")
                continue
            if match["id"] not in recordings:
                problems.add(origin, f"'{match['id']}' is not listed in {stem}.fileids")
                continue
            audio = recordings.pop(match["id"])
            duration, text = measured(audio, origin, problems), normalised(match["text"], origin, problems)
            if duration is not None and text is not None:
                found.append(Utterance(match["id"], audio, duration, audio.parent.name, text, split, origin))
        for id, file in recordings.items():
            problems.add(transcripts, f"has no line for '{id}' ({file})")
    problems.check()
    return found


def _recordings(folder: Path, fileids: Path, problems: Problems) -> dict[str, Path]:
    """Utterance id -> audio file, for the lines ``an4_clstk/fash/an251-fash-b`` of a .fileids file."""
    recordings = {}
    for number, line in enumerate(_lines(fileids, problems), start=1):
        name = line.strip()
        if not name:
            continue
        if Path(name).is_absolute() or ".." in Path(name).parts:
            problems.add(f"{fileids}:{number}", f"'{name}' leads out of wav/; name a file below it")
            continue
        files = [folder / "wav" / f"{name}{suffix}" for suffix in SUFFIXES]
        recordings[files[0].stem] = next((file for file in files if file.is_file()), files[0])
    return recordings


def _lines(file: Path, problems: Problems) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        problems.add(file, f"cannot be read ({error}); AN4 needs it")
        return []
