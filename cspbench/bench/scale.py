"""Costs of a sweep beside its trials, by their number: the real code of a sweep drives SIMULATED trials.

Each size runs in a process of its own, so that its memory is its own.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import wraps
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from cspbench.bench import Benchmark, machine
from cspbench.bench.simulated_trials import SimulatedTrials, simulated_wer
from cspbench.errors import CspbenchError

TRIAL_PARTS = {
    "ask": ("cspbench.sweep.study", "Study", "ask"),
    "tell": ("cspbench.sweep.study", "Study", "tell"),
    "mlflow": ("cspbench.sweep.sync", "Logbook", "log"),
}
"""Parts of what a trial costs, each with the function that spends it: module, class and name."""

OTHER_PARTS = {
    "resolve": ("cspbench.sweep.runner", "", "resolve"),
    "open": ("cspbench.sweep.runner", "", "open_study"),
    "begin": ("cspbench.sweep.sync", "Logbook", "begin"),
    "simulate": ("cspbench.bench.simulated_trials", "SimulatedTrials", "wait"),
    "report": ("cspbench.sweep.runner", "", "close_study"),
}
"""Parts of a sweep that are not counted as costs of a trial."""

SPACE: dict[str, Any] = {
    "sparsity": {"low": 0.4, "high": 0.98},
    "methods": [
        {
            "name": "csp",
            "params": {
                "damping": {"low": 0.005, "high": 0.06, "log": True},
                "interval": {"low": 5, "high": 40, "log": True},
                "recovery": ["htp", "ista"],
            },
        },
        {"name": "magnitude", "params": {"end": {"low": 0.4, "high": 0.8}}},
    ],
}
"""A space with enough settings for any number of trials."""


PROPOSALS = 10
"""Proposals over which TPE is timed."""


def run(
    *,
    trials: Sequence[int] = (100, 1000),
    sampler: str = "random",
    mlflow: bool = True,
    workers: int = 4,
    say: Callable[[str], None] = print,
) -> Benchmark:
    """Measure what a sweep of SIMULATED trials costs its process.

    Args:
        trials: sizes, in increasing order.
        sampler: as in a sweep file.
        mlflow: log to MLflow as well.
        workers: trials under way at a time.
        say: receives plain lines.

    Returns:
        A row a size: milliseconds a trial, in all and by part, seconds of the report, and megabytes at most; and the
        milliseconds of a proposal by TPE alone where it knows so many trials, whatever the sampler is. As ratios,
        costs a trial at the largest size over those at the smallest: 1 is linear; and ``workers``, those that one
        process keeps busy at the largest size if its trials take as long as is simulated.

    Raises:
        CspbenchError: a sweep failed.
    """
    rows = []
    for count in trials:
        say(f"{count} SIMULATED trials, sampler {sampler}{'' if mlflow else ', no MLflow'}")
        rows.append(_in_own_process(count, sampler, mlflow, workers))
    first, last = rows[0], rows[-1]
    parts = [name for name in last if name.endswith("_ms") and first[name] > 0 and name != "wall_ms"]
    ratios = {f"growth_{name.removesuffix('_ms')}": last[name] / first[name] for name in parts}
    ratios["workers"] = 1000 * last["simulated_s"] / last["trials"] / last["trial_ms"]
    return Benchmark(rows, ratios, _protocol(workers))


def _protocol(workers: int) -> dict[str, Any]:
    return {
        "trials": "SIMULATED: folders and results are invented, all else is the code of a sweep",
        "trial_ms": "processor time of the sweep's process a trial, without its start and report; the next are parts",
        "wall_ms": "the same by the wall clock, which other work on the machine and slow disks prolong",
        "tpe_ms": "processor time of a proposal by TPE where it knows so many trials, with its study in memory; "
        "tpe_two_ms: the same with two objectives. Parts of no other number",
        "report_s": "processor time of tables, figures, page, and the end of the run in MLflow",
        "simulated_s": "seconds that all trials would have taken one after the other",
        "workers": workers,
        **machine(),
    }


def _in_own_process(count: int, sampler: str, mlflow: bool, workers: int) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with tempfile.TemporaryDirectory(prefix="cspbench-scale-") as folder:
        arguments = (theirs, Path(folder), count, sampler, mlflow, workers)
        process = context.Process(target=_measure, args=arguments)
        process.start()
        theirs.close()
        try:
            return json.loads(ours.recv_bytes())
        except EOFError:
            raise CspbenchError(f"the sweep of {count} simulated trials failed; see above") from None
        finally:
            process.join()


def _measure(connection: Connection, folder: Path, count: int, sampler: str, mlflow: bool, workers: int) -> None:
    """Run a sweep of simulated trials and send what it cost; main function of a process of its own."""
    from rich.console import Console

    from cspbench.config import SweepConfig
    from cspbench.runtime.latency.memory import resident
    from cspbench.store import Store
    from cspbench.sweep import sync
    from cspbench.sweep.runner import run_sweep
    from cspbench.trials.progress import Lines

    parts = {name: _Clock(*place) for name, place in TRIAL_PARTS.items()}
    others = {name: _Clock(*place) for name, place in OTHER_PARTS.items()}
    if not mlflow:
        for name in ("begin", "log", "finish"):
            setattr(sync.Logbook, name, lambda *args, **options: None)
    config = SweepConfig.model_validate(
        {"name": "scale", "corpus": _corpus(folder), "control": False, "trials": count, "sampler": sampler, **SPACE}
    )
    store = Store(folder / "runs")
    executor = SimulatedTrials(store, workers)
    began = time.process_time()
    summary = run_sweep(config, store, Lines(Console(quiet=True)), executor)
    seconds = time.process_time() - began - sum(clock.seconds for clock in others.values())
    assert len(summary.ended) == count, "the space holds more settings than trials"
    row = {"trials": count, "sampler": sampler, "trial_ms": 1000 * seconds / count}
    row |= {f"{name}_ms": 1000 * clock.seconds / count for name, clock in parts.items()}
    row |= {"wall_ms": 1000 * summary.parent_seconds / count, "report_s": others["report"].seconds}
    row |= {"peak_mb": (resident()[1] or 0) / 1e6, "simulated_s": executor.seconds}
    row |= {"tpe_ms": tpe_milliseconds(count, 1), "tpe_two_ms": tpe_milliseconds(count, 2)}
    connection.send_bytes(json.dumps(row).encode())


def tpe_milliseconds(known: int, objectives: int) -> float:
    """Return the processor time of a proposal by TPE alone: its study lies in memory.

    Args:
        known: SIMULATED trials that have finished before.
        objectives: dev WER, and as a second one the fraction of weights left.
    """
    import optuna

    from cspbench.config import SamplerSpec, SweepConfig
    from cspbench.sweep.samplers import make_sampler
    from cspbench.sweep.space import space_of

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = space_of(SweepConfig.model_validate({"name": "tpe", "trials": 1, "sampler": "tpe", **SPACE}))
    chance = random.Random(0)  # noqa: S311 - no secret
    study = optuna.create_study(
        directions=["minimize"] * objectives, sampler=make_sampler(SamplerSpec(name="random"), 0)
    )
    for _ in range(known):
        trial = study.ask()
        sparsity = space.suggest(trial).sparsity
        study.tell(trial, [simulated_wer(sparsity, chance), 1 - sparsity][:objectives])
    study.sampler = make_sampler(SamplerSpec(name="tpe"), known)
    began = time.process_time()
    for _ in range(PROPOSALS):
        space.suggest(study.ask())
    return 1000 * (time.process_time() - began) / PROPOSALS


class _Clock:
    """Adds up the processor seconds that a function takes in this process, from now on."""

    def __init__(self, module: str, owner: str, name: str) -> None:
        from importlib import import_module

        place = import_module(module)
        place = getattr(place, owner) if owner else place
        function, self.seconds = getattr(place, name), 0.0

        @wraps(function)
        def timed(*args: Any, **options: Any) -> Any:
            began = time.process_time()
            try:
                return function(*args, **options)
            finally:
                self.seconds += time.process_time() - began

        setattr(place, name, timed)


def _corpus(folder: Path) -> dict[str, Any]:
    """Write a corpus of noise for the sweep to check: an utterance a split."""
    noise = np.random.default_rng(0)
    for split in ("train", "dev", "test"):
        soundfile.write(folder / f"{split}.wav", noise.normal(size=8000) * 0.01, 16_000)
        row = {"audio_filepath": f"{split}.wav", "duration": 0.5, "text": "one two", "speaker": split}
        (folder / f"{split}.jsonl").write_text(json.dumps(row) + "\n")
    return {"name": "manifest", "path": str(folder), "options": {s: f"{s}.jsonl" for s in ("train", "dev", "test")}}
