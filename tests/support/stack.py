"""Real servers for tests, on free ports of this machine: PostgreSQL, MLflow, and a connection that can be cut.

Every process that is started here is ended here, and no other.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

PASSWORD = "only-for-this-test-7f3a"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Postgres:
    """A PostgreSQL cluster with the user ``cspbench`` and `PASSWORD`; run by the user ``postgres`` if we are root."""

    def __init__(self, folder: Path, binaries: Path) -> None:
        self.port, self._bin, self._data = free_port(), binaries, folder / "data"
        self._user = "postgres" if os.getuid() == 0 else None
        if self._user:
            shutil.chown(folder, self._user)
        secret = folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._run(
            "initdb",
            "-D",
            self._data,
            "-U",
            "cspbench",
            f"--pwfile={secret}",
            "--auth=scram-sha-256",
            "-E",
            "UTF8",
            "-N",
        )
        self.start()

    def start(self) -> None:
        options = f"-p {self.port} -k {self._data.parent} -c listen_addresses=127.0.0.1 -c max_connections=50"
        self._run("pg_ctl", "-D", self._data, "-l", self._data.parent / "log", "-o", options, "-w", "start")

    def restart(self) -> None:
        """Restart as after a crash."""
        self._run("pg_ctl", "-D", self._data, "-m", "immediate", "-w", "stop")
        self.start()

    def stop(self) -> None:
        with suppress(subprocess.CalledProcessError):
            self._run("pg_ctl", "-D", self._data, "-m", "immediate", "-w", "stop")

    def sql(self, statement: str) -> None:
        """Run a statement as the superuser."""
        environment = {"PGPASSWORD": PASSWORD, "LC_ALL": "C"}
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "cspbench", "-d", "postgres"]
        subprocess.run([self._bin / "psql", *where, "-c", statement], env=environment, check=True, capture_output=True)

    def _run(self, program: str, *words: object) -> None:
        command = [str(self._bin / program), *map(str, words)]
        log = self._data.parent / f"{program}.out"  # not a pipe, which the server would keep open
        with log.open("wb") as out:
            subprocess.run(command, user=self._user, cwd="/", stdout=out, stderr=out, check=True, env={"LC_ALL": "C"})


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found or (os.getuid() == 0 and "postgres" not in {user.pw_name for user in pwd.getpwall()}):
        pytest.skip("POSTGRESQL ABSENT: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="cspbench-pg-"))
    folder.chmod(0o755)
    server = Postgres(folder, found[-1].parent)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


class MlflowServer:
    """An MLflow server that keeps artifacts itself."""

    def __init__(self, folder: Path) -> None:
        self.port, self._folder = free_port(), folder
        self.address = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self._folder}/mlflow.db", "--workers", "1"]
        command += ["--artifacts-destination", f"{self._folder}/artifacts"]
        off = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._folder, env=os.environ | off, stdout=log, stderr=log, start_new_session=True
            )

    def wait(self) -> None:
        """Wait until it answers."""
        for _ in range(1200):
            assert self._process.poll() is None, (self._folder / "log").read_text()
            with suppress(urllib.error.URLError, ConnectionError), urllib.request.urlopen(f"{self.address}/health"):
                return
            time.sleep(0.1)
        raise AssertionError((self._folder / "log").read_text())

    def stop(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # its own session
        self._process.wait()


class Cable:
    """Forwards connections to a port of this machine, until it is cut."""

    def __init__(self, target: int) -> None:
        self._target, self._whole = target, True
        self._sockets: set[socket.socket] = set()
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._door.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Drop all connections and take no others."""
        self._whole = False
        for each in list(self._sockets):
            self._drop(each)

    def mend(self) -> None:
        self._whole = True

    def close(self) -> None:
        self.cut()
        self._door.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._door.accept()
                if not self._whole:
                    near.close()
                    continue
                try:
                    far = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    near.close()
                    continue
                self._sockets |= {near, far}
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        self._drop(source)
        self._drop(sink)

    def _drop(self, each: socket.socket) -> None:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
        self._sockets.discard(each)


@contextmanager
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    """Collect processes to be killed at the end if they still run; with their whole session if it is their own."""
    started: list[subprocess.Popen[str]] = []
    try:
        yield started
    finally:
        for process in started:
            if process.poll() is None:
                alone = os.getpgid(process.pid) != process.pid
                process.kill() if alone else os.killpg(process.pid, signal.SIGKILL)
            process.wait()
