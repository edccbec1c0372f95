"""Ramps by hand: the fraction of the zeros that is due after each step."""

from __future__ import annotations

import pytest

from cspbench.errors import PruningError
from cspbench.pruning.schedule import Schedule


def test_cubic_is_that_of_zhu_and_gupta() -> None:
    ramp = Schedule(total=100, shape="cubic", begin=0.2, end=0.6, interval=10)
    assert ramp.fraction(0) == ramp.fraction(20) == 0
    assert ramp.fraction(30) == pytest.approx(1 - 0.75**3)
    assert ramp.fraction(40) == pytest.approx(1 - 0.5**3)
    assert ramp.fraction(60) == ramp.fraction(100) == 1
    linear = Schedule(total=100, shape="linear", begin=0.2, end=0.6)
    assert linear.fraction(30) == pytest.approx(0.25)


def test_updates_come_at_intervals_and_at_the_end_of_the_ramp() -> None:
    ramp = Schedule(total=200, begin=0.05, end=0.525, interval=10)
    assert [step for step in range(201) if ramp.due(step)] == [*range(10, 101, 10), 105]
    short = Schedule(total=32, begin=0.0, end=0.5, interval=100)
    assert [step for step in range(33) if short.due(step)] == list(range(0, 17, 2))
    once = Schedule(total=50, shape="one_shot", begin=0.1)
    assert [step for step in range(51) if once.due(step)] == [5]
    assert [once.fraction(4), once.fraction(5)] == [0, 1]


@pytest.mark.parametrize("total", range(1, 30))
def test_a_ramp_always_arrives(total: int) -> None:
    for end in (0.3, 0.5, 1.0):
        ramp = Schedule(total=total, end=end)
        fractions = [ramp.fraction(step) for step in range(total + 1)]
        assert fractions == sorted(fractions)
        assert fractions[-1] == 1
        assert ramp.due(ramp.last)
        assert ramp.last <= total


def test_impossible_ramps_are_refused() -> None:
    with pytest.raises(PruningError, match=r"begin 0\.6 and end 0\.5"):
        Schedule(total=10, begin=0.6, end=0.5)
    with pytest.raises(PruningError, match="got 0"):
        Schedule(total=10, interval=0)
