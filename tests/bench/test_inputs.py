"""Every kind of unusual input is taken rightly or refused in words, and the benchmark notices where it is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.studies import quick_report

from cspbench.bench import input_kinds
from cspbench.bench.inputs import Call, Input, Outcome, Workshop, accepted, refused, run
from cspbench.cli.bench import _invoke
from cspbench.errors import ConfigError

__all__ = ["quick_report"]  # in every test: sweeps draw no figures


@pytest.mark.parametrize("kind", input_kinds.KINDS)
def test_no_input_is_taken_wrongly(kind: str) -> None:
    found = run(_invoke, kinds=[kind])
    assert [example for row in found.rows for example in row["examples"]] == []
    assert [row["kind"] for row in found.rows] == [kind]
    assert found.ratios["inputs"] >= 10
    assert (found.ratios["wrong"], found.ratios["traceback"]) == (0, 0)


def test_every_kind_of_fault_has_its_inputs() -> None:
    assert {kind.split()[0] for kind in input_kinds.KINDS} == {f"K{number}" for number in range(1, 16)}
    with pytest.raises(ConfigError, match="no inputs are of the kind 'K99'"):
        run(_invoke, kinds=["K99"])


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
    calls = [
        Call("right call", lambda: None),
        Call("wrong call", lambda: "two"),
        Call("broken call", lambda: str(1 / 0)),
    ]
    judges = {"fine": accepted("te"), "taken": refused(), "broken": refused(), "other words": refused("file")}
    commands = [Input(name, [name], judges[name]) for name in outcomes]
    monkeypatch.setattr(input_kinds, "KINDS", {"commands": lambda _: iter(commands), "calls": lambda _: iter(calls)})
    found = run(lambda words, _: outcomes[words[0]])
    assert [(row["inputs"], row["wrong"], row["traceback"]) for row in found.rows] == [(4, 2, 1), (3, 1, 1)]
    assert found.ratios == {"inputs": 7, "wrong": 3, "traceback": 2}
    assert [example.split(":")[0] for example in found.rows[0]["examples"]] == ["taken", "broken", "other words"]
    assert [example.split(":")[0] for example in found.rows[1]["examples"]] == ["wrong call", "broken call"]


def test_a_failure_that_is_not_meant_for_people_is_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    from cspbench.cli import data

    monkeypatch.setattr(data, "print_rows", lambda rows: 1 / 0)
    assert "ZeroDivisionError" in (_invoke(["data", "list"], None).traceback or "")
    assert _invoke(["data", "nothing"], None).code == 2
    assert _invoke(["data", "check", "/nowhere"], None).error == "error: /nowhere: no such file or folder"
