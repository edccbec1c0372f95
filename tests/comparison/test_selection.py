"""Selection on dev: WER first, the loss where WER ties or saturates, and no choice where nothing tells."""

from __future__ import annotations

import pytest

from cspbench.comparison.candidates import MethodSetting, TuningCell
from cspbench.comparison.selection import CandidateOutcome, Selection, _best
from cspbench.spec import MethodSpec


def outcomes(*dev: tuple[float | None, float | None]) -> tuple[CandidateOutcome, ...]:
    """Outcomes of candidates with these dev WERs and losses."""
    setting = MethodSetting(MethodSpec(name="csp"))
    return tuple(CandidateOutcome(setting, wer, loss, ("t",), (), 0) for wer, loss in dev)


@pytest.mark.parametrize(
    ("dev", "best"),
    [
        ([(0.3, 2.0), (0.2, 3.0), (0.25, 1.0)], (1,)),  # WER decides where it tells
        ([(0.2, 2.0), (0.2, 1.5), (0.3, 1.0)], (1,)),  # the loss decides a tie
        ([(1.0, 5.0), (0.97, 6.0), (0.99, 4.0)], (2,)),  # nothing was learned: WER tells nothing
        ([(1.0, 1.0), (0.5, 6.0)], (1,)),
        ([(0.2, 2.0), (0.2, 2.0), (0.3, 1.0)], (0, 1)),  # no choice
        ([(0.2, None), (0.2, 1.0)], (0, 1)),  # an older result knows no loss
        ([(1.0, None), (0.95, None), (0.5, None)], (2,)),
        ([(None, None), (0.4, 1.0)], (1,)),  # failed
        ([(None, None)], ()),
    ],
)
def test_the_best_on_dev(dev: list[tuple[float | None, float | None]], best: tuple[int, ...]) -> None:
    assert _best(outcomes(*dev)) == best


def test_states_are_told_apart() -> None:
    tried = outcomes((0.2, 1.0), (0.2, 1.0))
    cell = TuningCell("csp", 0.9, 4.0, tuple(t.setting for t in tried))
    chosen, tied, failed = (Selection(cell, tried, best) for best in ((1,), (0, 1), ()))
    assert [(s.state, s.taken) for s in (chosen, tied, failed)] == [("chosen", 1), ("no choice", 0), ("failed", None)]
    assert chosen.notes == []
    assert tied.notes == ["csp at 90 %, budget 4: no choice, dev cannot tell candidates 0, 1 apart; 0 is run"]
    pending = CandidateOutcome(tried[0].setting, None, None, ("t",), (), 1)
    assert Selection(cell, (tried[0], pending), ()).state == "undecided"
