"""Executor that runs trials as tasks of a Ray cluster. Ray is imported when it is used."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from cspbench.config import TrialResources
from cspbench.errors import ConfigError
from cspbench.machine import stop
from cspbench.spec import DenseSpec, TrialSpec
from cspbench.store import Store
from cspbench.sweep.shared import keep_records, read_records
from cspbench.training.events import Event
from cspbench.trials.executors import MAX_ATTEMPTS, TrialProgress, make_executor
from cspbench.trials.outcome import Outcome

POLL = 0.5
"""Seconds between two looks whether a stop was requested."""

NODE_SHARE = 0.001
"""Amount of a node class that a trial takes: it only has to be there."""


class RayExecutor:
    """One Ray task a trial, as many at a time as the cluster has room for, nodes that join or leave included.

    Ray itself never runs a task again (`max_retries=0`): a trial whose node or process is lost is submitted again here,
    at most `MAX_ATTEMPTS` times. On a shared disk it then resumes from its checkpoint. The records of a trial come back
    with its outcome, so that no disk needs to be shared.

    Args:
        store: keeps the trials; nodes use a folder of the same path, shared or their own.
        device: as in a sweep file.
        progress: called when a trial starts again.
        resources: of a trial.
        timeout: seconds after which a trial is ended; None for no limit.
        system_metrics: seconds between samples of a trial's node; None for none.
    """

    def __init__(
        self,
        store: Store,
        device: str,
        progress: TrialProgress,
        resources: TrialResources,
        timeout: float | None = None,
        system_metrics: float | None = None,
    ) -> None:
        try:
            import ray
        except ImportError:
            raise ConfigError("executor 'ray' needs Ray: pip install 'cspbench[ray]'") from None
        self._ray: Any = ray
        self._store, self._device, self._progress = store, device, progress
        self._resources, self._timeout, self._system_metrics = resources, timeout, system_metrics
        self._open: dict[Any, TrialSpec] = {}
        self._attempts: Counter[str] = Counter()
        self._started = self._stopping = False
        self.workers = 1

    def prepare(self, dense: Iterable[DenseSpec]) -> None:
        """Do nothing: the first trial trains the dense recogniser, the others wait for it on a shared disk."""

    @property
    def free(self) -> int:
        there = self._ray.cluster_resources()
        wanted = {"CPU": self._resources.cpus, "GPU": self._resources.gpus}
        room = min(math.floor(there.get(name, 0) / amount) for name, amount in wanted.items() if amount)
        self.workers = max(1, room)
        return self.workers - len(self._open)

    @property
    def busy(self) -> bool:
        return bool(self._open)

    def submit(self, spec: TrialSpec) -> None:
        options: dict[str, Any] = {"num_cpus": self._resources.cpus, "num_gpus": self._resources.gpus, "max_retries": 0}
        if self._resources.node is not None:
            options["resources"] = {self._resources.node: NODE_SHARE}
        task = self._ray.remote(run_task).options(name=spec.id, **options)
        threads = max(1, math.floor(self._resources.cpus))
        root = str(self._store.root)
        given = (spec.model_dump_json(), root, self._device, threads, self._timeout, self._system_metrics)
        self._open[task.remote(*given)] = spec

    def wait(self) -> Outcome:
        while self._open:
            self._pass_on_stop()
            ended, _ = self._ray.wait(list(self._open), timeout=POLL)
            for reference in ended:
                outcome = self._collect(reference, self._open.pop(reference))
                if outcome is not None:
                    return outcome
        raise KeyboardInterrupt

    def _pass_on_stop(self) -> None:
        """Interrupt the tasks, once, if this process was asked to stop: each saves a checkpoint, and ends."""
        if stop.requested() and not self._stopping:
            self._stopping = True
            for reference in self._open:
                self._ray.cancel(reference, force=False)

    def _collect(self, reference: Any, spec: TrialSpec) -> Outcome | None:
        try:
            found = json.loads(self._ray.get(reference))
        except self._ray.exceptions.RayError as error:
            return None if stop.requested() else self._again(spec, error)
        if found is None:
            return None  # it stopped at a checkpoint
        keep_records(self._store.trial(spec.id), found["records"])
        return Outcome.of_message(spec, found)

    def _again(self, spec: TrialSpec, error: Exception) -> Outcome | None:
        """Submit a trial again whose node or process was lost, unless that has happened too often."""
        cause = type(error).__name__
        self._attempts[spec.id] += 1
        if self._attempts[spec.id] >= MAX_ATTEMPTS:
            return Outcome(spec, error=f"it was lost {MAX_ATTEMPTS} times, at last by {cause}", reason="killed")
        self._progress(spec, Event("worker", message=f"lost ({cause}); the trial starts again"))
        self.submit(spec)
        return None

    def __enter__(self) -> Self:
        if not self._ray.is_initialized():
            # RAY_ADDRESS, else a cluster that runs on this machine, else one that is started here.
            self._ray.init(include_dashboard=False, log_to_driver=False)
            self._started = True
        return self

    def __exit__(self, *_: object) -> None:
        for reference in self._open:
            self._ray.cancel(reference, force=True)
        self._open.clear()
        if self._started:
            self._ray.shutdown()


def run_task(
    spec: str, root: str, device: str, threads: int, timeout: float | None, system_metrics: float | None
) -> str:
    """Run a trial as a Ray task.

    Args:
        spec: the trial, as JSON.
        root: folder of results on this node.
        device: as in a sweep file.
        threads: of torch.
        timeout: seconds after which the trial is ended; None for no limit.
        system_metrics: seconds between samples of the node; None for none.

    Returns:
        The outcome and the records as JSON; ``null`` if it was interrupted, and stopped at a checkpoint.
    """
    import torch

    torch.set_num_threads(threads)
    trial, store = TrialSpec.model_validate_json(spec), Store(Path(root))
    try:
        with (
            stop.stoppable("stopping at the next checkpoint"),
            make_executor(
                1, store, device, lambda work, event: None, timeout, system_metrics=system_metrics
            ) as executor,
        ):
            executor.submit(trial)
            outcome = executor.wait()
    except KeyboardInterrupt:
        return "null"
    return json.dumps(outcome.message() | {"records": read_records(store.trial(trial.id))})
