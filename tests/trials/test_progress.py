"""What a person sees while a sweep runs."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from support.fake_studies import result, spec

from cspbench.training.events import Event
from cspbench.trials.outcome import Outcome
from cspbench.trials.progress import Bars, Best, Clock, Lines, duration, make_display


def test_time_left_counts_only_what_really_ran() -> None:
    now = iter([0.0, 100.0, 160.0])
    clock = Clock(now=lambda: next(now))
    clock.expect(5)  # at 100
    assert clock.left() == ""
    clock.count("a", cached=True)
    assert clock.left() == ""
    clock.count("b", cached=False)  # took 60 seconds
    assert clock.left() == "about 3 min left"


def test_time_left_moves_while_trials_run() -> None:
    now = iter([0.0, 0.0, 30.0, 60.0, 90.0])
    clock = Clock(now=lambda: next(now))
    clock.expect(4)
    clock.advance("a", 0.05)
    assert clock.left() == ""
    clock.advance("a", 0.25)  # at 30: a trial takes 120 seconds, 3.75 are left
    assert clock.left() == "about 8 min left"
    clock.advance("a", 0.5)
    assert clock.left() == "about 7 min left"
    clock.advance("b", 0.5)  # two workers at 90: 90 seconds for one trial in all
    assert clock.left() == "about 4 min left"


def test_the_best_trial_at_each_sparsity_is_told() -> None:
    best = Best()
    assert best.text() == ""
    for method, sparsity, wer, is_best in [
        ("magnitude", 0.9, 0.3, False),  # the first is no news
        ("csp", 0.9, 0.2, True),
        ("lottery", 0.9, 0.25, False),
        ("magnitude", 0.5, 0.1, False),
        ("control", 0.0, 0.01, False),
    ]:
        trial = spec(method, sparsity)
        assert best.take(Outcome(trial, result(trial, wer))) is is_best
    assert not best.take(Outcome(spec("csp", 0.95), error="boom"))
    assert best.text() == "best dev WER so far: 50 %: magnitude 10.0, 90 %: csp 20.0"


@pytest.mark.parametrize(("seconds", "text"), [(3.2, "3 s"), (89, "89 s"), (300, "5 min"), (7800, "2 h 10 min")])
def test_durations_in_words(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_plain_lines_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    console = Console(file=stream)
    trial = spec("csp", 0.9)
    with make_display(console) as display:
        assert isinstance(display, Lines)
        display.expect(2)
        for step in range(50):
            display.event(trial, Event("prune", step, 50, metrics={"loss": 1.5}))
        display.ended(Outcome(trial, result(trial, 0.051)), cached=False)
        display.ended(Outcome(trial, error="no [brackets] lost"), cached=False)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "  csp 90 % seed 0: prune 0/50 loss 1.5"
    assert lines[1].startswith("[1/2] csp 90 % seed 0: dev WER 5.1 % (dense 2.0 %), 210 µs a step (dense 800), 1.40 MB")
    assert lines[2] == "[2/2] csp 90 % seed 0: FAILED: no [brackets] lost"
    assert len(lines) == 3


def test_a_trial_for_selection_only_has_no_latency_to_show() -> None:
    stream = io.StringIO()
    trial = spec("csp", 0.9)
    seen = result(trial, 0.051).model_copy(update={"test": None, "latency": None})
    with make_display(Console(file=stream)) as display:
        display.expect(1)
        display.ended(Outcome(trial, seen), cached=False)
    line = stream.getvalue()
    assert line.startswith("[1/1] csp 90 % seed 0: dev WER 5.1 % (dense 2.0 %), ")
    assert "a step" not in line


def test_bars_on_a_terminal() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=120)
    trial = spec("csp", 0.9)
    with make_display(console) as display:
        assert isinstance(display, Bars)
        display.event(trial.dense, Event("dense", 1, 2))
        display.expect(2)
        display.event(trial, Event("prune", 3, 50, metrics={"loss": 1.5}))
        display.ended(Outcome(trial, result(trial, 0.051)), cached=True)
    text = stream.getvalue()
    assert "dev WER 5.1 % (dense 2.0 %)" in text
    assert "had finished before" in text
    assert "1/2" in text
    assert "best dev WER so far: 90 %: csp 5.1" in text


@pytest.mark.parametrize(("height", "drawn"), [(40, True), (24, False)])
def test_a_tall_terminal_shows_the_plane_of_the_trials(height: int, drawn: bool) -> None:
    stream = io.StringIO()
    with make_display(Console(file=stream, force_terminal=True, width=120, height=height)) as display:
        display.expect(3)
        for sparsity in (0.5, 0.75, 0.9):
            trial = spec("csp", sparsity)
            display.ended(Outcome(trial, result(trial, sparsity / 10)), cached=False)
    assert ("c csp; capitals: Pareto front" in stream.getvalue()) is drawn
