"""Sweeps on a real Ray cluster of several nodes on this machine; a node and the driver are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import fake_trial
from support.fake_trial import calls

from cspbench.config import SweepConfig
from cspbench.report.results import load_results
from cspbench.store import Store
from cspbench.sweep.runner import run_sweep
from cspbench.trials.progress import Lines

ray = pytest.importorskip("ray", reason="RAY ABSENT: pip install 'cspbench[ray]'")
Configure = Callable[..., SweepConfig]
pytestmark = [
    pytest.mark.timeout(900),  # half a minute on a quiet machine
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning", "ignore::DeprecationWarning"),
]

TESTS = str(Path(fake_trial.__file__).parents[1])
DRIVER = """
import sys, ray
from support.fake_ray import connect
connect(sys.argv[1])
from cspbench.cli import main
sys.argv = ["cspbench", "sweep", *sys.argv[2:]]
main()
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head that runs nothing, and two nodes of the class ``quiet``."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    small = {"object_store_memory": 80_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **small})
    for _ in range(2):
        cluster.add_node(num_cpus=1, resources={"quiet": 1}, **small)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def driver(cluster: Any, file: Path, root: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", DRIVER, cluster.address, str(file), "--root", str(root)]
    return subprocess.Popen(command, cwd=TESTS, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)


def test_a_node_and_the_driver_are_killed(cluster: Any, configure: Configure, store: Store, tmp_path: Path) -> None:
    """All trials are there at the end, and none was run again after it had finished."""
    resources = {"cpus": 1, "node": "quiet"}
    config = configure(sparsity=[0.4, 0.5, 0.6, 0.7], executor="ray", resources=resources)
    file = tmp_path / "sweep.yaml"
    file.write_text(config.model_dump_json())
    first = driver(cluster, file, store.root)
    try:
        until(lambda: len(list(store.root.glob("trials/*/result.json"))) >= 2, first)
        first.send_signal(signal.SIGKILL)
        first.wait()
        second = driver(cluster, file, store.root)
        finished = len(list(store.root.glob("trials/*/result.json")))
        until(lambda: len(list(store.root.glob("trials/*/result.json"))) >= finished + 1, second)
        lost = next(iter(cluster.worker_nodes))
        cluster.remove_node(lost, allow_graceful=False)
        cluster.add_node(num_cpus=1, resources={"quiet": 1}, object_store_memory=80_000_000)
        output = second.communicate(timeout=600)[0]
    finally:
        first.kill()
    assert second.returncode == 0, output
    frame = load_results("demo", store.root)
    assert len(frame) == 8
    assert (frame["state"] == "complete").all()
    tried = calls(store.root)
    assert set(tried) == set(frame["trial_id"])
    assert len(tried) <= 8 + 2 + 2, "only what was under way ran again"


def test_a_failing_trial_and_a_dying_process(cluster: Any, configure: Configure, store: Store, display: Lines) -> None:
    from support.fake_ray import connect

    connect(cluster.address)
    config = configure(sparsity=[0.13, 0.17, 0.19], executor="ray", methods=["csp"])
    ended = {o.spec.sparsity: o for o in run_sweep(config, store, display).ended.values()}
    assert [ended[sparsity].reason for sparsity in (0.13, 0.17, 0.19)] == ["refused", "killed", None]
    assert (ended[0.17].error or "").startswith("it was lost 3 times, at last by ")
    tried = calls(store.root)
    assert [tried.count(ended[sparsity].spec.id) for sparsity in (0.13, 0.17, 0.19)] == [1, 3, 2]
