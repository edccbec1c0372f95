"""LibriSpeech, and whatever else is laid out as it was published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from cspbench.corpora.base import Corpus, CorpusLoader, Notify, Split, Utterance, register
from cspbench.corpora.problems import Problems, measured, normalised
from cspbench.errors import CorpusError
from cspbench.hyper import Hyperparameters

TRANSCRIPTS = ".trans.txt"


@register("librispeech")
class LibriSpeech(CorpusLoader):
    """``<folder>/<speaker>/<chapter>/*.flac`` with ``<speaker>-<chapter>.trans.txt`` beside them."""

    summary = "LibriSpeech: read books, 16 kHz, in the published folders (real speech; bring your own copy)"

    class Options(Hyperparameters):
        """Folders below corpus.path that make up each split."""

        train: tuple[str, ...] = Field(("train-clean-100",), min_length=1)
        dev: tuple[str, ...] = Field(("dev-clean",), min_length=1)
        test: tuple[str, ...] = Field(("test-clean",), min_length=1)

    def load(self, path: Path | None, options: Any, cache: Path, progress: Notify) -> Corpus:
        """Read the transcripts and the length of every file, at `path` or in its sub-folder ``LibriSpeech``."""
        assert path is not None
        root = path / "LibriSpeech" if (path / "LibriSpeech").is_dir() else path
        problems = Problems("LibriSpeech cannot be read:")
        utterances: list[Utterance] = []
        splits: dict[Split, tuple[str, ...]] = {"train": options.train, "dev": options.dev, "test": options.test}
        for split, folders in splits.items():
            for name in folders:
                progress(f"librispeech: reading {name}")
                utterances += _read_folder(_below(root, name), split, problems)
        if not utterances:
            problems.check()
        return Corpus("librispeech", 16000, tuple(utterances), problems=tuple(problems.found))

    @classmethod
    def fits(cls, path: Path) -> bool:
        """A folder ``LibriSpeech``, or one with the published folders."""
        return any((folder / "test-clean").is_dir() for folder in (path, path / "LibriSpeech"))


def _below(root: Path, name: str) -> Path:
    folder = root / name
    if ".." in folder.parts or not folder.is_relative_to(root):
        raise CorpusError(f"librispeech folder '{name}' leads out of {root}; name one below it")
    if not folder.is_dir():
        there = ", ".join(sorted(entry.name for entry in root.iterdir() if entry.is_dir())) if root.is_dir() else ""
        raise CorpusError(f"{folder}: no such folder; set options.train, dev and test to some of: {there or 'none'}")
    return folder


def _read_folder(folder: Path, split: Split, problems: Problems) -> list[Utterance]:
    found: list[Utterance] = []
    for chapter in sorted(folder.glob("*/*/")):
        transcripts = chapter / f"{chapter.parent.name}-{chapter.name}{TRANSCRIPTS}"
        try:
            lines = transcripts.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            problems.add(transcripts, f"cannot be read ({error}); LibriSpeech has one a chapter")
            continue
        audio = {file.stem: file for file in chapter.glob("*.flac")}
        for number, line in enumerate(lines, start=1):
            id, _, text = line.strip().partition(" ")
            if id:
                file = audio.pop(id, chapter / f"{Path(id).name}.flac")
                origin = f"{transcripts}:{number}"
                duration, words = measured(file, origin, problems), normalised(text, origin, problems)
                if duration is not None and words is not None:
                    found.append(Utterance(id, file, duration, chapter.parent.name, words, split, origin))
        for id in sorted(audio):
            problems.add(transcripts, f"has no line for {id}.flac; restore it or remove the audio")
    return found
