"""Every kind of unusual input is taken rightly or refused in words, and the benchmark notices where it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from cspbench.bench import input_kinds
from cspbench.bench.inputs import Input, Outcome, Workshop, accepted, refused, run
from cspbench.cli.bench import _invoke


@pytest.mark.parametrize("seed", [0])
def test_no_input_is_taken_wrongly(seed: int) -> None:
    found = run(_invoke, seed=seed)
    assert [example for row in found.rows for example in row["examples"]] == []
    assert found.ratios["inputs"] >= 300
    assert (found.ratios["wrong"], found.ratios["traceback"]) == (0, 0)


def test_another_seed_gives_other_inputs(tmp_path: Path) -> None:
    names = []
    for seed in (0, 1):
        (tmp_path / str(seed)).mkdir()
        names.append([one.name for one in input_kinds.segments(Workshop(tmp_path / str(seed), seed))])
    assert names[0] != names[1]
    assert len(names[0]) == len(names[1])


def test_wrong_outcomes_and_tracebacks_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = {
        "fine": Outcome(0, "text", ""),
        "taken": Outcome(0, "text", ""),
        "broken": Outcome(1, "", "", "Traceback"),
        "other words": Outcome(2, "", "error: no"),
    }
    judges = {"fine": accepted("te"), "taken": refused(), "broken": refused(), "other words": refused("file")}
    monkeypatch.setattr(input_kinds, "KINDS", {"K": lambda _: (Input(name, [name], judges[name]) for name in outcomes)})
    found = run(lambda words, _: outcomes[words[0]])
    assert found.ratios == {"inputs": 4, "wrong": 2, "traceback": 1}
    assert [example.split(":")[0] for example in found.rows[0]["examples"]] == ["taken", "broken", "other words"]


def test_a_failure_that_is_not_meant_for_people_is_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    from cspbench.cli import data

    monkeypatch.setattr(data, "print_rows", lambda rows: 1 / 0)
    assert "ZeroDivisionError" in (_invoke(["data", "list"], None).traceback or "")
    assert _invoke(["data", "nothing"], None).code == 2
    assert _invoke(["data", "check", "/nowhere"], None).error == "error: /nowhere: no such file or folder"
