"""Options of the selection of weights: zeros of each matrix, and the pattern they must form."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from cspbench.errors import PruningError
from cspbench.hyper import Hyperparameters, Search

Allocation = Literal["global", "uniform", "erk"]
MatrixShape = tuple[int, ...]

LARGEST_GROUP = 64
"""Largest M of an N:M pattern; selection compares all pairs of a group."""


@dataclass(frozen=True)
class Groups:
    """N:M: of every `of` consecutive inputs of a row at most `keep` are kept; so also of a shorter rest."""

    keep: int
    of: int

    def capacity(self, shape: MatrixShape) -> int:
        """Most weights a matrix of shape (out, in) may keep."""
        groups, rest = divmod(shape[1], self.of)
        return shape[0] * (groups * self.keep + min(rest, self.keep))


@dataclass(frozen=True)
class Blocks:
    """Tiles of `rows` outputs by `columns` inputs that go together; at the far edges tiles are smaller."""

    rows: int
    columns: int

    def capacity(self, shape: MatrixShape) -> int:
        """Most weights a matrix of shape (out, in) may keep."""
        return math.prod(shape)


Pattern = Groups | Blocks | None


def parse_pattern(text: str) -> Pattern:
    """Read ``unstructured`` (None), ``N:M`` or ``RxC``; raises ValueError where it is none of them."""
    if text == "unstructured":
        return None
    match = re.fullmatch(r"([0-9]{1,4})([:x])([0-9]{1,4})", text)
    if match is None:
        raise ValueError(f"'{text}' is no pattern: write unstructured, N:M such as 2:4, or RxC such as 4x4")
    first, second = int(match[1]), int(match[3])
    if match[2] == ":":
        if not 1 <= first < second <= LARGEST_GROUP:
            raise ValueError(f"'{text}' is no pattern: N:M needs 1 <= N < M <= {LARGEST_GROUP}")
        return Groups(first, second)
    if first < 1 or second < 1:
        raise ValueError(f"'{text}' is no pattern: a block has at least one row and one column")
    return Blocks(first, second)


class SelectionParams(Hyperparameters):
    """Options of every method that selects weights."""

    allocation: Annotated[Allocation, Search(choices=("global", "uniform", "erk"))] = Field(
        "global", description="rank all matrices together; or the same density each; or ERK: small matrices denser"
    )
    density: dict[str, Annotated[float, Field(gt=0)]] = Field(
        {}, description="uniform, erk: multiplies the density of matrices whose name the regular expression is found in"
    )
    pattern: str = Field(
        "unstructured", description="unstructured; N:M, such as 2:4 along the inputs; or blocks RxC, such as 4x4"
    )

    @field_validator("pattern")
    @classmethod
    def _is_a_pattern(cls, text: str) -> str:
        parse_pattern(text)
        return text

    @field_validator("density")
    @classmethod
    def _are_regular_expressions(cls, density: dict[str, float]) -> dict[str, float]:
        for expression in density:
            try:
                re.compile(expression)
            except re.error as error:
                raise ValueError(f"'{expression}' is not a regular expression: {error}") from None
        return density

    @model_validator(mode="after")
    def _density_needs_an_allocation(self) -> SelectionParams:
        if self.density and self.allocation not in ("uniform", "erk"):
            raise ValueError(f"density needs allocation uniform or erk: with {self.allocation} the scores alone decide")
        return self

    def multiplier(self, name: str) -> float:
        """Product of the multipliers whose expression is found in a matrix's name."""
        return math.prod(factor for expression, factor in self.density.items() if re.search(expression, name))


def check_selection(shapes: Mapping[str, MatrixShape], zeros: int, params: SelectionParams) -> None:
    """Refuse, before any training, a target that cannot be met.

    Args:
        shapes: (out, in) by matrix name.
        zeros: target; with 0 nothing is pruned and nothing can be wrong.
        params: options of the selection.

    Raises:
        PruningError: a `density` expression that is found in no name, or a pattern that needs more zeros.
    """
    if not zeros:
        return
    for expression in params.density:
        if not any(re.search(expression, name) for name in shapes):
            raise PruningError(f"density: no prunable matrix is called '{expression}' (there are: {', '.join(shapes)})")
    pattern = parse_pattern(params.pattern)
    total = sum(math.prod(shape) for shape in shapes.values())
    capacity = total if pattern is None else sum(pattern.capacity(shape) for shape in shapes.values())
    if total - zeros > capacity:
        needed = math.ceil(1000 * (1 - capacity / total)) / 1000
        raise PruningError(
            f"pattern {params.pattern} keeps at most {capacity} of {total} weights here, so that sparsity "
            f"{zeros / total:.3g} cannot be met: ask for {needed:g} or more, or for another pattern"
        )
