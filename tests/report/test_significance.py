import json

import numpy as np
import pytest
from support.fake_studies import finish, result, spec, write_study

from cspbench import load_results
from cspbench.errors import CspbenchError
from cspbench.report.bootstrap import crossed_bootstrap, paired_bootstrap
from cspbench.report.significance import EXACT_UNITS, compare_trials, holm, mapsswe, sign_flip
from cspbench.store import Store


def test_difference_is_of_corpus_rates_not_of_utterance_means():
    comparison = paired_bootstrap([1, 0], [0, 0], [1, 99], resamples=200)
    assert comparison.difference == pytest.approx(0.01)
    assert (comparison.wer_a, comparison.wer_b, comparison.units) == (pytest.approx(0.01), 0.0, 2)


def test_equal_recognisers_do_not_differ():
    comparison = paired_bootstrap([1, 2, 0], [1, 2, 0], [5, 5, 5], resamples=500)
    assert (comparison.difference, comparison.low, comparison.high, comparison.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_a_plain_winner_is_significant_and_a_coin_toss_is_not():
    words = np.full(200, 6)
    better, worse = np.tile([0, 1, 0, 0], 50), np.tile([1, 1, 0, 1], 50)
    won = paired_bootstrap(better, worse, words, resamples=2000)
    assert won.difference < 0
    assert won.high < 0
    assert won.p_value == pytest.approx(1 / 2001)
    rng = np.random.default_rng(0)
    tossed = paired_bootstrap(rng.binomial(6, 0.2, 200), rng.binomial(6, 0.2, 200), words, resamples=2000)
    assert tossed.low < 0 < tossed.high
    assert tossed.p_value > 0.05


def test_swapping_sides_mirrors_the_answer():
    rng = np.random.default_rng(1)
    a, b, words = rng.binomial(8, 0.2, 90), rng.binomial(8, 0.3, 90), np.full(90, 8)
    one, other = paired_bootstrap(a, b, words), paired_bootstrap(b, a, words)
    assert one.difference == -other.difference
    assert (one.low, one.high, one.p_value) == (pytest.approx(-other.high), pytest.approx(-other.low), other.p_value)


def test_pairing_sees_what_unpaired_intervals_hide():
    rng = np.random.default_rng(2)
    hard = rng.binomial(10, 0.4, 150)
    edge = rng.random(150) < 0.1
    comparison = paired_bootstrap(hard, hard + edge, np.full(150, 10), resamples=4000)
    assert comparison.p_value < 0.01
    spread = np.std(hard) / 10 / np.sqrt(150)
    assert abs(comparison.difference) < 1.96 * spread  # the separate intervals overlap by far


def test_interval_agrees_with_the_normal_approximation_and_scipy():
    from scipy.stats import bootstrap

    rng = np.random.default_rng(3)
    words = rng.integers(3, 9, 300)
    a, b = rng.binomial(words, 0.2), rng.binomial(words, 0.25)
    ours = paired_bootstrap(a, b, words, resamples=4000)

    def difference(x, y, n, axis=-1):
        return (x.sum(axis) - y.sum(axis)) / n.sum(axis)

    theirs = bootstrap(
        (a, b, words), difference, paired=True, vectorized=True, n_resamples=4000, method="percentile", rng=0
    )
    assert [ours.low, ours.high] == pytest.approx(list(theirs.confidence_interval), abs=0.003)


def test_false_alarms_come_at_the_stated_rate():
    rng = np.random.default_rng(4)
    words = np.full(80, 5)
    pairs = [(rng.binomial(5, 0.2, 80), rng.binomial(5, 0.2, 80)) for _ in range(300)]
    alarms = sum(paired_bootstrap(a, b, words, resamples=400).p_value < 0.05 for a, b in pairs)
    assert 3 <= alarms <= 30  # 15 expected; a binomial of 300 lies in 3..30 all but once in ten thousand


def test_groups_are_drawn_whole():
    a, b, words = np.tile([1, 0], 20), np.zeros(40), np.full(40, 5)
    speakers = ["loud" if i % 2 == 0 else "quiet" for i in range(40)]
    grouped = paired_bootstrap(a, b, words, groups=speakers, resamples=1000)
    assert grouped.units == 2
    assert grouped.high - grouped.low > 2 * (lambda c: c.high - c.low)(paired_bootstrap(a, b, words, resamples=1000))


def test_same_seed_same_answer_in_any_chunking(monkeypatch):
    rng = np.random.default_rng(5)
    a, b, words = rng.integers(0, 3, 50), rng.integers(0, 3, 50), np.full(50, 4)
    whole = paired_bootstrap(a, b, words, resamples=999, seed=8)
    monkeypatch.setattr("cspbench.report.bootstrap._CHUNK", 500)
    assert paired_bootstrap(a, b, words, resamples=999, seed=8) == whole
    assert paired_bootstrap(a, b, words, resamples=999, seed=9) != whole


def test_empty_utterances_are_harmless():
    comparison = paired_bootstrap([1, 0], [0, 0], [0, 2], resamples=300)
    assert comparison.difference == 0.5


@pytest.mark.parametrize(("edits", "words", "resamples"), [([1, 2], [0, 0], 10), ([1, 2], [3, 3], 0), ([1], [1, 2], 5)])
def test_what_makes_no_sense_is_refused(edits, words, resamples):
    with pytest.raises(ValueError, match=r"."):
        paired_bootstrap(edits, edits, words, resamples=resamples)


def test_trials_are_compared_over_their_seeds(tmp_path):
    store = write_study(tmp_path, sparsities=[0.9], methods=["csp", "movement"])
    frame = load_results("demo", tmp_path)
    ours, theirs = (frame[frame["method"] == name] for name in ("csp", "movement"))
    comparison = compare_trials(ours["trial_id"].tolist(), theirs["trial_id"].tolist(), store)
    assert comparison.wer_a == pytest.approx(ours["wer"].mean(), abs=0.005)
    assert comparison.difference < 0
    assert comparison.p_value < 0.05
    assert comparison.units == 60
    by_speaker = compare_trials(ours["trial_id"].tolist(), theirs["trial_id"].tolist(), store, by_speaker=True)
    assert by_speaker.units == 6


def test_trials_of_different_test_sets_are_not_compared(tmp_path):
    store = Store(tmp_path)
    one, other = spec("csp"), spec("lottery")
    for trial in (one, other):
        finish(store, "s", trial, result(trial, 0.1))
    path = store.trial(other.id).hypotheses
    lines = [json.loads(line) | {"reference": "something else"} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(CspbenchError, match="not tested on the same utterances"):
        compare_trials([one.id], [other.id], store)


def few_speakers(rng, speakers, utterances=20, words=5, gap=0.0):
    """Errors of two recognisers that differ by speaker, not (but for `gap`) on average; who speaks; reference words."""
    rates = 0.2 + rng.normal(0, 0.04, (2, speakers)).clip(-0.15, 0.15) + [[0.0], [gap]]
    edits = rng.binomial(words, np.repeat(rates, utterances, axis=1))
    return *edits, np.repeat([f"s{i}" for i in range(speakers)], utterances), np.full(speakers * utterances, words)


def alarms(speakers, studentised, rounds=150):
    """Share of equally good recognisers that are told apart at p < 0.05."""
    rng = np.random.default_rng(11)
    count = 0
    for _ in range(rounds):
        a, b, who, words = few_speakers(rng, speakers)
        count += paired_bootstrap(a, b, words, groups=who, studentised=studentised, resamples=300).p_value < 0.05
    return count / rounds


def test_few_speakers_need_the_studentised_bootstrap():
    assert alarms(6, studentised=False) > 0.09  # 14 % is what the docstring warns of
    assert alarms(6, studentised=True) < 0.08
    assert 0.01 < alarms(12, studentised=True) < 0.09


def test_the_studentised_bootstrap_finds_a_real_difference():
    rng = np.random.default_rng(12)
    found = 0
    for _ in range(40):
        a, b, who, words = few_speakers(rng, 10, gap=0.12)
        found += paired_bootstrap(a, b, words, groups=who, studentised=True, resamples=400).p_value < 0.05
    assert found > 32


def test_studentised_interval_and_p_value_say_the_same():
    rng = np.random.default_rng(13)
    outcomes = set()
    for gap in np.linspace(0, 0.12, 25):
        a, b, who, words = few_speakers(rng, 8, gap=gap)
        test = paired_bootstrap(a, b, words, groups=who, studentised=True, resamples=999)
        assert (test.low + test.high) / 2 == pytest.approx(test.difference)
        outcomes.add(test.p_value < 0.05)
        assert (test.p_value < 0.05) == (test.low > 0 or test.high < 0)
    assert outcomes == {True, False}


def test_studentised_agrees_with_the_t_test_where_units_are_alike():
    from scipy.stats import ttest_1samp

    rng = np.random.default_rng(14)
    a, b = rng.binomial(8, 0.2, 60), rng.binomial(8, 0.27, 60)
    ours = paired_bootstrap(a, b, np.full(60, 8), studentised=True, resamples=20_000)
    theirs = ttest_1samp((a - b) / 8, 0)
    interval = theirs.confidence_interval()
    assert ours.p_value == pytest.approx(theirs.pvalue, abs=0.01)
    assert [ours.low, ours.high] == pytest.approx([interval.low, interval.high], abs=0.003)


def test_nothing_to_studentise_by():
    even = paired_bootstrap([1, 1, 1], [2, 2, 2], [5, 5, 5], studentised=True, resamples=99)
    assert (even.low, even.high, even.p_value) == (pytest.approx(-0.2), pytest.approx(-0.2), 0.25)
    with pytest.raises(ValueError, match="one unit has no spread"):
        paired_bootstrap([1, 0], [0, 0], [5, 5], groups=["s", "s"], studentised=True)


def test_two_speakers_prove_nothing():
    edits = np.repeat([3, 4], 30)
    assert (
        paired_bootstrap(
            edits - 3, edits, np.full(60, 5), groups=np.repeat(["s", "t"], 30).tolist(), studentised=True
        ).p_value
        == 0.5
    )  # no spread between the two at all, and yet two signs agree by chance every other time
    uneven = paired_bootstrap(
        edits * 0, edits, np.full(60, 5), groups=np.repeat(["s", "t"], 30).tolist(), studentised=True
    )
    assert uneven.p_value > 0.4
    assert uneven.high > 0


def test_strata_keep_their_share():
    a, b, words = np.tile([0, 4], 20), np.zeros(40), np.full(40, 5)
    corpora = ["easy", "hard"] * 20
    apart = paired_bootstrap(a, b, words, strata=corpora, resamples=500)
    assert (apart.low, apart.high) == (pytest.approx(0.4), pytest.approx(0.4))
    assert apart.units == 40
    mixed = paired_bootstrap(a, b, words, resamples=500)
    assert mixed.high - mixed.low > 0.1


def test_equal_names_in_two_strata_are_two_speakers():
    test = paired_bootstrap([1, 0, 2, 1], [0] * 4, [5] * 4, groups=["s", "t"] * 2, strata=["x", "x", "y", "y"])
    assert test.units == 4


def test_mapsswe_by_hand():
    test = mapsswe([1, 0, 2, 1], [2, 1, 2, 3])
    # Differences -1, -1, 0, -2: mean -1, s² = (0 + 0 + 1 + 1) / 3, Z = -1 / (sqrt(2/3) / 2)
    assert (test.difference, test.segments) == (-1.0, 4)
    assert test.z == pytest.approx(-np.sqrt(6))
    assert test.p_value == pytest.approx(0.0143, abs=5e-5)  # twice the normal table's 1 - 0.99285 at 2.449


def test_mapsswe_against_scipy():
    from scipy.stats import norm, ttest_rel

    rng = np.random.default_rng(15)
    a, b = rng.binomial(6, 0.3, 200), rng.binomial(6, 0.25, 200)
    test = mapsswe(a, b)
    assert test.z == pytest.approx(ttest_rel(a, b).statistic)
    assert test.p_value == pytest.approx(2 * norm.sf(abs(test.z)))
    assert mapsswe(b, a).z == -test.z


def test_mapsswe_tells_nothing_where_no_segment_differs():
    assert (mapsswe([1, 2, 3], [1, 2, 3]).z, mapsswe([1, 2, 3], [1, 2, 3]).p_value) == (0.0, 1.0)


def test_mapsswe_of_a_constant_difference_is_as_sure_as_its_segments_allow():
    test = mapsswe([0] * 50, [1] * 50)
    assert (test.z, test.p_value) == (-np.inf, 2.0**-49)
    assert mapsswe([2, 3], [1, 2]).p_value == 0.5  # two segments cannot say more


def test_sign_flip_by_hand():
    # By speaker d = -1, -2, -3 (sum -6): of the 8 patterns only the observed one and its opposite reach 6.
    test = sign_flip([0, 0, 0, 1], [1, 1, 1, 4], ["a", "b", "b", "c"])
    assert (test.p_value, test.floor, test.units) == (0.25, 0.25, 3)
    # d = -3, -1, 1 (sum -3): |sum| is 5, 3, 3, 1 and their opposites: 6 of 8 reach 3.
    assert sign_flip([0, 0, 1], [3, 1, 0]).p_value == 0.75
    # d = -1, -1, -1, -1, -1, 1 (sum -4): 2 patterns of 64 sum to 6 in size, 12 to 4.
    assert sign_flip([0] * 5 + [1], [1] * 5 + [0]).p_value == pytest.approx(14 / 64)


def test_sign_flip_with_nothing_to_tell():
    assert sign_flip([1, 2], [1, 2]).p_value == 1.0
    assert sign_flip([1, 0], [0, 1]).p_value == 1.0
    assert sign_flip([0, 0], [9, 9], ["s", "s"]).p_value == 1.0  # one speaker says nothing of others
    with pytest.raises(ValueError, match="n >= 1"):
        sign_flip([], [])


def test_six_speakers_do_not_resolve_what_a_bootstrap_says():
    a, b, who = [0] * 60, [1] * 60, np.repeat([f"s{i}" for i in range(6)], 10).tolist()
    assert sign_flip(a, b, who).p_value == 2 / 2**6
    assert paired_bootstrap(a, b, [5] * 60, groups=who, studentised=True).p_value == 2 / 2**6


def test_sign_flip_against_scipy():
    from scipy.stats import permutation_test

    rng = np.random.default_rng(20)
    for units in (7, 11):
        d = rng.integers(-4, 3, units)
        theirs = permutation_test(
            (d, np.zeros(units)), lambda x, y: np.sum(x - y), permutation_type="samples", n_resamples=np.inf
        )
        assert sign_flip(d, np.zeros(units)).p_value == pytest.approx(theirs.pvalue)


def test_sign_flip_counts_all_patterns_of_many_speakers():
    units = EXACT_UNITS
    assert sign_flip(np.zeros(units), np.ones(units)).p_value == pytest.approx(2.0 ** (1 - units))
    drawn = sign_flip(np.zeros(units + 1), np.ones(units + 1)).p_value
    assert drawn == pytest.approx(1e-5)
    rng = np.random.default_rng(21)
    d = rng.normal(0.2, 1, 60)
    z = d.sum() / np.sqrt((d**2).sum())
    from scipy.stats import norm

    assert sign_flip(d, np.zeros(60)).p_value == pytest.approx(2 * norm.sf(abs(z)), abs=0.01)


def test_sign_flip_of_means_over_runs_is_not_upset_by_rounding():
    thirds = np.array([1 / 3, 2 / 3, 1 / 3, 1 / 3])
    assert sign_flip(thirds, np.zeros(4)).p_value == 2 / 16
    assert sign_flip(thirds * [1, 1, -1, -1], np.zeros(4)).p_value == sign_flip([1, 2, -1, -1], [0] * 4).p_value


def test_p_values_of_sign_flips_hold_their_level():
    rng = np.random.default_rng(22)
    p = [sign_flip(rng.normal(0, 1, 10), np.zeros(10)).p_value for _ in range(2000)]
    assert 0.04 < np.mean(np.array(p) <= 0.05) < 0.06


@pytest.mark.parametrize(("a", "b"), [([1], [2]), ([1, 2], [1, 2, 3])])
def test_mapsswe_refuses_what_is_no_pair_of_samples(a, b):
    with pytest.raises(ValueError, match="n >= 2"):
        mapsswe(a, b)


def test_p_values_of_mapsswe_are_uniform_between_equals():
    from scipy.stats import kstest

    rng = np.random.default_rng(16)
    p = [mapsswe(rng.binomial(6, 0.2, 130), rng.binomial(6, 0.2, 130)).p_value for _ in range(600)]
    assert kstest(p, "uniform").pvalue > 0.01
    assert 0.03 < np.mean(np.array(p) < 0.05) < 0.07


def test_mapsswe_finds_a_real_difference():
    rng = np.random.default_rng(17)
    p = [mapsswe(rng.binomial(6, 0.2, 130), rng.binomial(6, 0.3, 130)).p_value for _ in range(50)]
    assert np.mean(np.array(p) < 0.05) > 0.9


def test_holm_by_hand():
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1: 0.02, 0.03, 0.06, 0.04, the last lifted to 0.06.
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []


def test_holm_leaves_out_tests_that_were_not_made():
    adjusted = holm([0.02, np.nan, 0.01])
    assert adjusted[[0, 2]].tolist() == pytest.approx([0.02, 0.02])
    assert np.isnan(adjusted[1])


def test_crossed_bootstrap_of_speakers_alone_is_the_normal_interval():
    rng = np.random.default_rng(18)
    edits, words = rng.binomial(50, 0.2, 40), np.full(40, 50)
    low, high = crossed_bootstrap([edits[None]], [words], [[f"s{i}" for i in range(40)]], resamples=20_000)
    spread = (edits / 50).std(ddof=1) / np.sqrt(40)
    assert (high - low) / 2 == pytest.approx(1.96 * spread, rel=0.05)
    assert low < edits.sum() / words.sum() < high


def test_crossed_bootstrap_sees_seeds_that_differ():
    even = np.full((3, 40), 2.0)
    uneven = even + np.array([[-1.0], [0.0], [1.0]])
    speakers = [[f"s{i}" for i in range(40)]]
    words = [np.full(40, 10)]
    assert crossed_bootstrap([even], words, speakers) == (pytest.approx(0.2), pytest.approx(0.2))
    low, high = crossed_bootstrap([uneven], words, speakers)
    # Two of three seeds are drawn, and scaled: their mean has the variance s²/3 of the mean of three.
    assert (low, high) == (pytest.approx(0.1), pytest.approx(0.3))


def test_crossed_bootstrap_holds_speakers_together_across_blocks():
    blocks = [np.array([[4.0, 0.0]]), np.array([[4.0, 0.0]])]
    words, who = [np.full(2, 5)] * 2, [["loud", "quiet"]] * 2
    low, high = crossed_bootstrap(blocks, words, who, resamples=200)
    assert (low, high) == (pytest.approx(0.0), pytest.approx(0.8))  # either speaker, in both blocks at once
    apart = crossed_bootstrap(blocks, words, who, strata=["x", "y"], resamples=200)
    assert apart == (pytest.approx(0.0), pytest.approx(0.8))


def test_crossed_bootstrap_is_reproducible():
    rng = np.random.default_rng(19)
    arguments = [rng.binomial(5, 0.2, (3, 20))], [np.full(20, 5)], [[f"s{i % 5}" for i in range(20)]]
    assert crossed_bootstrap(*arguments, seed=3) == crossed_bootstrap(*arguments, seed=3)
    assert crossed_bootstrap(*arguments, seed=3, resamples=30) != crossed_bootstrap(*arguments, seed=4, resamples=30)
