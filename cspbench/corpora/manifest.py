"""Any speech the user has, described by JSONL manifests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from cspbench.corpora.audio import read_header
from cspbench.corpora.base import Corpus, CorpusLoader, Progress, Split, Utterance, register
from cspbench.corpora.carve import carve_dev
from cspbench.corpora.jsonl import collapse, lower, read_manifest
from cspbench.errors import CorpusError
from cspbench.hyper import Hyperparameters


@register("manifest")
class Manifest(CorpusLoader):
    """One JSONL file whose lines say their split, or one file a split."""

    summary = "your own speech: JSONL manifests (NeMo's field names accepted)"

    class Options(Hyperparameters):
        """Where the splits are, and what becomes dev if none is given."""

        train: str | None = Field(None, description="manifest of the train split, relative to corpus.path")
        dev: str | None = Field(None, description="manifest of the dev split; unset: taken from train")
        test: str | None = Field(None, description="manifest of the test split")
        sample_rate: int | None = Field(None, ge=1000, le=192000, description="Hz; unset: that of the first file")
        lowercase: bool = Field(True, description="lower-case the transcripts")
        dev_share: float = Field(0.1, gt=0, lt=1, description="share of train held out where there is no dev split")
        speaker_disjoint: bool = Field(True, description="keep each known speaker in one split")
        synthetic: bool = Field(False, description="set it if a machine made the audio: every report will say so")
        seed: int = Field(0, ge=0, description="what becomes dev")

    def load(self, path: Path | None, options: Any, cache: Path, progress: Progress) -> Corpus:
        """Read the manifest at `path`, or those the options name below it (``train.jsonl`` … by default)."""
        assert path is not None
        utterances = read_manifest(_files(path, options), lower if options.lowercase else collapse)
        if not utterances:
            raise CorpusError(f"{path}: holds no utterances; write one JSON object a line")
        if not any(u.split == "dev" for u in utterances):
            utterances = carve_dev(utterances, options.dev_share, options.seed, by_speaker=options.speaker_disjoint)
        return Corpus(
            "manifest",
            options.sample_rate or _sample_rate(utterances[0]),
            tuple(utterances),
            synthetic=options.synthetic,
            shared_speakers=not options.speaker_disjoint,
        )


def _files(path: Path, options: Any) -> dict[Path, Split | None]:
    """Manifest -> its split, or None where the lines say it."""
    given: dict[Split, str | None] = {"train": options.train, "dev": options.dev, "test": options.test}
    if path.is_file():
        if any(given.values()):
            raise CorpusError(f"{path}: is one manifest; options.train, dev and test need corpus.path to be a folder")
        return {path: None}
    named: dict[Path, Split | None] = {path / name: split for split, name in given.items() if name}
    if named:
        return named
    if (path / "manifest.jsonl").is_file():
        return {path / "manifest.jsonl": None}
    found: dict[Path, Split | None] = {
        path / f"{split}.jsonl": split for split in given if (path / f"{split}.jsonl").is_file()
    }
    if not found:
        raise CorpusError(
            f"{path}: holds neither manifest.jsonl nor train.jsonl and test.jsonl; name the manifest as corpus.path,"
            " or the files of the splits as options.train, dev and test"
        )
    return found


def _sample_rate(first: Utterance) -> int:
    try:
        return read_header(first.audio).sample_rate
    except CorpusError as error:
        raise CorpusError(f"{first.origin}: {first.audio}: {error}") from error
