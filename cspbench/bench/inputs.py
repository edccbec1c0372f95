"""Inputs as users have them, given to the real commands: each must be taken rightly or refused in words.

An input is wrong if a command succeeds on what it should refuse, refuses what it should take, says something else than
what is wrong, or prints another result. A traceback counts apart.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch

from cspbench.asr.model import Shape, Transducer
from cspbench.asr.tokenizer import CharacterTokenizer
from cspbench.asr.trained import TrainedModel
from cspbench.bench import Benchmark, machine
from cspbench.runtime.packing import pack_model
from cspbench.spec import FeatureSpec

RATE = 16_000
ROUNDS = 1
EXAMPLES = 3


@dataclass(frozen=True)
class Outcome:
    """End of a command: exit code, standard output, the message of its error, and a traceback if it had one."""

    code: int
    out: str
    error: str
    traceback: str | None = None


Invoke = Callable[[list[str], bytes | None], Outcome]
Judge = Callable[[Outcome], str | None]
"""Says what is wrong with an outcome, or None."""


@dataclass(frozen=True)
class Input:
    """An input for a command.

    Attributes:
        name: of the input, for reports.
        command: words after ``cspbench``.
        judge: of the outcome.
        stdin: bytes on standard input.
    """

    name: str
    command: list[str]
    judge: Judge
    stdin: bytes | None = None


class Workshop:
    """A folder in which inputs are made: a packed recogniser with random weights, and speech-like noise.

    Args:
        folder: empty.
        seed: of all that is drawn.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.random = Random(seed)  # noqa: S311
        self.model = folder / "model.packed.safetensors"
        self._made = 0
        pack_model(_recogniser()).save(self.model)

    def noise(self, seconds: float, channels: int = 1) -> np.ndarray:
        """Noise in bursts of a syllable's length, (N, channels), other each time."""
        time = np.arange(round(seconds * RATE)) / RATE
        bursts = 0.1 * np.maximum(0.05, np.sin(2 * np.pi * 4 * time))
        noise = np.random.default_rng(self.random.getrandbits(32)).standard_normal((len(time), channels))
        return (noise * bursts[:, None]).clip(-1, 1).astype(np.float32)

    def place(self) -> Path:
        """A new folder."""
        self._made += 1
        folder = self.folder / f"{self._made:04d}"
        folder.mkdir()
        return folder

    def file(self, name: str, content: bytes) -> Path:
        """A new file, in a folder of its own."""
        file = self.place() / name
        file.write_bytes(content)
        return file


def _recogniser() -> TrainedModel:
    """A recogniser with random weights that are large enough to emit something."""
    tokenizer = CharacterTokenizer(" abcdefg")
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = Transducer(Shape(60, tokenizer.size, 2, 32, 1, 16, 24), mels=20).eval()
        for parameter in model.parameters():
            parameter.mul_(4.0)
        model.joint_output.bias.zero_()
        model.feature_mean.fill_(10.0)
        model.feature_scale.fill_(0.3)
    return TrainedModel(model, tokenizer, FeatureSpec(mels=20), RATE)


def accepted(pattern: str = "") -> Judge:
    """The command succeeds, and its output matches a pattern."""

    def judge(found: Outcome) -> str | None:
        if found.code:
            return f"refused: {found.error or found.out}"
        return None if re.search(pattern, found.out) else f"printed {found.out!r}, not {pattern!r}"

    return judge


def refused(*patterns: str) -> Judge:
    """The command fails with exit code 1 or 2 and tells all of the patterns, in its message or its output."""

    def judge(found: Outcome) -> str | None:
        if found.code not in (1, 2):
            return f"exit code {found.code}, not a refusal: {found.out!r}"
        told = f"{found.error}\n{found.out}"
        missing = [pattern for pattern in patterns if not re.search(pattern, told)]
        return f"{told.strip()!r} lacks {missing}" if missing else None

    return judge


def run(
    invoke: Invoke, *, seed: int = 0, rounds: int = ROUNDS, say: Callable[[str], None] = lambda _: None
) -> Benchmark:
    """Try all inputs.

    Args:
        invoke: runs ``cspbench`` with some words and standard input in this process.
        seed: of what inputs hold; another seed gives other inputs of the same kinds.
        rounds: passes over all kinds, each with inputs of its own.
        say: called with one plain line for each kind.
    """
    from cspbench.bench.input_kinds import KINDS

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        workshop = Workshop(Path(folder), seed)
        for kind, make in KINDS.items():
            found = [_tried(one, invoke) for _ in range(rounds) for one in make(workshop)]
            rows.append(_row(kind, make, found))
            say(f"{kind}: {len(found)} inputs, {rows[-1]['wrong']} wrong, {rows[-1]['traceback']} tracebacks")
    ratios = {name: float(sum(int(str(row[name])) for row in rows)) for name in ("inputs", "wrong", "traceback")}
    meaning = "inputs tried; wrong: taken or refused wrongly; traceback: ended in one"
    return Benchmark(rows, ratios, machine() | {"seed": seed, "rounds": rounds, "ratios": meaning})


def _tried(one: Input, invoke: Invoke) -> tuple[Input, str | None, str | None]:
    """An input with what was wrong and the traceback, if any."""
    outcome = invoke(one.command, one.stdin)
    return one, None if outcome.traceback else one.judge(outcome), outcome.traceback


def _row(
    kind: str, make: Callable[[Workshop], Iterator[Input]], found: list[tuple[Input, str | None, str | None]]
) -> dict[str, object]:
    failures = [f"{one.name}: {wrong or trace}" for one, wrong, trace in found if wrong or trace]
    return {
        "kind": kind,
        "what": (make.__doc__ or "").strip().split("\n")[0],
        "inputs": len(found),
        "wrong": sum(wrong is not None for _, wrong, _ in found),
        "traceback": sum(trace is not None for _, _, trace in found),
        "examples": failures[:EXAMPLES],
    }
