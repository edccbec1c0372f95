"""Noise of a measurement, and the verdict on it.

Noise is looked for at its sources (other processes on the same processors, other guests of the host, an exhausted CPU
quota), in a loop of constant work between the measured ones, and in the measurements themselves: an engine compared to
itself must come out equal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

import numpy as np

from cspbench.machine.cpu import processor_seconds, usable_threads
from cspbench.machine.quota import control_groups
from cspbench.result import Interval, Noise, Verdict

AA_TOLERANCE = 0.03
"""An engine that takes part twice may seem this much faster or slower than itself."""

INTERVAL_TOLERANCE = 0.15
"""Upper over lower bound of an interval, less one."""

THROTTLED = "throttled_share"
LIMITS = {
    "others_share": (0.05, "other processes took {:.1%} of the processors measured on"),
    "steal_share": (0.01, "other guests of the host took {:.1%} of the processors' time"),
    THROTTLED: (0.01, "the CPU quota stopped this process in {:.0%} of its periods"),
    "spin_spread": (0.25, "a loop of constant work took {:.0%} longer than its median one time in ten"),
}
"""Figures of a `Watch` with the limit above which they speak against a run, and the reason then given."""

SPIN_SECONDS = 0.0003
SPINS = 10

Clock = Callable[[], float]


class Watch:
    """Watches the machine while something is measured on it; call `sample` between measurements.

    Args:
        processors: those the measurement keeps to; empty where the system does not report them.
        clock: seconds.
    """

    def __init__(self, processors: list[int], clock: Clock = time.perf_counter) -> None:
        self._processors, self._clock = processors, clock
        self._work = _calibrate(clock)
        self._spins: list[float] = []
        self._runnable: list[int] = []

    def __enter__(self) -> Self:
        self._groups = [(group, group.periods) for group in control_groups()]
        self._before = self._counters()
        return self

    def __exit__(self, *_: object) -> None:
        self._after = self._counters()
        self._throttled = [
            (throttled - throttled_before) / (periods - periods_before)
            for (periods, throttled), (periods_before, throttled_before) in ((g.periods, b) for g, b in self._groups)
            if periods > periods_before
        ]

    def sample(self) -> None:
        """Run the loop of known work a few times, and count the other processes that want a processor."""
        for _ in range(SPINS):
            began = self._clock()
            _spin(self._work)
            self._spins.append(self._clock() - began)
        running = _running_processes()
        if running is not None:
            self._runnable.append(running - 1)

    def figures(self) -> dict[str, float]:
        """Figures by name; those that the system does not report are absent."""
        passed = {key: self._after[key] - before for key, before in self._before.items()}
        capacity = max(passed["wall"], 1e-9) * max(1, len(self._processors))
        seen = {"clock_resolution_ns": time.get_clock_info("perf_counter").resolution * 1e9}
        seen["timer_overhead_ns"] = _timer_overhead(self._clock) * 1e9
        if self._spins:
            middle, high = np.quantile(self._spins, (0.5, 0.9))
            seen |= {"spin_us": float(middle) * 1e6, "spin_spread": float(high / middle - 1)}
        if "busy" in passed:
            # The system counts in ticks of 10 ms: less than one is nothing.
            seen["others_share"] = max(0.0, passed["busy"] - passed["own"] - 0.01) / capacity
            seen["steal_share"] = passed["steal"] / capacity
        if self._throttled:
            seen[THROTTLED] = max(self._throttled)
        if self._runnable:
            seen["others_runnable"] = float(np.mean(self._runnable))
        return seen

    def _counters(self) -> dict[str, float]:
        counted = {"wall": time.monotonic(), "own": time.process_time()}
        return counted | (processor_seconds(self._processors) or {})


def judge(
    seen: Mapping[str, float],
    same: Interval,
    medians: Mapping[str, Interval],
    ratios: Mapping[str, Interval],
    alone: bool = True,
    threads: int = 1,
) -> Noise:
    """Return the verdict on a measurement, with reasons.

    Args:
        seen: figures of a `Watch`.
        same: the ratio of an engine to itself.
        medians: engine -> its time.
        ratios: name -> ratio of two engines' times.
        alone: other work of cspbench was paused, all the time.
        threads: that ran at a time, on processors and a quota that allow `usable_threads`.
    """
    reasons = [words.format(seen[key]) for key, (limit, words) in LIMITS.items() if seen.get(key, 0.0) > limit]
    if abs(same.value - 1) > AA_TOLERANCE:
        reasons.append(f"an engine that took part twice came out {same.value:.3f} times as slow as itself")
    for what, known in (("median", medians), ("ratio", ratios)):
        for name, one in known.items():
            if one.high > one.low * (1 + INTERVAL_TOLERANCE):
                reasons.append(f"the {what} of {name} is uncertain: {one.low:.3g} to {one.high:.3g}")
    if not alone:
        reasons.append(
            "other work of cspbench ran beside the measurement: it did not pause in time, or not long enough"
        )
    if threads > usable_threads():
        reasons.append(f"{threads} threads shared what {usable_threads()} can use at a time")
    throttled = seen.get(THROTTLED, 0.0) > LIMITS[THROTTLED][0]
    verdict: Verdict = "throttled" if throttled else "noisy" if reasons else "quiet"
    return Noise(conclusive=not reasons, verdict=verdict, reasons=reasons, figures=dict(seen), same=same)


def _spin(work: int) -> int:
    total = 0
    for number in range(work):
        total += number & 7
    return total


def _calibrate(clock: Clock) -> int:
    """Work of `_spin` that takes about `SPIN_SECONDS` here."""
    trial = 2000
    times = []
    for _ in range(50):
        began = clock()
        _spin(trial)
        times.append(clock() - began)
    return max(1, round(trial * SPIN_SECONDS / max(min(times), 1e-9)))


def _timer_overhead(clock: Clock) -> float:
    """Median time between two readings of the clock, seconds."""
    readings = [clock() for _ in range(1001)]
    return float(np.median(np.diff(readings)))


def _running_processes() -> int | None:
    """Processes that run or want to, this one included."""
    try:
        return int(Path("/proc/loadavg").read_text().split()[3].split("/")[0])
    except (OSError, ValueError, IndexError):
        return None
