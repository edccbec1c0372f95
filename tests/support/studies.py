"""A tiny corpus, a store with a ready MLflow database, and sweeps on them that run in no time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from rich.console import Console
from support.fake_trial import fake_trials

from cspbench.config import SweepConfig
from cspbench.store import Store, write_atomic
from cspbench.sweep.tracking import open_client
from cspbench.trials.progress import Lines

__all__ = ["configure", "corpus", "display", "fake_trials", "mlflow_database", "quick_report", "store"]


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Corpus part of a sweep file: two half-second noises a split."""
    folder = tmp_path_factory.mktemp("corpus")
    noise = np.random.default_rng(0)
    for split in ("train", "dev", "test"):
        rows = []
        for index in range(2):
            name = f"{split}{index}.wav"
            soundfile.write(folder / name, noise.normal(size=8000) * 0.01, 16000)
            rows.append({"audio_filepath": name, "duration": 0.5, "text": "one two", "speaker": split})
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {split: f"{split}.jsonl" for split in ("train", "dev", "test")}
    return {"name": "manifest", "path": str(folder), "options": options}


@pytest.fixture(scope="session")
def mlflow_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database: making one takes MLflow seconds, copying it none."""
    store = Store(tmp_path_factory.mktemp("mlflow"))
    open_client(store).search_experiments()
    return store.mlflow / "mlflow.db"


@pytest.fixture
def store(tmp_path: Path, mlflow_database: Path) -> Store:
    store = Store(tmp_path / "runs")
    store.mlflow.mkdir(parents=True)
    shutil.copy(mlflow_database, store.mlflow)
    return store


@pytest.fixture
def configure(corpus: dict[str, Any]) -> Callable[..., SweepConfig]:
    """Make a sweep: four trials, and no controls, unless told otherwise."""

    def make(**changes: Any) -> SweepConfig:
        data = {"name": "demo", "corpus": corpus, "sparsity": [0.5, 0.9], "methods": ["csp", "magnitude"]}
        data |= {"control": False}
        return SweepConfig.model_validate(data | changes)

    return make


@pytest.fixture(autouse=True)
def quick_report(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file in place of all figures, which take seconds, except where a test asks for `real_report`."""

    def write_report(name: str, store: Store, links: object = None) -> list[Path]:
        path = store.study(name).report / "summary.csv"
        write_atomic(path, "a table")
        return [path]

    if "real_report" not in request.keywords:
        monkeypatch.setattr("cspbench.report.write.write_report", write_report)


@pytest.fixture
def display() -> Lines:
    return Lines(Console(quiet=True))
