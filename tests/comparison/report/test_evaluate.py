import itertools
import math

import numpy as np
import pandas as pd
import pytest
from support.fake_finals import QUICK, Finals, compared, row

from cspbench.comparison.report import evaluate_finals
from cspbench.comparison.report.page import summary_page
from cspbench.comparison.report.word_errors import ComparisonError
from cspbench.report.bootstrap import paired_bootstrap
from cspbench.report.significance import holm, mapsswe


def test_wer_is_errors_over_words_over_seeds_and_folds():
    finals = Finals(utterances=2)
    for seed, (first, second) in {1: ([1, 0, 1, 0], [5, 5]), 2: ([0, 0, 0, 0], [5, 4])}.items():
        finals.add("csp", first, seed=seed, fold=0)
        finals.add("csp", second, seed=seed, fold=1)
    cell = compared(finals).cells.iloc[0]
    # Fold 0: 1 error on average in 20 words; fold 1: 9.5 in 10. A mean of the four trials would say 0.5.
    assert cell["test_wer"] == pytest.approx(10.5 / 30)
    assert cell["std_dense"] == pytest.approx(np.std([12 / 30, 9 / 30], ddof=1))
    assert (cell["trials"], cell["seeds"], cell["folds"], cell["missing"]) == (4, 2, 2, 0)


def test_seeds_that_met_different_folds_have_no_spread_of_their_own():
    finals = Finals()
    for fold in range(3):
        finals.add("csp", [fold] * 16, seed=fold, fold=fold)
    assert math.isnan(compared(finals).cells.iloc[0]["std_dense"])


def test_seeds_are_averaged_not_counted_as_more_speech():
    once, thrice = Finals(), Finals()
    rng = np.random.default_rng(0)
    ours, theirs = rng.binomial(5, 0.2, 40).tolist(), rng.binomial(5, 0.3, 40).tolist()
    for finals, seeds in ((once, [1]), (thrice, [1, 2, 3])):
        for seed in seeds:
            finals.add("csp", ours, seed=seed)
            finals.add("magnitude", theirs, seed=seed)
    one, three = compared(once).tests.iloc[0], compared(thrice).tests.iloc[0]
    same = ["difference", "low", "high", "p_bootstrap", "z_mapsswe", "p_mapsswe", "segments", "words"]
    assert one[same].to_dict() == pytest.approx(three[same].to_dict())
    assert (one["pairs"], three["pairs"]) == (1, 3)


def test_a_paired_test_is_the_tests_of_significance_on_averaged_errors(both, comparison):
    test = row(comparison.tests, corpus="an4", sparsity_requested=0.9, rival="rigl")
    heard = {
        method: [both.heard[f"an4-None-{method}-0.9-{seed}"]["edits"].to_numpy() for seed in (1, 2, 3)]
        for method in ("csp", "rigl")
    }
    ours, theirs = (np.mean(heard[method], axis=0) for method in ("csp", "rigl"))
    who = both.heard["an4-None-csp-0.9-1"]["speaker"]
    words = np.full(len(who), 5)
    bootstrap = paired_bootstrap(ours, theirs, words, groups=who, studentised=True, resamples=200)
    expected = (bootstrap.difference, bootstrap.low, bootstrap.high, bootstrap.p_value)
    assert tuple(test[["difference", "low", "high", "p_bootstrap"]]) == pytest.approx(expected)
    assert test["z_mapsswe"] == pytest.approx(mapsswe(ours, theirs).z)
    assert test["relative_reduction"] == pytest.approx(1 - ours.sum() / theirs.sum())
    won = sum(a.sum() < b.sum() for a, b in zip(*heard.values(), strict=True))
    tied = sum(a.sum() == b.sum() for a, b in zip(*heard.values(), strict=True))
    assert (test["wins"], test["pairs"]) == (won + tied / 2, 3)


