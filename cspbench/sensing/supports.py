"""Supports of a given size: which entries of a matrix may differ from zero, counted exactly.

A support rule maps a matrix of candidates, shape (rows, n), to a bool matrix of the same shape, True where an entry may
stay. Each rule here chooses the support of the best approximation in the Frobenius norm that its pattern allows, so
``project`` is the Euclidean projection. Any callable of that kind will do; what it cannot say is that it treats rows
one by one, so solvers keep all rows of a plain callable together until the last has converged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

SupportRule = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class RowRule:
    """A rule that decides each row by that row alone."""

    choose: SupportRule

    def __call__(self, x: Tensor) -> Tensor:
        """Bool, of the shape of `x`."""
        return self.choose(x)


def project(x: Tensor, rule: SupportRule) -> Tensor:
    """``x`` on the support that `rule` chooses, zero elsewhere."""
    return x * rule(x)


def keep_largest(scores: Tensor, count: int) -> Tensor:
    """Bool, of the shape of `scores`: True at exactly `count` largest entries along the last dimension."""
    places = scores.topk(min(count, scores.shape[-1]), dim=-1, sorted=False).indices
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, places, True)


def keep_per_row(count: int) -> RowRule:
    """Rule that keeps the `count` entries of largest absolute value in every row (all, where a row has no more)."""
    _check_count(count)
    return RowRule(lambda x: keep_largest(x.abs(), count))


def keep_in_all(count: int) -> SupportRule:
    """Rule that keeps the `count` entries of largest absolute value of the whole matrix."""
    _check_count(count)
    return lambda x: keep_largest(x.abs().flatten(), count).view_as(x)


def keep_n_of_m(kept: int, group: int) -> RowRule:
    """Rule that keeps the `kept` largest of every `group` neighbours in a row: 2 of 4 is the pattern GPUs can skip.

    The last group of a row is shorter where n is no multiple of `group`; it too keeps at most `kept`.
    """
    if not 1 <= kept <= group:
        raise ValueError(f"N of M needs 1 <= N <= M, got {kept} of {group}")

    def choose(x: Tensor) -> Tensor:
        rows, columns = x.shape
        short = -columns % group
        # Padding ranks behind every entry, and is cut off again.
        scores = torch.nn.functional.pad(x.abs(), (0, short), value=-1.0)
        return keep_largest(scores.view(rows, -1, group), kept).view(rows, -1)[:, :columns]

    return RowRule(choose)


def keep_blocks(count: int, shape: tuple[int, int]) -> SupportRule:
    """Rule that keeps the `count` blocks of largest energy; blocks at the edges are smaller where they do not fit."""
    _check_count(count)
    if min(shape) < 1:
        raise ValueError(f"a block has at least one row and one column, got {shape[0]}x{shape[1]}")

    def choose(x: Tensor) -> Tensor:
        (rows, columns), (high, wide) = x.shape, shape
        padded = torch.nn.functional.pad(x, (0, -columns % wide, 0, -rows % high))
        energy = padded.view(padded.shape[0] // high, high, -1, wide).square().sum((1, 3))
        kept = keep_largest(energy.flatten(), count).view_as(energy)
        return kept.repeat_interleave(high, 0).repeat_interleave(wide, 1)[:rows, :columns]

    return choose


def _check_count(count: int) -> None:
    if count < 0:
        raise ValueError(f"a support has 0 or more entries, got {count}")
