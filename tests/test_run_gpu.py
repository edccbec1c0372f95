"""The prepared script that runs the comparison on a GPU, run on a CPU with a comparison that takes seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from support.studies import corpus

__all__ = ["corpus"]

SCRIPT = Path(__file__).resolve().parent.parent / "analysis" / "compare" / "run_gpu.sh"
TINY = {"encoder_layers": 1, "encoder_width": 8, "prediction_layers": 1, "prediction_width": 8, "joint_width": 8}


@pytest.fixture
def comparison(tmp_path: Path, corpus: dict[str, Any]) -> Path:
    """One method and its rival at one sparsity, one step each."""
    recipe = {"corpus": corpus, "model": TINY, "dense": {"epochs": 1}, "prune": {"epochs": 1}}
    content = {
        "name": "tiny",
        "corpora": [{"label": "noise", **recipe}],
        "sparsity": [0.5],
        "seeds": [1],
        "control": False,
        "methods": ["csp", "magnitude"],
        "latency": {"utterances": 1, "repeats": 1},
    }
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def run(comparison: Path, folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    own = {"COMPARISON": str(comparison), "ROOT": str(folder / "runs"), "RESULTS": str(folder / "results")}
    environment = os.environ | own | {"DEVICE": "cpu", "VENV": sys.prefix} | settings
    return subprocess.run(["bash", SCRIPT], env=environment, capture_output=True, text=True, check=False)


def test_it_stops_in_time_goes_on_and_says_the_device(comparison: Path, tmp_path: Path) -> None:
    stopped = run(comparison, tmp_path, TIME_LIMIT="0.1")
    assert stopped.returncode == 124, stopped.stderr
    assert "time is up: start it again to go on" in stopped.stderr
    assert not (tmp_path / "results").exists()

    ended = run(comparison, tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "computed on cpu" in ended.stdout
    results = tmp_path / "results"
    finals = pd.read_csv(results / "finals.csv")
    assert dict(zip(finals["method"], finals["state"], strict=True)) == {"csp": "complete", "magnitude": "complete"}
    assert json.loads((results / "computed_on.json").read_text())["devices"] == {"cpu": 2}
    assert {"summary.md", "cells.csv", "leaderboard.md"} <= {path.name for path in results.iterdir()}
