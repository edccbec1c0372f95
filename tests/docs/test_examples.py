"""The scripts in examples/ run and do what they promise."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from support.studies import *  # noqa: F403 - the corpus of noises

import cspbench

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
pytestmark = pytest.mark.skipif(
    find_spec("transformers") is None, reason="TRANSFORMERS ABSENT: pip install 'cspbench[transformers]'"
)


def test_wav2vec2_is_pruned_in_a_loop_of_its_own() -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "wav2vec2_ctc.py"], check=False, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    assert "csp: 80.00% of 18,976 weights are zero, step 12/12" in done.stdout
    assert "encoder.layers.1.attention.out_proj.weight" in done.stdout


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """Environment in which the package of a third party is installed: one file and an entry point."""
    site = tmp_path / "site"
    about = site / "w2v_bert-1.0.dist-info"
    about.mkdir(parents=True)
    shutil.copy(EXAMPLES / "w2v_bert.py", site)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: w2v-bert\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[cspbench.recognisers]\nw2v_bert = w2v_bert:W2vBert\n")
    return os.environ | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}


@pytest.mark.timeout(600)
def test_a_recogniser_of_transformers_runs_in_a_sweep(
    installed: dict[str, str], tmp_path: Path, corpus: dict[str, Any]
) -> None:
    sweep = {
        "name": "third",
        "corpus": corpus,
        "model": {"name": "w2v_bert", "options": {"layers": 1}},
        "dense": {"epochs": 3, "batch_size": 2},
        "prune": {"epochs": 2, "batch_size": 1},
        "sparsity": [0.75],
        "methods": ["csp"],
        "latency": {"utterances": 1, "warmup": 0, "repeats": 2},
    }
    (tmp_path / "sweep.yaml").write_text(json.dumps(sweep))
    command = [sys.executable, "-m", "cspbench", "sweep", "sweep.yaml"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path, env=installed)
    assert done.returncode == 0, done.stderr
    rows = cspbench.load_results("third", root=tmp_path / "runs").set_index("method")
    assert set(rows.index) == {"control", "csp"}
    assert rows["sparsity"]["csp"] == pytest.approx(0.75, abs=1e-4)
    assert rows["smallest_bytes"]["csp"] < rows["smallest_bytes"]["control"]
    assert rows["latency_ms"]["csp"] > 0
    assert rows["formats"]["csp"].startswith("no packed file: ")
    (latency, *_) = (tmp_path / "runs" / "trials").glob("*/latency.json")
    assert json.loads(latency.read_text())["protocol"]["execution"].startswith("whole utterances after their end")
    tracked = cspbench.load_results(f"sqlite:///{tmp_path}/runs/mlflow/mlflow.db", root=tmp_path / "runs")
    assert set(tracked["trial_id"]) == set(rows["trial_id"])
    assert (tmp_path / "runs" / "studies" / "third" / "report" / "report.html").is_file()
