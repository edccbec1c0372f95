"""Progress events of long work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Event:
    """Progress of one stage: `step` of `total`, with the latest metrics by name.

    `evaluation` is the record that has just been added to the training curve; empty between evaluations.
    """

    stage: str
    step: int = 0
    total: int = 0
    message: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    evaluation: Mapping[str, float] = field(default_factory=dict)


Listener = Callable[[Event], None]
"""Called with events; may raise `StoppedEarly` at an evaluation."""


class StoppedEarly(Exception):  # noqa: N818 - no error: the trial could go on
    """A trial does worse than others; it ends at a checkpoint from which it can go on."""


def silent(_: Event) -> None:
    """Listener that ignores everything."""
