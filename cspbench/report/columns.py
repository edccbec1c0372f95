"""Columns of a table for people, and which of them fit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

GAP = 2
"""Spaces between two columns."""


@dataclass(frozen=True)
class Column:
    """A column of texts.

    Attributes:
        heading: above it.
        cells: one text a row.
        rank: importance; columns of the highest rank are dropped first, those of rank 0 never.
        right: aligned to the right, as numbers are.
    """

    heading: str
    cells: tuple[str, ...]
    rank: int = 0
    right: bool = True

    @property
    def width(self) -> int:
        """Characters of its widest line."""
        return max(len(text) for text in (self.heading, *self.cells))


def fit(columns: Iterable[Column], width: int) -> list[Column]:
    """Drop the least important columns, of equals the last, until the rest fits into `width` characters."""
    kept = list(columns)
    while sum(column.width + GAP for column in kept) - GAP > width:
        place = max(range(len(kept)), key=lambda i: (kept[i].rank, i))
        if kept[place].rank == 0:
            break
        del kept[place]
    return kept


def lines_of(columns: Sequence[Column]) -> list[str]:
    """Lay columns out as text: headings, a rule, and a line a row."""

    def line(texts: Iterable[str]) -> str:
        aligned = (
            text.rjust(column.width) if column.right else text.ljust(column.width)
            for column, text in zip(columns, texts, strict=True)
        )
        return (" " * GAP).join(aligned).rstrip()

    rule = line("─" * column.width for column in columns)
    body = (line(texts) for texts in zip(*(column.cells for column in columns), strict=True))
    return [line(column.heading for column in columns), rule, *body]


def rows_of(columns: Sequence[Column]) -> list[dict[str, str]]:
    """Return columns as rows: heading -> text."""
    headings = [column.heading for column in columns]
    return [dict(zip(headings, texts, strict=True)) for texts in zip(*(c.cells for c in columns), strict=True)]
