"""Tables as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def markdown_rows(rows: Sequence[Mapping[str, object]]) -> str:
    """Lay out rows, all with the keys of the first, as a Markdown table without a line end; empty for no rows."""
    if not rows:
        return ""
    head = list(rows[0])
    lines: list[list[object]] = [[*head], ["---", *["---:"] * (len(head) - 1)], *([*row.values()] for row in rows)]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(value: object) -> str:
    return " ".join(str(value).replace("|", "\\|").split())
