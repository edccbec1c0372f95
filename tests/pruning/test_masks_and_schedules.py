"""Literal scores in, literal masks out."""

from __future__ import annotations

import pytest
import torch

from cspbench.errors import PruningError
from cspbench.pruning.mask import count_zeros, keep_largest, select
from cspbench.pruning.schedule import Schedule
from cspbench.pruning.selection import SelectionParams


def test_the_smallest_go() -> None:
    scores = torch.tensor([[3.0, 1.0], [2.0, 4.0]])
    assert keep_largest(scores, 2).tolist() == [[True, False], [False, True]]


def test_of_equal_scores_the_first_stay() -> None:
    scores = torch.tensor([1.0, 0.0, 1.0, 1.0, 2.0])
    assert keep_largest(scores, 2).tolist() == [True, False, True, False, True]
    assert keep_largest(torch.zeros(4), 3).tolist() == [True, False, False, False]
    assert keep_largest(torch.tensor([0.0, -0.0, 0.0]), 1).tolist() == [True, True, False]


def test_infinite_scores_rank_and_nan_is_refused() -> None:
    assert keep_largest(torch.tensor([torch.inf, 1.0, -torch.inf]), 2).tolist() == [True, False, False]
    with pytest.raises(PruningError, match="NaN"):
        keep_largest(torch.tensor([1.0, torch.nan]), 1)
    with pytest.raises(PruningError, match="cannot set 3 of 2"):
        keep_largest(torch.ones(2), 3)


def test_global_ranks_all_together_and_uniform_does_not() -> None:
    scores = {"a": torch.tensor([[9.0, 8.0, 7.0, 6.0]]), "b": torch.tensor([[1.0], [2.0], [3.0], [4.0]])}
    together = select(scores, 4, SelectionParams())
    assert together["a"].all()
    assert not together["b"].any()
    apart = select(scores, 4, SelectionParams(allocation="uniform"))
    assert apart["a"].tolist() == [[True, True, False, False]]
    assert apart["b"].tolist() == [[False], [False], [True], [True]]
    assert count_zeros(apart) == 4
    assert select({}, 0, SelectionParams()) == {}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_low_precision_scores_tie_and_the_count_is_still_exact(dtype: torch.dtype) -> None:
    scores = torch.randn(5000, generator=torch.Generator().manual_seed(0)).abs().to(dtype)
    mask = keep_largest(scores, 4321)
    assert int((~mask).sum()) == 4321
    assert scores[mask].min() >= scores[~mask].max()


def test_cubic_is_that_of_zhu_and_gupta() -> None:
    ramp = Schedule(total=100, shape="cubic", begin=0.2, end=0.6, interval=10)
    assert ramp.fraction(0) == ramp.fraction(20) == 0
    assert ramp.fraction(30) == pytest.approx(1 - 0.75**3)
    assert ramp.fraction(40) == pytest.approx(1 - 0.5**3)
    assert ramp.fraction(60) == ramp.fraction(100) == 1
    linear = Schedule(total=100, shape="linear", begin=0.2, end=0.6)
    assert linear.fraction(30) == pytest.approx(0.25)


def test_updates_come_at_intervals_and_at_the_end_of_the_ramp() -> None:
    ramp = Schedule(total=200, begin=0.05, end=0.525, interval=10)
    assert [step for step in range(201) if ramp.due(step)] == [*range(10, 101, 10), 105]
    short = Schedule(total=32, begin=0.0, end=0.5, interval=100)
    assert [step for step in range(33) if short.due(step)] == list(range(0, 17, 2))
    once = Schedule(total=50, shape="one_shot", begin=0.1)
    assert [step for step in range(51) if once.due(step)] == [5]
    assert [once.fraction(4), once.fraction(5)] == [0, 1]


@pytest.mark.parametrize("total", range(1, 30))
def test_a_ramp_always_arrives(total: int) -> None:
    for end in (0.3, 0.5, 1.0):
        ramp = Schedule(total=total, end=end)
        fractions = [ramp.fraction(step) for step in range(total + 1)]
        assert fractions == sorted(fractions)
        assert fractions[-1] == 1
        assert ramp.due(ramp.last)
        assert ramp.last <= total


def test_impossible_ramps_are_refused() -> None:
    with pytest.raises(PruningError, match=r"begin 0\.6 and end 0\.5"):
        Schedule(total=10, begin=0.6, end=0.5)
    with pytest.raises(PruningError, match="got 0"):
        Schedule(total=10, interval=0)
