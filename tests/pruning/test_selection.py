"""Which weights are selected: allocation, multipliers by name, patterns; literal where it can be checked by hand."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from cspbench.errors import PruningError
from cspbench.pruning.allocation import allocate, apportion
from cspbench.pruning.mask import best_of_groups, count_zeros, select
from cspbench.pruning.selection import Blocks, Groups, SelectionParams, check_selection, parse_pattern

Shapes = dict[str, tuple[int, int]]


def densities(shapes: Shapes, zeros: int, **params: object) -> dict[str, float]:
    counts = allocate(shapes, zeros, SelectionParams(**params))
    assert sum(counts.values()) == zeros
    return {name: 1 - counts[name] / (out * inputs) for name, (out, inputs) in shapes.items()}


def test_erk_density_is_proportional_to_in_plus_out_over_in_times_out() -> None:
    shapes = {"square": (100, 100), "wide": (100, 400), "tall": (800, 100)}
    found = densities(shapes, 117_000, allocation="erk")  # 10 % of 130 000 are kept
    scale = 13_000 / (200 + 500 + 900)
    for name, (out, inputs) in shapes.items():
        assert found[name] == pytest.approx(scale * (out + inputs) / (out * inputs), abs=1e-3)


def test_erk_gives_what_a_full_matrix_cannot_take_to_the_others_in_proportion() -> None:
    shapes = {"tiny": (2, 2), "a": (100, 100), "b": (100, 200)}
    found = densities(shapes, 15_002, allocation="erk")
    assert found["tiny"] == 1
    assert found["a"] == pytest.approx(14_998 * 200 / 500 / 10_000, abs=1e-3)
    assert found["b"] == pytest.approx(14_998 * 300 / 500 / 20_000, abs=1e-3)


def test_multipliers_change_shares_and_the_total_stays() -> None:
    shapes = {"encoder.l0": (40, 50), "encoder.l1": (40, 50), "joint.out": (40, 50)}
    plain = densities(shapes, 4_800, allocation="uniform")
    assert list(plain.values()) == pytest.approx([0.2] * 3)
    shifted = densities(shapes, 4_800, allocation="uniform", density={"^encoder": 0.5, "l1$": 3.0})
    assert shifted["encoder.l0"] / shifted["joint.out"] == pytest.approx(0.5, rel=0.01)
    assert shifted["encoder.l1"] / shifted["joint.out"] == pytest.approx(1.5, rel=0.01), "both expressions count"
    full = densities(shapes, 3_000, allocation="uniform", density={"joint": 100.0})
    assert full["joint.out"] == 1
    assert full["encoder.l0"] == pytest.approx(0.25)


def test_a_pattern_caps_the_density_while_it_is_kept_to() -> None:
    shapes = {"small": (4, 8), "large": (64, 64)}
    half = (32 + 4096) // 2
    for allocation in ("uniform", "erk"):
        assert densities(shapes, half, allocation=allocation, pattern="2:4") == {"small": 0.5, "large": 0.5}
    assert densities(shapes, half + 1000, allocation="erk", pattern="2:4")["small"] == 0.5
    beyond = densities(shapes, half - 500, allocation="erk", pattern="2:4")
    assert min(beyond.values()) >= 0.5


def test_seats_are_shared_as_sainte_lague_does() -> None:
    claims = {"a": Fraction(53), "b": Fraction(24), "c": Fraction(23)}
    free = dict.fromkeys(claims, 99)
    assert apportion(claims, free, 7) == {"a": 3, "b": 2, "c": 2}  # Webster's method, the textbook example
    assert apportion(claims, {"a": 2, "b": 99, "c": 99}, 7) == {"a": 2, "b": 3, "c": 2}
    assert apportion(claims, free, 0) == dict.fromkeys(claims, 0)
    assert apportion(claims, {"a": 1, "b": 0, "c": 2}, 3) == {"a": 1, "b": 0, "c": 2}


PARAMS = st.builds(
    lambda allocation, pattern, density: SelectionParams(
        allocation=allocation, pattern=pattern, density={} if allocation == "global" else density
    ),
    st.sampled_from(["global", "uniform", "erk"]),
    st.sampled_from(["unstructured", "1:2", "2:4", "3:7", "1x1", "4x2", "2x9"]),
    st.dictionaries(st.sampled_from(["0", "[12]", "."]), st.floats(0.01, 100), max_size=2),
)
SHAPES = st.lists(st.tuples(st.integers(1, 7), st.integers(1, 7)), min_size=1, max_size=4)


@settings(max_examples=40, deadline=None)
@given(SHAPES, PARAMS, st.integers(0, 2**16))
def test_counts_are_exact_and_along_a_ramp_what_is_gone_stays_gone(
    shapes: list[tuple[int, int]], params: SelectionParams, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    # Few different values: ties must not matter.
    draw = {str(i): torch.randint(0, 5, shape, generator=generator).float() for i, shape in enumerate(shapes)}
    masks = {name: torch.ones_like(score, dtype=torch.bool) for name, score in draw.items()}
    for zeros in range(sum(score.numel() for score in draw.values()) + 1):
        moved = {n: torch.randint(0, 5, s.shape, generator=generator).float() for n, s in draw.items()}
        scores = {name: score.masked_fill(~masks[name], -torch.inf) for name, score in moved.items()}
        after = select(scores, zeros, params)
        assert count_zeros(after) == zeros
        assert not any((after[name] & ~masks[name]).any() for name in masks)
        masks = after


def test_two_of_four_keeps_the_two_best_of_each_group_and_violators_go_first() -> None:
    scores = {"w": torch.tensor([[9.0, 8.0, 7.0, 6.0, 0.4, 0.3, 0.2, 0.1]])}
    two_of_four = SelectionParams(pattern="2:4")
    gone = [(~select(scores, zeros, two_of_four)["w"])[0].nonzero().squeeze(1).tolist() for zeros in range(9)]
    assert gone[1:5] == [[7], [6, 7], [3, 6, 7], [2, 3, 6, 7]]
    assert gone[5:] == [[2, 3, 5, 6, 7], [2, 3, 4, 5, 6, 7], [1, 2, 3, 4, 5, 6, 7], list(range(8))]


def test_the_best_of_a_group_by_hand() -> None:
    scores = torch.tensor([[1.0, 1.0, 1.0, 1.0, -torch.inf, -torch.inf], [0.0, 3.0, 2.0, 1.0, 5.0, 6.0]])
    assert best_of_groups(scores, Groups(2, 4)).int().tolist() == [[1, 1, 0, 0, 1, 1], [0, 1, 1, 0, 1, 1]]
    assert best_of_groups(scores, Groups(1, 4)).int().tolist() == [[1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, 1]]


def test_blocks_go_by_their_mean_and_edge_blocks_are_smaller() -> None:
    scores = {"w": torch.tensor([[5.0, 5.0, 1.0, 1.0, 9.0], [5.0, 1.0, 1.0, 4.0, 0.0], [2.0, 2.0, 8.0, 8.0, 1.5]])}
    # Means of 2x2 blocks: 4, 1.75, 4.5 (edge), 2, 8, 1.5 (one weight).
    masks = {zeros: select(scores, zeros, SelectionParams(pattern="2x2"))["w"].int().tolist() for zeros in (1, 5, 6, 7)}
    assert masks[1] == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]
    assert masks[5] == [[1, 1, 0, 0, 1], [1, 1, 0, 0, 1], [1, 1, 1, 1, 0]]
    assert masks[6] == [[1, 1, 0, 0, 1], [1, 1, 0, 0, 1], [1, 0, 1, 1, 0]], "one block is cut in part"
    assert masks[7] == [[1, 1, 0, 0, 1], [1, 1, 0, 0, 1], [0, 0, 1, 1, 0]]


def test_blocks_of_one_weight_are_no_pattern() -> None:
    scores: dict[str, Tensor] = {name: torch.rand(9, 5) for name in "ab"}
    for zeros in (0, 31, 90):
        plain = select(scores, zeros, SelectionParams())
        assert all(torch.equal(plain[k], m) for k, m in select(scores, zeros, SelectionParams(pattern="1x1")).items())


def test_diverged_scores_are_reported_whatever_the_pattern() -> None:
    scores = {"w": torch.tensor([[1.0, torch.nan], [0.0, 2.0]])}
    for pattern in ("unstructured", "1:2", "2x2"):
        with pytest.raises(PruningError, match="NaN"):
            select(scores, 2, SelectionParams(pattern=pattern))
    for pattern in ("unstructured", "1:2", "2x2"):
        with pytest.raises(PruningError, match="cannot set"):
            select({"w": torch.ones(2, 2)}, 5, SelectionParams(pattern=pattern))


@pytest.mark.parametrize(
    ("text", "pattern"),
    [("unstructured", None), ("2:4", Groups(2, 4)), ("16x1", Blocks(16, 1)), ("1:64", Groups(1, 64))],
)
def test_patterns_are_read(text: str, pattern: object) -> None:
    assert parse_pattern(text) == pattern


@pytest.mark.parametrize("text", ["", "4:2", "2:2", "0:4", "1:65", "0x4", "4 x 4", "2;4", "-1x4", "2:4x4", "block"])
def test_what_is_no_pattern_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValidationError, match="is no pattern"):
        SelectionParams(pattern=text)


def test_options_that_contradict_each_other_are_refused_before_training() -> None:
    with pytest.raises(ValidationError, match="density needs allocation uniform or erk"):
        SelectionParams(density={"a": 2.0})
    with pytest.raises(ValidationError, match="is not a regular expression"):
        SelectionParams(allocation="erk", density={"(": 2.0})
    with pytest.raises(ValidationError, match="greater than 0"):
        SelectionParams(allocation="erk", density={"a": 0.0})
    shapes: Shapes = {"encoder.w": (4, 8)}
    with pytest.raises(PruningError, match=r"no prunable matrix is called 'encodr' \(there are: encoder.w\)"):
        check_selection(shapes, 20, SelectionParams(allocation="erk", density={"encodr": 2.0}))
    with pytest.raises(PruningError, match=r"pattern 2:4 keeps at most 16 of 32 .* ask for 0.5 or more"):
        check_selection(shapes, 15, SelectionParams(pattern="2:4"))
    check_selection(shapes, 16, SelectionParams(pattern="2:4"))
    check_selection(shapes, 0, SelectionParams(pattern="2:4"))
