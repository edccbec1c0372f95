"""Results read back from MLflow alone are those of the folder they were logged from."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from cspbench.config import SweepConfig
from cspbench.report.frames import load_curves, load_hypotheses, load_layers
from cspbench.report.results import load_results
from cspbench.store import Store
from cspbench.sweep.runner import run_sweep
from cspbench.trials.progress import Lines


@pytest.mark.usefixtures("fake_trials")
def test_a_tracking_uri_gives_what_the_folder_gives(
    configure: Callable[..., SweepConfig], store: Store, display: Lines, tmp_path: Path
) -> None:
    run_sweep(configure(), store, display)
    database = tmp_path / "elsewhere.db"  # beside no results folder: everything has to come out of MLflow
    shutil.copy(store.mlflow / "mlflow.db", database)
    for load in (load_results, load_layers, load_hypotheses):
        own, tracked = load("demo", store), load(f"sqlite:///{database}")
        columns = [column for column in own if column != "number"]
        order = [name for name in ("trial_id", "layer", "id") if name in own]
        pd.testing.assert_frame_equal(
            tracked[columns].sort_values(order, ignore_index=True), own[columns].sort_values(order, ignore_index=True)
        )
    curves = load_curves(f"sqlite:///{database}")
    assert curves.groupby("trial_id")["step"].max().eq(39).all()
    assert curves["dev_wer"].notna().sum() == 4
