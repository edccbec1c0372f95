"""Costs of a sweep beside its trials: the real code of a sweep drives SIMULATED trials.

Trials that take time are run by real workers, for the time between trials and the throughput. Trials that take none
show what their number costs. Each sweep runs in a process of its own, so that its memory is its own.
"""

from __future__ import annotations

import json
import multiprocessing
import tempfile
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from sqlalchemy import URL

from cspbench.bench import Benchmark, machine
from cspbench.bench.simulated_trials import SimulatedTrials
from cspbench.bench.sweep_costs import drive, sweep_of, tpe_milliseconds
from cspbench.bench.timed_trials import (
    TimedTrials,
    bare_throughput,
    calibrate,
    idle_seconds,
    shared_workers,
    throughput,
    times_of,
)
from cspbench.errors import CspbenchError
from cspbench.store import Store

Row = dict[str, Any]

AT_A_TIME = 4
"""Trials that are under way at a time where they take no time, and workers of a shared sweep."""


def run(
    *,
    trials: Sequence[int] = (100, 1000, 10_000),
    sampler: str = "random",
    mlflow: bool = False,
    storage: URL | None = None,
    seconds: float = 5.0,
    each: int = 6,
    say: Callable[[str], None] = print,
) -> Benchmark:
    """Measure what a sweep of SIMULATED trials costs.

    Args:
        trials: numbers of trials that take no time, in increasing order.
        sampler: as in a sweep file.
        mlflow: log these to MLflow as well; trials that take time always are.
        storage: PostgreSQL database, for a shared sweep; None to leave that out.
        seconds: of a trial that takes time.
        each: number of those for each worker.
        say: receives plain lines.

    Returns:
        A row for each sweep; the protocol says what the columns are. As ratios, seconds a trial in which a worker had
        none (``overhead_s/...``), the throughput of two workers over that of one and of two bare processes over that of
        one (``speedup/...``), what each number of trials costs (``driver_s/N``, ``driver_mb/N``), costs a trial at the
        largest number over those at the smallest (``growth/...``: 1 is linear), and ``workers``, those that one process
        keeps busy at the largest number if its trials take as long as is simulated.

    Raises:
        CspbenchError: a sweep failed.
    """
    workers, ratios = _workers(TimedTrials(seconds, calibrate()), each, storage, say)
    sizes = []
    for count in trials:
        say(f"{count} SIMULATED trials that take no time, sampler {sampler}{'' if mlflow else ', no MLflow'}")
        sizes.append(_in_own_process(_measure_size, count, sampler, mlflow))
    return Benchmark([*workers, *sizes], ratios | _ratios(sizes), _protocol())


def _workers(
    work: TimedTrials, each: int, storage: URL | None, say: Callable[[str], None]
) -> tuple[list[Row], dict[str, float]]:
    """Measure sweeps whose trials take time: rows and ratios."""
    rows = []
    for count in (1, 2):
        say(f"{each * count} SIMULATED trials of {work.seconds:g} s, sqlite, workers: {count}")
        rows.append(_in_own_process(_measure_workers, work, count, each * count))
    one, two = (row.pop("throughput") for row in rows)
    bare = [bare_throughput(work, processes) for processes in (1, 2)]
    ratios = {
        "overhead_s/sqlite": rows[0]["overhead_s"],
        "speedup/two_workers": two / one,
        "speedup/two_processes": bare[1] / bare[0],
    }
    if storage is None:
        say("no shared sweep is measured: --storage names no PostgreSQL database")
        return rows, ratios
    say(f"{each * AT_A_TIME} SIMULATED trials of {work.seconds:g} s that sleep, PostgreSQL, workers: {AT_A_TIME}")
    asleep = TimedTrials(work.seconds)
    row = _in_own_process(_measure_workers, asleep, AT_A_TIME, each * AT_A_TIME, storage)
    del row["throughput"]
    return [*rows, row], ratios | {"overhead_s/postgresql": row["overhead_s"]}


