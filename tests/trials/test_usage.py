"""Samples of the machine while a trial runs."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
import torch
from support.fake_studies import spec
from support.fake_trial import fake_trials  # noqa: F401 - a fixture

from cspbench.store import Store, write_json
from cspbench.training.events import Event
from cspbench.trials import usage
from cspbench.trials.executors import make_executor
from cspbench.trials.records import read_rows
from cspbench.trials.usage import UsageLog


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(usage.time, "monotonic", lambda: now[0])
    return now


def test_a_sample_is_taken_at_the_first_event_after_the_interval(clock: list[float], tmp_path: Path) -> None:
    events: list[int] = []
    log = UsageLog(tmp_path / "usage.jsonl", 5, lambda event: events.append(event.step))
    for step, clock[0] in enumerate((101, 104.9, 106, 110, 111.5)):
        log(Event("prune", step, 5))
    assert events == [0, 1, 2, 3, 4]
    rows = read_rows(tmp_path / "usage.jsonl")
    assert [row["step"] for row in rows] == [0, 1]
    for row in rows:
        assert 0 <= row["cpu_utilization_percentage"] <= 100
        assert 0 < row["system_memory_usage_percentage"] < 100
        assert 1 < row["process_memory_megabytes"] < psutil.virtual_memory().total / 1e6
        assert row["process_cpu_percentage"] >= 0
        assert not any(name.startswith("gpu") for name in row)
    again = UsageLog(tmp_path / "usage.jsonl", 5, lambda event: None)
    clock[0] += 5
    again(Event("prune"))
    assert [row["step"] for row in read_rows(tmp_path / "usage.jsonl")] == [0, 1, 2]


@pytest.mark.parametrize("nvidia", [True, False])
def test_the_gpu_is_sampled_where_the_process_uses_one(
    nvidia: bool, clock: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (60_000_000, 80_000_000))
    monkeypatch.setattr(torch.cuda, "utilization", lambda: 97)
    monkeypatch.setattr(usage, "find_spec", lambda name: nvidia or None)
    log = UsageLog(tmp_path / "usage.jsonl", 1, lambda event: None)
    clock[0] += 1
    log(Event("prune"))
    (row,) = read_rows(tmp_path / "usage.jsonl")
    assert (row["gpu_0_memory_usage_megabytes"], row["gpu_0_memory_usage_percentage"]) == (20, 25)
    assert row.get("gpu_0_utilization_percentage") == (97 if nvidia else None)


@pytest.mark.usefixtures("fake_trials")
@pytest.mark.parametrize(("workers", "every"), [(1, None), (1, 0.0), (2, 0.0)])
def test_trials_are_sampled_only_where_it_is_asked_for(workers: int, every: float | None, tmp_path: Path) -> None:
    store, trial = Store(tmp_path), spec()
    write_json(store.dense(trial.dense.id).result, {})
    with make_executor(workers, store, "cpu", lambda work, event: None, system_metrics=every) as executor:
        executor.submit(trial)
        assert executor.wait().state == "complete"
    assert store.trial(trial.id).usage.is_file() == (every is not None)
