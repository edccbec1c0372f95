"""Kaldi data folders: ``wav.scp``, ``text`` and, where they are there, ``segments``, ``utt2spk`` and channels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field

from cspbench.corpora.base import Corpus, CorpusLoader, Notify, Split, Utterance, register
from cspbench.corpora.jsonl import Normalise, span
from cspbench.corpora.own import OwnOptions, own_corpus
from cspbench.corpora.problems import Problems
from cspbench.corpora.utterance import SPLITS
from cspbench.errors import CorpusError

SCP, TEXT, SEGMENTS, SPEAKERS, CHANNELS = "wav.scp", "text", "segments", "utt2spk", "reco2file_and_channel"
SIDES = {"A": 0, "B": 1, "1": 0, "2": 1}
"""Channels as ``reco2file_and_channel`` names them."""


class Segment(NamedTuple):
    """A recording and the part of it that an utterance is; seconds, None for the whole file."""

    recording: str
    start: float | None = None
    end: float | None = None


@register("kaldi")
class Kaldi(CorpusLoader):
    """One Kaldi data folder a split, below corpus.path."""

    summary = "your own speech: Kaldi data folders (wav.scp, text, segments, utt2spk)"

    class Options(OwnOptions):
        """Folders of the splits, beside the options of all loaders of the user's own speech."""

        train: str = Field("train", description="data folder of the train split, relative to corpus.path")
        dev: str = Field("dev", description="data folder of the dev split; where there is none, taken from train")
        test: str = Field("test", description="data folder of the test split")

    def load(self, path: Path | None, options: Any, cache: Path, progress: Notify) -> Corpus:
        """Read the data folders below `path`."""
        assert path is not None
        problems = Problems("Kaldi data folders cannot be read:")
        utterances: list[Utterance] = []
        for split in SPLITS:
            folder = path / getattr(options, split)
            if split == "dev" and not folder.exists():
                continue
            progress(f"kaldi: reading {folder}")
            utterances += _read_folder(folder, path, split, options.normaliser(), problems)
        return own_corpus("kaldi", utterances, options, problems)

    @classmethod
    def fits(cls, path: Path) -> bool:
        """A folder with ``train/wav.scp``."""
        return (path / "train" / SCP).is_file()


def _read_folder(folder: Path, root: Path, split: Split, normalise: Normalise, problems: Problems) -> list[Utterance]:
    recordings = dict(_audio(folder, root, problems))
    texts = {id: (origin, rest) for origin, id, rest in _table(folder / TEXT, problems)}
    speakers = {id: rest for _, id, rest in _table(folder / SPEAKERS, problems, optional=True)}
    sides = dict(_channels(folder, problems))
    whole_files = not (folder / SEGMENTS).exists()
    segments = {id: Segment(id) for id in texts} if whole_files else dict(_segments(folder, problems))
    found = []
    for id, (origin, written) in texts.items():
        segment = segments.get(id)
        if segment is None:
            problems.add(origin, f"'{id}' is not listed in {SEGMENTS}; add it there or remove the line")
        elif segment.recording not in recordings:
            if not any(problem.what.startswith(f"'{segment.recording}'") for problem in problems.found):
                problems.add(origin, f"recording '{segment.recording}' is not listed in {SCP}; add it there")
        else:
            audio = recordings[segment.recording]
            length = None if segment.start is None or segment.end is None else segment.end - segment.start
            try:
                offset, duration = span(segment.start, length, audio)
                text = normalise(written)
            except CorpusError as error:
                problems.add(origin, str(error))
                continue
            speaker, channel = speakers.get(id, ""), sides.get(segment.recording)
            found.append(Utterance(id, audio, duration, speaker, text, split, origin, offset, channel))
    for id in sorted(set(segments) - set(texts)):
        problems.add(folder / SEGMENTS, f"'{id}' has no line in {TEXT}; write what is said or remove it")
    return found


def _table(file: Path, problems: Problems, *, optional: bool = False) -> Iterator[tuple[str, str, str]]:
    """Yield ``file:line``, first word and the rest of each line; the first word may occur once."""
    if optional and not file.exists():
        return
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        problems.add(file, f"cannot be read as UTF-8 text ({error}); a Kaldi data folder needs it", "file")
        return
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        id, _, rest = line.strip().partition(" ")
        if not id:
            continue
        if id in seen:
            problems.add(f"{file}:{number}", f"'{id}' is already used in line {seen[id]}; remove or rename one")
            continue
        seen[id] = number
        yield f"{file}:{number}", id, rest.strip()


def _audio(folder: Path, root: Path, problems: Problems) -> Iterator[tuple[str, Path]]:
    """Yield recording and file; relative paths start at corpus.path, or at the data folder."""
    for origin, id, rest in _table(folder / SCP, problems):
        if rest.endswith("|"):
            problems.add(origin, f"'{id}' is made by a command, which is not run; write its audio to a file", "audio")
        elif not rest or ".ark:" in rest:
            problems.add(origin, f"'{id}' names no audio file; archives must be written out as files", "audio")
        else:
            written = Path(rest)
            yield id, next((p for p in (root / written, folder / written) if p.exists()), root / written)


def _segments(folder: Path, problems: Problems) -> Iterator[tuple[str, Segment]]:
    for origin, id, rest in _table(folder / SEGMENTS, problems):
        words = rest.split()
        try:
            recording, start, end = words[0], float(words[1]), float(words[2])
        except (IndexError, ValueError):
            problems.add(origin, "not of the form 'utterance recording start end'")
            continue
        if end != -1 and not 0 <= start < end:
            problems.add(origin, f"a segment from {start:g} s to {end:g} s holds nothing")
            continue
        yield id, Segment(recording, start, None if end == -1 else end)


def _channels(folder: Path, problems: Problems) -> Iterator[tuple[str, int]]:
    for origin, id, rest in _table(folder / CHANNELS, problems, optional=True):
        side = rest.split()[-1] if rest else ""
        if side in SIDES:
            yield id, SIDES[side]
        else:
            problems.add(origin, f"channel '{side}' is none of {', '.join(SIDES)}")
