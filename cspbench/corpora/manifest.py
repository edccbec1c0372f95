"""Any speech the user has, described by JSONL manifests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from cspbench.corpora.base import Corpus, CorpusLoader, Notify, Split, register
from cspbench.corpora.jsonl import read_manifest
from cspbench.corpora.own import OwnOptions, own_corpus
from cspbench.corpora.problems import Problems
from cspbench.errors import CorpusError


@register("manifest")
class Manifest(CorpusLoader):
    """One JSONL file whose lines name their split, or one file a split."""

    summary = "your own speech: JSONL manifests (NeMo's field names accepted)"

    class Options(OwnOptions):
        """Files of the splits, beside the options of all loaders of the user's own speech."""

        train: str | None = Field(None, description="manifest of the train split, relative to corpus.path")
        dev: str | None = Field(None, description="manifest of the dev split; unset: taken from train")
        test: str | None = Field(None, description="manifest of the test split")

    def load(self, path: Path | None, options: Any, cache: Path, progress: Notify) -> Corpus:
        """Read the manifest at `path`, or those the options name below it (``train.jsonl`` … by default)."""
        assert path is not None
        problems = Problems("manifest cannot be read:")
        utterances = read_manifest(_files(path, options), problems, options.normaliser())
        if not utterances and not problems.found:
            raise CorpusError(f"{path}: holds no utterances; write one JSON object a line")
        return own_corpus("manifest", utterances, options, problems)

    @classmethod
    def fits(cls, path: Path) -> bool:
        """A ``.jsonl`` or ``.json`` file, or a folder with ``manifest.jsonl`` or a manifest for each split."""
        names = ("manifest.jsonl", "train.jsonl", "test.jsonl")
        return path.suffix in (".jsonl", ".json") if path.is_file() else any((path / n).is_file() for n in names)


def _files(path: Path, options: Any) -> dict[Path, Split | None]:
    """Manifest -> its split, or None where each line names its own."""
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
