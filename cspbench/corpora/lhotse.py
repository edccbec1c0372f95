"""Lhotse cut manifests: JSON lines of cuts, each with its recording and its supervisions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from cspbench.corpora.base import Corpus, CorpusLoader, Notify, Split, Utterance, register
from cspbench.corpora.jsonl import Normalise, json_lines, name, seconds, shown, span, text_field
from cspbench.corpora.own import OwnOptions, own_corpus
from cspbench.corpora.problems import Problems
from cspbench.corpora.utterance import SPLITS
from cspbench.errors import CorpusError

ENDINGS = (".jsonl", ".jsonl.gz")


@register("lhotse")
class Lhotse(CorpusLoader):
    """Cut manifests of the splits; each supervision of a cut is an utterance."""

    summary = "your own speech: Lhotse cut manifests (.jsonl, .jsonl.gz) of recordings in files"

    class Options(OwnOptions):
        """Manifests of the splits, beside the options of all loaders of the user's own speech."""

        train: str | None = Field(None, description="cuts of the train split; unset: files named *cuts*train*")
        dev: str | None = Field(None, description="cuts of the dev split; unset: files named *cuts*dev*")
        test: str | None = Field(None, description="cuts of the test split; unset: files named *cuts*test*")

    def load(self, path: Path | None, options: Any, cache: Path, progress: Notify) -> Corpus:
        """Read the cuts below `path`."""
        assert path is not None
        problems = Problems("Lhotse cuts cannot be read:")
        utterances: list[Utterance] = []
        for split in SPLITS:
            given = getattr(options, split)
            files = [path / given] if given else _manifests(path, split)
            if not files and split != "dev":
                raise CorpusError(f"{path}: holds no cuts for {split}; name them as options.{split}")
            for file in files:
                progress(f"lhotse: reading {file}")
                for origin, cut in json_lines(file, problems):
                    try:
                        utterances += _utterances(cut, path, split, options.normaliser(), origin)
                    except CorpusError as error:
                        problems.add(origin, str(error))
        return own_corpus("lhotse", utterances, options, problems)

    @classmethod
    def fits(cls, path: Path) -> bool:
        """A folder with cuts for train and test."""
        return path.is_dir() and all(_manifests(path, split) for split in ("train", "test"))


def _manifests(path: Path, split: str) -> list[Path]:
    return sorted(p for p in path.glob(f"*cuts*{split}*") if p.name.endswith(ENDINGS))


def _utterances(cut: dict[str, Any], root: Path, split: Split, normalise: Normalise, origin: str) -> list[Utterance]:
    if cut.get("type", "MonoCut") not in ("MonoCut", "MultiCut"):
        raise CorpusError(f"cuts of type {shown(cut['type'])} are not read; write the mixed audio to files")
    start = seconds(cut, "start") or 0.0
    supervisions = cut.get("supervisions")
    if not isinstance(supervisions, list) or not all(isinstance(one, dict) for one in supervisions):
        raise CorpusError("no field 'supervisions' that holds a list of objects")
    found = []
    for number, supervision in enumerate(supervisions):
        channel = supervision.get("channel", cut.get("channel"))
        audio, only = _source(cut.get("recording"), root, channel)
        offset, duration = span(start + (seconds(supervision, "start") or 0.0), seconds(supervision, "duration"), audio)
        id = name(supervision, "id") or f"{name(cut, 'id')}-{number}"
        found.append(
            Utterance(
                id=id,
                audio=audio,
                duration=duration,
                speaker=name(supervision, "speaker"),
                text=normalise(text_field(supervision, "text")),
                split=split,
                origin=origin,
                offset=offset,
                channel=None if only else channel,
                lang=name(supervision, "language"),
            )
        )
    return found


def _source(recording: Any, root: Path, channel: Any) -> tuple[Path, bool]:
    """The file that holds a channel of a recording, and True if it holds no other."""
    if not isinstance(recording, dict):
        raise CorpusError("the cut has no recording; features alone cannot be used")
    if recording.get("transforms"):
        raise CorpusError("recordings that are transformed when they are read are not supported; write them to files")
    if isinstance(channel, bool) or not isinstance(channel, int):
        raise CorpusError(f"channel {shown(channel)} is not the index of a channel, from 0")
    sources = recording.get("sources")
    for source in sources if isinstance(sources, list) else []:
        if isinstance(source, dict) and channel in (source.get("channels") or []):
            if source.get("type") != "file" or not isinstance(source.get("source"), str):
                raise CorpusError(f"a recording of type {shown(source.get('type'))} is not read; write it to a file")
            return root / source["source"], source["channels"] == [0]
    raise CorpusError(f"the recording has no source with channel {channel}")