def test_holm_takes_all_rows_of_a_kind_for_a_family(comparison):
    for table in (comparison.tests, comparison.verdicts):
        for _, family in table.groupby("kind"):
            for name in ("p_exact", "p_bootstrap", "p_mapsswe"):
                assert family[f"{name}_holm"].tolist() == holm(family[name]).tolist()
    trained = comparison.tests[comparison.tests["kind"] == "trained"]
    assert trained.groupby(["corpus", "sparsity_requested"]).size().tolist() == [4] * 6


def test_no_p_value_is_below_what_the_speakers_resolve(comparison):
    tests = comparison.tests
    for name in ("p_exact", "p_bootstrap", "p_mapsswe"):
        assert (tests[name] >= tests["p_floor"]).all()
    floors = tests.groupby("corpus")["p_floor"].unique()
    assert floors["an4"].tolist() == [2 / 2**5]
    assert floors["fsdd"].tolist() == [2 / 2**6]
    assert floors["pooled"].tolist() == [2 / 2**11]
    an4 = comparison.verdicts[comparison.verdicts["corpus"] == "an4"]
    assert not an4["significant"].any()  # five speakers: at least 0.0625 each


def test_the_exact_test_adds_up_speakers(both, comparison):
    test = row(comparison.tests, corpus="an4", sparsity_requested=0.9, rival="rigl")
    recognised = {
        method: np.mean([both.heard[f"an4-None-{method}-0.9-{seed}"]["edits"] for seed in (1, 2, 3)], axis=0)
        for method in ("csp", "rigl")
    }
    who = both.heard["an4-None-csp-0.9-1"]["speaker"]
    d = pd.Series(recognised["csp"] - recognised["rigl"]).groupby(who.to_numpy()).sum().to_numpy()
    sums = [abs(np.dot(d, signs)) for signs in itertools.product((1, -1), repeat=len(d))]
    assert test["p_exact"] == pytest.approx(np.mean(np.array(sums) >= abs(d.sum()) - 1e-9))


def test_a_claim_is_as_sure_as_the_least_sure_of_its_tests(comparison):
    keys = {"corpus": "pooled", "kind": "trained", "sparsity_requested": 0.9}
    verdict = row(comparison.verdicts, **keys)
    own = comparison.tests[(comparison.tests[list(keys)] == list(keys.values())).all(axis=1)]
    assert (own["difference"] < 0).all()
    assert verdict["p_exact"] == own["p_exact"].max()


def test_a_rival_that_was_picked_for_being_better_pays_for_having_been_picked():
    rates = {"csp": 0.3, "magnitude": 0.05, "movement": 0.29, "lottery": 0.31}
    comparison = compared(Finals(speakers=10).fill(rates, [0.9]))
    test, verdict = row(comparison.tests, rival="magnitude"), row(comparison.verdicts)
    assert verdict["best_rival"] == "magnitude"
    assert verdict["p_exact"] == pytest.approx(3 * test["p_exact"])


def test_utterances_of_one_cluster_are_one_segment():
    finals = Finals().fill({"csp": 0.1, "magnitude": 0.3}, [0.9])
    for recognised in finals.heard.values():
        recognised["cluster"] = recognised["speaker"]
    test = compared(finals).tests.iloc[0]
    assert test["segments"] == 5
    sums = [
        np.mean([finals.heard[f"an4-None-{m}-0.9-{s}"].groupby("speaker")["edits"].sum() for s in (1, 2, 3)], axis=0)
        for m in ("csp", "magnitude")
    ]
    assert test["z_mapsswe"] == pytest.approx(mapsswe(*sums).z)


