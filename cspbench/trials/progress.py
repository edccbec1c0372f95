"""Progress on the screen: bars with the time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, Self

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from cspbench.spec import DenseSpec, TrialSpec
from cspbench.training.events import Event
from cspbench.trials.outcome import Outcome
from cspbench.trials.sketch import Sketch
from cspbench.units import size_unit, time_unit

TALL = 30
"""Lines of a terminal on which the sketch of the trials has room."""

PLAIN_INTERVAL = 15.0
"""Seconds between plain lines about the same work."""

FIRST_ESTIMATE = 0.1
"""Trials, parts of them counted, after which the time left is estimated."""

TRAINING = 0.9
"""Fraction of a trial's time that its training takes, about: the rest decodes and measures."""


class Display(Protocol):
    """Shows a sweep or a comparison at work; leaving it as a context manager restores the terminal."""

    def note(self, text: str) -> None:
        """Show one line."""

    def expect(self, trials: int) -> None:
        """Start counting: `trials` trials are to come."""

    def revise(self, trials: int) -> None:
        """Correct the number of trials, those that have ended included."""

    def event(self, work: TrialSpec | DenseSpec, event: Event) -> None:
        """Show the progress of a trial, or of the training of a dense recogniser."""

    def ended(self, outcome: Outcome, cached: bool) -> None:
        """Show the end of a trial: its results on dev, never on test; `cached` if its result was there before."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def make_display(console: Console) -> Display:
    """Return bars for a terminal, plain lines for anything else."""
    return Bars(console) if console.is_terminal else Lines(console)


def label_of(work: TrialSpec | DenseSpec) -> str:
    """Short name of a trial or of a dense training."""
    if isinstance(work, DenseSpec):
        return "dense model"
    return f"{work.method.name} {100 * work.sparsity:.4g} % seed {work.seed}"


class Clock:
    """Estimate of the time left, from the trials that were run or are under way; those with a result took no time."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._start = now()
        self._under_way: dict[str, float] = {}
        self.total = self.ended = self._ran = 0

    def expect(self, trials: int) -> None:
        """Start counting, or start again."""
        self._start = self._now()
        self._under_way.clear()
        self.total, self.ended, self._ran = trials, 0, 0

    def advance(self, label: str, fraction: float) -> None:
        """Note what fraction of a trial is done."""
        self._under_way[label] = fraction

    def count(self, label: str, cached: bool) -> None:
        """Count a trial that ended."""
        self._under_way.pop(label, None)
        self.ended += 1
        self._ran += not cached

    def left(self) -> str:
        """Return such as ``about 5 min left``; empty before a tenth of the first trial is done."""
        under_way = sum(self._under_way.values())
        done, remaining = self._ran + under_way, self.total - self.ended - under_way
        if done < FIRST_ESTIMATE or remaining <= 0:
            return ""
        return f"about {duration((self._now() - self._start) / done * remaining)} left"


class Best:
    """The trial with the least dev WER at each sparsity so far; the control competes with nobody."""

    def __init__(self) -> None:
        self._found: dict[float, tuple[float, str]] = {}

    def take(self, outcome: Outcome) -> bool:
        """Return True if a trial is the best of two or more at its sparsity."""
        spec, result = outcome.spec, outcome.result
        if result is None or spec.sparsity == 0:
            return False
        known = self._found.get(spec.sparsity)
        if known is not None and known[0] <= result.dev.wer:
            return False
        self._found[spec.sparsity] = (result.dev.wer, spec.method.name)
        return known is not None

    def text(self) -> str:
        """Return such as ``best dev WER so far: 50 %: csp 4.7, 90 %: csp 7.7``; empty without any."""
        parts = [f"{100 * s:.4g} %: {name} {100 * wer:.1f}" for s, (wer, name) in sorted(self._found.items())]
        return f"best dev WER so far: {', '.join(parts)}" if parts else ""


