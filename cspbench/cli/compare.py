"""``cspbench compare``."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cspbench.cli.options import (
    AsJson,
    Changes,
    OwnDevice,
    OwnTrialsPerGpu,
    OwnWorkers,
    Root,
    messages,
    output,
    print_rows,
)
from cspbench.cli.stopping import stopped_by_signals
from cspbench.cli.sweep import RUNS, TrialsError, overrides
from cspbench.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from cspbench.comparison.config import ComparisonConfig
    from cspbench.comparison.plan import Subset
    from cspbench.comparison.run import ComparisonSummary, Stage
    from cspbench.store import Store


class StageName(StrEnum):
    """Stages that can be asked for by name."""

    tune = "tune"
    final = "final"
    report = "report"


def compare(
    file: Annotated[Path, typer.Argument(help="The comparison file (YAML).")],
    stage: Annotated[
        StageName | None, typer.Option(help="Run this stage only, instead of what is left of all.")
    ] = None,
    only: Annotated[str | None, typer.Option(help="Run these methods only: labels, separated by commas.")] = None,
    sparsity: Annotated[str | None, typer.Option(help="Run these sparsities only, separated by commas.")] = None,
    corpus: Annotated[str | None, typer.Option(help="Run these corpora only: labels, separated by commas.")] = None,
    budget: Annotated[str | None, typer.Option(help="Run these budgets only, separated by commas.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what is left to do, and the time.")] = False,
    export: Annotated[
        bool, typer.Option("--export", help="Print the trials missing at this stage, for `cspbench trials run`.")
    ] = False,
    collect: Annotated[
        Path | None, typer.Option(help="First take in a folder `trials run` wrote.", exists=True, file_okay=False)
    ] = None,
    enter: Annotated[
        str | None, typer.Option(help="Let one more method take part, by its registered name, and run it alone.")
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(help="Take finals not run here from this committed comparison.", exists=True, file_okay=False),
    ] = None,
    set_: Changes = None,
    workers: OwnWorkers = None,
    trials_per_gpu: OwnTrialsPerGpu = None,
    device: OwnDevice = None,
    root: Root = RUNS,
    as_json: AsJson = False,
) -> None:
    """Tune methods alike, retrain what was chosen on dev with fresh seeds, and test who is better; resumes.

    Examples: `cspbench compare sweeps/compare.yaml --dry-run`, `cspbench compare sweeps/compare.yaml --workers 2`,
    `cspbench compare sweeps/compare.yaml --only csp,magnitude --sparsity 0.9 --stage final`
    """
    from cspbench.comparison.load import load_comparison_config, with_entry
    from cspbench.store import Store

    place = {"workers": workers, "trials_per_gpu": trials_per_gpu, "device": device}
    config = load_comparison_config(file, overrides(set_ or [], **place))
    if enter is not None:
        config, only = with_entry(config, enter), only or enter
    part, store = _part(config, only, sparsity, corpus, budget), Store(root)
    stages: tuple[Stage, ...] = ("tune", "final", "report") if stage is None else (stage.value,)
    if collect is not None:
        _collect(config, collect, store)
        stages = ("report",) if stage is None else stages
    if dry_run:
        _print_plan(config, store, part, as_json)
    elif export:
        _export(config, store, stages, part)
    else:
        line = _command(file, set_ or [], enter, record)
        summary = _run(config, store, stages, part, line, record)
        _show(summary, store, as_json)


def _part(
    config: ComparisonConfig, only: str | None, sparsity: str | None, corpus: str | None, budget: str | None
) -> Subset:
    from cspbench.comparison.config import CONTROL
    from cspbench.comparison.plan import Subset

    control = [CONTROL] if config.control else []
    return Subset(
        methods=_labels("--only", only, [*(entry.key for entry in config.methods), *control]),
        sparsity=_numbers("--sparsity", "sparsities", sparsity, config.all_sparsities()),
        corpora=_labels("--corpus", corpus, [entry.key for entry in config.corpora]),
        budgets=_numbers("--budget", "budgets", budget, config.all_budgets()),
    )


def _numbers(option: str, kind: str, given: str | None, known: list[float]) -> frozenset[float] | None:
    if given is None:
        return None
    shown = ", ".join(f"{number:g}" for number in known)
    try:
        numbers = frozenset(map(float, given.split(",")))
    except ValueError:
        raise ConfigError(f"{option} {given}: must be numbers of the file ({shown})") from None
    if not numbers <= set(known):
        raise ConfigError(f"{option} {given}: must be {kind} of the file ({shown})")
    return numbers


def _labels(option: str, given: str | None, known: list[str]) -> frozenset[str] | None:
    if given is None:
        return None
    labels = [label.strip() for label in given.split(",")]
    for label in labels:
        if label not in known:
            hint = f"{did_you_mean(label, known)} (labels: {', '.join(known)})"
            raise ConfigError(f"{option} {given}: the file has no '{label}'{hint}")
    return frozenset(labels)


def _command(file: Path, changes: list[str], enter: str | None, record: Path | None) -> str:
    """Line that makes the comparison, whatever part of it was asked for now."""
    options = [("--set", text) for text in changes]
    options += [("--enter", enter)] if enter is not None else []
    options += [("--record", str(record))] if record is not None else []
    return shlex.join(["cspbench", "compare", str(file), *(word for option in options for word in option)])


def _collect(config: ComparisonConfig, folder: Path, store: Store) -> None:
    from cspbench.comparison.run import collect_comparison
    from cspbench.trials.progress import make_display

    with make_display(messages()) as display:
        count = collect_comparison(config, folder, store, display)
    messages().print(f"{count} trials of this comparison taken from {folder}", soft_wrap=True)


def _export(config: ComparisonConfig, store: Store, stages: tuple[Stage, ...], part: Subset) -> None:
    from cspbench.comparison.run import missing_specs
    from cspbench.trials.progress import make_display

    with make_display(messages()) as display:
        specs = missing_specs(config, store, display, stages, part)
    for spec in specs:
        typer.echo(spec.model_dump_json())


def _print_plan(config: ComparisonConfig, store: Store, part: Subset, as_json: bool) -> None:
    from cspbench.comparison.estimate import dense_missing, stage_estimates
    from cspbench.comparison.plan import resolve_comparison
    from cspbench.trials.gpus import worker_count
    from cspbench.trials.progress import duration

    plan = resolve_comparison(config, store, messages().print)
    rows = stage_estimates(plan, store, part)
    if as_json:
        typer.echo(json.dumps([asdict(row) | {"left": row.left} for row in rows], indent=2))
        return
    print_rows(
        [
            {
                "stage": row.stage,
                "corpus": row.corpus,
                "budget": f"{row.budget:g}",
                "trials": row.trials,
                "finished": row.finished,
                "failed": row.failed,
                "left": row.left,
                "steps each": row.steps,
                "worker time left": "?" if row.seconds is None else duration(row.seconds),
            }
            for row in rows
        ],
        f"{config.name}: {sum(row.left for row in rows)} of {sum(row.trials for row in rows)} trials left",
    )
    output().print(f"dense recognisers to train first: {dense_missing(plan, store, part)}", soft_wrap=True)
    known = [row.seconds for row in rows if row.seconds is not None]
    if len(known) == len(rows):
        workers = worker_count(config.workers, config.trials_per_gpu, config.device)
        output().print(f"about {duration(sum(known) / workers)} with {workers} workers", soft_wrap=True)
    else:
        output().print("no estimate where no trial has finished", soft_wrap=True)


def _run(
    config: ComparisonConfig, store: Store, stages: tuple[Stage, ...], part: Subset, command: str, record: Path | None
) -> ComparisonSummary:
    from cspbench.comparison.run import run_comparison
    from cspbench.trials.progress import make_display

    with stopped_by_signals(), make_display(messages()) as display:
        return run_comparison(config, store, display, stages=stages, only=part, command=command, record=record)


def _show(summary: ComparisonSummary, store: Store, as_json: bool) -> None:
    """Print what came out; raises TrialsError if trials of this run failed."""
    from cspbench.sweep.tracking import ui_command

    if as_json:
        typer.echo(json.dumps(_json_summary(summary), indent=2))
    else:
        _print_summary(summary)
    (messages() if as_json else output()).print(f"look at all of it: {ui_command(store, summary.name)}", soft_wrap=True)
    if summary.failures:
        lines = "\n".join(f"  {failure}" for failure in summary.failures)
        raise TrialsError(f"{len(summary.failures)} of this run's trials failed; start it again to retry:\n{lines}")


def _json_summary(summary: ComparisonSummary) -> dict[str, Any]:
    found = summary.comparison
    tables = {} if found is None else {"cells": found.cells, "tests": found.tests, "verdicts": found.verdicts}
    records = {name: json.loads(table.to_json(orient="records")) for name, table in tables.items()}
    return {"name": summary.name, **records, "warnings": summary.warnings, "files": list(map(str, summary.files))}


def _print_summary(summary: ComparisonSummary) -> None:
    from cspbench.comparison.report.terminal import cell_tables, verdict_lines

    if summary.comparison is not None:
        for corpus, rows in cell_tables(summary.comparison).items():
            print_rows(rows, f"{summary.name}, {corpus}: test WER (%)")
        for line in verdict_lines(summary.comparison.verdicts):
            output().print(line, soft_wrap=True)
    for warning in summary.warnings:
        output().print(f"note: {warning}", soft_wrap=True)
    if summary.files:
        output().print(f"tables and figures: {summary.files[0].parent}", soft_wrap=True)
