"""Help and completion: every command has examples that exist, and the shell completes what is there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.fake_studies import spec, write_study
from typer.main import get_command

from cspbench.cli import app

Run = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).resolve().parents[2]


def commands(group: object = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Words and objects of all commands, those of groups included."""
    for name, command in (group or get_command(app)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


ALL = dict(commands())


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_has_examples_with_options_that_exist(path: tuple[str, ...]) -> None:
    command = ALL[path]
    examples = re.findall(r"`(?:[^`]*\| )?(cspbench [^`]+)`", " ".join(command.help.split()).partition("Examples: ")[2])
    assert examples
    options = {name for parameter in command.params for name in parameter.opts}
    for example in examples:
        words = shlex.split(re.split(r" [>|] ", example)[0])[1:]
        assert tuple(words[: len(path)]) == path
        assert {word for word in words if word.startswith("--")} <= options
        for word in words:
            assert (ROOT / word).is_file() or not word.startswith("sweeps/")


PRINT_NO_TABLE = {
    ("retry",),
    ("report",),
    ("ui",),
    ("dashboard",),
    ("worker",),
    ("sync",),
    ("trials", "export"),
    ("trials", "run"),
    ("data", "prepare"),
}


def test_every_command_that_prints_a_table_prints_json_too() -> None:
    without = {path for path, c in ALL.items() if "--json" not in {name for p in c.params for name in p.opts}}
    assert without == PRINT_NO_TABLE


@pytest.fixture
def complete(run: Run, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """What bash would offer for a line, its last word incomplete."""

    def call(line: str) -> list[str]:
        monkeypatch.setenv("_CSPBENCH_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
        return run()[1].split()

    return call


def test_the_shell_completes_studies_methods_corpora_and_trials(
    complete: Callable[[str], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_study(tmp_path / "runs", "demo", methods=["csp", "magnitude"], sparsities=[0.5, 0.9], seeds=[0])
    write_study(tmp_path / "elsewhere", "other", methods=["csp"], sparsities=[0.5], seeds=[0])
    id = spec("csp", 0.5, 0, params={"strength": 0.5}).id
    assert complete("cspbench results d") == ["demo"]
    assert complete("cspbench results --root elsewhere o") == ["other"]
    assert complete(f"cspbench show {id[:6]}") == [id]
    assert complete("cspbench show d") == ["demo", *(i for i in complete("cspbench show d") if i != "demo")]
    assert complete("cspbench compare-trials demo/csp demo/m") == ["demo/magnitude"]
    assert complete("cspbench show demo/csp@") == ["demo/csp@0.5", "demo/csp@0.9"]
    assert complete("cspbench show nothing/c") == []
    assert complete("cspbench methods mag") == ["magnitude"]
    assert complete("cspbench data stats fs") == ["fsdd"]
    assert complete("cspbench init my.yaml --corpus spo") == ["spoken_commands"]


def test_a_device_that_is_none_is_refused_before_any_work(run: Run) -> None:
    code, _, err = run("bench", "recovery", "--device", "gpu")
    assert (code, err) == (2, "error: device 'gpu' is none: use auto, cpu, cuda or cuda:N\n")
