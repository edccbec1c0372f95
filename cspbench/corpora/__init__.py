"""Speech to train and test on: built-in corpora, the user's own, and the checks that all of them pass."""

from cspbench.corpora import an4, fsdd, huggingface, kaldi, lhotse, librispeech, manifest, spoken_commands  # noqa: F401 - importing registers them
from cspbench.corpora.base import Corpus, CorpusLoader, Utterance, corpora, load_corpus, parse_options, register
from cspbench.corpora.stats import statistics

__all__ = [
    "Corpus",
    "CorpusLoader",
    "Utterance",
    "corpora",
    "load_corpus",
    "parse_options",
    "register",
    "statistics",
]
