"""Records on disk: the list of a study's trials, training curves, hypotheses and results, written and read in one way.

Damaged lines are treated alike everywhere. A last line without its end is what a killed process leaves: it is left
out. Damaged lines anywhere else are left out with one warning a file, which tells their number and the first of them.
A line that is sound JSON but not a record is an error.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cspbench.errors import CspbenchError
from cspbench.result import TrialResult
from cspbench.spec import TrialSpec
from cspbench.store import Store, TrialFolder, make_folder, naming, sync_folder
from cspbench.trials.outcome import TrialStatus

MOST_SHOWN = 3
"""Damaged lines of a file that a warning names."""


class ResultsError(CspbenchError):
    """Results that are not there or cannot be read."""


def read_rows(path: Path, *keys: str) -> list[dict[str, Any]]:
    """Read a file of JSON objects, one a line, e.g. a curve or hypotheses.

    Args:
        path: the file.
        keys: that every row must hold; there must be a row then.

    Raises:
        ResultsError: no such file, or a line that is no JSON object or lacks a key.
    """
    if not path.is_file():
        raise ResultsError(f"{path} is missing: the trial has not finished, or was made without it")
    rows = _numbered(path)
    if keys and not rows:
        raise ResultsError(f"{path} is damaged: it holds no rows; put a copy back, or delete it")
    for number, row in rows:
        if missing := [key for key in keys if key not in row]:
            raise ResultsError(f"{path}:{number}: damaged: it lacks {', '.join(missing)}")
    return [row for _, row in rows]


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Read a file that a trial need not have, see `read_rows`; no rows where it is not there."""
    return read_rows(path) if path.is_file() else []


def read_result(folder: TrialFolder) -> TrialResult:
    """Read a finished trial's result.

    Raises:
        ResultsError: there is none, it cannot be read, or it is that of another trial.
    """
    path = folder.result
    try:
        result = TrialResult.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise ResultsError(f"trial {folder.path.name} has no result: {path} is missing") from None
    except ValidationError as error:
        raise ResultsError(f"{path} is not a result this cspbench can read: {error}") from error
    if result.trial_id != folder.path.name:
        raise ResultsError(f"{path} is the result of trial {result.trial_id}, not of {folder.path.name}")
    return result


@dataclass(frozen=True)
class TrialRecord:
    """One line of a list of trials.

    Attributes:
        trial_id: the id of the spec.
        state: running, complete, failed or stopped (early).
        spec: the spec as JSON.
        error: why the trial failed.
        number: of the setting in the study.
        where: ``file:line``, for messages.
    """

    trial_id: str
    state: TrialStatus
    spec: dict[str, Any]
    error: str | None
    number: int | None
    where: str

    @classmethod
    def of(cls, row: dict[str, Any], where: str) -> TrialRecord:
        """Check a line.

        Raises:
            ResultsError: a line without id, state or spec.
        """
        for key in ("trial_id", "state", "spec"):
            if key not in row:
                raise ResultsError(f"{where}: not a trial record: it has no {key}")
        return cls(row["trial_id"], row["state"], row["spec"], row.get("error"), row.get("number"), where)

    def parse(self) -> TrialSpec:
        """Return the spec.

        Raises:
            ResultsError: a spec that this version cannot read, or whose id is another.
        """
        try:
            spec = TrialSpec.model_validate(self.spec)
        except ValidationError as error:
            raise ResultsError(f"{self.where}: no spec that this cspbench can read: {error}") from error
        if spec.id != self.trial_id:
            raise ResultsError(f"{self.where}: the spec has the id {spec.id}, the record says {self.trial_id}")
        return spec


class TrialLog:
    """The list of a study's trials: a line whenever one starts or ends, the last line of a trial counting.

    Args:
        path: the file; made with its folder at the first line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, spec: TrialSpec, state: TrialStatus, error: str | None = None, number: int | None = None) -> None:
        """Add a line; it is on disk when this returns, and no part of it is there if that fails.

        Args:
            spec: what the trial is.
            state: how it stands.
            error: why it failed.
            number: of the setting in the study.

        Raises:
            OSError: the line cannot be written.
        """
        record = {
            "trial_id": spec.id,
            "state": state,
            "spec": spec.model_dump(mode="json"),
            "error": error,
            "number": number,
        }
        make_folder(self.path.parent)
        with naming(self.path), self.path.open("a+b", buffering=0) as file:
            before = file.tell()
            # A killed sweep may have left half a line: what follows must not be glued to it.
            glue = b"\n" if before and not _ends_in_newline(self.path) else b""
            line = glue + json.dumps(record, sort_keys=True).encode() + b"\n"
            try:
                while line:  # a disk that is nearly full takes a part of it, and refuses the rest
                    line = line[file.write(line) :]
                os.fsync(file.fileno())
            except OSError:
                file.truncate(before)
                raise
            if not before:
                sync_folder(self.path.parent)

    def records(self) -> list[TrialRecord]:
        """Return the last record of each trial, in order of first appearance; none if there is no file.

        Raises:
            ResultsError: a line that is no trial record.
        """
        latest: dict[str, TrialRecord] = {}
        for record in self._history():
            latest[record.trial_id] = record
        return list(latest.values())

    def failures(self) -> dict[str, str]:
        """Return why trials failed, by id, without those that finished later.

        Raises:
            ResultsError: a line that is no trial record.
        """
        found: dict[str, str] = {}
        for record in self._history():
            if record.state == "failed":
                found[record.trial_id] = record.error or "failed"
            elif record.state == "complete":
                found.pop(record.trial_id, None)
        return found

    def _history(self) -> Iterator[TrialRecord]:
        for number, row in _numbered(self.path) if self.path.is_file() else []:
            yield TrialRecord.of(row, f"{self.path}:{number}")


def study_rows(store: Store) -> list[dict[str, Any]]:
    """Describe the studies of a store, one row each, by name.

    Returns:
        Rows with ``study``, ``trials`` (asked for so far), ``finished``, ``failed``, ``corpus``, ``methods`` and
        ``changed`` (date and time).
    """
    rows = []
    for name in store.studies():
        path = store.study(name).trials
        records = TrialLog(path).records()
        finished = sum(store.trial(record.trial_id).finished for record in records)
        rows.append(
            {
                "study": name,
                "trials": len(records),
                "finished": finished,
                "failed": sum(record.state == "failed" for record in records),
                "corpus": ", ".join(sorted({record.spec["dense"]["corpus"]["name"] for record in records})),
                "methods": ", ".join(sorted({record.spec["method"]["name"] for record in records})),
                "changed": datetime.fromtimestamp(path.stat().st_mtime).isoformat(" ", "minutes"),
            }
        )
    return rows


def _numbered(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """JSON objects beside the numbers of their lines; see the top of this file for damaged ones."""
    rows, damaged = [], []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError):
            if number < len(lines):
                damaged.append(number)
            continue
        if not isinstance(row, dict):
            raise ResultsError(f"{path}:{number}: not a record: {line[:80]}")
        rows.append((number, row))
    if damaged:
        warnings.warn(f"{path}: {_left_out(damaged)}", stacklevel=2)
    return rows


def _left_out(damaged: list[int]) -> str:
    """Words for damaged lines: their number, and the first of them."""
    first = ", ".join(map(str, damaged[:MOST_SHOWN]))
    if len(damaged) == 1:
        return f"damaged line {first} left out"
    others = f" and {len(damaged) - MOST_SHOWN} more" if len(damaged) > MOST_SHOWN else ""
    return f"{len(damaged)} damaged lines left out: {first}{others}"


def _ends_in_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1) == b"\n"
