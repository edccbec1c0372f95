"""The list of a study's trials: one JSON line whenever one starts or ends, the last line of a trial counting."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Literal

from cspbench.spec import TrialSpec

State = Literal["running", "complete", "failed", "pruned"]


class TrialLog:
    """Appends to ``trials.jsonl``.

    Args:
        path: the file; made with its folder at the first line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, spec: TrialSpec, state: State, error: str | None = None, number: int | None = None) -> None:
        """Add a line.

        Args:
            spec: what the trial is.
            state: how it stands.
            error: why it failed.
            number: of the setting in the study.
        """
        record = {
            "trial_id": spec.id,
            "state": state,
            "spec": spec.model_dump(mode="json"),
            "error": error,
            "number": number,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            # A killed sweep may have left half a line: what follows must not be glued to it.
            if file.tell() and not _ends_in_newline(self.path):
                file.write(b"\n")
            file.write(json.dumps(record, sort_keys=True).encode() + b"\n")

    def failures(self) -> dict[str, str]:
        """Why trials failed, by id; those that did well later are left out, as are lines cut short by a kill."""
        found: dict[str, str] = {}
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []:
            with suppress(json.JSONDecodeError):
                record = json.loads(line)
                if record["state"] == "failed":
                    found[record["trial_id"]] = record["error"]
                elif record["state"] == "complete":
                    found.pop(record["trial_id"], None)
        return found


def _ends_in_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1) == b"\n"
