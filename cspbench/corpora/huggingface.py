"""Datasets of Hugging Face on disk, as ``datasets.DatasetDict.save_to_disk`` writes them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

from pydantic import Field

from cspbench.corpora.base import Corpus, CorpusLoader, Notify, Split, Utterance, register
from cspbench.corpora.jsonl import Normalise, name, span, text_field
from cspbench.corpora.own import OwnOptions, own_corpus
from cspbench.corpora.problems import Problems
from cspbench.corpora.utterance import SPLITS
from cspbench.errors import CorpusError
from cspbench.spec import content_id
from cspbench.store import locked, write_atomic

DESCRIPTION = "dataset_dict.json"


@register("huggingface")
class HuggingFace(CorpusLoader):
    """A dataset with a split for train and test; its audio is written to files, for whoever reads it later."""

    summary = "your own speech: a dataset of Hugging Face on disk (save_to_disk)"

    class Options(OwnOptions):
        """Names of splits and columns, beside the options of all loaders of the user's own speech."""

        train: str = Field("train", description="name of the train split")
        dev: str = Field("validation", description="name of the dev split; where there is none, taken from train")
        test: str = Field("test", description="name of the test split")
        audio: str = Field("audio", description="column of the audio")
        text: str = Field("text", description="column of the transcript")
        speaker: str | None = Field(None, description="column of the speaker; unset: speakers are unknown")

    def load(self, path: Path | None, options: Any, cache: Path, progress: Notify) -> Corpus:
        """Read the splits at `path`."""
        assert path is not None
        dataset = _opened(path)
        for split in ("train", "test"):
            if (named := getattr(options, split)) not in dataset:
                raise CorpusError(
                    f"{path}: has no split '{named}' (there are: {', '.join(dataset)}); name that for {split} as "
                    f"options.{split}"
                )
        problems = Problems("the dataset cannot be read:")
        utterances: list[Utterance] = []
        for split in SPLITS:
            if (rows := dataset.get(getattr(options, split))) is not None:
                progress(f"huggingface: reading {split}, {len(rows)} rows")
                utterances += _read(rows, split, path, options, cache, problems)
        return own_corpus("huggingface", utterances, options, problems)

    @classmethod
    def fits(cls, path: Path) -> bool:
        """A folder with ``dataset_dict.json``."""
        return (path / DESCRIPTION).is_file()


def _opened(path: Path) -> dict[str, Any]:
    """The splits of a dataset by name."""
    try:
        from datasets import load_from_disk
    except ImportError:
        raise CorpusError("the corpus 'huggingface' needs a package: pip install 'cspbench[datasets]'") from None
    if not (path / DESCRIPTION).is_file():
        raise CorpusError(f"{path}: has no {DESCRIPTION}; give the folder that DatasetDict.save_to_disk wrote")
    try:
        return dict(load_from_disk(str(path)))
    except (OSError, ValueError, KeyError, TypeError) as error:  # Arrow's own errors are of these
        raise CorpusError(f"{path}: cannot be read as a dataset: {error}") from error


def _read(rows: Any, split: Split, path: Path, options: Any, cache: Path, problems: Problems) -> Iterator[Utterance]:
    from datasets import Audio

    for column in (options.audio, options.text, *([options.speaker] if options.speaker else [])):
        if column not in rows.column_names:
            raise CorpusError(f"{path}: split '{split}' has no column '{column}' (has: {', '.join(rows.column_names)})")
    if not isinstance(rows.features[options.audio], Audio):
        raise CorpusError(f"{path}: column '{options.audio}' holds no audio; name the one that does as options.audio")
    normalise: Normalise = options.normaliser()
    rows = rows.cast_column(options.audio, Audio(decode=False))
    files = _files(rows, split, path, options.audio, cache)
    written = rows.select_columns([c for c in (options.text, options.speaker) if c])
    for number, (file, row) in enumerate(zip(files, written, strict=True)):
        origin = f"{path}: {split}, row {number}"
        try:
            offset, duration = span(None, None, file)
            text = normalise(text_field(row, options.text))
            speaker = name(row, options.speaker) if options.speaker else ""
        except CorpusError as error:
            problems.add(origin, str(error))
            continue
        yield Utterance(f"{split}-{number:06d}", file, duration, speaker, text, split, origin, offset)


def _files(rows: Any, split: Split, path: Path, column: str, cache: Path) -> list[Path]:
    """The audio file of each row, written to the cache once for each version of the split."""
    folder = cache / f"huggingface-{content_id('huggingface', [_version(rows), column])}"
    with locked(folder):
        complete, partial = folder / split, folder / "partial"
        shutil.rmtree(partial, ignore_errors=True)  # left by a killed run: we hold the lock
        if not complete.is_dir():
            partial.mkdir()
            for number, row in enumerate(rows.select_columns([column])):
                audio = row[column]
                if audio is None or audio["bytes"] is None:
                    raise CorpusError(f"{path}: {split}, row {number} holds no audio; save_to_disk writes it in")
                write_atomic(partial / f"{number:08d}{PurePath(audio['path'] or '').suffix}", audio["bytes"])
            partial.rename(complete)
    return sorted(complete.iterdir())


def _version(rows: Any) -> list[Any]:
    """Names, sizes and times of the files that hold a split."""
    files = [Path(file["filename"]) for file in rows.cache_files]
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
