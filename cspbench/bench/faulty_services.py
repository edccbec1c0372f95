"""A disk that is too small, a server that comes and goes, Ray nodes that are lost: faults injected into a sweep."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from cspbench.store import Store

OBJECT_STORE = 80_000_000
"""Bytes of shared memory of a Ray node, about the least that it takes."""

SERVER_TRIES = 600
"""Looks, ten a second, whether an MLflow server that was started answers."""


@dataclass(frozen=True)
class SmallDisk:
    """A folder that has too little space: a file system of its own, or a limit on the size of a file.

    Attributes:
        root: the folder.
        kind: of the limit, for the record.
        needed: bytes that the undisturbed sweep takes, or those of its largest file.
    """

    root: Path
    kind: str
    needed: int

    def limit(self, fraction: float) -> Callable[[], None] | None:
        """Set the space to a fraction of what is needed; return what a child process must call first."""
        size = int(self.needed * fraction)
        if self.kind == "tmpfs":
            subprocess.run(["mount", "-o", f"remount,size={size}", str(self.root)], check=True)
            return None
        return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@contextmanager
def small_disk(root: Path, like: Path) -> Iterator[SmallDisk]:
    """Make a folder whose space is limited; `like` is the folder of a sweep that had enough."""
    root.mkdir(parents=True, exist_ok=True)
    sizes = [path.stat().st_size for path in like.rglob("*") if path.is_file()]
    mount = ["mount", "-t", "tmpfs", "-o", f"size={sum(sizes)}", "cspbench-faults", str(root)]
    mounted = shutil.which("mount") and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    if not mounted:
        yield SmallDisk(root, "file size", max(sizes))
        return
    try:
        yield SmallDisk(root, "tmpfs", sum(sizes))
    finally:
        subprocess.run(["umount", str(root)], check=False)


def free_port() -> int:
    """Return a port of this machine that nothing listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def mlflow_server(store: Store, port: int) -> Iterator[None]:
    """Serve the MLflow database of a store; waits until the server answers."""
    store.mlflow.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{store.mlflow}/mlflow.db"]
    command += ["--artifacts-destination", str(store.mlflow / "artifacts")]
    off = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (store.mlflow / "server.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | off, start_new_session=True)
    try:
        for _ in range(SERVER_TRIES):
            with suppress(OSError), urlopen(f"http://127.0.0.1:{port}/health"):
                break
            if server.poll() is not None:
                break
            time.sleep(0.1)
        yield
    finally:
        os.killpg(server.pid, signal.SIGKILL)  # its own session
        server.wait()


class RayNodes:
    """A Ray cluster on this machine: a head that runs nothing, and nodes with room for one trial each.

    Args:
        count: number of nodes.
        cpus: of a node.

    Attributes:
        address: of the head.
    """

    def __init__(self, count: int, cpus: int) -> None:
        from ray.cluster_utils import Cluster

        self._node: dict[str, Any] = {"num_cpus": cpus, "object_store_memory": OBJECT_STORE}
        head = self._node | {"num_cpus": 0, "include_dashboard": False}
        self._cluster: Any = Cluster(initialize_head=True, head_node_args=head)
        for _ in range(count):
            self._cluster.add_node(**self._node)
        self.address: str = self._cluster.address

    def replace_one(self) -> None:
        """Kill all processes of a node, then start another node."""
        self._cluster.remove_node(next(iter(self._cluster.worker_nodes)), allow_graceful=False)
        self._cluster.add_node(**self._node)

    def stop(self) -> None:
        """End all processes of the cluster."""
        self._cluster.shutdown()


@contextmanager
def ray_nodes(count: int, cpus: int) -> Iterator[RayNodes]:
    """Start a Ray cluster on this machine, and end it."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    nodes = RayNodes(count, cpus)
    try:
        yield nodes
    finally:
        nodes.stop()
