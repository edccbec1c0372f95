"""Faults injected into a sweep: kills at random moments, locked databases, a full disk, an absent server, a lost node.

The sweep runs once undisturbed. Then it runs under faults, started again after each, until it ends; its results are
compared with those of the undisturbed run. The processes that are killed are children of this one.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from cspbench.bench import Benchmark, machine
from cspbench.bench.faulty_services import free_port, mlflow_server, ray_nodes, small_disk
from cspbench.errors import ConfigError, CspbenchError
from cspbench.machine.cpu import usable_threads
from cspbench.store import Store
from cspbench.trials.records import TrialLog, read_result

COMMAND = (sys.executable, "-m", "cspbench")

VICTIMS = ("worker", "parent", "both")

PHASES = {
    "start": (r"", 3.0),
    "dense": (r": dense ", 10.0),
    "prune": (r": prune ", 5.0),
    "evaluate": (r": evaluate ", 1.0),
    "measure": (r": measure ", 3.0),
    "log": (r"^\[\d+/", 0.5),
    "report": (r"^writing the report", 3.0),
}
"""Phases in which processes are killed: the line of output that each begins with, and the seconds after it at most."""

MOST_WORKERS = 2
"""Workers killed before the sweep is left to end: a trial whose worker dies three times has failed."""

LOOK = 0.02
"""Seconds between two looks at the output."""

LOCKED = 65.0
"""Seconds for which each database is locked: longer than sqlite itself waits."""

DISK_SIZES = (0.1, 0.3, 0.5, 0.7)
"""Sizes of a disk that fills up, as fractions of what the undisturbed sweep takes."""

ENOUGH = 4
"""Size of a disk that does not fill up, as a multiple of what the undisturbed sweep takes."""

CAUSES = ("time", "seconds", "latency", "speed", "noise")
"""Fields of results with these words in their names are measured, and differ from run to run."""


@dataclass
class Tally:
    """Counts over all runs under faults.

    Attributes:
        lost: trials, MLflow runs or settings of the study that are not there or not complete at the end.
        duplicated: trials that ran again after they had finished, and what is there more than once.
        differs: trials whose result, hypotheses or weights are not those of the undisturbed run.
        tracebacks: starts that ended in a traceback.
        kills: processes killed, by phase and victim.
    """

    lost: int = 0
    duplicated: int = 0
    differs: int = 0
    tracebacks: int = 0
    kills: Counter[str] = field(default_factory=Counter)


class Faults:
    """A sweep, the folders it runs in, and what came of it.

    Args:
        file: the sweep file, of a grid: what other samplers propose depends on when they are interrupted.
        folder: for results; emptied of what is no longer needed.
        workers: of the sweep.
        seed: of moments and victims.
        say: receives plain lines.
        command: that starts cspbench.
    """

    def __init__(
        self, file: Path, folder: Path, workers: int, seed: int, say: Callable[[str], None], command: Sequence[str]
    ) -> None:
        self._file, self._folder, self._workers = file, folder, workers
        self._random, self._say, self._command = random.Random(seed), say, list(command)  # noqa: S311 - no secrets
        self.tally = Tally()
        self.rows: list[dict[str, Any]] = []
        self.seconds = 0.0

    def undisturbed(self) -> None:
        """Run the sweep once as it is."""
        began = time.monotonic()
        process = self._start(self._folder / "undisturbed")
        if process.wait():
            raise CspbenchError(f"the undisturbed sweep failed:\n{self._log(self._folder / 'undisturbed')[-2000:]}")
        self.seconds = time.monotonic() - began
        self._say(f"undisturbed: {self.seconds:.0f} s")
        self._name = Store(self._folder / "undisturbed").studies()[0]
        self._expected = self._results(self._folder / "undisturbed")
        self._settings = self._settings_of_study(self._folder / "undisturbed")
        log = self._log(self._folder / "undisturbed")
        self._phases = Counter({name: 0 for name, (line, _) in PHASES.items() if re.search(line, log, re.MULTILINE)})

    def kills(self, count: int, until: float) -> None:
        """Kill processes of the sweep with SIGKILL in every phase, in a new folder whenever it gets to its end.

        Args:
            count: kills.
            until: time by the monotonic clock after which no further folder is begun.
        """

        def wanted() -> bool:
            return sum(self.tally.kills.values()) < count and time.monotonic() < until

        while wanted():
            root = self._folder / f"killed-{len(self.rows)}"
            before = self.tally.kills.copy()
            ended = False
            seen: dict[str, tuple[int, int]] = {}
            while not ended:
                ended = self._one_life(root, wanted)
                self._note_finished(root, seen)
            self._judge("kill -9", root, dict(self.tally.kills - before))

    def locked_databases(self) -> None:
        """Hold the databases of study and MLflow for `LOCKED` seconds while the sweep works; then `cspbench sync`."""
        root = self._folder / "locked"
        process = self._start(root)
        files = [Store(root).study(self._name).optuna, Store(root).mlflow / "mlflow.db"]
        while process.poll() is None and not all(path.exists() for path in files):
            time.sleep(0.05)
        for path in files:
            with sqlite3.connect(path, timeout=60, isolation_level=None) as database:
                database.execute("BEGIN EXCLUSIVE")
                time.sleep(LOCKED)
                database.execute("ROLLBACK")
            database.close()
        code = process.wait()
        self._judge("locked databases", root, {"seconds": 2 * LOCKED, "exit code": code, "sync": self._sync(root)})

    def full_disk(self) -> None:
        """Run the sweep with too little space, with a little more again and again, and at last with enough."""
        root = self._folder / "full"
        with small_disk(root, self._folder / "undisturbed") as disk:
            codes = [self._start(root, disk.limit(fraction)).wait() for fraction in (*DISK_SIZES, ENOUGH)]
            self._judge(f"full disk ({disk.kind})", root, {"exit codes": codes})
        if not any(codes):
            raise CspbenchError(f"{self._file}: no disk was full; the sweep takes too little space for this")

    def absent_server(self) -> None:
        """Run the sweep with an MLflow server that is not there, start the server, and run `cspbench sync`."""
        root, port = self._folder / "absent", free_port()
        address = f"http://127.0.0.1:{port}"
        code = self._start(root, words=["--tracking-uri", address]).wait()
        with mlflow_server(Store(root), port):
            answer = self._sync(root, "--tracking-uri", address)
        self._judge("absent server", root, {"exit code": code, "sync": answer})

    def lost_node(self) -> None:
        """Run the sweep on a Ray cluster of this machine; kill a node while trials are under way, and add another."""
        root, cpus = self._folder / "ray", max(1, usable_threads() // self._workers)
        words = ["--set", "executor=ray", "--set", f"resources.cpus={cpus}"]  # threads as in the undisturbed run
        seen: dict[str, tuple[int, int]] = {}
        with ray_nodes(max(2, self._workers), cpus) as nodes:
            process = self._start(root, words=words, environment={"RAY_ADDRESS": nodes.address})
            while process.poll() is None and not self._is_half_done(root):
                time.sleep(LOOK)
            self._note_finished(root, seen)
            nodes.replace_one()
            code = process.wait()
            self._note_finished(root, seen)
        again = self._log(root).count("the trial starts again")
        self._judge("lost Ray node", root, {"exit code": code, "trials that started again": again})

    def _is_half_done(self, root: Path) -> bool:
        """Return whether a trial has finished and others are under way."""
        started, finished = (len(list(root.glob(f"trials/*/{name}.json"))) for name in ("spec", "result"))
        return 0 < finished < started

    def _sync(self, root: Path, *words: str) -> str:
        """Log in MLflow what it lacks, as the sweep tells the user to do; return what the command says."""
        line = [*self._command, "sync", self._name, "--root", str(root), *words]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        self.tally.lost += done.returncode != 0
        return (done.stdout or done.stderr).strip()

    def _one_life(self, root: Path, wanted: Callable[[], bool]) -> bool:
        """Start the sweep and kill something of it, workers more than once; returns True if it came to its end."""
        process, workers_killed = self._start(root), 0
        while wanted() and workers_killed < MOST_WORKERS:
            phase, victim = self._choose(root), self._random.choice(VICTIMS)
            if self._ends_before(phase, process, root):
                return True
            children = _children(process)
            if victim == "worker" and not children:
                victim = "parent"
            self._phases[phase] += 1
            self.tally.kills[f"{phase}: {victim}"] += 1
            self._say(f"kill {sum(self.tally.kills.values())}: {phase}, {victim}")
            if victim == "worker":
                _kill(self._random.choice(children))
                workers_killed += 1
                continue
            for child in children if victim == "both" else ():
                _kill(child)
            process.kill()
            process.wait()
            for child in children:  # they notice by themselves; the next start waits for what they hold
                child.wait(600)
            return False
        process.wait()
        return True

    def _ends_before(self, phase: str, process: subprocess.Popen[bytes], root: Path) -> bool:
        """Wait until a random moment after a phase has begun; return whether the sweep has ended by then."""
        line, longest = PHASES[phase]
        shown = self._log_path(root).stat().st_size
        while not re.search(line, self._log(root, shown), re.MULTILINE):
            if process.poll() is not None:
                return True
            time.sleep(LOOK)
        with suppress(subprocess.TimeoutExpired):
            process.wait(self._random.uniform(0, longest))
            return True
        return False

    def _choose(self, root: Path) -> str:
        """Choose a phase that is still to come in a folder, of those with the fewest kills."""
        trained = any(root.glob("dense/*/result.json"))
        return min(
            (name for name in self._phases if not (trained and name == "dense")),
            key=lambda name: (self._phases[name], self._random.random()),
        )

    def _start(
        self,
        root: Path,
        limit: Callable[[], None] | None = None,
        words: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        root.parent.mkdir(parents=True, exist_ok=True)
        command = [*self._command, "sweep", str(self._file), "--root", str(root), "--workers", str(self._workers)]
        with self._log_path(root).open("ab") as log:
            environment = os.environ | (environment or {})
            return subprocess.Popen([*command, *words], env=environment, stdout=log, stderr=log, preexec_fn=limit)

    def _log_path(self, root: Path) -> Path:
        return self._folder / f"{root.name}.log"

    def _log(self, root: Path, begin: int = 0) -> str:
        return self._log_path(root).read_bytes()[begin:].decode(errors="replace")

    def _note_finished(self, root: Path, seen: dict[str, tuple[int, int]]) -> None:
        """Count trials whose result was written again since it was last looked at."""
        for path in root.glob("trials/*/result.json"):
            found = path.stat()
            now = (found.st_ino, found.st_mtime_ns)
            self.tally.duplicated += seen.setdefault(path.parent.name, now) != now

    def _judge(self, fault: str, root: Path, what: dict[str, Any]) -> None:
        """Compare a folder with the undisturbed one, add to the tally, and remove the folder."""
        before = (self.tally.lost, self.tally.duplicated, self.tally.differs)
        found = self._results(root)
        self.tally.lost += len(self._expected.keys() - found.keys())
        self.tally.duplicated += len(found.keys() - self._expected.keys())
        self.tally.differs += sum(found[id] != self._expected[id] for id in found.keys() & self._expected.keys())
        counts = ((self._runs_of_mlflow(root), self._expected), (self._settings_of_study(root), self._settings))
        for count, wanted in counts:
            self.tally.lost += sum(count[one] < 1 for one in wanted)
            self.tally.duplicated += sum(number > 1 for number in count.values())
        self.tally.tracebacks += self._log(root).count("Traceback (most recent call last)")
        after = (self.tally.lost, self.tally.duplicated, self.tally.differs)
        names = ("lost", "duplicated", "differs")
        rises = {name: now - was for name, was, now in zip(names, before, after, strict=True)}
        self.rows.append({"fault": fault, "what": json.dumps(what), **rises})
        if before == after and not os.path.ismount(root):
            shutil.rmtree(root)

    def _results(self, root: Path) -> dict[str, str]:
        """Everything of each finished trial that does not depend on time, as a hash, by id."""
        store = Store(root)
        name = store.studies()
        records = TrialLog(store.study(name[0]).trials).records() if name else []
        return {r.trial_id: _fingerprint(store, r.trial_id) for r in records if store.trial(r.trial_id).finished}

    def _runs_of_mlflow(self, root: Path) -> Counter[str]:
        """Number of finished runs by trial and dense recogniser; a run that is still open counts as lost."""
        query = (
            "SELECT t.value, r.status FROM runs r JOIN tags t ON t.run_uuid = r.run_uuid "
            "WHERE t.key IN ('cspbench.trial_id', 'cspbench.dense_id') AND r.lifecycle_stage = 'active'"
        )
        found: Counter[str] = Counter()
        for id, status in _query(Store(root).mlflow / "mlflow.db", query):
            found[id] += 1
            self.tally.lost += status != "FINISHED"
        open_runs = "SELECT run_uuid FROM runs WHERE status = 'RUNNING' AND lifecycle_stage = 'active'"
        self.tally.lost += len(_query(Store(root).mlflow / "mlflow.db", open_runs))
        return found

    def _settings_of_study(self, root: Path) -> Counter[str]:
        """Number of complete settings by their values; a setting that is still running counts as lost."""
        query = (
            "SELECT t.trial_id, t.state, group_concat(p.param_name || '=' || p.param_value) FROM trials t "
            "LEFT JOIN trial_params p ON p.trial_id = t.trial_id GROUP BY t.trial_id"
        )
        found: Counter[str] = Counter()
        for _, state, values in _query(Store(root).study(self._name).optuna, query):
            found[str(values)] += state == "COMPLETE"
            self.tally.lost += state in ("RUNNING", "WAITING")
        return found


def run(
    *,
    file: Path,
    kills: int = 50,
    minutes: float | None = None,
    workers: int = 2,
    seed: int = 0,
    keep: Path | None = None,
    only_kills: bool = False,
    say: Callable[[str], None] = print,
    command: Sequence[str] = COMMAND,
) -> Benchmark:
    """Inject faults into a sweep and count what is lost, done twice, or different.

    Args:
        file: of the sweep: a grid of a minute or so.
        kills: at random moments, spread over the phases of a sweep.
        minutes: of kills, after which no other process is killed; None for no limit.
        workers: processes of the sweep.
        seed: of moments and victims.
        keep: folder for logs and for results that are not as they should be; None for a temporary one.
        only_kills: leave out locked databases, the full disk, the absent server and the lost Ray node.
        say: receives plain lines.
        command: that starts cspbench.

    Returns:
        A row a round, and as ratios ``lost``, ``duplicated``, ``differs``, ``tracebacks`` and the number of kills.

    Raises:
        ConfigError: no such file.
        CspbenchError: the sweep fails undisturbed.
    """
    if not file.is_file():
        raise ConfigError(f"{file}: no such sweep file; name one with --file")
    with tempfile.TemporaryDirectory(prefix="cspbench-faults-") as temporary:
        faults = Faults(file, keep or Path(temporary), workers, seed, say, command)
        faults.undisturbed()
        others = [faults.locked_databases, faults.full_disk, faults.absent_server]
        if find_spec("ray") is not None:
            others.append(faults.lost_node)
        elif not only_kills:
            say("Ray is not installed, so no node of it is lost: pip install 'cspbench[ray]'")
        for scenario in () if only_kills else others:
            say(scenario.__name__.replace("_", " "))
            scenario()
        faults.kills(kills, time.monotonic() + 60 * minutes if minutes is not None else float("inf"))
    tally = faults.tally
    ratios = {"lost": tally.lost, "duplicated": tally.duplicated, "differs": tally.differs}
    ratios |= {"tracebacks": tally.tracebacks, "kills": sum(tally.kills.values())}
    protocol = {"file": str(file), "seed": seed, "workers": workers, "kills": dict(tally.kills), **machine()}
    return Benchmark(faults.rows, {name: float(value) for name, value in ratios.items()}, protocol)


def _fingerprint(store: Store, id: str) -> str:
    folder = store.trial(id)
    result = _timeless(read_result(folder).model_dump(mode="json"))
    digest = hashlib.sha256(json.dumps(result, sort_keys=True).encode())
    for path in (folder.hypotheses, folder.weights):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _timeless(value: Any) -> Any:
    """Return JSON without what was measured by a clock."""
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if not any(cause in k for cause in CAUSES)}
    return value


def _children(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Worker processes of a sweep; Python's own helper process is none."""
    try:
        found = psutil.Process(process.pid).children()
        return [child for child in found if "spawn_main" in " ".join(child.cmdline())]
    except psutil.Error:
        return []


def _kill(process: psutil.Process) -> None:
    try:
        process.send_signal(signal.SIGKILL)
    except psutil.NoSuchProcess:
        return


def _query(path: Path, query: str) -> list[tuple[Any, ...]]:
    """Rows of a query; none where there is no database."""
    if not path.is_file():
        return []
    database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=60)
    try:
        return database.execute(query).fetchall()
    finally:
        database.close()