def test_dense_models_and_pruning_runs_are_kept_apart():
    finals = Finals(utterances=2)
    errors = {(0, 1): 10, (0, 2): 12, (1, 1): 20, (1, 2): 26}  # of 50 words
    for (model, seed), count in errors.items():
        finals.add("csp", [count - 20] + [0] * 9 if count > 20 else [0] * 9 + [count], seed=seed, dense_seed=model)
        finals.add("magnitude", [4] * 10, seed=seed, dense_seed=model)
    for recognised in finals.heard.values():
        recognised["edits"] = recognised["edits"].to_numpy()
    finals.heard["an4-None-csp-0.9-2-d1"]["edits"] = [26] + [0] * 9
    cell = row(compared(finals).cells, method="csp")
    assert (cell["dense_models"], cell["seeds"], cell["trials"]) == (2, 2, 4)
    assert cell["test_wer"] == pytest.approx((11 + 23) / 2 / 50)
    assert cell["std_dense"] == pytest.approx(np.std([11 / 50, 23 / 50], ddof=1))
    assert cell["std_seeds"] == pytest.approx(np.sqrt((2 / 50**2 + 18 / 50**2) / 2))
    test = row(compared(finals).tests)
    assert (test["models_won"], test["models"], test["wins"], test["pairs"]) == (2, 2, 4, 4)


def test_a_model_with_more_runs_weighs_no_more():
    finals = Finals()
    for seed in (1, 2, 3):
        finals.add("csp", [1] * 40, seed=seed, dense_seed=0)
    finals.add("csp", [3] * 40, seed=1, dense_seed=1)
    assert row(compared(finals).cells)["test_wer"] == pytest.approx(2 / 5)


def test_the_interval_redraws_dense_models():
    finals = Finals()
    for model, count in enumerate((0, 1, 2)):
        finals.add("csp", [count] * 40, dense_seed=model)
        finals.add("magnitude", [3] * 40, dense_seed=model)
    comparison = compared(finals, resamples=2000)
    assert tuple(row(comparison.cells, method="csp")[["low", "high"]]) == (pytest.approx(0.0), pytest.approx(0.4))
    test = row(comparison.tests)
    assert (test["low"], test["high"]) == (pytest.approx(-0.4), pytest.approx(-0.4))  # speakers alone do not differ
    assert (test["models_low"], test["models_high"]) == (pytest.approx(-0.6), pytest.approx(-0.2))


def test_kinds_of_errors_are_fractions_of_the_words():
    finals = Finals()
    finals.add("csp", [1, 0] * 20, substitutions=12, deletions=6, insertions=2)
    finals.add("magnitude", [1, 0] * 20)
    cell = row(compared(finals).cells, method="csp")
    assert cell[["substitutions", "deletions", "insertions"]].tolist() == [0.06, 0.03, 0.01]
    assert "| csp | 90 % | 10.00 | 6.00 | 3.00 | 1.00 | 4.00 | 0.600 |" in summary_page(compared(finals))


def test_budgets_are_compared_apart():
    finals = Finals().fill({"csp": 0.1, "magnitude": 0.3}, [0.9])
    finals.fill({"csp": 0.1, "magnitude": 0.1}, [0.9], budget=4.0, steps=400)
    comparison = compared(finals)
    assert comparison.verdicts["budget"].tolist() == [1.0, 4.0]
    assert set(comparison.cells["steps_ratio"]) == {1.0}
    assert comparison.costs["budget"].tolist() == [1.0, 1.0, 4.0, 4.0]
    text = summary_page(comparison)
    assert "| an4 | 4× | 90 % |" in text


def test_the_control_stands_beside_every_sparsity_and_is_no_rival():
    finals = Finals().fill({"csp": 0.1, "magnitude": 0.3}, [0.9, 0.95])
    for seed in (1, 2, 3):
        finals.add("control", [1, 0] * 20, 0.0, seed)
    comparison = compared(finals)
    beside = comparison.cells[comparison.cells["method"] == "control"]
    assert beside["sparsity_requested"].tolist() == [0.9, 0.95]
    assert beside["test_wer"].tolist() == [0.1, 0.1]
    assert set(comparison.tests["rival"]) == {"magnitude"}
    assert len(comparison.finals[comparison.finals["method"] == "control"]) == 3
    assert "| control | 10.00 " in summary_page(comparison)


