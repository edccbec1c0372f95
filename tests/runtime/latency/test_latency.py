"""The protocol: what is timed, who takes turns, what is counted, and what is said of the noise. No real clock."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from support.latency_fakes import PACE, TRAFFIC, FakeClock, FakeEngine

from cspbench.asr.trained import Pace
from cspbench.errors import CorpusError
from cspbench.machine.lock import Reservation
from cspbench.result import Interval
from cspbench.runtime.latency import pinned, statistics
from cspbench.runtime.latency.measure import Place, measure
from cspbench.runtime.latency.noise import Watch, judge
from cspbench.runtime.latency.stream import stream
from cspbench.spec import FeatureSpec, LatencySpec

HERE = Place([], Reservation(alone=True, waited=0.0))


def samples(steps: int, rest: int = 0) -> np.ndarray:
    return np.zeros(PACE.step_samples * steps + rest, np.float32)


def interval(value: float, spread: float = 0.01) -> Interval:
    return Interval(value=value, low=value * (1 - spread), high=value * (1 + spread), units=20)


def test_steps_are_counted_as_the_front_end_makes_them() -> None:
    pace = Pace.of(FeatureSpec(), 16_000)
    assert pace == PACE
    assert (pace.step_samples, pace.step_seconds) == (480, 0.03)
    assert [pace.steps_in(n) for n in (0, 399, 719, 720, 1199, 1200)] == [0, 0, 0, 1, 1, 2]
    for n in range(0, 5000, 7):
        assert pace.steps_in(n) == max(0, (n - 400) // 160 + 1) // 3


def test_only_pieces_that_complete_one_step_are_steps() -> None:
    clock = FakeClock()
    engine = FakeEngine("a", clock, iter([0.001, 0.002, 0.004, 0.008, 0.016]), {2: [5], 3: [6, 7]})
    done = stream(engine, samples(4, rest=100), PACE)
    assert engine.pieces == [480, 480, 480, 480, 100]
    assert done.steps == pytest.approx([0.002, 0.004, 0.008])  # the first piece fills no window
    assert done.labels.tolist() == [0, 1, 2]
    assert done.emitted == [5, 6, 7, 9]
    assert done.finish == pytest.approx(0.016 + 0.0005)
    assert done.work == pytest.approx(0.031 + 0.0005)


def test_the_first_label_waits_for_its_audio_and_for_the_work_before_it() -> None:
    clock = FakeClock()
    swift = stream(FakeEngine("a", clock, 0.001, {2: [5]}), samples(4), PACE).first
    assert swift is not None
    assert (swift.audio, swift.work) == pytest.approx((0.09, 0.001))
    assert swift.since_start == pytest.approx(0.091)
    slow = stream(FakeEngine("a", clock, 0.05, {2: [5]}), samples(4), PACE).first
    assert slow is not None
    assert slow.since_start == pytest.approx(0.03 + 3 * 0.05)  # it never catches up after the first piece has come
    silent = stream(FakeEngine("a", clock), samples(4), PACE)
    assert silent.first is None


def test_bytes_are_counted_from_labels() -> None:
    # Two labels are all a step may emit, so that a third evaluation of the joint never happens.
    assert TRAFFIC.mean(np.array([0])) == 1000 + 100
    assert TRAFFIC.mean(np.array([1])) == 1000 + 200 + 10
    assert TRAFFIC.mean(np.array([2])) == 1000 + 200 + 20
    assert TRAFFIC.mean(np.array([0, 2])) == (1100 + 1220) / 2


def test_engines_take_turns_and_the_first_one_rotates() -> None:
    clock, log = FakeClock(), []
    engines = [FakeEngine(name, clock, log=log) for name in "ab"]
    measure(engines, [samples(4), samples(6)], PACE, LatencySpec(warmup=1, repeats=2), HERE)
    turns = ["".join(log[i : i + 3]) for i in range(0, len(log), 3)]
    # a takes part twice: what it gains over itself is noise. One warm-up and two repetitions of two utterances.
    assert turns == ["aab", "aba", "aba", "baa", "baa", "aab"]


def test_what_is_reported_of_an_engine() -> None:
    clock = FakeClock()
    engines = [FakeEngine("slow", clock, 0.004, {1: [3]}), FakeEngine("fast", clock, 0.001, {1: [3]})]
    audio = [samples(11, rest=5), samples(6, rest=5)]
    found = measure(engines, audio, PACE, LatencySpec(warmup=0, repeats=3), HERE)
    fast = found.engines["fast"]
    assert (fast.median_ms, fast.p95_ms, fast.p99_ms) == pytest.approx((1.0, 1.0, 1.0))
    assert fast.steps == 3 * (10 + 5)
    assert fast.labels == 4  # one of each utterance, and one at its end
    assert fast.finish_ms == pytest.approx(1.5)
    assert fast.rtf == pytest.approx((17 * 0.001 + 2 * 0.0015) / ((17 * 480 + 10) / 16_000))
    assert fast.first_token is not None
    assert fast.first_token.utterances == 2
    assert fast.step_bytes == pytest.approx(1100 + 110 * 2 / 15)
    assert fast.memory is not None
    assert (fast.memory.weights, fast.memory.state, fast.file_bytes) == (5000, 64, 5200)
    ratio = found.ratios["slow/fast"]
    assert list(found.ratios) == ["slow/fast"]
    assert (ratio.value, ratio.verdict, ratio.units) == (pytest.approx(4), "faster", 6)
    assert found.noise.same is not None
    assert found.noise.same.value == pytest.approx(1)
    assert found.protocol["repeats"] == 3


def test_nothing_is_collected_while_measuring_and_afterwards_again() -> None:
    clock, seen = FakeClock(), []

    class Watching(FakeEngine):
        def accept(self, samples: np.ndarray) -> Sequence[int]:
            seen.append(gc.isenabled())
            return super().accept(samples)

    measure([Watching("a", clock)], [samples(4)], PACE, LatencySpec(repeats=1), HERE)
    assert set(seen) == {False}
    assert gc.isenabled()


def test_a_single_repetition_gives_no_interval_and_no_verdict() -> None:
    clock = FakeClock()
    engines = [FakeEngine("slow", clock, 0.004), FakeEngine("fast", clock)]
    found = measure(engines, [samples(4)], PACE, LatencySpec(repeats=1), HERE)
    assert found.engines["fast"].median is None
    assert found.engines["fast"].median_ms == pytest.approx(1)
    assert found.ratios == {}
    assert not found.noise.conclusive
    assert found.noise.same is None
    assert "single repetition" in found.noise.reasons[0]


def test_audio_too_short_to_measure_is_refused() -> None:
    clock = FakeClock()
    with pytest.raises(CorpusError, match="long enough"):
        measure([FakeEngine("a", clock)], [samples(1)], PACE, LatencySpec(), HERE)


def test_pairs_cancel_what_slows_both() -> None:
    """The machine halves its speed in every other block: medians cannot tell the engines apart, pairs can."""
    speed = np.tile([1.0, 2.0], 15)
    above = [np.full(20, 1.2) * s for s in speed]
    below = [np.full(20, 1.0) * s for s in speed]
    ratio = statistics.ratio(above, below)
    assert (ratio.low, ratio.value, ratio.high) == pytest.approx((1.2, 1.2, 1.2))
    median = statistics.median(above)
    assert median.low < median.value * 0.7 or median.high > median.value * 1.3


def test_the_bootstrap_draws_blocks_not_steps() -> None:
    """A thousand steps that are all alike within each of four blocks are four observations, not four thousand."""
    blocks = [np.full(1000, level) for level in (1.0, 1.1, 1.2, 1.3)]
    found = statistics.median(blocks)
    assert found.units == 4
    assert found.low <= 1.05
    assert found.high >= 1.25


@pytest.mark.parametrize(
    ("value", "same", "verdict"),
    [
        (2.0, 1.0, "faster"),
        (0.5, 1.0, "slower"),
        (1.005, 1.0, "undecided"),
        (1.05, 0.9, "undecided"),
        (1.2, 0.9, "faster"),
    ],
)
def test_a_ratio_decides_only_beyond_the_noise(value: float, same: float, verdict: str) -> None:
    assert statistics.compared(interval(value), interval(same)).verdict == verdict


def test_equal_engines_are_not_told_apart_by_an_interval_that_happens_to_exclude_one() -> None:
    same = Interval(value=1.001, low=0.95, high=1.04, units=36)
    ratio = Interval(value=1.04, low=1.01, high=1.08, units=36)
    assert statistics.compared(ratio, same).verdict == "undecided"


QUIET = {"others_share": 0.0, "steal_share": 0.0, "spin_spread": 0.02}


def test_a_quiet_run_is_conclusive() -> None:
    noise = judge(QUIET, interval(1.01), {"a": interval(0.4)}, {"a/b": interval(3.0)})
    assert noise.conclusive
    assert (noise.verdict, noise.reasons) == ("quiet", [])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seen": QUIET | {"others_share": 0.143}}, "other processes took 14.3%"),
        ({"seen": QUIET | {"steal_share": 0.02}}, "other guests of the host took 2.0%"),
        ({"seen": QUIET | {"throttled_share": 0.93}}, "quota stopped this process in 93% of its periods"),
        ({"threads": 999}, "999 threads shared what"),
        ({"seen": QUIET | {"spin_spread": 0.63}}, "63% longer"),
        ({"same": interval(0.95)}, "0.950 times as slow as itself"),
        ({"ratios": {"a/b": interval(3.0, 0.1)}}, "ratio of a/b is uncertain: 2.7 to 3.3"),
        ({"medians": {"a": interval(3.0, 0.1)}}, "median of a is uncertain"),
        ({"alone": False}, "ran beside the measurement"),
    ],
)
def test_a_noisy_run_says_why(changes: dict, words: str) -> None:
    told = {"seen": QUIET, "same": interval(1.0), "medians": {"a": interval(0.4)}, "ratios": {"a/b": interval(3.0)}}
    noise = judge(**told | changes)
    assert not noise.conclusive
    assert noise.verdict == ("throttled" if "quota" in words else "noisy")
    assert len(noise.reasons) == 1
    assert words in noise.reasons[0]


def test_the_watch_sees_a_processor_that_stutters() -> None:
    clock = FakeClock()
    ticks = iter([0.001] * 100 + [0.0003, 0.0003, 0.0003, 0.0009] * 10 + [0.0] * 5000)

    def stuttering() -> float:
        clock.now += next(ticks) / 2
        return clock.now

    watch = Watch([], stuttering)
    with watch:
        watch.sample()
    assert watch.figures()["spin_spread"] > 0.25


def test_pinning_ends_with_the_measurement() -> None:
    allowed, threads = os.sched_getaffinity(0), torch.get_num_threads()
    with pinned(1) as processors:
        assert len(processors) == 1
        assert os.sched_getaffinity(0) == set(processors)
        assert torch.get_num_threads() == 1
    assert os.sched_getaffinity(0) == allowed
    assert torch.get_num_threads() == threads


def test_threads_that_were_there_before_are_pinned_too() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    assert thread.native_id is not None
    allowed = os.sched_getaffinity(thread.native_id)
    with pinned(1) as processors:
        assert os.sched_getaffinity(thread.native_id) == set(processors)
    assert os.sched_getaffinity(thread.native_id) == allowed
    done.set()
    thread.join()


def test_an_old_result_can_still_be_read(tmp_path: Path) -> None:
    from cspbench.result import LatencyReport

    engine = {"median_ms": 0.4, "p95_ms": 0.5, "rtf": 0.01, "steps": 900}
    report = LatencyReport.model_validate({"packed": engine, "dense": engine, "protocol": {"threads": 1}})
    assert report.noise is None
    assert report.packed.p99_ms is None
