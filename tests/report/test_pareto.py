import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cspbench.report.pareto import pareto_front


def brute_force(points):
    def beats(a, b):
        return all(a <= b) and any(a < b)

    known = [not np.isnan(p).any() for p in points]
    return [
        known[i] and not any(known[j] and beats(points[j], points[i]) for j in range(len(points)))
        for i in range(len(points))
    ]


def test_by_hand():
    points = [[1, 4], [2, 2], [3, 3], [2, 2], [2, 5], [np.nan, 0], [4, 1], [0.5, np.nan]]
    assert pareto_front(points).tolist() == [True, True, False, True, False, False, True, False]


def test_one_column_keeps_all_that_share_the_least():
    assert pareto_front([[3], [1], [2], [1]]).tolist() == [False, True, False, True]


def test_nothing_on_the_front_of_nothing():
    assert pareto_front(np.empty((0, 2))).tolist() == []
    assert pareto_front([[np.nan, np.nan]]).tolist() == [False]


def test_infinities_are_numbers():
    assert pareto_front([[np.inf, 0], [0, np.inf], [np.inf, np.inf], [-np.inf, 5]]).tolist() == [
        True,
        False,
        False,
        True,
    ]


@pytest.mark.parametrize("shape", [(3,), (3, 0), (1, 2, 3)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="shape"):
        pareto_front(np.zeros(shape))


# Few distinct values make ties and duplicates common.
@given(
    hnp.arrays(
        float,
        st.tuples(st.integers(0, 25), st.integers(1, 4)),
        elements=st.sampled_from([0.0, -0.0, 1.0, 2.0, 3.0, np.nan, np.inf, -np.inf]),
    )
)
@settings(max_examples=300, deadline=None)
def test_agrees_with_brute_force(points):
    assert pareto_front(points).tolist() == brute_force(points)


@pytest.mark.parametrize(("n", "k"), [(500, 2), (2000, 3), (300, 5)])
def test_agrees_with_moocore(n, k):
    moocore = pytest.importorskip("moocore")
    points = np.round(np.random.default_rng(n).random((n, k)), 2)
    assert np.array_equal(pareto_front(points), moocore.is_nondominated(points, keep_weakly=True))