def test_the_pool_adds_up_words_and_speakers(comparison):
    pooled = row(comparison.tests, corpus="pooled", sparsity_requested=0.9, rival="magnitude")
    parts = [row(comparison.tests, corpus=c, sparsity_requested=0.9, rival="magnitude") for c in ("an4", "fsdd")]
    assert pooled["words"] == sum(part["words"] for part in parts) == 5 * (40 + 48)
    assert pooled["segments"] == 88
    expected = sum(part["difference"] * part["words"] for part in parts) / pooled["words"]
    assert pooled["difference"] == pytest.approx(expected)
    assert pooled["pairs"] == 3 + 9
    assert pooled["drawn"] == "an4: 5 speakers; fsdd: 6 speakers"


def test_speakers_of_different_folds_are_drawn_together():
    finals = Finals(utterances=3)
    for fold in (0, 1):
        finals.add("csp", [1, 0, 2] * 5, fold=fold)
        finals.add("magnitude", [2, 1, 2] * 5, fold=fold)
    for heard in finals.heard.values():
        heard["speaker"] = heard["speaker"].str.slice(5)  # the same five speakers in both folds
    test = compared(finals).tests.iloc[0]
    assert (test["drawn"], test["segments"]) == ("an4: 5 speakers", 30)


def test_too_few_speakers_to_draw_are_said():
    finals = Finals(speakers=1, utterances=40).fill({"csp": 0.1, "magnitude": 0.2}, [0.9])
    comparison = compared(finals)
    assert comparison.tests.iloc[0]["drawn"] == "an4: 40 utterances (of 1 speaker)"
    assert comparison.cells.iloc[0]["low"] < comparison.cells.iloc[0]["test_wer"] < comparison.cells.iloc[0]["high"]
    assert comparison.verdicts.iloc[0]["note"].startswith("by utterances for want of speakers")


def test_a_corpus_of_one_speaker_joins_the_pool():
    finals = Finals().fill({"csp": 0.1, "magnitude": 0.3}, [0.9])
    finals.speakers = 1
    finals.fill({"csp": 0.1, "magnitude": 0.3}, [0.9], corpus="fsdd")
    pooled = row(compared(finals).tests, corpus="pooled")
    assert pooled["drawn"] == "an4: 5 speakers; fsdd: 1 speaker"
    assert pooled["low"] < pooled["difference"] < pooled["high"] < 0


def test_the_best_rival_is_the_one_with_the_lowest_wer(comparison):
    for _, verdict in comparison.verdicts.iterrows():
        keys = ["corpus", "kind", "sparsity_requested"]
        rivals = comparison.tests[(comparison.tests[keys] == verdict[keys]).all(axis=1)]
        assert verdict["rival_wer"] == rivals["rival_wer"].min()
        assert verdict["rivals"] == ", ".join(rivals["rival"])


def test_a_plain_lead_is_significant_and_a_draw_is_no_worse(comparison):
    won = row(comparison.verdicts, corpus="pooled", kind="trained", sparsity_requested=0.9)
    assert won["verdict"] == "significantly better"
    assert (won["significant"], won["not_worse"], won["non_inferior"], won["lower_everywhere"]) == (True,) * 4
    assert won["at_worst"] < 0
    finals, rng = Finals(), np.random.default_rng(3)
    for seed in (1, 2):
        finals.add("csp", rng.binomial(5, 0.1, 40).tolist(), seed=seed)
        finals.add("lottery", rng.binomial(5, 0.1, 40).tolist(), seed=seed)
    drawn = row(compared(finals).verdicts)
    assert not drawn["significant"]
    assert drawn["not_worse"]
    assert not drawn["non_inferior"]  # forty utterances cannot say so


