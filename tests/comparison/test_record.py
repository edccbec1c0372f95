"""A committed record supplies the finals that were not run here."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from support.fake_finals import Finals

from cspbench.comparison.record import Record, differing_dense_models
from cspbench.comparison.report import evaluate_finals, write_evaluation


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("record")
    finals = Finals().fill({"csp": 0.1, "magnitude": 0.2}, [0.9])
    layers = pd.DataFrame(
        [["an4", "csp", 0.9, 1.0, "joint", 0.2, 3], ["an4", "magnitude", 0.9, 1.0, "joint", 0.1, 3]],
        columns=["corpus", "method", "sparsity_requested", "budget", "layer", "density", "trials"],
    )
    write_evaluation(evaluate_finals(finals.frame, finals.hypotheses, layers=layers, resamples=50), folder)
    return folder


def test_finals_that_did_not_finish_here_come_from_the_record(committed: Path) -> None:
    here = Finals().fill({"csp": 0.1, "magnitude": 0.2, "mine": 0.15}, [0.9])
    frame = here.frame
    absent = frame["method"] != "mine"
    frame.loc[absent, "state"] = "not run"
    frame.loc[absent, ["test_wer", "edits", "trial_id"]] = None
    record = Record.read(committed)
    filled = record.fill(frame)
    assert filled["method"].tolist() == frame["method"].tolist()
    assert set(filled["state"]) == {"complete"}
    own = filled["method"] == "mine"
    assert filled.loc[own, "trial_id"].tolist() == frame.loc[own, "trial_id"].tolist()

    def hypotheses(trial: str) -> pd.DataFrame:
        return here.hypotheses(trial) if "mine" in trial else record.hypotheses(trial)

    again = evaluate_finals(filled, hypotheses, resamples=50)
    assert set(again.tests["rival"]) == {"magnitude", "mine"}
    assert again.cells["missing"].sum() == 0


def test_finals_of_here_stay(committed: Path) -> None:
    frame = Finals().fill({"csp": 0.3, "magnitude": 0.2}, [0.9]).frame
    pd.testing.assert_frame_equal(Record.read(committed).fill(frame), frame)


def test_layers_of_methods_that_were_not_run_here_come_from_the_record(committed: Path) -> None:
    record = Record.read(committed)
    own = record.layers[record.layers["method"] == "csp"].assign(density=0.5)
    filled = record.fill_layers(own)
    assert filled.set_index("method")["density"].to_dict() == {"csp": 0.5, "magnitude": 0.1}


def test_dense_models_of_other_weights_are_told(committed: Path) -> None:
    frame = Finals().fill({"csp": 0.1, "mine": 0.2}, [0.9]).frame
    assert differing_dense_models(frame) == []
    frame.loc[frame["method"] == "mine", "dense_wer"] = 0.03
    doubts = differing_dense_models(frame)
    assert len(doubts) == 3  # one a dense model
    assert "an4: trials did not all start from the same weights of the dense recogniser an4d1" in doubts[0]
