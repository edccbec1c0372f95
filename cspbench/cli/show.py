"""``cspbench show`` and ``cspbench compare-trials``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cspbench.cli import completion
from cspbench.cli.options import AsJson, Root, Where, output, print_columns
from cspbench.cli.sweep import RUNS

if TYPE_CHECKING:
    from cspbench.report.side_by_side import Difference
    from cspbench.report.trial import Trial

REFERENCE = (
    "A trial by its id or the first digits of it; or STUDY, STUDY/METHOD, STUDY/METHOD@SPARSITY: the best on dev."
)
LONGEST_LINE = 110

Reference = Annotated[str, typer.Argument(help=REFERENCE, metavar="TRIAL", autocompletion=completion.trials)]


def show(
    reference: Reference,
    where: Where = None,
    hypotheses: Annotated[int, typer.Option(min=0, help="Utterances to print, the worst first.")] = 3,
    root: Root = RUNS,
    as_json: AsJson = False,
) -> None:
    """Print one trial on one screen: numbers with intervals, settings, layers, training curve, hypotheses.

    Examples: `cspbench show 0ea1`, `cspbench show smoke`, `cspbench show smoke/csp@0.8 --hypotheses 10`,
    `cspbench show smoke --where "size_bytes < 5e5"`
    """
    from cspbench.report.screen import screen
    from cspbench.report.trial import find_trials

    found = find_trials(reference, root, where)
    if as_json:
        typer.echo(json.dumps(_described(found[0], hypotheses), indent=2))
        return
    for line in screen(found[0], hypotheses, min(output().width, LONGEST_LINE)):
        _line(line)
    if len(found) > 1:
        _line(f"other seeds: {', '.join(trial.id for trial in found[1:])}")


def _described(trial: Trial, hypotheses: int) -> dict[str, Any]:
    from cspbench.report.confusions import confused_words, worst_utterances

    spec, result = trial.spec, trial.result
    found: dict[str, Any] = {"id": trial.id, "spec": spec.model_dump(mode="json"), "metrics": result.metrics()}
    found |= {"formats": result.formats, "synthetic": result.synthetic, "layers": result.layer_sparsity}
    found["curve"] = _records(trial.curve)
    if result.test is not None:
        rows = trial.hypotheses
        found |= {"confused": _records(confused_words(rows)), "worst": _records(worst_utterances(rows, hypotheses))}
    return found


def _records(frame: Any) -> list[dict[str, Any]]:
    """Rows of a frame as JSON values; NaN becomes null."""
    return json.loads(frame.to_json(orient="records"))


def compare_trials(a: Reference, b: Reference, where: Where = None, root: Root = RUNS, as_json: AsJson = False) -> None:
    """Print what two trials differ in: settings, metrics, layers, and a paired test of their WER.

    Where a study is named, all seeds of its best setting take part.

    Examples: `cspbench compare-trials 0ea1 5f0b`, `cspbench compare-trials smoke/csp smoke/magnitude`
    """
    from cspbench.report.screen import heading
    from cspbench.report.side_by_side import difference, tables, verdicts
    from cspbench.report.trial import find_trials

    sides = {"a": find_trials(a, root, where), "b": find_trials(b, root, where)}
    found = difference(*sides.values())
    if as_json:
        typer.echo(json.dumps(_described_difference(found, sides), indent=2))
        return
    for name, trials in sides.items():
        _line(f"{name}: {heading(trials[0].spec)} ({', '.join(trial.id for trial in trials)})")
    for title, columns in tables(found):
        _line("")
        print_columns(columns, title)
    _line("")
    for verdict in verdicts(found):
        output().print(verdict)


def _described_difference(found: Difference, sides: dict[str, list[Trial]]) -> dict[str, Any]:
    tests = {"utterances": found.test, "speakers": found.by_speaker}
    return {
        **{name: [trial.id for trial in trials] for name, trials in sides.items()},
        **{name: _records(getattr(found, name)) for name in ("spec", "metrics", "layers")},
        "tests": {name: asdict(test) for name, test in tests.items() if test is not None},
    }


def _line(text: str) -> None:
    output().print(text, soft_wrap=True)