def test_a_proposed_method_that_loses_is_told():
    finals = Finals(speakers=10).fill({"csp": 0.3, "magnitude": 0.05}, [0.9])
    verdict = row(compared(finals).verdicts)
    assert verdict["verdict"] == "significantly worse"
    assert (verdict["not_worse"], verdict["non_inferior"], verdict["lower_everywhere"]) == (False,) * 3
    assert verdict["relative_reduction"] < -1


def test_the_mean_reduction_takes_each_corpus_with_its_own_best_rival(comparison):
    keys = {"kind": "trained", "sparsity_requested": 0.5}
    parts = [row(comparison.verdicts, corpus=c, **keys)["relative_reduction"] for c in ("an4", "fsdd")]
    pooled = row(comparison.verdicts, corpus="pooled", **keys)
    assert pooled["mean_reduction"] == pytest.approx(np.mean(parts))
    assert pooled["lower_everywhere"] == (min(parts) > 0)


def test_a_lead_of_one_corpus_alone_is_told():
    finals = Finals().fill({"csp": 0.05, "lottery": 0.4}, [0.9])
    finals.fill({"csp": 0.2, "lottery": 0.02}, [0.9], corpus="fsdd")
    comparison = compared(finals)
    pooled = row(comparison.verdicts, corpus="pooled")
    assert pooled["difference"] < 0
    assert not pooled["lower_everywhere"]
    assert summary_page(comparison).count("not lower than the best rival on every corpus") == 1


def test_variants_of_the_proposed_method_are_tested_but_no_rivals():
    comparison = compared(Finals().fill({"csp": 0.1, "csp_penalised": 0.12, "cspx": 0.11}, [0.9]))
    assert set(comparison.tests["rival"]) == {"csp_penalised", "cspx"}
    assert row(comparison.verdicts)["rivals"] == "cspx"


def test_post_training_methods_stand_apart(comparison):
    tests = comparison.tests
    assert set(tests.loc[tests["kind"] == "post-training", "proposed"]) == {"csp_post"}
    assert set(tests.loc[tests["kind"] == "post-training", "rival"]) == {"wanda", "magnitude_post"}
    assert not set(tests.loc[tests["kind"] == "trained", "rival"]) & {"wanda", "csp_post", "magnitude_post"}
    post = comparison.cells[comparison.cells["kind"] == "post-training"]
    assert set(post["steps_ratio"]) == {0.0}


def test_extra_steps_are_shown():
    finals = Finals().fill({"csp": 0.1}, [0.9]).fill({"lottery": 0.1}, [0.9], steps=300, train_seconds=90.0)
    comparison = compared(finals)
    assert row(comparison.cells, method="lottery")["steps_ratio"] == 3.0
    budget = row(comparison.costs, method="lottery")
    assert (budget["steps_ratio"], budget["seconds_ratio"], budget["tuning_trials"]) == (3.0, 3.0, "3")


def test_unequal_starts_and_settings_are_told():
    finals = Finals().fill({"csp": 0.1, "magnitude": 0.1, "set": 0.1}, [0.9])
    for trial in finals.rows:
        if trial["method"] == "magnitude" and trial["seed"] == 2:
            trial["dense_id"] = "another"
        if trial["method"] == "set":
            trial["params"] = f"{trial['seed']}"
    costs = compared(finals).costs.set_index("method")
    assert costs["same_dense"].to_dict() == {"csp": True, "magnitude": False, "set": True}
    assert costs["one_setting"].to_dict() == {"csp": True, "magnitude": True, "set": False}


