"""The documentation builds without a broken link, and what it tells people to type exists and works."""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import soundfile
import yaml
from rich.console import Console
from support.fake_studies import finish, record, result, spec, write_study
from support.small_recognisers import untrained
from support.studies import corpus  # noqa: F401 - a fixture
from support.talkative_model import TOKENIZER, talkative, trained

import cspbench
from cspbench import report
from cspbench.runtime.packing import pack_model
from cspbench.spec import FeatureSpec
from cspbench.store import Store, StudyFolder
from cspbench.sweep.collect import collect
from cspbench.training.checkpoint import save_model
from cspbench.trials.progress import Lines
from cspbench.trials.records import TrialLog

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.M | re.S)
NOT_RUN = {
    "it trains for minutes or hours": [
        "sweep sweeps/an4.yaml --workers 2 --set corpus.path=../shared/data/an4",
        "sweep sweeps/smoke.yaml",
        "sweep sweeps/search.yaml --trials 40",
        "reproduce 0ea1",
    ],
    "it needs a server of Optuna or MLflow": [
        "sweep sweeps/an4.yaml --storage postgresql://cspbench@db/cspbench --tracking-uri http://mlflow:5000",
        "worker an4 --storage postgresql://cspbench@db/cspbench --tracking-uri http://mlflow:5000",
        "sync an4 --tracking-uri http://mlflow:5000",
        "report smoke --mlflow http://127.0.0.1:5000",
    ],
    "it needs a GPU": ["trials run specs.jsonl --out results --device cuda"],
    "it needs a method that the reader writes": [
        "compare sweeps/compare.yaml --enter my_method --record analysis/compare",
    ],
    "it needs ExecuTorch, which is optional": ["export runs/trials/ID model.pte --to executorch"],
}
"""Commands of the documentation that the tests do not run, by the reason; of these the options are checked."""

LSTM, STATELESS = spec("csp", 0.5), spec("magnitude", 0.5)
"""The trials in the fixture `place`, by the recogniser that they left."""


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """Page and text of every code block of a language."""
    for page in PAGES:
        for found, text in BLOCK.findall(page.read_text(encoding="utf-8")):
            if found == language:
                yield str(page.relative_to(ROOT)), text


def commands() -> dict[str, str]:
    """Command lines of cspbench without the program and without a redirection, and the page each is on."""
    lines = [(page, line) for page, text in blocks("sh") for line in text.replace("\\\n", " ").splitlines()]
    split = [(page, shlex.split(line.partition(" > ")[0], comments=True)) for page, line in lines]
    return {" ".join(words[1:]): page for page, words in split if words[:1] == ["cspbench"]}


COMMANDS = commands()
LEFT_OUT = [command for group in NOT_RUN.values() for command in group]
MENTIONED = sorted({c for page in PAGES for c in re.findall(r"`cspbench ([^`]+)`", page.read_text(encoding="utf-8"))})
"""Command lines within a text, most of them shortened."""


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs_gen_files", reason="DOCUMENTATION TOOLS ABSENT: pip install 'cspbench[docs]'")
    done = subprocess.run(
        [sys.executable, "-m", "properdocs", "build", "--strict", "-q", "-f", ROOT / "mkdocs.yml", "-d", tmp_path],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "DISABLE_MKDOCS_2_WARNING": "true"},
    )
    assert done.returncode == 0, done.stderr
    pages = {path.parent.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("index.html")}
    assert {".", "concepts", "reference/sweep", "reference/methods", "reference/metrics"} <= pages
    assert "csp_penalised" in (tmp_path / "reference" / "methods" / "index.html").read_text()
    for page in tmp_path.rglob("*.html"):  # nothing is loaded from elsewhere
        assert not re.search(r"<(?:script|link|img)[^>]+(?:src|href)=\"https?://(?!.*canonical)", page.read_text()), (
            page
        )


def test_commands_that_are_not_run_are_in_the_documentation() -> None:
    assert set(LEFT_OUT) <= set(COMMANDS), "remove from NOT_RUN what the documentation no longer has"


@pytest.mark.parametrize("command", [*LEFT_OUT, *MENTIONED])
def test_other_commands_exist_with_their_options(command: str, run: Callable[..., tuple[int, str, str]]) -> None:
    words = shlex.split(command)
    assert len(words) < 2 or not words[1].startswith("sweeps/") or (ROOT / words[1]).is_file()
    names = list(itertools.takewhile(lambda word: word[0] != "-", words))
    code, shown, err = run(*names[:2], "--help")
    assert code == 0, err
    for option in (word for word in words if word.startswith("--")):
        assert option in shown, f"there is no option {option}"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, corpus: dict[str, Any]) -> Path:  # noqa: F811 - a fixture
    """A working folder that holds what the documentation names.

    The studies `smoke` and `an4` have the trials `LSTM` and `STATELESS`, which were collected from `results`.
    """
    place = tmp_path_factory.mktemp("place")
    elsewhere, store = Store(place / "results"), Store(place / "runs")
    log = TrialLog(StudyFolder(elsewhere.root).trials)
    for trial in (LSTM, STATELESS):
        finish(elsewhere, "elsewhere", trial, result(trial, 0.05))
        log.write(trial, "complete")
    save_model(elsewhere.trial(LSTM.id).path, trained(talkative()))
    save_model(elsewhere.trial(STATELESS.id).path, untrained("stateless_transducer", FeatureSpec(), TOKENIZER))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cspbench.report.write.write_report", lambda *_: [])  # `report` writes it
        for name in ("smoke", "an4"):
            collect(elsewhere.root, name, store, Lines(Console(quiet=True)))
            store.study(name).optuna.touch()
    (place / "sweeps").symlink_to(ROOT / "sweeps")
    (place / "my").mkdir()
    (place / "my" / "folder").symlink_to(corpus["path"])
    soundfile.write(place / "speech.flac", np.zeros(8000, np.float32), 16000)
    pack_model(trained(talkative())).save(place / "model.packed.safetensors")
    return place


