"""Ends of trials: a result, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cspbench.errors import CspbenchError
from cspbench.result import TrialResult
from cspbench.spec import TrialSpec

TrialStatus = Literal["running", "complete", "failed", "stopped"]

FailureReason = Literal["refused", "diverged", "memory", "storage", "killed", "timeout", "crashed"]
"""Kind of a failure: a request that cannot be met, a loss that is not finite, too little memory, a file that cannot be
read or written, a worker that died again and again, a trial that took too long, any other exception."""


@dataclass(frozen=True)
class Outcome:
    """End of one attempt at a trial.

    Attributes:
        spec: the trial.
        result: its result; None if it failed.
        error: the cause of a failure, for people; None if it finished.
        reason: the kind of failure, for programs; None if it finished.
        stopped: where it was stopped early, for people; None if it was not.
    """

    spec: TrialSpec
    result: TrialResult | None = None
    error: str | None = None
    reason: FailureReason | None = None
    stopped: str | None = None

    @property
    def state(self) -> TrialStatus:
        """State in the list of trials."""
        if self.result is not None:
            return "complete"
        return "failed" if self.stopped is None else "stopped"

    def message(self) -> dict[str, Any]:
        """Return all but the spec as JSON, for another process."""
        result = None if self.result is None else self.result.model_dump(mode="json")
        return {"result": result, "error": self.error, "reason": self.reason, "stopped": self.stopped}

    @classmethod
    def of_message(cls, spec: TrialSpec, message: Mapping[str, Any]) -> Outcome:
        """Return the outcome of a trial from its `message`, which may hold more."""
        result = message["result"] and TrialResult.model_validate(message["result"])
        return cls(spec, result, message["error"], message["reason"], message.get("stopped"))


def reason_of(error: Exception) -> FailureReason:
    """Return the kind of failure that an exception is."""
    if isinstance(error, CspbenchError):
        return "refused"
    if isinstance(error, FloatingPointError):
        return "diverged"
    if isinstance(error, OSError):
        return "storage"
    # CUDA's error by name, so that torch need not be imported; on the CPU torch raises a plain RuntimeError.
    out_of_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return "memory" if out_of_memory or "can't allocate memory" in str(error) else "crashed"
