"""Inputs as users have them, given to the real commands: each must be taken rightly or refused in words.

An input is wrong if a command succeeds on what it should refuse, refuses what it should take, says something else than
what is wrong, or prints another result. A traceback counts apart.
"""

from __future__ import annotations

import re
import tempfile
import traceback
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random

import numpy as np

from cspbench.asr.trained import TrainedModel
from cspbench.bench import Benchmark, machine
from cspbench.bench.input_recognisers import RATE, counting_recogniser, random_recogniser
from cspbench.errors import ConfigError, did_you_mean
from cspbench.runtime.packing import pack_model
from cspbench.training.checkpoint import save_model

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


@dataclass(frozen=True)
class Call:
    """A call of the library whose right outcome is known, where no command shows it.

    Attributes:
        name: of the input, for reports.
        check: makes the call and says what is wrong with its outcome, or returns None.
    """

    name: str
    check: Callable[[], str | None]


class Workshop:
    """A folder in which inputs are made: recognisers and speech-like noise.

    Args:
        folder: empty.
        seed: of all that is drawn.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.random = Random(seed)  # noqa: S311
        self._made = 0

    @cached_property
    def model(self) -> Path:
        """A packed recogniser with random weights."""
        return self._packed("random", random_recogniser())

    @cached_property
    def counter(self) -> Path:
        """A packed recogniser whose text is known: see `counting_recogniser`."""
        return self._packed("counter", counting_recogniser())

    @cached_property
    def trained(self) -> Path:
        """The folder of a recogniser with random weights, as a trial leaves it."""
        folder = self.folder / "trained"
        save_model(folder, random_recogniser())
        return folder

    def _packed(self, name: str, recogniser: TrainedModel) -> Path:
        file = self.folder / f"{name}.packed.safetensors"
        pack_model(recogniser, format="smallest").save(file)
        return file

    def noise(self, seconds: float, channels: int = 1) -> np.ndarray:
        """Noise in bursts of a syllable's length, (N, channels), other each time."""
        time = np.arange(round(seconds * RATE)) / RATE
        bursts = 0.1 * np.maximum(0.05, np.sin(2 * np.pi * 4 * time))
        noise = np.random.default_rng(self.random.getrandbits(32)).standard_normal((len(time), channels))
        return (noise * bursts[:, None]).clip(-1, 1).astype(np.float32)

    def bursts(self, count: int, level: float = 0.1) -> np.ndarray:
        """Loud noise so many times, with faint noise around it, (N, 1)."""
        faint, loud = (np.full(round(seconds * RATE), size) for seconds, size in ((0.15, 1e-4), (0.12, level)))
        size = np.concatenate([faint, *[loud, faint] * count])[:, None]
        noise = np.random.default_rng(self.random.getrandbits(32)).standard_normal(size.shape)
        return (noise * size).clip(-1, 1).astype(np.float32)

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


Kind = Callable[[Workshop], Iterator[Input | Call]]
"""Makes the inputs of a kind, one after the other."""


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
    invoke: Invoke,
    *,
    kinds: Collection[str] | None = None,
    seed: int = 0,
    rounds: int = ROUNDS,
    say: Callable[[str], None] = lambda _: None,
) -> Benchmark:
    """Try inputs of all kinds, or of some.

    Args:
        invoke: runs ``cspbench`` with some words and standard input in this process.
        kinds: names of `KINDS`, or their first words such as ``K4``; None for all.
        seed: of what inputs hold; another seed gives other inputs of the same kinds.
        rounds: passes over all kinds, each with inputs of its own.
        say: called with one plain line for each kind.

    Raises:
        ConfigError: an unknown kind.
    """
    from cspbench.bench.input_kinds import KINDS

    known = {*KINDS, *(kind.split()[0] for kind in KINDS)}
    for kind in kinds or ():
        if kind not in known:
            raise ConfigError(f"no inputs are of the kind '{kind}'{did_you_mean(kind, known)}")
    chosen = {name: make for name, make in KINDS.items() if kinds is None or {name, name.split()[0]} & {*kinds}}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        workshop = Workshop(Path(folder), seed)
        for kind, make in chosen.items():
            found = [_tried(one, invoke) for _ in range(rounds) for one in make(workshop)]
            rows.append(_row(kind, make, found))
            say(f"{kind}: {len(found)} inputs, {rows[-1]['wrong']} wrong, {rows[-1]['traceback']} tracebacks")
    ratios = {name: float(sum(int(str(row[name])) for row in rows)) for name in ("inputs", "wrong", "traceback")}
    meaning = "inputs tried; wrong: taken or refused wrongly; traceback: ended in one"
    return Benchmark(rows, ratios, machine() | {"seed": seed, "rounds": rounds, "ratios": meaning})


def _tried(one: Input | Call, invoke: Invoke) -> tuple[Input | Call, str | None, str | None]:
    """An input with what was wrong and the traceback, if any."""
    if isinstance(one, Call):
        try:
            return one, one.check(), None
        except Exception:
            return one, None, traceback.format_exc()
    outcome = invoke(one.command, one.stdin)
    return one, None if outcome.traceback else one.judge(outcome), outcome.traceback


def _row(kind: str, make: Kind, found: list[tuple[Input | Call, str | None, str | None]]) -> dict[str, object]:
    failures = [f"{one.name}: {wrong or trace}" for one, wrong, trace in found if wrong or trace]
    return {
        "kind": kind,
        "what": (make.__doc__ or "").strip().split("\n")[0],
        "inputs": len(found),
        "wrong": sum(wrong is not None for _, wrong, _ in found),
        "traceback": sum(trace is not None for _, _, trace in found),
        "examples": failures[:EXAMPLES],
    }
