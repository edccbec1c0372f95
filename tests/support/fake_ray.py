"""A connection to a Ray cluster whose worker processes have no real training."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from support import fake_trial

from cspbench.result import TrialResult
from cspbench.spec import TrialSpec
from cspbench.store import Store

_run = fake_trial.run_trial


def install() -> None:
    """Replace training in this process, for good; it takes half a second."""
    fake_trial.run_trial = run_trial
    fake_trial.install()


def run_trial(spec: TrialSpec, store: Store, **options: Any) -> TrialResult:
    fake_trial.train_dense(spec.dense, store)
    if not store.trial(spec.id).finished:
        time.sleep(0.5)
    return _run(spec, store, **options)


def connect(address: str) -> None:
    """Connect this process to a cluster."""
    import ray

    tests = str(Path(__file__).parents[1])
    environment = {
        "env_vars": {"PYTHONPATH": tests, "OMP_NUM_THREADS": "1"},
        "worker_process_setup_hook": "support.fake_ray.install",
    }
    ray.init(address=address, runtime_env=environment, log_to_driver=False, configure_logging=False)