@pytest.mark.parametrize("command", [command for command in COMMANDS if command not in LEFT_OUT])
def test_commands_run(
    command: str,
    place: Path,
    corpus: dict[str, Any],  # noqa: F811 - a fixture
    run: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With trials and a corpus of the tests. A comparison ends with its plan, a server before it starts."""
    monkeypatch.chdir(place)
    for replace_process in ("os.execv", "os.execve"):
        monkeypatch.setattr(replace_process, lambda *_: sys.exit(0))
    words = command.replace("/ID", f"/{(STATELESS if 'sherpa-onnx' in command else LSTM).id}").split()
    if words[0] == "compare":
        words += ["--dry-run"]
        for index, part in enumerate(yaml.safe_load((ROOT / words[1]).read_text())["corpora"]):
            words += [
                "--set",
                f"corpora.{index}.corpus={json.dumps(corpus)}",
                "--set",
                f"corpora.{index}.label={part['corpus']['name']}",
            ]
    if words[:2] == ["trials", "export"]:
        words += ["--set", f"corpus={json.dumps(corpus)}"]
    code, _, err = run(*words)
    assert code == 0, f"{COMMANDS[command]}: {err}"


@pytest.mark.parametrize(
    ("page", "text"), [pytest.param(p, t, id=f"{p}-{i}") for i, (p, t) in enumerate(blocks("python"))]
)
def test_python_blocks_run(page: str, text: str, tmp_path: Path) -> None:
    """In a folder that holds a packed model and a study, with half a second of samples at hand."""
    write_study(tmp_path / "runs", "rnnt", seeds=[0])
    pack_model(trained(talkative())).save(tmp_path / "model.packed.safetensors")
    prelude = "import numpy as np\nsamples = np.zeros(8000, np.float32)\n"
    done = subprocess.run(
        [sys.executable, "-c", prelude + text], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{page}: {done.stderr}"


def test_the_other_lines_name_targets_extras_and_files_that_exist() -> None:
    lines = [line for _, text in blocks("sh") for line in text.splitlines() if not line.startswith("cspbench ")]
    makefile, project = (ROOT / "Makefile").read_text(), (ROOT / "pyproject.toml").read_text()
    for line in lines:
        program, *words = shlex.split(line, comments=True)
        assert program in {"make", "pip", "python", "sbatch", "docker"}, line
        assert program != "make" or re.search(rf"^{words[0]}:", makefile, re.M), line
        for extra in re.findall(r"cspbench\[(\w+)\]", line):
            assert re.search(rf"^{extra} = \[", project, re.M), line
        assert all((ROOT / word).is_file() for word in words if word.endswith((".sh", ".yaml", ".py"))), line


def questions() -> list[list[str]]:
    """Cells of the table of questions, a list a row."""
    page = (ROOT / "docs" / "howto" / "questions.md").read_text(encoding="utf-8")
    rows = [re.split(r"\s*\|\s*", line)[1:-1] for line in page.splitlines() if line.startswith("| ")]
    return rows[1:]


@pytest.fixture
def answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of a study `rnnt` with a control and a trial that failed."""
    monkeypatch.chdir(tmp_path)
    store = write_study(tmp_path / "runs", "rnnt", methods=["csp", "magnitude"], sparsities=[0.5, 0.9, 0.99], seeds=[0])
    finish(store, "rnnt", spec("control", 0.0), result(spec("control", 0.0), 0.02))
    record(store, "rnnt", spec("lottery", 0.99), "failed", "CspbenchError: boom")


@pytest.mark.usefixtures("answered")
def test_the_twelve_questions_are_answered_in_the_terminal(run: Callable[..., tuple[int, str, str]]) -> None:
    rows = questions()
    assert len(rows) == 12
    for question, terminal, *_ in rows:
        code, out, err = run(*shlex.split(terminal.strip("`"))[1:])
        assert (code, err) == (0, ""), question
        assert "none for which" not in out, question
    assert "boom" in run(*shlex.split(rows[-1][1].strip("`"))[1:])[1]


@pytest.mark.usefixtures("answered")
def test_the_twelve_questions_are_answered_in_a_notebook() -> None:
    mpl.use("agg")
    names = {"cspbench": cspbench, "report": report, "trials": cspbench.load_results("rnnt")}
    answers = {row[0]: eval(row[-1].strip("`"), dict(names)) for row in questions()}
    assert answers["Which trial is best?"]["method"].item() == "control"
    assert answers["Which layer keeps most?"] == "encoder.weight_ih_l0"
    assert answers["Is csp better than magnitude here?"].difference < 0
    assert answers["What were the settings?"].method.name == "csp"
    assert answers["What failed, and why?"]["error"].item() == "CspbenchError: boom"
