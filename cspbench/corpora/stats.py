"""Statistics of the splits of a corpus."""

from __future__ import annotations

from cspbench.corpora.checks import speaker_splits
from cspbench.corpora.scan import Scan, median_level
from cspbench.corpora.text import printable
from cspbench.corpora.utterance import SPLITS, Corpus, Split


def statistics(corpus: Corpus, scans: list[Scan] | None = None) -> list[dict[str, object]]:
    """Describe each split in one row.

    Args:
        corpus: a checked corpus.
        scans: its decoded audio, if it was decoded.

    Returns:
        For train, dev and test: `corpus`, `split`, `synthetic`, `sample_rate` (Hz), `utterances`, `recordings`
        (distinct files), `segments` (utterances that are part of a file), `minutes`, `mean_seconds`, `max_seconds`,
        `speakers` (known ones), `shared_speakers` (of these, how many other splits hold too), `languages`, `words`,
        `distinct_words`, `unseen_words` (distinct ones that train lacks), `empty_texts` (utterances without words),
        `characters` (the distinct ones, sorted, space included) and `unseen_characters` (of these, the ones that
        train lacks); with `scans` also `level_db`, the median level in dB of full scale.
    """
    rows = [_row(corpus, split) for split in SPLITS]
    for row, split in zip(rows, SPLITS, strict=True):
        level = median_level(scans or [], split)
        if level is not None:
            row["level_db"] = round(level, 1)
    return rows


def _row(corpus: Corpus, split: Split) -> dict[str, object]:
    utterances = corpus.split(split)
    seconds = [u.duration for u in utterances]
    words = [word for u in utterances for word in u.text.split()]
    known = {word for u in corpus.split("train") for word in u.text.split()}
    speakers = [splits for splits in speaker_splits(corpus).values() if split in splits]
    letters = {letter for u in utterances for letter in u.text}
    unseen = sorted(letters - {letter for u in corpus.split("train") for letter in u.text})
    return {
        "corpus": corpus.name,
        "split": split,
        "synthetic": corpus.synthetic,
        "sample_rate": corpus.sample_rate,
        "utterances": len(utterances),
        "recordings": len({u.audio for u in utterances}),
        "segments": sum(u.offset is not None for u in utterances),
        "minutes": round(sum(seconds) / 60, 2),
        "mean_seconds": round(sum(seconds) / len(seconds), 2) if seconds else 0.0,
        "max_seconds": round(max(seconds, default=0.0), 2),
        "speakers": len(speakers),
        "shared_speakers": sum(len(splits) > 1 for splits in speakers),
        "languages": ", ".join(sorted({u.lang for u in utterances if u.lang})),
        "words": len(words),
        "distinct_words": len(set(words)),
        "unseen_words": len(set(words) - known),
        "empty_texts": sum(not u.text for u in utterances),
        "characters": "".join(sorted(letters)),
        "unseen_characters": ", ".join(printable(letter) for letter in unseen),
    }
