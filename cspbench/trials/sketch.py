"""Dev WER over sparsity as text, for a terminal that a sweep runs in."""

from __future__ import annotations

from collections.abc import Iterable

from cspbench.trials.outcome import Outcome

WIDTH, HEIGHT = 44, 7
"""Characters of the plane."""

FEWEST = 3
"""Trials that are drawn, at least."""


class Sketch:
    """The finished trials of a sweep in the plane of sparsity and dev WER; capitals are on the Pareto front."""

    def __init__(self) -> None:
        self._points: list[tuple[float, float, str]] = []

    def take(self, outcome: Outcome) -> None:
        """Add a trial, if it finished and prunes."""
        if outcome.result is not None and outcome.spec.sparsity > 0:
            self._points.append((outcome.result.sparsity, outcome.result.dev.wer, outcome.spec.method.name))

    def text(self) -> str:
        """Return the plane with its axes and a legend; empty with few trials, or all at one sparsity."""
        low, high = (choose((point[0] for point in self._points), default=0.0) for choose in (min, max))
        if len(self._points) < FEWEST or high - low < 1e-3:
            return ""
        top = max(point[1] for point in self._points) or 1.0
        letters = _letters(point[2] for point in self._points)
        plane = [[" "] * WIDTH for _ in range(HEIGHT)]
        # Those of the front last, so that they stand where several fall on one character.
        for point in sorted(self._points, key=self._on_front):
            column = round((point[0] - low) / (high - low) * (WIDTH - 1))
            row = round((1 - point[1] / top) * (HEIGHT - 1))
            letter = letters[point[2]]
            plane[row][column] = letter.upper() if self._on_front(point) else letter
        labels = [f"{100 * top:.1f} %", *[""] * (HEIGHT - 2), "0 %"]
        lines = [f"{label:>8} │{''.join(line).rstrip()}" for label, line in zip(labels, plane, strict=True)]
        ends = f"{100 * low:.4g} %", f"{100 * high:.4g} % zeros"
        lines += [f"{'':8} └{'─' * WIDTH}", f"{'':10}{ends[0]}{ends[1]:>{WIDTH - len(ends[0])}}"]
        legend = ", ".join(f"{letter} {name}" for name, letter in letters.items())
        return "\n".join(["dev WER", *lines, f"{legend}; capitals: Pareto front"])

    def _on_front(self, point: tuple[float, float, str]) -> bool:
        sparsity, wer, _ = point
        return not any((s >= sparsity and w < wer) or (s > sparsity and w <= wer) for s, w, _ in self._points)


def _letters(names: Iterable[str]) -> dict[str, str]:
    """Return a letter for each name: its first that no other has taken."""
    found: dict[str, str] = {}
    for name in sorted(set(names)):
        free = [letter for letter in f"{name}abcdefghijklmnopqrstuvwxyz".lower() if letter not in found.values()]
        found[name] = next((letter for letter in free if letter.isalpha()), "x")
    return found
