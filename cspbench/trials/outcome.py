"""Ends of trials: a result, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass

from cspbench.result import TrialResult
from cspbench.spec import TrialSpec


@dataclass(frozen=True)
class Outcome:
    """End of one attempt at a trial.

    Attributes:
        spec: the trial.
        result: its result; None if it failed.
        error: the reason of a failure, for people; None if it finished.
    """

    spec: TrialSpec
    result: TrialResult | None = None
    error: str | None = None
