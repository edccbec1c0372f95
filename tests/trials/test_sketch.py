"""The plane of trials that a terminal shows while a sweep runs."""

from __future__ import annotations

from support.fake_studies import result, spec

from cspbench.trials.outcome import Outcome
from cspbench.trials.sketch import Sketch


def sketch(*trials: tuple[str, float, float]) -> str:
    drawn = Sketch()
    for method, sparsity, wer in trials:
        trial = spec(method, sparsity)
        drawn.take(Outcome(trial, result(trial, wer)))
    drawn.take(Outcome(spec("csp", 0.99), error="boom"))
    return drawn.text()


def test_trials_lie_where_they_belong_and_capitals_are_on_the_front() -> None:
    shown = sketch(
        ("control", 0.0, 0.01), ("csp", 0.5, 0.0), ("magnitude", 0.5, 0.1), ("csp", 0.9, 0.1), ("movement", 0.9, 0.2)
    )
    assert shown.splitlines() == [
        "dev WER",
        "  20.0 % │" + " " * 43 + "o",
        "         │",
        "         │",
        "         │m" + " " * 42 + "C",
        "         │",
        "         │",
        "     0 % │C",
        "         └" + "─" * 44,
        "          50 %" + " " * 30 + "90 % zeros",
        "c csp, m magnitude, o movement; capitals: Pareto front",
    ]


def test_nothing_is_drawn_of_few_trials_or_of_one_sparsity() -> None:
    assert sketch(("csp", 0.5, 0.1), ("csp", 0.9, 0.2)) == ""
    assert sketch(("csp", 0.5, 0.1), ("magnitude", 0.5, 0.2), ("movement", 0.5, 0.3)) == ""


def test_trials_without_errors_are_drawn_too() -> None:
    assert "C" in sketch(("csp", 0.5, 0.0), ("csp", 0.75, 0.0), ("csp", 0.9, 0.0))
