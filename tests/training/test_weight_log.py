"""Counts of weights by magnitude during a pruning run."""

from __future__ import annotations

from pathlib import Path

import torch

from cspbench.training.weight_log import BINS, MOMENTS, WeightLog, magnitude_bins
from cspbench.trials.records import read_rows


def test_bins_by_hand() -> None:
    # Four bins a decade, from 1e-4 to 10; what is beyond counts in the outermost.
    weights = torch.tensor([0.0, 1e-9, 1.1e-4, 1.9e-4, -0.0101, 1.5, 9.0, 1e9])
    assert magnitude_bins(weights).tolist() == [0, 0, 0, 1, 8, 16, 19, 19]
    assert BINS == 20


def test_what_is_removed_is_counted_by_what_it_was(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.tensor([[0.011, 1.5], [0.011, 9.0]]))
    log = WeightLog(tmp_path / "weights.jsonl", {"a": weight}, total=4)
    with torch.no_grad():
        weight.copy_(torch.tensor([[0.0, 1.5], [0.0, 0.011]]))
    log.after(1)
    (row,) = read_rows(tmp_path / "weights.jsonl")
    assert row["step"] == 1
    assert {bin: count for bin, count in enumerate(row["removed"]) if count} == {8: 2}
    assert {bin: count for bin, count in enumerate(row["kept"]) if count} == {8: 1, 16: 1}


def test_a_long_run_keeps_few_steps_and_the_last_is_counted_anew(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.ones(2, 2))
    log = WeightLog(tmp_path / "weights.jsonl", {"a": weight}, total=1000)
    for step in range(1, 1001):
        log.after(step)
    with torch.no_grad():
        weight.zero_()
    log.count(1000)
    rows = read_rows(tmp_path / "weights.jsonl")
    assert MOMENTS - 1 <= len(rows) <= MOMENTS
    assert [row["step"] for row in rows] == sorted({row["step"] for row in rows})
    assert rows[-1]["step"] == 1000
    assert [sum(row["removed"]) for row in rows] == [0] * (len(rows) - 1) + [4]
