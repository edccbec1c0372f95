"""Costs of one sweep of SIMULATED trials to its process, by part; and those of TPE alone."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterable
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import soundfile

from cspbench.bench.simulated_trials import simulated_wer
from cspbench.config import SamplerSpec, SweepConfig
from cspbench.errors import CspbenchError
from cspbench.store import Store

if TYPE_CHECKING:
    from cspbench.sweep.servers import Servers
    from cspbench.trials.executors import Executor

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
    "report": ("cspbench.sweep.runner", "", "close_study"),
}
"""Parts of a sweep that are not counted as costs of a trial."""

SIMULATION = {
    "write": ("cspbench.bench.simulated_trials", "SimulatedTrials", "wait"),
    "work": ("cspbench.bench.timed_trials", "TimedTrials", "run_trial"),
}
"""Parts that are no costs of the sweep at all."""

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


def drive(
    config: SweepConfig,
    store: Store,
    executor: Executor | None = None,
    servers: Servers | None = None,
    mlflow: bool = True,
    report: bool = True,
) -> tuple[dict[str, float], list[str]]:
    """Run a sweep of simulated trials and measure what it costs this process.

    Args:
        config: from `sweep_of`.
        store: an empty one.
        executor: as for `run_sweep`.
        servers: as for `run_sweep`; by default none.
        mlflow: log to MLflow.
        report: write the report at the end, and close the run in MLflow.

    Returns:
        Milliseconds a trial, in all and by part, seconds of the report and in all, and megabytes at most; and the ids
        of the trials.

    Raises:
        CspbenchError: a trial failed.
    """
    from rich.console import Console

    from cspbench.runtime.latency.memory import resident
    from cspbench.sweep import runner, sync
    from cspbench.sweep.servers import LOCAL
    from cspbench.trials.progress import Lines

    parts, others, simulation = (_clocks(places) for places in (TRIAL_PARTS, OTHER_PARTS, SIMULATION))
    if not mlflow:
        for name in ("begin", "log", "finish"):
            setattr(sync.Logbook, name, lambda *_, **__: None)
    if not report:
        vars(runner).update(close_study=lambda *_, **__: None)
    began = time.process_time()
    summary = runner.run_sweep(config, store, Lines(Console(quiet=True)), executor, servers or LOCAL)
    seconds = time.process_time() - began - _sum(simulation.values())
    if summary.failures:
        raise CspbenchError(f"simulated trials failed: {summary.failures[0]}")
    count = len(summary.ended)
    assert count == config.trials, "the space holds more settings than trials"
    costs = {"trial_ms": 1000 * (seconds - _sum(others.values())) / count}
    costs |= {f"{name}_ms": 1000 * clock.seconds / count for name, clock in parts.items()}
    costs |= {"wall_ms": 1000 * summary.parent_seconds / count}
    if report:
        costs |= {"report_s": others["report"].seconds}
    return costs | {"driver_s": seconds, "driver_mb": (resident()[1] or 0) / 1e6}, list(summary.ended)


def sweep_of(folder: Path, **changes: Any) -> SweepConfig:
    """Return a sweep over `SPACE` with a name of its own.

    Args:
        folder: receives a corpus of noise.
        changes: fields of the sweep file.
    """
    fixed = {"name": f"overhead-{uuid4().hex[:8]}", "corpus": _corpus(folder), "control": False, "sampler": "random"}
    return SweepConfig.model_validate({**fixed, **SPACE, **changes})


def tpe_milliseconds(known: int, objectives: int) -> float:
    """Return the processor time of a proposal by TPE alone: its study lies in memory.

    Args:
        known: SIMULATED trials that have finished before.
        objectives: dev WER, and as a second one the fraction of weights left.
    """
    import optuna

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


def _clocks(places: dict[str, tuple[str, str, str]]) -> dict[str, _Clock]:
    return {name: _Clock(*place) for name, place in places.items()}


def _sum(clocks: Iterable[_Clock]) -> float:
    return sum(clock.seconds for clock in clocks)


class _Clock:
    """Adds up the processor seconds that a function takes in this process, from now on."""

    def __init__(self, module: str, owner: str, name: str) -> None:
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
