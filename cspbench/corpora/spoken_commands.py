"""The embedded corpus: synthetic smart-home commands, made on the user's machine in about a minute.

It lets the whole pipeline run where no speech is at hand. Numbers measured on it say how methods compare on an easy
task of synthetic speech; they say nothing of real speech, and everything that shows them says "synthetic".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import soxr
from pydantic import Field, model_validator

from cspbench.corpora.base import Corpus, CorpusLoader, Notify, Split, register
from cspbench.corpora.carve import ranked
from cspbench.corpora.commands import sentences, voices
from cspbench.corpora.derived import Clip, derived
from cspbench.corpora.espeak import Request, espeak_version, synthesise
from cspbench.hyper import Hyperparameters

SAMPLE_RATE = 16000
MARGIN = 0.1  # seconds of background before and after the speech
PEAK = 0.5  # of full scale, before the gain
SENTENCE_SHARE = {"test": 0.2, "dev": 0.1}  # of the grammar's sentences; the others are train's
RECIPE = 2  # raise when the same options and requests come to give other audio


class Planned(NamedTuple):
    """One utterance before it is spoken."""

    id: str
    split: Split
    request: Request


@register("spoken_commands")
class SpokenCommands(CorpusLoader):
    """Voices and sentences of test and dev occur in no other split."""

    summary = "SYNTHETIC command words by espeak-ng, several accents and voices, 16 kHz (made on first use)"
    needs_path = False

    class Options(Hyperparameters):
        """Number of utterances in each split, and their level and noise."""

        train: int = Field(1400, ge=1, le=1_000_000, description="utterances; the default is about half an hour")
        dev: int = Field(150, ge=1, le=1_000_000, description="utterances")
        test: int = Field(300, ge=1, le=1_000_000, description="utterances")
        quietest_db: float = Field(-10.0, ge=-40, le=0, description="gain, drawn between this and 0 dB")
        min_snr_db: float = Field(20.0, ge=-10, le=80, description="white noise, at its loudest")
        max_snr_db: float = Field(40.0, ge=-10, le=80, description="white noise, at its softest")
        seed: int = Field(0, ge=0)

        @model_validator(mode="after")
        def _ordered(self) -> SpokenCommands.Options:
            if self.min_snr_db > self.max_snr_db:
                raise ValueError("min_snr_db may not exceed max_snr_db")
            return self

    def load(self, path: Path | None, options: Any, cache: Path, progress: Notify) -> Corpus:
        """Synthesise under `cache`, unless it was done before."""
        plan = _plan(options)
        identity = {
            "recipe": RECIPE,
            "espeak": espeak_version(),
            "options": options.model_dump(mode="json"),
            "requests": [asdict(planned.request) for planned in plan],
        }
        utterances = derived(cache, "spoken_commands", SAMPLE_RATE, identity, lambda: _speak(plan, options, progress))
        return Corpus("spoken_commands", SAMPLE_RATE, tuple(utterances), synthetic=True)


def _plan(options: Any) -> list[Planned]:
    plan = []
    for split, held in _divide(options.seed).items():
        rng = Random(f"{options.seed}/{split}")  # noqa: S311
        speakers = voices(split)
        for index in range(getattr(options, split)):
            if index % len(held) == 0:
                rng.shuffle(held)
            voice = speakers[index % len(speakers)]
            pitch, speed = voice.pitch + rng.randint(-4, 4), voice.speed + rng.randint(-10, 10)
            request = Request(voice.name, pitch, speed, held[index % len(held)])
            plan.append(Planned(f"{split}-{index:05d}-{voice.name}", split, request))
    return plan


def _divide(seed: int) -> dict[Split, list[str]]:
    """Sentences of each split, none in two, each word in at least two sentences of train."""
    order = ranked(sentences(), seed)
    test, dev = (round(SENTENCE_SHARE[name] * len(order)) for name in ("test", "dev"))
    left = Counter(word for sentence in order for word in set(sentence.split()))
    held: list[str] = []
    train: list[str] = []
    for sentence in order:
        words = set(sentence.split())
        if len(held) < test + dev and all(left[word] > 2 for word in words):
            left -= Counter(words)
            held.append(sentence)
        else:
            train.append(sentence)
    return {"train": train, "dev": held[test:], "test": held[:test]}


def _speak(plan: list[Planned], options: Any, progress: Notify) -> Iterator[Clip]:
    progress(f"spoken_commands: synthesising {len(plan)} utterances with espeak-ng (synthetic speech, once)")
    spoken = synthesise(planned.request for planned in plan)
    for number, (planned, (audio, rate)) in enumerate(zip(plan, spoken, strict=True)):
        samples = _room(audio, rate, options, np.random.default_rng([options.seed, number]))
        yield Clip(planned.id, samples, planned.request.voice, planned.request.text, planned.split)
        if (number + 1) % 500 == 0:
            progress(f"spoken_commands: {number + 1} of {len(plan)} utterances")


def _room(audio: np.ndarray, rate: int, options: Any, rng: np.random.Generator) -> np.ndarray:
    """Resample (time,) int16 speech and put it at some distance, into some noise: (time,) int16 at `SAMPLE_RATE`."""
    speech = soxr.resample(audio.astype(np.float32) / 32768, rate, SAMPLE_RATE)
    speech = np.pad(speech, round(MARGIN * SAMPLE_RATE))
    gain = PEAK * 10 ** (rng.uniform(options.quietest_db, 0) / 20) / np.abs(speech).max()
    power = float(np.mean(speech**2))
    snr = rng.uniform(options.min_snr_db, options.max_snr_db)
    noise = rng.normal(0, np.sqrt(power / 10 ** (snr / 10)), len(speech))
    mixed = gain * (speech + noise)
    return np.round(np.clip(mixed, -1, 1) * 32767).astype(np.int16)