def duration(seconds: float) -> str:
    """Format seconds as ``40 s``, ``5 min`` or ``2 h 10 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _sentence(outcome: Outcome, cached: bool) -> str:
    label, result = label_of(outcome.spec), outcome.result
    if outcome.stopped is not None:
        return f"{label}: stopped early at {outcome.stopped}"
    if result is None:
        return f"{label}: FAILED: {outcome.error}"
    # WER of dev: whoever watches may still change settings, and test is to be looked at when they stand.
    metrics = result.metrics()
    size = f"{size_unit([metrics['size_bytes']]).text(metrics['size_bytes'])}, " if "size_bytes" in metrics else ""
    return (
        f"{label}: dev WER {100 * metrics['dev_wer']:.1f} % (dense {100 * metrics['dense_dev_wer']:.1f} %), "
        f"{_step_time(metrics)}{size}{'had finished before' if cached else duration(result.seconds)}"
    )


def _step_time(metrics: Mapping[str, float]) -> str:
    """Median latency with a comma behind it; empty for a trial that only served to choose settings."""
    if "latency_ms" not in metrics:
        return ""
    unit = time_unit([metrics["latency_ms"], metrics["dense_latency_ms"]])
    noisy = " (too noisy to believe)" if metrics.get("latency_conclusive") == 0 else ""
    return f"{unit.text(metrics['latency_ms'])} a step (dense {unit.format(metrics['dense_latency_ms'])}){noisy}, "


def _fraction(event: Event) -> float | None:
    """Fraction of its trial that an event says is done; None where it says nothing of that."""
    return TRAINING * event.step / event.total if event.stage == "prune" and event.total else None


class Lines:
    """Plain lines for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._clock, self._best = Clock(), Best()
        self._shown: dict[str, tuple[str, float]] = {}

    def note(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def expect(self, trials: int) -> None:
        self._clock.expect(trials)

    def revise(self, trials: int) -> None:
        self._clock.total = trials

    def event(self, work: TrialSpec | DenseSpec, event: Event) -> None:
        label = label_of(work)
        if (fraction := _fraction(event)) is not None:
            self._clock.advance(label, fraction)
        stage, at = self._shown.get(label, ("", 0.0))
        now = time.monotonic()
        if event.stage != stage or event.message or now - at >= PLAIN_INTERVAL:
            self._shown[label] = (event.stage, now)
            self.note(f"  {label}: {_stage(event)}")

    def ended(self, outcome: Outcome, cached: bool) -> None:
        self._clock.count(label_of(outcome.spec), cached)
        best = f"best at {100 * outcome.spec.sparsity:.4g} % so far" if self._best.take(outcome) else ""
        text = "; ".join(filter(None, [_sentence(outcome, cached), best, self._clock.left()]))
        self.note(f"[{self._clock.ended}/{self._clock.total}] {text}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


def _stage(event: Event) -> str:
    parts = [event.stage]
    if event.total:
        parts.append(f"{event.step}/{event.total}")
    parts += [f"{name} {value:.4g}" for name, value in event.metrics.items()]
    return " ".join([*parts, event.message]).strip()


class _Left(ProgressColumn):
    """The time left of the sweep, estimated anew at every refresh; the note of any other task."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def render(self, task: Task) -> Text:
        note = task.fields["note"]
        return Text(self._clock.left() if note is None else note)


class _Live(Progress):
    """Bars, and below them the best trials so far and, on a tall terminal, the plane they lie in."""

    def __init__(self, *columns: ProgressColumn, console: Console, best: Best, sketch: Sketch) -> None:
        self._best, self._sketch, self._terminal = best, sketch, console
        super().__init__(*columns, console=console)

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if text := self._best.text():
            yield Text(text)
        if self._terminal.height >= TALL and (plane := self._sketch.text()):
            yield Text(plane)


class Bars:
    """Live bars: one for the sweep, one for each trial or dense training under way; below, what was found so far."""

    def __init__(self, console: Console) -> None:
        self._clock, self._best, self._sketch = Clock(), Best(), Sketch()
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            _Left(self._clock),
        )
        self._progress = _Live(*columns, console=console, best=self._best, sketch=self._sketch)
        self._tasks: dict[str, TaskID] = {}
        self._sweep: TaskID | None = None

    def note(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False)

    def expect(self, trials: int) -> None:
        self._clock.expect(trials)
        self._drop_all()
        self._sweep = self._progress.add_task("sweep", total=trials, note=None)

    def revise(self, trials: int) -> None:
        self._clock.total = trials
        if self._sweep is not None:
            self._progress.update(self._sweep, total=trials)

    def event(self, work: TrialSpec | DenseSpec, event: Event) -> None:
        label = label_of(work)
        if label not in self._tasks:
            self._tasks[label] = self._progress.add_task(label, total=None, note="")
        if event.message:
            self.note(f"{label}: {event.message}")
        if (fraction := _fraction(event)) is not None:
            self._clock.advance(label, fraction)
        metrics = " ".join(f"{name} {value:.4g}" for name, value in event.metrics.items())
        self._progress.update(
            self._tasks[label], completed=event.step, total=event.total or None, note=f"{event.stage} {metrics}"
        )

    def ended(self, outcome: Outcome, cached: bool) -> None:
        self._clock.count(label_of(outcome.spec), cached)
        self._best.take(outcome)
        self._sketch.take(outcome)
        task = self._tasks.pop(label_of(outcome.spec), None)
        if task is not None:
            self._progress.remove_task(task)
        self.note(_sentence(outcome, cached))
        if self._sweep is not None:
            self._progress.update(self._sweep, completed=self._clock.ended)

    def _drop_all(self) -> None:
        for task in self._tasks.values():
            self._progress.remove_task(task)
        self._tasks.clear()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._drop_all()
        self._progress.stop()
