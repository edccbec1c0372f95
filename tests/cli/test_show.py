"""`cspbench show`, `compare-trials` and the lists of trials that lead to them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support.fake_studies import spec, write_study

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_study(tmp_path, "demo", sparsities=[0.5, 0.9], seeds=[0, 1]).root


def test_trials_are_listed_best_on_dev_first(run: Run, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = run("results", "demo", "--trials", "--where", "size_bytes < 2e6", "--root", root)
    lines = out.splitlines()
    assert code == 0
    assert lines[0] == "demo: 8 trials, best on dev first"
    assert lines[3].split()[1:4] == ["csp", "90", "%"]
    assert max(map(len, lines)) <= 80
    assert lines[-1] == "`cspbench show TRIAL` prints one"
    assert "none for which" in run("results", "demo", "--trials", "--where", "size_bytes < 0", "--root", root)[1]
    assert "none for which" in run("results", "demo", "--where", "size_bytes < 0", "--root", root)[1]
    assert run("results", "--trials", "--root", root)[0] == 2


def test_conditions_filter_tables_json_and_csv(run: Run, root: Path) -> None:
    words = ("results", "demo", "--where", "method == 'csp'", "--root", root)
    assert "magnitude" not in run(*words)[1]
    assert len(json.loads(run(*words, "--json")[1])) == 4
    assert len(run(*words, "--csv")[1].splitlines()) == 5
    code, _, err = run("results", "demo", "--where", "sise < 3", "--root", root)
    assert (code, "no column 'sise'" in err) == (2, True)


def test_a_trial_on_one_screen(run: Run, root: Path) -> None:
    id = spec("csp", 0.5, 0, params={"strength": 0.5}).id
    code, out, _ = run("show", "demo/csp", "--root", root)
    assert code == 0
    assert out.startswith("csp at 50 % sparsity, seed 0, on fsdd\n")
    assert "other seeds: " in out
    assert len(out.splitlines()) <= 40
    shown = json.loads(run("show", id[:9], "--hypotheses", 1, "--json", "--root", root)[1])
    assert shown["id"] == id
    assert shown["spec"]["sparsity"] == 0.5
    assert 0 < shown["metrics"]["test_wer"] < 1
    assert len(shown["curve"]) == 6
    assert len(shown["worst"]) == 1
    code, _, err = run("show", "dmo", "--root", root)
    assert (code, "no trial 'dmo'" in err) == (2, True)


def test_two_trials_side_by_side(run: Run, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    words = ("compare-trials", "demo/csp@0.9", "demo/magnitude@0.9", "--root", root)
    code, out, _ = run(*words)
    assert code == 0
    for title in ("settings that differ", "metrics", "zeros of each layer"):
        assert title in out.splitlines()
    assert "a is better: test WER a − b = -" in out
    found = json.loads(run(*words, "--json")[1])
    assert found["spec"] == [{"field": "method.name", "a": "csp", "b": "magnitude"}]
    assert len(found["a"]) == len(found["b"]) == 2
    assert found["tests"]["utterances"]["units"] == 60
