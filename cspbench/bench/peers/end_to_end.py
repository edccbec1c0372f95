"""The whole recogniser, from samples to labels: packed, dense and native, dense in torch, and on other runtimes."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import numpy as np
import torch

from cspbench.asr.recognisers.lstm_transducer import LSTMTransducer, resolve_shape
from cspbench.asr.speech_model import prunable_weights
from cspbench.asr.tokenizer import train_tokenizer
from cspbench.asr.trained import TrainedModel
from cspbench.asr.wer import count_edits
from cspbench.bench.peers.engine import AbsentError
from cspbench.bench.peers.race import ROUGH
from cspbench.bench.peers.recogniser_peers import PEERS, RecogniserPeer
from cspbench.corpora import load_corpus
from cspbench.runtime.latency.audio import Audio, from_utterances, noise
from cspbench.runtime.latency.engine import Engine
from cspbench.runtime.latency.engines import default_engines, drive_of, make_engine
from cspbench.runtime.latency.run import open_recogniser
from cspbench.runtime.packing import PackedModel
from cspbench.spec import CorpusSpec, FeatureSpec, ModelSpec, TokenizerSpec

NAMES = {"torch": "torch_dense", "packed": "ours", "int8": "ours_int8", "dense": "native_dense"}
"""Engines of the latency protocol, and what they are called here."""

RULE = (
    "from samples to labels; a peer is not timed if in fp32 any label is another than torch's, or in int8 more than "
    f"{ROUGH:.0%} of them"
)
"""How the whole recogniser is compared, in words."""

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
    model = LSTMTransducer(resolve_shape(spec, features, tokenizer.size), features.mels).eval()
    for weight in prunable_weights(model).values():
        weight.data.mul_((torch.rand_like(weight) >= RANDOM_ZEROS) / (1 - RANDOM_ZEROS) ** 0.5)
    torch.set_rng_state(before)
    return TrainedModel(model, tokenizer, features, 16_000)


@dataclass
class Runner:
    """An engine over all the audio.

    Attributes:
        name: of the row.
        precision: types of its weights, in words.
        engine: ready to stream; None if it does not take part.
        absent: the reason if it does not.
        peer: a runtime of others; one that emits other labels than torch is not timed.
        labels: of each recording, from the first round, which is not timed.
        rounds: seconds of each round.
        steps: seconds of each step of all rounds.
    """

    name: str
    precision: str
    engine: Engine | None = None
    absent: str | None = None
    peer: bool = False
    labels: list[list[int]] = field(default_factory=list)
    rounds: list[float] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)


def measure(
    task: Decoding, rounds: int, progress: Callable[[str], None], peers: Sequence[RecogniserPeer] = PEERS
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Rows and ratios; the engines are interleaved by utterances, in chunks of one model step."""
    runners = [*_ours(task), *(_peer(peer, task.recogniser) for peer in peers)]
    torch_runner = runners[0]
    for round_ in range(rounds + 1):
        progress(f"recogniser: round {round_} of {rounds}")
        _run(task, runners, round_)
        if round_ == 0:
            for runner in runners:
                _check(runner, torch_runner)
                if runner.absent:
                    progress(f"  {runner.name}: {runner.absent}")
    return [_row(runner, torch_runner, task) for runner in runners], _ratios(runners, task.zeros)


def _ours(task: Decoding) -> list[Runner]:
    """The recogniser in torch, first, and the native engines that run it."""
    values = {"torch": "fp32", "dense": "fp32", "packed": _values(task.packed), "int8": "int8"}
    return [
        Runner(NAMES[name], values[name], make_engine(name, task.recogniser, packed=task.packed))
        for name in default_engines(task.recogniser)
        if name in NAMES
    ]


def _values(packed: PackedModel | None) -> str:
    """Types of the values of a packed file; fp32 for a recogniser that is packed now."""
    return "fp32" if packed is None else ", ".join(sorted({matrix.values for matrix in packed.matrices.values()}))


