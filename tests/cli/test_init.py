"""`cspbench init`: a file for a corpus that is there, and nothing overwritten."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cspbench.config import load_config

Run = Callable[..., tuple[int, str, str]]


def test_a_file_for_a_folder_of_speech(
    run: Run, tmp_path: Path, corpus: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = run("init", "mine.yaml", "--path", corpus["path"])
    assert code == 0
    assert "mine.yaml: manifest, tiny model, 120 dense steps, 20 steps a trial" in out
    assert "mind: test has 4 words" in out
    config = load_config(tmp_path / "mine.yaml")
    assert (config.name, config.corpus.name, config.corpus.path) == ("mine", "manifest", corpus["path"])
    assert run("data", "check", "mine.yaml")[0] == 0
    shown = json.loads(run("init", "b.yaml", "--corpus", "manifest", "--path", corpus["path"], "--json")[1])
    assert (shown["preset"], shown["dense_epochs"]) == ("tiny", 120)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("there.yaml",), "there.yaml is there already"),
        (("mine.txt",), "name a .yaml file"),
        (("a b.yaml",), "name a .yaml file"),
        (("nowhere/mine.yaml",), "there is no folder nowhere"),
        (("mine.yaml", "--corpus", "an5"), "did you mean 'an4'"),
        (("mine.yaml", "--corpus", "manifest"), "needs the folder its audio lies in"),
        (("mine.yaml", "--path", "there.yaml"), "not laid out as any corpus is"),
    ],
)
def test_what_cannot_be_written_is_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.yaml").touch()
    code, _, err = run("init", *words)
    assert code == 2
    assert message in err
    assert [path.name for path in tmp_path.glob("*.yaml")] == ["there.yaml"]
