"""What comes in from outside, command by command: refused in one message, before any work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def sweep_file(tmp_path: Path, corpus: dict) -> Path:
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump({"name": "s", "corpus": corpus, "sparsity": [0.5], "methods": ["magnitude"]}))
    return file


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("words", [("--device", "cuda"), ("--device", "cuda:7"), ("--set", "device=cuda")])
def test_a_device_that_is_not_there_is_refused_before_any_work(
    run: Run, sweep_file: Path, tmp_path: Path, words: tuple[str, str]
) -> None:
    code, out, err = run("sweep", sweep_file, "--root", tmp_path / "runs", *words)
    assert (code, out) == (1, "")
    assert "this torch sees no CUDA device; use cpu or auto" in err
    assert not (tmp_path / "runs").exists()


def test_features_that_do_not_fit_the_sample_rate_are_refused_before_any_work(
    run: Run, sweep_file: Path, tmp_path: Path
) -> None:
    code, _, err = run("sweep", sweep_file, "--root", tmp_path / "runs", "--set", "features.mels=128")
    assert code == 2
    assert "128 mels are too many for windows of 25 ms at 16000 Hz" in err
    assert "Traceback" not in err
    assert not (tmp_path / "runs" / "dense").exists()
