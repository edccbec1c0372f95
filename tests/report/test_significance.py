import json

import numpy as np
import pytest
from fake_studies import finish, result, spec, write_study

from cspbench import load_results
from cspbench.errors import CspbenchError
from cspbench.report.bootstrap import crossed_bootstrap, paired_bootstrap
from cspbench.report.significance import compare_trials, holm, mapsswe
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
    comparison = compare_trials(store, ours["trial_id"].tolist(), theirs["trial_id"].tolist())
    assert comparison.wer_a == pytest.approx(ours["wer"].mean(), abs=0.005)
    assert comparison.difference < 0
    assert comparison.p_value < 0.05
    assert comparison.units == 60
    by_speaker = compare_trials(store, ours["trial_id"].tolist(), theirs["trial_id"].tolist(), by_speaker=True)
    assert by_speaker.units == 6


def test_trials_of_different_test_sets_are_not_compared(tmp_path):
    store = Store(tmp_path)
    one, other = spec("csp"), spec("lottery")
    for trial in (one, other):
        finish(store, "s", trial, result(trial, 0.1))
    path = store.trial(other.id) / "hypotheses.jsonl"
    lines = [json.loads(line) | {"reference": "something else"} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(CspbenchError, match="not tested on the same utterances"):
        compare_trials(store, [one.id], [other.id])
