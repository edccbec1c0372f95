"""A full inspection of a corpus: headers, samples, texts and splits, with every problem listed by its kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cspbench.corpora.base import corpora, read_corpus
from cspbench.corpora.checks import corpus_problems
from cspbench.corpora.problems import CorpusProblem, Problems
from cspbench.corpora.scan import scan, scan_problems
from cspbench.corpora.text import printable
from cspbench.corpora.utterance import Corpus
from cspbench.errors import ConfigError, CorpusError
from cspbench.spec import CorpusSpec

EXAMPLES = 3


@dataclass(frozen=True)
class Inspection:
    """Result of `inspect_corpus`.

    Attributes:
        corpus: what could be read; None where nothing could.
        problems: what must be mended before training.
        notes: what is unusual but usable.
    """

    corpus: Corpus | None
    problems: list[CorpusProblem]
    notes: list[CorpusProblem]

    def summary(self) -> dict[str, Any]:
        """JSON value: counts and the first examples of each kind of problem and note."""
        usable = self.corpus is not None and not self.problems
        return {
            "corpus": self.corpus.name if self.corpus else None,
            "utterances": len(self.corpus.utterances) if self.corpus else 0,
            "fingerprint": self.corpus.fingerprint() if usable and self.corpus else None,
            "problems": by_kind(self.problems),
            "notes": by_kind(self.notes),
        }


def by_kind(problems: list[CorpusProblem]) -> list[dict[str, Any]]:
    """Group problems: `kind`, `count` and the first `examples`, the most frequent kind first."""
    kinds: dict[str, list[CorpusProblem]] = {}
    for problem in problems:
        kinds.setdefault(problem.kind, []).append(problem)
    grouped = sorted(kinds.items(), key=lambda item: -len(item[1]))
    return [
        {"kind": kind, "count": len(found), "examples": [str(problem) for problem in found[:EXAMPLES]]}
        for kind, found in grouped
    ]


def inspect_corpus(spec: CorpusSpec, cache: Path, progress: Callable[[str], None] = lambda _: None) -> Inspection:
    """Read everything of a corpus once and list all problems.

    Args:
        spec: name, path and options.
        cache: the store's corpora folder (`Store.corpora`).
        progress: called with one plain line now and then.

    Raises:
        ConfigError: unknown corpus or options.
    """
    try:
        corpus = read_corpus(spec, cache, progress)
    except CorpusError as error:
        return Inspection(None, [CorpusProblem("corpus", spec.path or spec.name, str(error))], [])
    decoding = Problems()
    scans = scan(corpus, decoding, progress)
    of_samples, notes = scan_problems(scans)
    of_headers = corpus_problems(corpus)
    known = {problem.where for problem in of_headers}  # a file that cannot be opened is told once
    decoding.found = [problem for problem in decoding.found if problem.where not in known]
    problems = of_headers + decoding.found + of_samples
    (notes if corpus.score_unseen else problems).extend(unseen_characters(corpus))
    return Inspection(corpus, problems, notes)


def unseen_characters(corpus: Corpus) -> list[CorpusProblem]:
    """Return a problem for each utterance of dev and test with characters that no transcript of train has."""
    known = {character for u in corpus.split("train") for character in u.text}
    remedy = "correct it, add such speech to train, or set options.unseen_characters to score"
    return [
        CorpusProblem("unseen characters", u.origin, f"{u.split} has {', '.join(map(printable, unseen))}; {remedy}")
        for u in corpus.utterances
        if u.split != "train" and (unseen := sorted(set(u.text) - known))
    ]


def detect(path: Path) -> str:
    """Return the name of the loader whose layout a file or folder has.

    Raises:
        ConfigError: none has.
    """
    for name in corpora.names():
        if corpora.get(name).fits(path):
            return name
    raise ConfigError(
        f"{path}: not laid out as any corpus is ({', '.join(corpora.names())}); name the corpus and give --path"
    )
