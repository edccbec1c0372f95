"""The whole recogniser, from samples to labels: packed, dense and native, and dense in torch."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import numpy as np
import torch

from cspbench.asr.model import Transducer, resolve_shape
from cspbench.asr.speech_model import prunable_weights
from cspbench.asr.tokenizer import train_tokenizer
from cspbench.asr.trained import TrainedModel
from cspbench.corpora import load_corpus
from cspbench.runtime import extension
from cspbench.runtime.latency.audio import Audio, from_utterances, noise
from cspbench.runtime.latency.engine import Engine
from cspbench.runtime.latency.engines import make_engine
from cspbench.runtime.latency.run import open_recogniser
from cspbench.runtime.latency.stream import Streamed, stream
from cspbench.runtime.packing import PackedModel
from cspbench.spec import CorpusSpec, FeatureSpec, ModelSpec, TokenizerSpec

OURS = {"packed": "ours", "int8": "ours_int8", "dense": "native_dense"}
NAMES = {"torch": "torch_dense"} | OURS
"""Engines of the latency protocol, and what they are called here."""

RANDOM_ZEROS = 0.9
NOISE = 8
"""Recordings of noise, where there is no speech."""


@dataclass(frozen=True)
class Decoding:
    """A recogniser and the audio that it decodes.

    Attributes:
        recogniser: with zeros among its weights.
        audio: at its rate.
        words: origin of the recogniser, in words.
        packed: the packed file that it came from, if any.
    """

    recogniser: TrainedModel
    audio: Audio
    words: str
    packed: PackedModel | None = None

    @property
    def zeros(self) -> float:
        """Fraction of zeros among the weights of all matrices."""
        weights = prunable_weights(self.recogniser.model).values()
        return 1 - sum(int(w.count_nonzero()) for w in weights) / sum(w.numel() for w in weights)

    def __str__(self) -> str:
        return f"{self.words}, decodes {self.audio.origin} ({len(self.audio.utterances)} recordings)"


def make_decoding(model: Path | None, path: Path | None, corpus: str = "an4") -> Decoding:
    """A recogniser and the test audio of a corpus; random weights and noise in the place of what is not given.

    Args:
        model: packed file, or folder of a model.
        path: where the audio of the corpus lies.
        corpus: its name.

    Raises:
        CspbenchError: one of them cannot be read.
    """
    recogniser, packed = open_recogniser(model) if model else (random_recogniser(), None)
    words = "trained and pruned" if model else f"preset small, random weights, {RANDOM_ZEROS:.0%} random zeros"
    if path is None:
        return Decoding(recogniser, noise(recogniser.sample_rate, NOISE), words, packed)
    with tempfile.TemporaryDirectory() as cache:
        speech = load_corpus(CorpusSpec(name=corpus, path=str(path)), Path(cache)).split("test")
    audio = from_utterances(speech, recogniser.sample_rate, len(speech), f"{corpus}, all of its test split")
    return Decoding(recogniser, audio, words, packed)


def random_recogniser(preset: str = "small", seed: int = 0) -> TrainedModel:
    """Random weights with random zeros: its labels mean nothing, its work is that of a trained recogniser."""
    tokenizer = train_tokenizer(TokenizerSpec(), [ascii_lowercase])
    features, spec = FeatureSpec(), ModelSpec.model_validate({"preset": preset})
    before = torch.get_rng_state()
    torch.manual_seed(seed)
    model = Transducer(resolve_shape(spec, features, tokenizer.size), features.mels).eval()
    for weight in prunable_weights(model).values():
        weight.data.mul_((torch.rand_like(weight) >= RANDOM_ZEROS) / (1 - RANDOM_ZEROS) ** 0.5)
    torch.set_rng_state(before)
    return TrainedModel(model, tokenizer, features, 16_000)


@dataclass
class Runner:
    """An engine, the labels of its first round, and the seconds of each round over all the audio."""

    name: str
    engine: Engine
    labels: list[list[int]]
    rounds: list[float]
    steps: list[float]


def measure(
    task: Decoding, rounds: int, progress: Callable[[str], None]
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Rows and ratios; the engines are interleaved by utterances, in chunks of one model step."""
    engines = [x for x in NAMES if x == "torch" or extension.available()]
    runners = [Runner(NAMES[x], make_engine(x, task.recogniser, packed=task.packed), [], [], []) for x in engines]
    pace = task.recogniser.pace
    for round_ in range(rounds + 1):
        progress(f"recogniser: round {round_} of {rounds}")
        seconds = {runner.name: 0.0 for runner in runners}
        for index, samples in enumerate(task.audio.utterances):
            start = (round_ + index) % len(runners)
            for runner in [*runners[start:], *runners[:start]]:
                done = stream(runner.engine, samples, pace)
                seconds[runner.name] += done.work
                _keep(runner, done, first=round_ == 0)
        if round_:  # the first one warms up
            for runner in runners:
                runner.rounds.append(seconds[runner.name])
    seconds_of_audio = sum(map(len, task.audio.utterances)) / task.recogniser.sample_rate
    return [_row(runner, runners[0], task, seconds_of_audio) for runner in runners], _ratios(runners, task.zeros)


def _keep(runner: Runner, done: Streamed, first: bool) -> None:
    if first:
        runner.labels.append(done.emitted)
    else:
        runner.steps += done.steps.tolist()


def _row(runner: Runner, torch_runner: Runner, task: Decoding, seconds_of_audio: float) -> dict[str, Any]:
    differ = sum(a != b for a, b in zip(runner.labels, torch_runner.labels, strict=True))
    return {
        "engine": f"recogniser {runner.name}",
        "model": "recogniser",
        "zeros": round(task.zeros, 4),
        "mask": str(task),
        "state": "hot",
        "median_us": 1e6 * float(np.median(runner.steps)),
        "p95_us": 1e6 * float(np.quantile(runner.steps, 0.95)),
        "bytes": runner.engine.weight_bytes,
        "rtf": statistics.median(runner.rounds) / seconds_of_audio,
        "labels": sum(map(len, runner.labels)),
        "utterances_unlike_torch": differ,
        "protocol": runner.engine.description,
    }


def _ratios(runners: Sequence[Runner], zeros: float) -> dict[str, float]:
    rounds = {runner.name: runner.rounds for runner in runners}
    found = {}
    for ours in ("ours", "ours_int8"):
        for dense in ("torch_dense", "native_dense"):
            if ours in rounds and dense in rounds:
                pairs = zip(rounds[dense], rounds[ours], strict=True)
                found[f"recogniser:{dense}/{ours}@{zeros:.2f}"] = statistics.median(a / b for a, b in pairs)
    return found