def _peer(peer: RecogniserPeer, recogniser: TrainedModel) -> Runner:
    runner = Runner(peer.name, peer.precision, peer=True)
    try:
        runner.engine = peer.make(recogniser)
    except AbsentError as error:
        runner.absent = str(error)
    return runner


def _run(task: Decoding, runners: Sequence[Runner], round_: int) -> None:
    """One round; the first one warms up, and brings the labels."""
    running = [runner for runner in runners if runner.engine is not None]
    drive, pace = drive_of(task.recogniser), task.recogniser.pace
    seconds = {runner.name: 0.0 for runner in running}
    for index, samples in enumerate(task.audio.utterances):
        start = (round_ + index) % len(running)
        for runner in [*running[start:], *running[:start]]:
            assert runner.engine is not None
            done = drive(runner.engine, samples, pace)
            seconds[runner.name] += done.work
            if round_ == 0:
                runner.labels.append(done.emitted)
            else:
                runner.steps += done.steps.tolist()
    if round_:
        for runner in running:
            runner.rounds.append(seconds[runner.name])


def _check(runner: Runner, torch_runner: Runner) -> None:
    """Take a peer out whose labels are not torch's: in fp32 all must be, in int8 all but a fraction of `ROUGH`."""
    if not runner.peer or runner.engine is None:
        return
    edits, labels = _edits(runner, torch_runner), sum(map(len, torch_runner.labels))
    if edits > (0 if runner.precision == "fp32" else ROUGH * labels):
        runner.engine = None
        runner.absent = f"other labels than torch: {edits} edits of {labels} labels"


def _edits(runner: Runner, torch_runner: Runner) -> int:
    """Labels inserted, deleted or replaced, compared with torch's."""
    words = [[" ".join(map(str, labels)) for labels in one.labels] for one in (torch_runner, runner)]
    return sum(count_edits(*pair).edits for pair in zip(*words, strict=True))


def _row(runner: Runner, torch_runner: Runner, task: Decoding) -> dict[str, Any]:
    ran, seconds = bool(runner.labels), sum(map(len, task.audio.utterances)) / task.recogniser.sample_rate
    differ = [a != b for a, b in zip(runner.labels, torch_runner.labels, strict=True)] if ran else []
    engine = runner.engine
    return {
        "engine": f"recogniser {runner.name}",
        "precision": runner.precision,
        "model": "recogniser",
        "zeros": round(task.zeros, 4),
        "mask": str(task),
        "state": "hot" if engine else None,
        "median_us": 1e6 * float(np.median(runner.steps)) if runner.steps else None,
        "p95_us": 1e6 * float(np.quantile(runner.steps, 0.95)) if runner.steps else None,
        "min_us": 1e6 * min(runner.steps) if runner.steps else None,
        "bytes": engine.weight_bytes if engine else None,
        "rtf": statistics.median(runner.rounds) / seconds if runner.rounds else None,
        "labels": sum(map(len, runner.labels)) if ran else None,
        "utterances_unlike_torch": sum(differ) if ran else None,
        "label_edits": _edits(runner, torch_runner) if ran else None,
        "protocol": engine.description if engine else runner.absent,
    }


def _ratios(runners: Sequence[Runner], zeros: float) -> dict[str, float]:
    """Rounds of torch, of native dense and of each peer, over ours; peers over ours of the same precision."""
    by_name = {runner.name: runner for runner in runners}
    found = {}
    for ours in ("ours", "ours_int8"):
        if ours not in by_name:
            continue
        dense = [by_name[name] for name in ("torch_dense", "native_dense") if name in by_name]
        peers = [runner for runner in runners if runner.peer and runner.precision == by_name[ours].precision]
        for above in (*dense, *peers):
            if above.rounds:
                pairs = zip(above.rounds, by_name[ours].rounds, strict=True)
                found[f"recogniser:{above.name}/{ours}@{zeros:.2f}"] = statistics.median(a / b for a, b in pairs)
    return found
