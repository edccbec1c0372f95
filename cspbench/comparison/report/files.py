"""A comparison as a folder of small files, fit to be committed: the data, the tables, the pictures, a summary."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from cspbench.comparison.report.evaluate import Evaluation
from cspbench.comparison.report.figures import pictures
from cspbench.comparison.report.leaderboard import leaderboard_page, leaderboard_table
from cspbench.comparison.report.page import summary_page
from cspbench.comparison.report.word_errors import ComparisonError, TrialErrors
from cspbench.report.figures import save
from cspbench.store import write_atomic

TABLES = ("finals", "cells", "tests", "verdicts", "costs", "layers")
_TEXTS = ("trial_id", "dense_id", "params", "note", "drawn", "id", "speaker", "cluster", "best_rival", "rivals")


def write_evaluation(evaluation: Evaluation, folder: Path | str, command: str = "") -> list[Path]:
    """Write a comparison into `folder`.

    Written are ``finals.csv`` (one row a trial), ``cells.csv``, ``tests.csv``, ``verdicts.csv``, ``costs.csv``,
    ``layers.csv``; the word errors behind them, ``utterances.csv`` and ``errors.csv``, so that anyone can test again
    without the trials' folders (see `recorded_errors`); pictures as PNG and SVG; ``leaderboard.csv``,
    ``leaderboard.md`` and ``summary.md``. Numbers keep six
    digits.

    Args:
        evaluation: tables to write.
        folder: made if need be; files of these names in it are replaced, pictures of corpora no longer there stay.
        command: the line that makes the comparison, for the summary.

    Returns:
        The files written; ``summary.md`` is last.
    """
    folder = Path(folder)
    texts = {f"{name}.csv": _csv(getattr(evaluation, name)) for name in TABLES}
    if evaluation.errors is not None:
        utterances, errors = _error_tables(evaluation.errors)
        texts |= {"utterances.csv": _csv(utterances), "errors.csv": _csv(errors)}
    drawn = {name: save(picture, folder / name) for name, picture in pictures(evaluation).items()}
    texts["leaderboard.csv"] = _csv(leaderboard_table(evaluation))
    texts["leaderboard.md"] = leaderboard_page(evaluation, command)
    texts["summary.md"] = summary_page(evaluation, list(drawn), command)
    for file, text in texts.items():
        write_atomic(folder / file, text)
    return [*(path for paths in drawn.values() for path in paths), *(folder / file for file in texts)]


def load_evaluation(folder: Path | str) -> Evaluation:
    """Read back the tables that `write_evaluation` wrote; ``errors`` is None (see `recorded_errors`).

    Raises:
        ComparisonError: a table is missing.
    """
    finals, cells, tests, verdicts, costs, layers = (_read(Path(folder), name) for name in TABLES)
    if tests.empty:
        raise ComparisonError(f"{folder}: tests.csv holds no test")
    proposed = str(tests["proposed"].iloc[0]).removesuffix("_post")
    return Evaluation(proposed, finals, cells, tests, verdicts, costs, layers)


def recorded_errors(folder: Path | str) -> Callable[[str], pd.DataFrame]:
    """The word errors of a written comparison, as `evaluate_finals` takes them.

    Returns:
        From a trial's id to its test utterances: ``id, speaker, cluster, reference, edits, words``; references are not
        kept, and empty.

    Example:
        >>> again = evaluate_finals(load_evaluation(folder).finals, recorded_errors(folder))  # doctest: +SKIP
    """
    utterances = _read(Path(folder), "utterances")
    errors = _read(Path(folder), "errors").set_index("trial_id")

    def hypotheses(trial_id: str) -> pd.DataFrame:
        if trial_id not in errors.index:
            raise ComparisonError(f"{Path(folder) / 'errors.csv'} has no trial {trial_id}")
        row = errors.loc[trial_id]
        tested = utterances[(utterances["corpus"] == row["corpus"]) & (utterances["fold"] == row["fold"])]
        edits = [int(count) for count in row["edits"].split()]
        return tested.assign(reference="", edits=edits)[["id", "speaker", "cluster", "reference", "edits", "words"]]

    return hypotheses


def _csv(table: pd.DataFrame) -> str:
    return table.to_csv(index=False, float_format="%.6g")


def _read(folder: Path, name: str) -> pd.DataFrame:
    path = folder / f"{name}.csv"
    if not path.is_file():
        raise ComparisonError(f"{path} is missing: write it with `cspbench compare`")
    # In the costs tuning trials may be a range; in the errors edits are a list.
    texts = [*_TEXTS, *{"costs": ["tuning_trials"], "errors": ["edits"]}.get(name, [])]
    # Subset what is empty is absent: a speaker may be called NA.
    table = pd.read_csv(path, dtype=dict.fromkeys(texts, str), keep_default_na=False, na_values=[""])
    table = table.fillna({column: "" for column in texts if column in table})
    return table.astype({"budget": float}) if "budget" in table else table


def _error_tables(errors: TrialErrors) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Test utterances, and a row a trial with its errors in their order: small, where a row an utterance is not."""
    utterances = [
        pd.DataFrame(
            {
                **{"corpus": u.corpus, "fold": u.fold, "id": u.ids, "speaker": u.speakers, "cluster": u.clusters},
                "words": u.words.astype(int),
            }
        )
        for u in errors.tested.values()
    ]
    rows = [
        {"trial_id": trial, "corpus": corpus, "fold": fold, "edits": " ".join(f"{n:.0f}" for n in errors.edits[trial])}
        for trial, (corpus, fold) in errors.test_sets.items()
    ]
    return pd.concat(utterances, ignore_index=True), pd.DataFrame(rows)
