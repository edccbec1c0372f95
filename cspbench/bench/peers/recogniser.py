"""The whole recogniser, from samples to labels: packed, dense and native, and dense in torch."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cspbench.asr.model import Transducer, prunable_weights, resolve_shape
from cspbench.asr.tokenizer import train_tokenizer
from cspbench.corpora import load_corpus
from cspbench.corpora.features import read_audio
from cspbench.errors import ConfigError
from cspbench.runtime import native
from cspbench.runtime.latency.engine import Engine
from cspbench.runtime.latency.engines import Recogniser, make_engine
from cspbench.runtime.latency.stream import Streamed, stream
from cspbench.runtime.packing import open_model
from cspbench.spec import CorpusSpec, FeatureSpec, ModelSpec, TokenizerSpec

OURS = {"packed": "ours", "int8": "ours_int8", "dense": "native_dense"}
NAMES = {"torch": "torch_dense"} | OURS
"""Engines of the latency protocol, and what they are called here."""

RANDOM_ZEROS = 0.9


@dataclass(frozen=True)
class Task:
    """A recogniser and what it hears.

    Attributes:
        recogniser: pruned.
        zeros: share of zeros among its weights.
        audio: utterances, each (n,) in [-1, 1].
        words: what both are.
    """

    recogniser: Recogniser
    zeros: float
    audio: list[NDArray[np.float32]]
    words: str


def trained(folder: Path, path: Path, corpus: str = "an4", most: int | None = None) -> Task:
    """A pruned model and the test audio of a corpus.

    Raises:
        ConfigError: model and corpus have different sample rates.
    """
    packed = open_model(folder, format="dense")
    header = packed.header
    with tempfile.TemporaryDirectory() as cache:
        speech = load_corpus(CorpusSpec(name=corpus, path=str(path)), Path(cache))
    if speech.sample_rate != header.sample_rate:
        raise ConfigError(f"{folder} takes {header.sample_rate} Hz, the corpus has {speech.sample_rate} Hz")
    utterances = speech.split("test")[:most]
    audio = [read_audio(u.audio, u.origin)[0] for u in utterances]
    recogniser = Recogniser(packed.transducer(), packed.tokenizer, header.features, header.sample_rate)
    return Task(recogniser, packed.sparsity, audio, f"trained, pruned; {corpus} test, {len(audio)} utterances")


def random(preset: str = "small", utterances: int = 4, seconds: float = 2.0) -> Task:
    """Random weights with random zeros, and noise."""
    tokenizer = train_tokenizer(TokenizerSpec(), ["abcdefghijklmnopqrstuvwxyz "])
    features = FeatureSpec()
    torch.manual_seed(0)
    model = Transducer(
        resolve_shape(ModelSpec.model_validate({"preset": preset}), features, tokenizer.size), features.mels
    ).eval()
    for weight in prunable_weights(model).values():
        weight.data.mul_((torch.rand_like(weight) >= RANDOM_ZEROS) / (1 - RANDOM_ZEROS) ** 0.5)
    rate = 16_000
    audio = 0.1 * np.random.default_rng(0).standard_normal((utterances, round(seconds * rate)), dtype=np.float32)
    words = f"random weights of the preset {preset}, random zeros; {utterances} times noise: no speech was recognised"
    return Task(Recogniser(model, tokenizer, features, rate), RANDOM_ZEROS, list(audio), words)


@dataclass
class Runner:
    """An engine, what it heard first, and the seconds of each round over all the audio."""

    name: str
    engine: Engine
    labels: list[list[int]]
    rounds: list[float]
    steps: list[float]


def measure(task: Task, rounds: int, say: Callable[[str], None]) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Rows and ratios; utterance by utterance the engines take turns, pieces of one model step each."""
    engines = [x for x in NAMES if x == "torch" or native.available()]
    runners = [Runner(NAMES[x], make_engine(x, task.recogniser), [], [], []) for x in engines]
    pace = task.recogniser.pace
    for turn in range(rounds + 1):
        say(f"recogniser: round {turn} of {rounds}")
        seconds = {runner.name: 0.0 for runner in runners}
        for index, samples in enumerate(task.audio):
            start = (turn + index) % len(runners)
            for runner in [*runners[start:], *runners[:start]]:
                done = stream(runner.engine, samples, pace)
                seconds[runner.name] += done.work
                _keep(runner, done, first=turn == 0)
        if turn:  # the first one warms up
            for runner in runners:
                runner.rounds.append(seconds[runner.name])
    heard = sum(map(len, task.audio)) / task.recogniser.sample_rate
    return [_row(runner, runners[0], task, heard) for runner in runners], _ratios(runners, task.zeros)


def _keep(runner: Runner, done: Streamed, first: bool) -> None:
    if first:
        runner.labels.append(done.emitted)
    else:
        runner.steps += done.steps.tolist()


def _row(runner: Runner, torch_runner: Runner, task: Task, heard: float) -> dict[str, Any]:
    differ = sum(a != b for a, b in zip(runner.labels, torch_runner.labels, strict=True))
    return {
        "engine": f"recogniser {runner.name}",
        "model": "recogniser",
        "zeros": round(task.zeros, 4),
        "mask": task.words,
        "state": "hot",
        "median_us": 1e6 * float(np.median(runner.steps)),
        "p95_us": 1e6 * float(np.quantile(runner.steps, 0.95)),
        "bytes": runner.engine.weight_bytes,
        "rtf": statistics.median(runner.rounds) / heard,
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
