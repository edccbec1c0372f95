"""Words that a recogniser confuses, and the utterances it gets most wrong."""

from __future__ import annotations

from collections import Counter
from itertools import zip_longest

import pandas as pd

NOTHING = "–"
"""Stands for the missing word of a deletion or an insertion."""


def confused_words(hypotheses: pd.DataFrame) -> pd.DataFrame:
    """Count the word edits between references and hypotheses, aligned with the fewest edits.

    Args:
        hypotheses: as from `load_hypotheses`: columns ``reference`` and ``hypothesis``.

    Returns:
        One row a pair of words, the most frequent first: ``reference``, ``hypothesis``, ``count``. A deletion has
        ``–`` for a hypothesis, an insertion for a reference.
    """
    import jiwer

    pairs: Counter[tuple[str, str]] = Counter()
    for reference, hypothesis in zip(hypotheses["reference"], hypotheses["hypothesis"], strict=True):
        spoken, recognised = reference.split(), hypothesis.split()
        if not spoken:
            pairs.update((NOTHING, word) for word in recognised)
            continue
        for chunk in jiwer.process_words(reference, hypothesis).alignments[0]:
            if chunk.type != "equal":
                left = spoken[chunk.ref_start_idx : chunk.ref_end_idx]
                right = recognised[chunk.hyp_start_idx : chunk.hyp_end_idx]
                pairs.update(zip_longest(left, right, fillvalue=NOTHING))
    rows = [(*pair, count) for pair, count in pairs.most_common()]
    return pd.DataFrame(rows, columns=["reference", "hypothesis", "count"])


def worst_utterances(hypotheses: pd.DataFrame, count: int) -> pd.DataFrame:
    """Return the utterances with the most word edits, if any; of equals, the first in the file."""
    wrong = hypotheses[hypotheses["edits"] > 0]
    return wrong.sort_values("edits", ascending=False, kind="stable").head(count)
