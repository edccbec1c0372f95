"""Fixtures shared by all tests: where the real speech lies, the command line, and quiet single-threaded torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from cspbench.cli import main

HERE = Path(__file__).resolve().parent

os.environ.pop("COLUMNS", None)  # pytest-xdist sets it, and tables follow it
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before any test imports onnxruntime by itself

# The same examples in every run, so that a change is judged by itself; none is judged by the clock.
# New ones: pytest --hypothesis-profile=explore
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile("repeatable")


def _real_speech(name: str) -> Path:
    root = Path(os.environ.get("CSPBENCH_DATA", HERE.parent.parent / "shared" / "data"))
    path = root / name
    if not (path / "manifest.jsonl").is_file():
        pytest.skip(f"REAL SPEECH ABSENT: no {path}/manifest.jsonl; set CSPBENCH_DATA to the folder that holds {name}/")
    return path


@pytest.fixture(scope="session")
def an4_path() -> Path:
    """Folder of the AN4 manifest and flac files."""
    return _real_speech("an4")


@pytest.fixture(scope="session")
def fsdd_path() -> Path:
    """Folder of the FSDD manifest and wav files."""
    return _real_speech("fsdd")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command line in this process: exit code, stdout, stderr."""

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["cspbench", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        out, err = capsys.readouterr()
        return (0 if code is None else int(code)), out, err

    return call


@pytest.fixture(autouse=True, scope="session")
def _threads() -> None:
    """Two threads at most; one where pytest runs several processes, which fill the processors already."""
    torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else min(2, os.cpu_count() or 1))


@pytest.fixture(autouse=True, scope="session")
def _quick_costs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What formats cost is measured in no time, and remembered where nobody finds it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        for name in ("ROUNDS", "HOT", "COLD"):
            patch.setattr(f"cspbench.runtime.packing.cost.{name}", 1)
        yield


@pytest.fixture(autouse=True, scope="session")
def _own_locks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Measurements on this machine do not hold up the tests, nor the other way round."""
    folder = tmp_path_factory.mktemp("locks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cspbench.machine.lock.lock_folder", lambda: folder)
        yield
