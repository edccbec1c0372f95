"""Masks of methods compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from support.fake_studies import write_study

from cspbench import load_results
from cspbench.report.masks import mask_overlap
from cspbench.report.page_tables import overlap_rows


def test_the_weights_that_two_methods_keep(tmp_path: Path) -> None:
    methods = ["control", "csp", "lottery", "magnitude"]
    store = write_study(tmp_path, methods=methods, sparsities=[0.5, 0.9], seeds=[0])
    trials = load_results("demo", store)
    kept = {"csp": [1, 1, 1, 1, 0, 0, 0, 0, 0], "magnitude": [0, 0, 0, 2, 2, 0, 0, 0, 0], "control": [1] * 9}
    for row in trials[trials["sparsity_requested"] == 0.9].to_dict("records"):
        if row["method"] in kept:  # the weights of lottery lie elsewhere
            weights = np.array(kept[row["method"]], np.float32)
            names = "encoder.weight_ih_l0", "joint.output.weight"
            more = {"embedding.weight": np.ones((3, 3), np.float32)}  # not prunable
            save_file(dict.fromkeys(names, weights) | more, store.trial(row["trial_id"]).weights)
    trials.loc[trials["method"] == "control", "sparsity_requested"] = 0.0
    found = mask_overlap(trials, store)
    pairs = {(row.method, row.other): row.overlap for row in found.itertuples()}
    assert pairs == {("csp", "magnitude"): pytest.approx(0.25), ("magnitude", "csp"): pytest.approx(0.5)}
    assert set(found["sparsity_requested"]) == {0.9}
    assert overlap_rows(trials, store) == [
        {"kept by": "csp 90 %", "also by csp": "–", "also by magnitude": "25"},
        {"kept by": "magnitude 90 %", "also by csp": "50", "also by magnitude": "–"},
    ]
    assert overlap_rows(trials[trials["method"] == "csp"], store) == []


def test_damaged_weights_are_left_out_with_a_warning(tmp_path: Path) -> None:
    store = write_study(tmp_path, methods=["csp", "magnitude"], sparsities=[0.5], seeds=[0])
    trials = load_results("demo", store)
    for row in trials.to_dict("records"):
        store.trial(row["trial_id"]).weights.write_bytes(b"")
    with pytest.warns(UserWarning, match="damaged, left out where masks are compared"):
        assert mask_overlap(trials, store).empty
