"""The leaderboard: ranks by mean WER, the divisions apart, cost beside."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from support.fake_finals import Finals

from cspbench.comparison.report import evaluate_finals
from cspbench.comparison.report.leaderboard import leaderboard_page, leaderboard_table


@pytest.fixture(scope="module")
def evaluation():
    """Three methods and the control at two budgets; one method takes twice the steps, one is declared open."""
    finals = Finals()
    for budget in (1.0, 4.0):
        for sparsity in (0.9, 0.95):
            for method, edits in {"csp": [1, 0] * 20, "magnitude": [1, 1] * 20}.items():
                finals.add(method, edits, sparsity, budget=budget)
            finals.add("lottery", [2, 1] * 20, sparsity, budget=budget, steps=200, train_seconds=60.0)
            finals.add("rigl", [2, 2] * 20, sparsity, budget=budget, division="open")
        finals.add("control", [0] * 40, 0.0, budget=budget)
    finals.add("set", [0] * 40, 0.9)
    return evaluate_finals(finals.frame, finals.hypotheses, resamples=50)


def test_methods_are_ranked_within_their_division(evaluation):
    table = leaderboard_table(evaluation)
    ranks = table.dropna(subset=["rank"])
    assert list(zip(ranks["division"], ranks["rank"], ranks["method"], strict=True)) == [
        ("closed", 1, "csp"),
        ("closed", 2, "magnitude"),
        ("open", 1, "lottery"),  # more steps than the budget
        ("open", 2, "rigl"),
    ]
    by_method = table.set_index("method")
    assert by_method["mean_wer"].to_dict() == pytest.approx(
        {"csp": 0.1, "magnitude": 0.2, "set": 0.0, "lottery": 0.3, "rigl": 0.4}
    )
    assert by_method.loc["lottery", ["steps_ratio", "seconds_ratio"]].tolist() == [2.0, 2.0]
    assert by_method.loc["csp", "95 % 4x"] == pytest.approx(0.1)


def test_a_method_that_lacks_cells_has_no_rank(evaluation):
    own = leaderboard_table(evaluation).set_index("method").loc["set"]
    assert math.isnan(own["rank"])
    assert own["cells"] == 1
    assert pd.isna(own["90 % 4x"])


def test_the_page_shows_rules_cost_and_how_to_enter(evaluation):
    text = leaderboard_page(evaluation, "cspbench compare mine.yaml")
    assert "## Closed division" in text
    assert "| 1 | csp | 10.00 | 10.00 | 10.00 | 10.00 | 10.00 | 1× | 1.00× | 3 |" in text
    assert "| 1 | lottery | 30.00 | 30.00 | 30.00 | 30.00 | 30.00 | 2× | 2.00× | 3 |" in text
    assert "control" not in text
    assert "--enter NAME" in text
    assert text.endswith("Made by `cspbench compare mine.yaml`.\n")