def _ratios(sizes: Sequence[Row]) -> dict[str, float]:
    ratios: dict[str, float] = {}
    for row in sizes:
        ratios |= {f"driver_s/{row['trials']}": row["driver_s"], f"driver_mb/{row['trials']}": row["driver_mb"]}
    first, last = sizes[0], sizes[-1]
    parts = [name for name in last if name.endswith("_ms") and first[name] and name != "wall_ms"]
    ratios |= {f"growth/{name.removesuffix('_ms')}": last[name] / first[name] for name in parts}
    ratios["workers"] = 1000 * last["simulated_s"] / last["trials"] / last["trial_ms"]
    return ratios


def _protocol() -> dict[str, Any]:
    return {
        "trials": "SIMULATED: folders and results are invented, all else is the code of a sweep",
        "overhead_s": "seconds from the end of a trial to the beginning of the next on the same worker, by the wall "
        "clock: files of the trial, study, MLflow and waiting for each other; a median",
        "speedup": "throughput over that of one; two processes do the same work without a sweep, which is the most "
        "that two workers can reach on this machine",
        "trial_ms": "processor time of the sweep's process a trial, without its start and report; the next are parts",
        "wall_ms": "the same by the wall clock, which other work on the machine and slow disks prolong",
        "report_s": "processor time of tables, figures, page, and the end of the run in MLflow",
        "driver_s": "processor time of the sweep's process in all",
        "driver_mb": "memory of the sweep's process at most",
        "simulated_s": "seconds that all trials would have taken one after the other",
        "tpe_ms": "processor time of a proposal by TPE where it knows so many trials, with its study in memory; "
        "tpe_two_ms: the same with two objectives. Parts of no other number",
        **machine(),
    }


def _in_own_process(measure: Callable[..., Row], *arguments: Any) -> Row:
    """Return what a function measures that is given an empty folder and `arguments`."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with tempfile.TemporaryDirectory(prefix="cspbench-overhead-") as folder:
        process = context.Process(target=_send, args=(theirs, measure, Path(folder), *arguments))
        process.start()
        theirs.close()
        try:
            return json.loads(ours.recv_bytes())
        except EOFError:
            raise CspbenchError("the sweep of simulated trials failed; see above") from None
        finally:
            process.join()


def _send(connection: Connection, measure: Callable[..., Row], folder: Path, *arguments: Any) -> None:
    """Main function of a process of its own: measure, and send the row."""
    connection.send_bytes(json.dumps(measure(folder, *arguments)).encode())


def _measure_size(folder: Path, count: int, sampler: str, mlflow: bool) -> Row:
    """Measure a sweep of trials that take no time."""
    store = Store(folder / "runs")
    executor = SimulatedTrials(store, AT_A_TIME)
    costs, _ = drive(sweep_of(folder, trials=count, sampler=sampler), store, executor, mlflow=mlflow)
    row: Row = {"trials": count, "sampler": sampler, **costs, "simulated_s": executor.seconds}
    return row | {"tpe_ms": tpe_milliseconds(count, 1), "tpe_two_ms": tpe_milliseconds(count, 2)}


def _measure_workers(folder: Path, trials: TimedTrials, workers: int, count: int, storage: URL | None = None) -> Row:
    """Measure a sweep of trials that take time, on this machine or shared through a database."""
    from cspbench.sweep.servers import Servers

    config, store = sweep_of(folder, trials=count, workers=workers), Store(folder / "runs")
    trials.install()
    if storage is None:
        costs, ids = drive(config, store, report=False)
    else:
        with shared_workers(trials, workers, config.name, store, storage):
            costs, ids = drive(config, store, servers=Servers(storage), report=False)
        _forget(config.name, storage)
    times = times_of(store, ids)
    row: Row = {"storage": "sqlite" if storage is None else "postgresql", "workers": workers, "trials": count}
    row |= {"seconds": trials.seconds, "overhead_s": idle_seconds(times), "throughput": throughput(times)}
    return row | costs


def _forget(sweep: str, storage: URL) -> None:
    """Remove a sweep from the database that it was shared through."""
    import optuna

    from cspbench.sweep.jobs import JobTable

    table = JobTable(storage, sweep)
    table.remove()
    table.close()
    optuna.delete_study(study_name=sweep, storage=storage.render_as_string(hide_password=False))
