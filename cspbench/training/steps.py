"""Curves of single optimiser steps, on disk: a file of few rows, right even after a run was killed and resumed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cspbench.store import write_jsonl

STEP_POINTS = 150
"""Steps of a run that are kept, at most; evenly spread."""


class StepLog:
    """Numbers of single steps of a training run.

    Args:
        path: the file; None keeps nothing.
        total: steps of the run.
        points: steps that are kept, at most.
    """

    def __init__(self, path: Path | None, total: int, points: int = STEP_POINTS) -> None:
        self._path = path
        # Decided by the step alone, so that a resumed run keeps the same steps. The last one is always kept.
        self._every = max(1, -(-total // (points - 1)))
        self._total = total

    def keeps(self, step: int) -> bool:
        """Return whether a step, counted from 1, is kept."""
        return self._path is not None and (step % self._every == 0 or step == self._total)

    def write(self, first: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append rows in order of ``step``; those from step `first` on, which a killed run left, are replaced."""
        if self._path is None:
            return
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.is_file() else []
        known = [json.loads(line) for line in lines]
        write_jsonl(self._path, [*(row for row in known if row["step"] < first), *rows])
