"""Figures of a comparison."""

import math

import numpy as np
import pytest
from support.fake_finals import FIELD, QUICK, Finals, compared, row

from cspbench.comparison.report import evaluate_finals
from cspbench.comparison.report.drawing import spread_apart
from cspbench.comparison.report.figures import pictures


def test_pictures_show_every_method_once(comparison):
    drawn = pictures(comparison)
    trained, post = drawn["wer_vs_sparsity_fsdd"].axes
    assert {text.get_text() for text in trained.texts} == {*FIELD, "dense"}
    assert {text.get_text() for text in post.texts} == {"csp_post", "wanda", "magnitude_post", "dense"}
    assert trained.get_ylim() == post.get_ylim()
    legend = drawn["wer_vs_cost_an4"].axes[0].get_legend()
    assert len(legend.get_texts()) == 8
    assert [axes.get_title() for axes in drawn["lead_pooled"].axes] == ["50 % sparsity", "90 % sparsity"]


def test_the_proposed_method_and_the_best_rivals_have_colours(comparison):
    trained = pictures(comparison)["wer_vs_sparsity_an4"].axes[0]
    colours = {text.get_text(): text.get_color() for text in trained.texts}
    assert len({colours[name] for name in FIELD}) == 5
    crowd = Finals().fill(FIELD | {"set": 0.3, "random": 0.4})
    trained = pictures(compared(crowd))["wer_vs_sparsity_an4"].axes[0]
    colours = {text.get_text(): text.get_color() for text in trained.texts}
    assert colours["random"] == "0.3"
    assert len({colours[name] for name in (*FIELD, "set")}) == 6


def test_at_a_single_sparsity_every_method_has_a_row_with_the_lowest_wer_first():
    drawn = pictures(compared(Finals().fill({"csp": 0.1, "set": 0.3, "magnitude": 0.2}, [0.9])))
    assert "wer_vs_sparsity_an4" not in drawn
    axes = drawn["wer_by_method_an4"].axes[0]
    assert [text.get_text().split()[0] for text in axes.get_yticklabels()] == ["csp", "magnitude", "set"]


def test_a_figure_of_methods_marks_those_without_training():
    finals = Finals().fill({"csp": 0.1, "magnitude": 0.2}, [0.9])
    finals.fill({"csp_post": 0.3, "wanda": 0.4}, [0.9], steps=0, train_seconds=1.0)
    picture = pictures(compared(finals))["wer_by_method_an4"]
    names = [text.get_text().rpartition("  ")[0] for text in picture.axes[0].get_yticklabels()]
    assert names == ["csp", "magnitude", "csp_post †", "wanda †"]
    assert "† post-training." in picture.texts[0].get_text()


def test_methods_of_a_single_budget_have_no_course_over_budgets():
    finals = Finals().fill({"csp": 0.1, "magnitude": 0.2, "set": 0.9}, [0.9])
    assert "wer_vs_budget" not in pictures(compared(finals))
    finals.fill({"csp": 0.1, "magnitude": 0.15}, [0.9], budget=4.0)
    axes = pictures(compared(finals))["wer_vs_budget"].axes[0]
    assert {text.get_text() for text in axes.texts} == {"csp", "magnitude"}
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1×", "4×"]
    unfinished = finals.frame
    unfinished.loc[unfinished["budget"] == 4, "state"] = "failed"
    assert "wer_vs_budget" not in pictures(evaluate_finals(unfinished, finals.hypotheses, **QUICK))


def test_the_control_does_not_stretch_the_axis_of_sparsity_to_zero():
    finals = Finals().fill({"csp": 0.1, "magnitude": 0.2}, [0.9, 0.95])
    for seed in (1, 2, 3):
        finals.add("control", [0] * 39 + [1], 0.0, seed)
    axes = pictures(compared(finals))["wer_vs_sparsity_an4"].axes[0]
    assert "control" in {text.get_text() for text in axes.texts}
    ends = {str(text.get_text()): place for place, text in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)}
    assert axes.get_xlim()[0] > ends["90"] - (ends["95"] - ends["90"])


def test_a_rival_without_errors_and_infinite_bars_are_drawn_around():
    finals = Finals()
    finals.add("csp", [1] + [0] * 39)  # one speaker of five makes all the errors: many draws have no spread
    finals.add("magnitude", [0] * 40)
    finals.add("rigl", [2] + [0] * 39)
    comparison = compared(finals)
    assert row(comparison.tests, rival="rigl")["high"] == math.inf
    drawn = pictures(comparison)["lead_an4"]
    assert [text.get_text() for text in drawn.axes[0].get_yticklabels()] == ["rigl"]
    assert "no error at all: magnitude." in drawn.texts[0].get_text().replace("\n", " ")


def test_nothing_recognised_at_all_is_drawn():
    finals = Finals()
    finals.add("csp", [0] * 40)
    finals.add("random", [5] * 40)  # WER 100 %, and its interval but for rounding
    assert "wer_vs_cost_an4" in pictures(compared(finals))


def test_labels_keep_their_distance():
    placed = spread_apart([0.5, 0.5, 0.51, 0.9], 0.1)
    assert np.diff(sorted(placed)).min() > 0.0999
    assert placed[3] == pytest.approx(0.9)
    assert spread_apart([0.0, 0.0], 0.1) == pytest.approx([0.0, 0.1], abs=1e-3)
