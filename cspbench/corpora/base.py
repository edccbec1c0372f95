"""The interface of corpus loaders, and the function that loads and checks a corpus."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ValidationError

from cspbench.corpora.carve import refold
from cspbench.corpora.checks import check_corpus
from cspbench.corpora.utterance import SPLITS, Corpus, Split, Utterance
from cspbench.errors import ConfigError, CorpusError, did_you_mean
from cspbench.hyper import Hyperparameters
from cspbench.registry import Registry
from cspbench.spec import CorpusSpec

__all__ = [
    "SPLITS", "Corpus", "CorpusLoader", "Notify", "Split", "Utterance", "corpora", "load_corpus", "parse_options",
    "read_corpus", "register",
]  # fmt: skip

Notify = Callable[[str], None]


class CorpusLoader(ABC):
    """Base of all loaders: it reads files into a `Corpus`.

    Attributes:
        Options: the keys a sweep file may give under ``corpus.options``.
        summary: one line for ``cspbench data list``.
        needs_path: False for corpora that make their audio.
    """

    Options: ClassVar[type[Hyperparameters]] = Hyperparameters
    summary: ClassVar[str] = ""
    needs_path: ClassVar[bool] = True

    @abstractmethod
    def load(self, path: Path | None, options: Any, cache: Path, progress: Notify) -> Corpus:
        """Read the corpus; where its audio must be made, make it under `cache` first.

        Args:
            path: folder of the audio; None if `needs_path` is False.
            options: an instance of `Options`.
            cache: folder for derived audio; reused when already filled.
            progress: called with one plain line now and then during long preparation.

        Returns:
            The corpus, with `Corpus.problems` for the lines and files that cannot be used.

        Raises:
            CorpusError: nothing can be read; the message names file and remedy.
        """

    @classmethod
    def fits(cls, path: Path) -> bool:
        """True where a file or folder is laid out as this loader reads it."""
        return False


corpora: Registry[type[CorpusLoader]] = Registry("corpus", "cspbench.corpora")
register = corpora.register


def _silent(_: str) -> None:
    return None


def load_corpus(spec: CorpusSpec, cache: Path, progress: Notify = _silent, *, check_audio: bool = True) -> Corpus:
    """Load the corpus a spec names, validated and with its fingerprint checked.

    Args:
        spec: name, path and options.
        cache: the store's corpora folder (`Store.corpora`).
        progress: receives plain lines during long preparation.
        check_audio: compare every file's header with the corpus (sample rate, duration, readability).

    Raises:
        ConfigError: unknown corpus or options, a path missing or given to a corpus that makes its own audio.
        CorpusError: files that are missing, corrupt or mis-sampled, empty transcripts, an empty split, or a
            fingerprint other than the one the spec was resolved with.
    """
    corpus = read_corpus(spec, cache, progress)
    check_corpus(corpus, audio=check_audio, made_in=_made_in(corpus, cache))
    if spec.fingerprint is not None:
        _check_fingerprint(corpus, spec.fingerprint)
    return corpus


def read_corpus(spec: CorpusSpec, cache: Path, progress: Notify = _silent) -> Corpus:
    """Read the corpus a spec names, without the checks that `load_corpus` makes.

    Args:
        spec: name, path and options.
        cache: the store's corpora folder (`Store.corpora`).
        progress: receives plain lines during long preparation.

    Raises:
        ConfigError: as `load_corpus`.
        CorpusError: nothing can be read.
    """
    loader = corpora.get(spec.name)()
    corpus = loader.load(_folder(spec, loader), parse_options(spec), cache, progress)
    if spec.fold is None:
        return corpus
    divided = refold(corpus.utterances, spec.fold)
    return replace(corpus, utterances=tuple(divided), shared_speakers=False)


def parse_options(spec: CorpusSpec) -> Hyperparameters:
    """Return the options of a corpus, defaults filled in.

    Raises:
        ConfigError: unknown corpus, or every option that is unknown or out of range.
    """
    options = corpora.get(spec.name).Options
    try:
        return options.model_validate(spec.options)
    except ValidationError as error:
        problems = [_explain(options, problem) for problem in error.errors()]
        raise ConfigError("\n".join(f"corpus.options.{problem}" for problem in problems)) from None


def _explain(options: type[Hyperparameters], problem: Any) -> str:
    name = ".".join(str(part) for part in problem["loc"]) or "*"
    if problem["type"] != "extra_forbidden":
        return f"{name}: {problem['msg']} (got {problem['input']!r})"
    known = list(options.model_fields)
    return f"{name}: unknown option{did_you_mean(name, known)} (known: {', '.join(known) or 'none'})"


def _folder(spec: CorpusSpec, loader: CorpusLoader) -> Path | None:
    if not loader.needs_path:
        if spec.path is not None:
            raise ConfigError(f"corpus.path: '{spec.name}' makes its own audio; remove the path")
        return None
    if spec.path is None:
        raise ConfigError(f"corpus.path: '{spec.name}' needs the folder its audio lies in")
    path = Path(spec.path).expanduser().absolute()
    if not path.exists():
        raise CorpusError(f"{path}: no such file or folder; corpus.path must name where '{spec.name}' lies")
    return path


def _made_in(corpus: Corpus, cache: Path) -> Path | None:
    """Folder of the cache that holds the corpus, or None where the audio is the user's own."""
    for u in corpus.utterances[:1]:
        if u.audio.is_relative_to(cache):
            return cache / u.audio.relative_to(cache).parts[0]
    return None


def _check_fingerprint(corpus: Corpus, expected: str) -> None:
    found = corpus.fingerprint()
    if found != expected:
        raise CorpusError(
            f"corpus '{corpus.name}' has fingerprint {found} where the trial was made for {expected}: its audio or"
            " transcripts differ. Restore them, or start a new study on what is here."
        )
