"""What a comparison writes: tables that can be tested again, and the summary."""

from dataclasses import replace

import pandas as pd
import pytest
from support.fake_finals import QUICK, Finals, compared

from cspbench.comparison.report import evaluate_finals, load_evaluation, recorded_errors, write_evaluation
from cspbench.comparison.report.drawing import usual_budget
from cspbench.comparison.report.figures import cost_figure, lead_figure, sparsity_figure
from cspbench.comparison.report.page import summary_page
from cspbench.comparison.report.terminal import cell_tables
from cspbench.comparison.report.word_errors import ComparisonError


@pytest.fixture(scope="module")
def written(comparison, tmp_path_factory):
    """Folder of the comparison, and what was written into it."""
    folder = tmp_path_factory.mktemp("comparison")
    return folder, write_evaluation(comparison, folder, "cspbench compare mine.yaml")


def test_everything_is_written_and_read_back(comparison, written):
    folder, paths = written
    names = {path.name for path in paths}
    assert {path.name for path in folder.iterdir()} == names
    tables = ("finals", "cells", "tests", "verdicts", "costs")
    pngs = {f"{name}.png" for name in names if name.endswith(".svg") for name in [name[:-4]]}
    assert pngs == {
        f"{kind}_{corpus}.png" for kind in ("wer_vs_sparsity", "wer_vs_cost") for corpus in ("an4", "fsdd")
    } | {f"lead_{corpus}.png" for corpus in ("an4", "fsdd", "pooled")}
    others = {"utterances.csv", "errors.csv", "leaderboard.csv", "leaderboard.md", "summary.md"}
    assert {*(f"{name}.csv" for name in tables), *others} <= names
    back = load_evaluation(folder)
    for name in tables:
        expected = getattr(comparison, name).reset_index(drop=True)
        pd.testing.assert_frame_equal(getattr(back, name), expected, check_dtype=False, rtol=1e-5)


def test_the_written_errors_are_enough_to_test_again(comparison, written):
    folder, _ = written
    again = evaluate_finals(load_evaluation(folder).finals, recorded_errors(folder), **QUICK)
    pd.testing.assert_frame_equal(again.tests, comparison.tests)
    pd.testing.assert_frame_equal(again.cells.drop(columns="dev_wer"), comparison.cells.drop(columns="dev_wer"))


def test_a_speaker_called_na_is_read_back(tmp_path):
    finals = Finals()
    trial = finals.add("csp", [1, 0] * 20)
    finals.add("magnitude", [1, 1] * 20)
    for heard in finals.heard.values():
        heard["speaker"] = heard["speaker"].replace({"an4s0": "NA", "an4s1": "None"})
    comparison = compared(finals)
    write_evaluation(comparison, tmp_path)
    assert set(recorded_errors(tmp_path)(trial)["speaker"]) == {"NA", "None", "an4s2", "an4s3", "an4s4"}
    again = evaluate_finals(load_evaluation(tmp_path).finals, recorded_errors(tmp_path), **QUICK)
    pd.testing.assert_frame_equal(again.tests, comparison.tests)


def test_seeds_that_share_a_dense_recogniser_are_told_of(comparison):
    said = "All runs of fsdd prune one dense model"
    assert said not in summary_page(comparison)
    finals = Finals()
    for seed in (1, 2):
        for method in ("csp", "magnitude"):
            finals.add(method, [1, 0] * 20, seed=seed, corpus="fsdd", dense_id="one")
            finals.add(method, [1, 0] * 20, seed=seed)
    assert said in summary_page(compared(finals))


def test_synthetic_speech_is_called_so_wherever_its_corpus_is_named(comparison, tmp_path):
    finals = comparison.finals.assign(synthetic=comparison.finals["corpus"] == "fsdd")
    write_evaluation(replace(comparison, finals=finals), tmp_path)
    marked = replace(load_evaluation(tmp_path), finals=finals)
    assert [marked.named(corpus) for corpus in ("an4", "fsdd")] == ["an4", "fsdd (synthetic speech)"]
    summary, leaderboard = ((tmp_path / f"{name}.md").read_text() for name in ("summary", "leaderboard"))
    assert summary.startswith("# csp against 6 methods on an4, fsdd (synthetic speech)\n")
    assert "## Test WER on fsdd (synthetic speech), in %" in summary
    assert "Corpora: an4, fsdd (synthetic speech)." in leaderboard
    assert "fsdd (synthetic speech)" in cell_tables(marked)
    budget = usual_budget(marked)
    for draw in (sparsity_figure, cost_figure, lead_figure):
        assert draw(marked, "fsdd", budget).get_suptitle().startswith("fsdd (synthetic speech): ")
        assert draw(marked, "an4", budget).get_suptitle().startswith("an4: ")


def test_the_summary_says_what_came_out(written):
    text = written[1][-1].read_text()
    assert text.startswith("# csp against 6 methods on an4, fsdd\n\nComplete: ")
    assert "| pooled | 1× | 90 % |" in text
    assert "significantly better" in text
    assert "![lead_pooled](lead_pooled.png)" in text
    assert "Drawn: fsdd: 6 speakers." in text
    assert text.endswith("Made by `cspbench compare mine.yaml`.\n")
    heads = [line for line in text.splitlines() if line.startswith("| ---")]
    assert len(heads) == 9  # two of verdicts, four of cells, two of kinds of errors, one of costs


def test_an_unfinished_comparison_says_so_first():
    finals = Finals().fill({"csp": 0.1, "magnitude": 0.2, "set": 0.3})
    frame = finals.frame
    frame.loc[(frame["method"] == "set") & (frame["sparsity_requested"] == 0.9), "state"] = "failed"
    text = summary_page(evaluate_finals(frame, finals.hypotheses, **QUICK))
    assert (
        "**Unfinished: 3 of 18 trials are missing** (why: cells.csv).\n\n- an4 at 90 %, budget 1: nothing of set"
        in text
    )
    assert "| set | " in text
    assert " missing | " in text


def test_a_sparsity_at_which_a_method_was_not_planned_is_no_missing_one():
    finals = Finals().fill({"csp": 0.1, "magnitude": 0.2, "set": 0.3})
    frame = finals.frame
    part = frame[(frame["method"] != "set") | (frame["sparsity_requested"] == frame["sparsity_requested"].max())]
    text = summary_page(evaluate_finals(part, finals.hypotheses, **QUICK))
    assert "Complete: 15 of 15 trials." in text
    (line,) = [line for line in text.splitlines() if line.startswith("| set | –")]
    (head,) = {line for line in text.splitlines() if line.startswith("| method | ") and "dense models" in line}
    assert line.count("|") == head.count("|")
    assert line.count(" – |") == 1


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(ComparisonError, match=r"finals\.csv is missing"):
        load_evaluation(tmp_path)
