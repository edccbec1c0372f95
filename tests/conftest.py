"""Fixtures shared by all tests: where the real speech lies, and quiet single-threaded torch."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).resolve().parent


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


@pytest.fixture(autouse=True, scope="session")
def _two_threads() -> None:
    torch.set_num_threads(min(2, os.cpu_count() or 1))
