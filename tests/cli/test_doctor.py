"""`cspbench doctor`: a line for each thing that it looks at, and exit code 1 where something needed is broken."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from cspbench.errors import CorpusError

Run = Callable[..., tuple[int, str, str]]

SWEEP = "name: s\ncorpus: {name: an4, path: %s}\nsparsity: [0.5]\nmethods: [csp]\n"


def examined(run: Run, *words: object) -> dict[str, dict[str, str]]:
    """What the doctor found, by name."""
    out = run("doctor", *words, "--json")[1]
    return {check["name"]: check for check in json.loads(out)}


def test_each_thing_has_a_line_that_fits_80_columns(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = run("doctor")
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    for name in ("versions", "processors", "native code", "compiler", "GPU", "espeak-ng", "results", "sqlite", "locks"):
        assert f"  {name} " in out
    assert not list(tmp_path.iterdir())  # nothing is left behind


def test_corpora_are_looked_for_where_sweep_files_say(run: Run, tmp_path: Path) -> None:
    there, absent, comparison, damaged = (tmp_path / f"{name}.yaml" for name in ("there", "absent", "two", "damaged"))
    there.write_text(SWEEP % tmp_path)
    absent.write_text(SWEEP % (tmp_path / "nowhere"))
    comparison.write_text(
        f"name: c\ncorpora: [{{corpus: {{name: an4, path: {tmp_path}}}}}]\nsparsity: [0.5]\nmethods: [csp, magnitude]\n"
    )
    damaged.write_text("- 1\n")
    code, out, _ = run("doctor", there, absent, comparison, damaged, "--root", tmp_path)
    assert code == 0  # a corpus that is elsewhere breaks nothing
    shown = " ".join(out.split())  # however long the paths are
    assert f"an4 (of there.yaml, two.yaml) lies in {tmp_path}" in shown
    assert f"an4 (of absent.yaml) does not lie in {tmp_path}/nowhere; give --set corpus.path=FOLDER" in shown
    assert "damaged.yaml is no sweep file" in shown


def test_what_is_not_needed_by_all_is_a_note(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> str:
        raise CorpusError("it is not installed")

    monkeypatch.setattr("cspbench.corpora.espeak.espeak_version", absent)
    monkeypatch.setattr("shutil.which", lambda name: None)
    found = examined(run, "--root", tmp_path)
    assert found["espeak-ng"] == {
        "name": "espeak-ng",
        "status": "note",
        "found": "no synthetic corpus",
        "remedy": "it is not installed",
    }
    assert found["compiler"]["status"] == "note"


def test_what_every_command_needs_is_broken(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr("sqlite3.connect", fail)
    monkeypatch.setattr("os.access", lambda *_: False)
    monkeypatch.chdir(tmp_path)
    code, out, err = run("doctor")
    assert code == 1
    assert "broken: results, sqlite" in err
    assert "(database is locked); give another --root" in " ".join(out.split())
