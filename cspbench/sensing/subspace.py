"""Small systems, one a row: the columns of a Gram that a support names, for all rows of a batch at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from cspbench.sensing.operators import Operator

_CHUNK_ENTRIES = 1 << 20
"""Entries of the systems solved at a time: few enough to stay in a processor's cache."""

_SPARSE = 8
"""A product by the entries of a row beats one by the whole row if no more than one in so many differ from zero."""


@dataclass(frozen=True)
class Subspace:
    """The support of every row as a list of columns, padded to the longest.

    Attributes:
        places: columns, ascending in each row, shape (rows, longest); padding holds 0.
        inside: bool, shape (rows, longest), False at the padding.
        columns: length n of a row.
    """

    places: Tensor
    inside: Tensor
    columns: int

    @classmethod
    def of(cls, support: Tensor) -> Self:
        """From a bool matrix of shape (rows, n)."""
        row, column = support.nonzero(as_tuple=True)
        sizes = torch.bincount(row, minlength=len(support))
        longest = int(sizes.max()) if len(sizes) else 0
        if len(column) == longest * len(support):
            places = column.view(len(support), longest)
            return cls(places, torch.ones_like(places, dtype=torch.bool), support.shape[1])
        order = torch.arange(len(column), device=column.device) - (sizes.cumsum(0) - sizes)[row]
        places = column.new_zeros(len(support), longest)
        places[row, order] = column
        inside = torch.arange(longest, device=column.device) < sizes[:, None]
        return cls(places, inside, support.shape[1])

    def take(self, x: Tensor) -> Tensor:
        """The entries of `x`, shape (rows, n), on the support: (rows, longest), zero at the padding."""
        return x.gather(1, self.places) * self.inside

    def spread(self, values: Tensor) -> Tensor:
        """The reverse of `take`: (rows, longest) to (rows, n), zero outside the support."""
        # Adding: the padding shares column 0 with an entry that may be real.
        return values.new_zeros(len(values), self.columns).scatter_add_(1, self.places, values * self.inside)

    def solve(self, gram: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Solve ``values gram_SS = target`` in every row by Cholesky.

        Args:
            gram: shape (n, n).
            target: shape (rows, longest).

        Returns:
            Values of shape (rows, longest), and bool of shape (rows,): False where the system is singular to rounding
            and the values mean nothing.
        """
        values, regular = torch.zeros_like(target), torch.ones(len(target), dtype=torch.bool, device=target.device)
        # Padding refers to a column of zeros.
        padded = torch.nn.functional.pad(gram, (0, 1, 0, 1))
        places = self.places.masked_fill(~self.inside, self.columns).int()
        step = max(1, _CHUNK_ENTRIES // max(1, self.places.shape[1] ** 2))
        for at in range(0, len(target), step):
            rows = slice(at, at + step)
            values[rows], regular[rows] = _solve(padded, places[rows], ~self.inside[rows], target[rows])
        return values, regular


def _solve(gram: Tensor, places: Tensor, outside: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    rows, size = places.shape
    flat = (places * gram.shape[1])[:, :, None] + places[:, None, :]
    system = gram.flatten().index_select(0, flat.flatten()).view(rows, size, size)
    level = system.diagonal(dim1=1, dim2=2).amax(1) if size else target.new_zeros(rows)
    system.diagonal(dim1=1, dim2=2).add_(outside * level.clamp_min(torch.finfo(target.dtype).tiny)[:, None])
    factor, info = torch.linalg.cholesky_ex(system)
    # Rounding lets a singular system pass with a pivot of noise.
    pivots = factor.diagonal(dim1=1, dim2=2).square()
    floor = size * torch.finfo(target.dtype).eps * level
    regular = (info == 0) & (pivots > floor[:, None]).all(1)
    return torch.cholesky_solve(target[:, :, None], factor)[:, :, 0], regular


def normal_of_sparse(operator: Operator, x: Tensor, support: Tensor) -> Tensor:
    """``operator.normal(x)`` of rows that vanish outside `support`, the faster way.

    On a GPU whole products are fast, and lists of entries would stop it to count them.
    """
    if operator.has_gram and x.device.type == "cpu":
        subspace = Subspace.of(support)
        if subspace.places.shape[1] * _SPARSE <= x.shape[1]:
            return sparse_normal(operator.gram(), subspace, subspace.take(x))
    return operator.normal(x)


def sparse_normal(gram: Tensor, subspace: Subspace, values: Tensor) -> Tensor:
    """``x gram`` for rows x given by their few entries: work in proportion to those, not to n.

    Args:
        gram: shape (n, n).
        subspace: where the entries are.
        values: shape (rows, longest).
    """
    if not subspace.places.shape[1]:
        return values.new_zeros(len(values), gram.shape[1])
    weights = values * subspace.inside
    return torch.nn.functional.embedding_bag(subspace.places, gram, per_sample_weights=weights, mode="sum")
