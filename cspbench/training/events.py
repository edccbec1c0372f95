"""Progress events of long work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Event:
    """Progress of one stage: `step` of `total`, with the latest metrics by name."""

    stage: str
    step: int = 0
    total: int = 0
    message: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)


Listener = Callable[[Event], None]


def silent(_: Event) -> None:
    """Listener that ignores everything."""