def test_what_is_missing_is_counted_and_named():
    finals = Finals().fill({"csp": 0.1, "magnitude": 0.2, "lottery": 0.15})
    frame = finals.frame
    gone = (frame["method"] == "magnitude") & (frame["sparsity_requested"] == 0.9)
    frame.loc[gone, ["state", "test_wer", "steps", "trial_id"]] = ["not run", float("nan"), float("nan"), ""]
    failed = (frame["method"] == "lottery") & (frame["sparsity_requested"] == 0.9) & (frame["seed"] == 2)
    frame.loc[failed, ["state", "test_wer"]] = ["failed", float("nan")]
    comparison = evaluate_finals(frame, finals.hypotheses, **QUICK)
    cell = row(comparison.cells, method="magnitude", sparsity_requested=0.9)
    assert (cell["trials"], cell["missing"], cell["note"]) == (0, 3, "3 of 3 trials missing: 3 not run")
    assert math.isnan(cell["test_wer"])
    assert row(comparison.cells, method="lottery", sparsity_requested=0.9)["note"] == "1 of 3 trials missing: 1 failed"
    test = row(comparison.tests, rival="magnitude", sparsity_requested=0.9)
    assert (test["pairs"], test["missing"]) == (0, 3)
    assert test["note"] == "magnitude has 0 of 3 trials; nothing to test on an4"
    assert math.isnan(test["p_bootstrap_holm"])
    test = row(comparison.tests, rival="lottery", sparsity_requested=0.9)
    assert (test["pairs"], test["missing"], test["note"]) == (2, 1, "lottery has 2 of 3 trials")
    made = comparison.tests["p_mapsswe"].notna()  # a test that could not be made does not count in the family
    assert (
        comparison.tests.loc[made, "p_mapsswe_holm"].tolist() == holm(comparison.tests.loc[made, "p_mapsswe"]).tolist()
    )
    verdict = row(comparison.verdicts, sparsity_requested=0.9)
    assert verdict["note"] == "not tested: magnitude; incomplete: lottery"


def test_a_run_without_partner_takes_no_part():
    finals = Finals()
    for seed, edits in {1: 1, 2: 5}.items():
        finals.add("csp", [edits, 0] * 20, seed=seed)
    finals.add("magnitude", [1, 1] * 20, seed=1)
    test = compared(finals).tests.iloc[0]
    assert (test["proposed_wer"], test["rival_wer"]) == (pytest.approx(0.1), pytest.approx(0.2))


def test_a_proposed_method_that_has_not_run_at_a_sparsity_leaves_a_gap():
    finals = Finals().fill({"csp": 0.1}, [0.5]).fill({"magnitude": 0.1}, [0.5, 0.9])
    verdict = row(compared(finals).verdicts, sparsity_requested=0.9)
    assert (verdict["verdict"], verdict["note"]) == ("missing", "not tested: magnitude")


def test_only_the_rivals_asked_for_take_part(both):
    comparison = compared(both, rivals=["lottery"])
    assert set(comparison.tests["rival"]) == {"lottery"}
    assert set(comparison.cells["method"]) == {"csp", "lottery", "csp_post"}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda frame: frame.drop(columns=["steps", "fold"]), "lack fold, steps"),
        (lambda frame: frame[frame["method"] != "csp"], r"no trial of 'csp' to compare \(methods: magnitude\)"),
        (
            lambda frame: pd.concat([frame, frame.tail(1)]),
            "two final trials of magnitude at 90 %, budget 1, with dense seed 3",
        ),
    ],
)
def test_trials_that_make_no_comparison_are_refused(spoil, message):
    finals = Finals().fill({"csp": 0.1, "magnitude": 0.1}, [0.9])
    with pytest.raises(ComparisonError, match=message):
        evaluate_finals(spoil(finals.frame), finals.hypotheses)


def test_trials_of_different_test_sets_are_refused():
    finals = Finals()
    finals.add("csp", [1, 0, 1])
    finals.add("magnitude", [1, 0])
    with pytest.raises(
        ComparisonError, match=r"\(magnitude\) was not tested on the utterances of other trials of an4:"
    ):
        compared(finals)


def test_order_of_hypotheses_does_not_matter(both, comparison):
    shuffled = evaluate_finals(both.frame, lambda trial: both.heard[trial].sample(frac=1, random_state=1), **QUICK)
    pd.testing.assert_frame_equal(shuffled.tests, comparison.tests)
