from __future__ import annotations

from itertools import combinations, product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cspbench.sensing import keep_blocks, keep_in_all, keep_n_of_m, keep_per_row, project
from cspbench.sensing.subspace import Subspace, sparse_normal

few = settings(max_examples=25, deadline=None)
sizes = st.integers(1, 12)
seeds = st.integers(0, 1000)


def matrix(rows: int, columns: int, seed: int) -> torch.Tensor:
    """Small whole numbers, so that ties and zeros are common."""
    return torch.randint(-3, 4, (rows, columns), generator=torch.Generator().manual_seed(seed)).double()


@few
@given(sizes, sizes, st.integers(0, 15), seeds)
def test_per_row_counts_are_exact_and_nothing_larger_is_dropped(rows: int, columns: int, count: int, seed: int) -> None:
    x = matrix(rows, columns, seed)
    kept = keep_per_row(count)(x)
    assert (kept.sum(1) == min(count, columns)).all()
    for row, mask in zip(x.abs(), kept, strict=True):
        if mask.any() and not mask.all():
            assert row[mask].min() >= row[~mask].max()


@few
@given(sizes, sizes, st.integers(0, 150), seeds)
def test_the_count_over_the_whole_matrix_is_exact(rows: int, columns: int, count: int, seed: int) -> None:
    x = matrix(rows, columns, seed)
    kept = keep_in_all(count)(x)
    assert int(kept.sum()) == min(count, rows * columns)
    if kept.any() and not kept.all():
        assert x.abs()[kept].min() >= x.abs()[~kept].max()


@few
@given(sizes, st.integers(1, 17), st.integers(1, 4), st.integers(0, 4), seeds)
def test_n_of_m_keeps_the_largest_n_of_every_group(rows: int, columns: int, kept: int, more: int, seed: int) -> None:
    group = kept + more
    x = matrix(rows, columns, seed)
    mask = keep_n_of_m(kept, group)(x)
    assert mask.shape == x.shape
    for values, chosen in zip(x.abs().split(group, 1), mask.split(group, 1), strict=True):
        size = values.shape[1]
        assert (chosen.sum(1) == min(kept, size)).all()
        best = values.sort(1, descending=True).values[:, : min(kept, size)].sum(1)
        assert torch.equal((values * chosen).sum(1), best)


@few
@given(sizes, sizes, st.integers(1, 4), st.integers(1, 4), st.integers(0, 12), seeds)
def test_blocks_stay_or_go_whole(rows: int, columns: int, high: int, wide: int, count: int, seed: int) -> None:
    x = matrix(rows, columns, seed)
    mask = keep_blocks(count, (high, wide))(x)
    blocks = [
        (slice(i, i + high), slice(j, j + wide)) for i, j in product(range(0, rows, high), range(0, columns, wide))
    ]
    stays = [bool(mask[block].all()) for block in blocks]
    assert all(stay or not mask[block].any() for stay, block in zip(stays, blocks, strict=True))
    assert sum(stays) == min(count, len(blocks))
    energy = [float(x[block].square().sum()) for block in blocks]
    assert sum(e for e, stay in zip(energy, stays, strict=True) if stay) == pytest.approx(
        sum(sorted(energy, reverse=True)[:count])
    )


def test_a_projection_is_the_nearest_matrix_on_any_allowed_support() -> None:
    x = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    for count in range(9):
        distances = []
        for places in combinations(range(8), count):
            support = torch.zeros(8, dtype=torch.bool)
            support[list(places)] = True
            distances.append(float((x - x * support.view(2, 4)).norm()))
        assert float((x - project(x, keep_in_all(count))).norm()) == pytest.approx(min(distances))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: keep_per_row(-1), "0 or more"),
        (lambda: keep_in_all(-1), "0 or more"),
        (lambda: keep_n_of_m(3, 2), "1 <= N <= M, got 3 of 2"),
        (lambda: keep_n_of_m(0, 2), "1 <= N"),
        (lambda: keep_blocks(1, (0, 4)), "got 0x4"),
    ],
)
def test_impossible_patterns_are_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@few
@given(sizes, sizes, seeds)
def test_a_subspace_is_its_support(rows: int, columns: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    support = torch.rand(rows, columns, generator=generator) < 0.4
    x = torch.randn(rows, columns, generator=generator).double()
    gram = torch.randn(columns, columns, generator=generator).double()
    subspace = Subspace.of(support)
    assert torch.equal(subspace.spread(subspace.take(x)), x * support)
    assert torch.allclose(sparse_normal(gram, subspace, subspace.take(x)), (x * support) @ gram)
