"""The documentation builds without a broken link, and what it tells people to type exists and works."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib as mpl
import pytest
from support.fake_studies import finish, record, result, spec, write_study
from support.talkative_model import talkative, trained

import cspbench
from cspbench import report
from cspbench.runtime.packing import pack_model

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.M | re.S)


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """Page and text of every code block of a language."""
    for page in PAGES:
        for found, text in BLOCK.findall(page.read_text(encoding="utf-8")):
            if found == language:
                yield str(page.relative_to(ROOT)), text


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """Page and words of every line that calls cspbench."""
    for page, text in blocks("sh"):
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["cspbench"]:
                yield page, words[1:]


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


@pytest.mark.parametrize(("page", "words"), [pytest.param(p, w, id=f"{p}: {' '.join(w)}") for p, w in command_lines()])
def test_commands_and_their_options_exist(
    page: str, words: list[str], run: Callable[..., tuple[int, str, str]]
) -> None:
    assert (ROOT / words[1]).is_file() or not words[1].startswith("sweeps/") if len(words) > 1 else True
    names = words[: next((i for i, word in enumerate(words) if word.startswith("-")), len(words))]
    for count in (2, 1):
        code, shown, _ = run(*names[:count], "--help")
        if code == 0:
            break
    assert code == 0, f"{page}: there is no command {' '.join(names)}"
    for option in (word.partition("=")[0] for word in words if word.startswith("--")):
        assert option in shown, f"{page}: {' '.join(names[:count])} has no option {option}"


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
