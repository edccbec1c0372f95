"""The command line: what it prints, where, and how it exits."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.fake_studies import finish, result, spec, write_study
from support.fake_trial import calls, fake_trials  # noqa: F401 - a fixture

from cspbench import __version__
from cspbench.cli import main
from cspbench.config import load_config, parse_override
from cspbench.errors import ConfigError
from cspbench.pruning.registry import methods
from cspbench.result import Noise
from cspbench.store import Store
from cspbench.sweep.database import sqlite_url
from cspbench.sweep.tracking import Tracker, database_uri, open_client

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., tuple[int, str, str]]


def test_version_and_help(run: Run) -> None:
    assert run("--version") == (0, f"cspbench {__version__}\n", "")
    code, out, _ = run("--help")
    assert code == 0
    for command in ("sweep", "retry", "compare", "trials", "methods", "data", "results", "report", "ui"):
        assert re.search(rf"\b{command}\b", out)


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, cspbench.cli; print([m for m in ('torch', 'optuna', 'mlflow', 'pandas') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"


def test_a_wrong_sweep_file_is_one_message_and_exit_code_2(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text("name: a\nsparsity: [2]\nmethods: [magnitud]\n")
    code, out, err = run("sweep", file, "--root", tmp_path / "runs", "--set", "prune.epochs=0", "--trials", 0)
    assert (code, out) == (2, "")
    assert err.splitlines()[0] == f"error: {file}: 4 problems"
    assert "--set prune.epochs=0: prune.epochs: should be greater than or equal to 1, got 0" in err
    assert "--trials 0: trials: should be greater than or equal to 1, got 0" in err
    assert "Traceback" not in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("words", [("sweep",), ("swep",), ("sweep", "x.yaml", "--wokers", "2"), ("data", "stats")])
def test_usage_errors_exit_with_2(run: Run, words: tuple[str, ...]) -> None:
    assert run(*words)[0] == 2


def test_a_programming_error_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["cspbench", "methods"])
    monkeypatch.setattr("cspbench.pruning.catalogue.describe_methods", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main()


@pytest.mark.usefixtures("fake_trials")
def test_a_sweep_from_file_to_table(run: Run, tmp_path: Path, an4_path: Path) -> None:
    """On AN4 as it lies here, with training stood in for: export, sweep, results, report."""
    file, root = tmp_path / "sweep.yaml", tmp_path / "runs"
    file.write_text(f"name: demo\ncorpus: {{name: an4, path: {an4_path}}}\nsparsity: [0.13, 0.5]\nmethods: [csp]\n")
    code, out, _ = run("trials", "export", file, "--root", root)
    assert code == 0
    assert [json.loads(line)["sparsity"] for line in out.splitlines()] == [0.0, 0.13, 0.5]
    code, out, err = run("sweep", file, "--root", root)
    assert code == 1
    assert re.search(r"^csp +50 % +50\.00 +10\.0 \[", out, re.MULTILINE)
    assert re.search(r"^dense .*\n(control +0 % +0\.00 +4\.0 \[)", out, re.MULTILINE)
    assert f"cspbench ui demo --root {root}" in out
    assert "1 of this run's trials failed" in err
    assert "csp 13 % seed 0: thirteen is not possible" in err
    assert "[3/3] csp 50 % seed 0: dev WER 11.0 %" in err
    assert len(calls(root)) == 3
    code, out, _ = run("results", "demo", "--json", "--root", root)
    assert code == 0
    assert [row["state"] for row in json.loads(out)] == ["complete", "failed", "complete"]
    code, out, _ = run("results", "demo", "--csv", "--root", root)
    assert out.splitlines()[0].startswith("trial_id,")
    code, out, _ = run("report", "demo", "--root", root)
    assert all(Path(line).is_file() for line in out.splitlines())


def test_the_table_of_a_study_fits_a_terminal_of_80_columns(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    store = write_study(tmp_path, "demo", seeds=[0])
    noisy = result(spec("control", 0.0), 0.02)
    assert noisy.latency is not None
    latency = noisy.latency.model_copy(update={"noise": Noise(conclusive=False)})
    finish(store, "demo", spec("control", 0.0), noisy.model_copy(update={"latency": latency}))
    store.study("demo").report.mkdir()
    code, out, _ = run("results", "demo", "--root", tmp_path)
    lines = out.splitlines()
    assert code == 0
    assert len([line for line in lines if "[" in line]) == 14  # 13 trials and the dense recogniser
    assert len(lines) <= 20
    assert max(map(len, lines[:-1])) <= 80
    assert lines[-1] == f"figures and tables: {store.study('demo').report}"
    assert "(--json has all); ~: latency too noisy to believe" in out
    assert lines[1].split()[:5] == ["method", "sparsity", "test", "WER", "%"]
    assert lines[5].index("50 %") > lines[5].index("csp")
    assert "front: Pareto fronts" in out
    assert "not shown: " in out


def test_studies_are_listed_without_a_name(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "no study under" in run("results")[1]
    assert "Usage:" in run()[1]
    write_study(tmp_path / "runs", "demo", seeds=[0])
    write_study(tmp_path / "runs", "other", methods=["csp"], seeds=[0])
    for words in ((), ("results",)):
        code, out, _ = run(*words)
        assert code == 0
        assert re.search(r"demo +12 +12 +0  csp, lottery, magnitude, movement  fsdd", out)
        assert "other" in out
    rows = json.loads(run("results", "--json")[1])
    assert [(row["study"], row["trials"], row["finished"], row["failed"]) for row in rows] == [
        ("demo", 12, 12, 0),
        ("other", 3, 3, 0),
    ]
    assert run("results", "--csv")[0] == 2


def test_results_of_a_study_that_is_not_there(run: Run, tmp_path: Path) -> None:
    write_study(tmp_path, "demo")
    code, out, err = run("results", "dmo", "--root", tmp_path)
    assert (code, out) == (1, "")
    assert "did you mean 'demo'?" in err


def test_methods_take_a_line_each(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = run("methods")
    lines = out.splitlines()
    assert code == 0
    assert [line.split()[0] for line in lines] == methods.names()
    assert len(lines) <= 20
    assert max(map(len, lines)) <= 80


def test_methods_and_corpora_describe_themselves(run: Run) -> None:
    code, out, _ = run("methods", "--json")
    assert code == 0
    csp = next(method for method in json.loads(out) if method["name"] == "csp")
    assert {"name", "summary", "source", "options"} == csp.keys()
    assert "  damping: float, default 0.02, >= 0, <= 1, searched" in run("methods", "csp")[1]
    assert "did you mean 'csp'" in run("methods", "cps")[2]
    code, out, _ = run("data", "list", "--json")
    assert {"an4", "fsdd", "librispeech", "manifest", "spoken_commands"} <= {c["name"] for c in json.loads(out)}
    assert "SYNTHETIC" in run("data", "list")[1]


def test_data_stats_and_prepare(run: Run, tmp_path: Path, an4_path: Path) -> None:
    words = ("an4", "--path", an4_path, "--root", tmp_path)
    code, out, _ = run("data", "stats", *words, "--json")
    assert code == 0
    assert [row["split"] for row in json.loads(out)] == ["train", "dev", "test"]
    code, out, _ = run("data", "prepare", *words)
    assert code == 0
    assert "utterances are fine; fingerprint" in out
    code, _, err = run("data", "stats", "an4", "--path", tmp_path / "absent", "--root", tmp_path)
    assert code == 2
    assert "no such file or folder" in err


@pytest.mark.parametrize("name", ["x[/y]", "a[bold]b", "c:smile:d", "[runs]", "e\\[f"])
def test_names_that_look_like_markup_are_printed_as_they_are(run: Run, tmp_path: Path, name: str) -> None:
    root = tmp_path / name
    for words in (("results",), ("ui",)):
        code, out, err = run(*words, "--root", root)
        assert code in (0, 2)
        assert str(root) in out + err


def test_ui_of_an_empty_root_says_what_to_do(run: Run, tmp_path: Path) -> None:
    code, _, err = run("ui", "--root", tmp_path)
    assert code == 2
    assert "nothing is logged under" in err


def test_ui_names_its_studies_and_listens_on_the_loopback_address_only(
    run: Run, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    monkeypatch.setattr("os.execve", lambda *call: started.append(call))
    client = open_client(store)
    for name in ("demo", "other"):
        Tracker(client, store, name, {"a": 1})
    code, out, _ = run("ui", "--root", store.root, "--port", 5001)
    assert code == 0
    lines = out.splitlines()
    assert {line.partition(": ")[0] for line in lines[:2]} == {"demo", "other"}
    assert lines[2].startswith("http://127.0.0.1:5001 ")
    _, command, environment = started[0]
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--backend-store-uri") + 1] == database_uri(store)
    code, out, _ = run("ui", "demo", "--root", store.root)
    assert code == 0
    assert out.startswith("demo: http://127.0.0.1:5000/#/experiments/")
    assert "other" not in out
    code, _, err = run("ui", "demi", "--root", store.root)
    assert code == 2
    assert "did you mean 'demo'?" in err


def test_dashboard_opens_the_search_of_a_sweep(run: Run, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    monkeypatch.setattr("os.execv", lambda *call: started.append(call))
    code, _, err = run("dashboard", "demo", "--root", store.root)
    assert code == 2
    assert "holds no search of a sweep named 'demo'" in err
    store.study("demo").path.mkdir(parents=True)
    store.study("demo").optuna.touch()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, _, err = run("dashboard", "demo", "--root", store.root)
    assert code == 2
    assert "pip install 'cspbench[dashboard]'" in err
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert run("dashboard", "demo", "--root", store.root)[0] == 0
    assert sqlite_url(store.study("demo").optuna) in started[0][1]


@pytest.mark.parametrize(
    "file",
    sorted(
        path for path in (ROOT / "sweeps").glob("*.yaml") if "\ncorpora:" not in path.read_text()
    ),  # else a comparison
    ids=lambda path: path.stem,
)
def test_the_sweeps_people_run_are_valid(file: Path) -> None:
    config = load_config(file)
    assert config.name == file.stem


def test_overrides_of_the_main_job_are_checked() -> None:
    with pytest.raises(ConfigError, match="did you mean 'epochs'"):
        load_config(ROOT / "sweeps" / "rnnt.yaml", [parse_override("prune.epoch=1")])
