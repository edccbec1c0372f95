"""Literal scores in, literal masks out."""

from __future__ import annotations

import pytest
import torch

from cspbench.errors import PruningError
from cspbench.pruning.mask import count_zeros, keep_largest, select
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
