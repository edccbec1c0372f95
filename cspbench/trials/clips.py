"""Audio of the utterances that a trial got most wrong, small enough to be kept and played anywhere."""

from __future__ import annotations

import io
from collections.abc import Sequence

import soundfile
import soxr

from cspbench.corpora.audio import read_utterance
from cspbench.corpora.utterance import Corpus, Split
from cspbench.store import TrialFolder, write_atomic
from cspbench.training.evaluate import Recognised

CLIPS = 4
"""Utterances of a trial that are kept as audio."""

LONGEST = 15
"""Seconds of a clip; the rest of an utterance is cut off."""

SAMPLE_RATE = 16000
"""Hz of clips: enough for speech, and a rate that MP3 knows."""


def save_clips(folder: TrialFolder, recognised: Sequence[Recognised], corpus: Corpus, split: Split) -> None:
    """Write the utterances with the most word edits as MP3, about 4 kB a second; of equals, the first ones.

    Args:
        folder: of the trial.
        recognised: all utterances of the split, decoded, in corpus order.
        corpus: holds their audio.
        split: test.
    """
    wrong = [index for index, one in enumerate(recognised) if one.edits]
    utterances = corpus.split(split)
    for index in sorted(wrong, key=lambda index: -recognised[index].edits)[:CLIPS]:
        samples = read_utterance(utterances[index], corpus.sample_rate)[: LONGEST * corpus.sample_rate]
        audio = io.BytesIO()
        soundfile.write(audio, soxr.resample(samples, corpus.sample_rate, SAMPLE_RATE), SAMPLE_RATE, format="MP3")
        write_atomic(folder.clip(index), audio.getvalue())
