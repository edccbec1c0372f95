"""What comes in from outside, command by command: refused in one message, before any work."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from support.packed_models import RATE, pruned, trained

from cspbench.runtime.packing import pack_model
from cspbench.store import Store
from cspbench.training.checkpoint import save_model

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


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small recogniser, with a packed file, a comparison file and specs of trials beside it."""
    folder = tmp_path_factory.mktemp("recogniser")
    save_model(folder / "model", trained(pruned(0.5), synthetic=True))
    pack_model(trained(pruned(0.5), synthetic=True), format="csr8").save(folder / "packed.safetensors")
    soundfile.write(folder / "speech.wav", np.zeros(RATE), RATE)
    return folder


@pytest.fixture
def study(run: Run, store: Store, sweep_file: Path, fake_trials: object) -> Store:
    """A results folder with a finished sweep ``s``."""
    assert run("sweep", sweep_file, "--root", store.root)[0] == 0
    return store


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 16 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder], check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def make_read_only(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)


def fill(disk: Path) -> None:
    with suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def contents(folder: Path) -> dict[Path, bytes]:
    """What is finished in a results folder: files that no later run may change."""
    finished = [p for kind in ("trials", "dense") for p in (folder / kind).rglob("*") if p.is_file()]
    return {path: path.read_bytes() for path in finished if path.name not in (".lock", "error.txt")}


def assert_refused(found: tuple[int, str, str]) -> str:
    """Assert that a command ended with one message and no traceback; return the message."""
    code, _, err = found
    assert code in (1, 2), err
    assert "Traceback" not in err
    assert err.count("error: ") == 1, err
    return err[err.index("error: ") :]


COMPARISON = """\
name: c
corpora: [{label: noise, corpus: CORPUS}]
sparsity: [0.9]
seeds: [1, 2]
control: false
proposed: csp
methods: [csp, magnitude]
"""

WRITING: dict[str, list[str]] = {
    "sweep": ["sweep", "SWEEP", "--set", "name=other", "--set", "sparsity=[0.7]", "--root", "ROOT"],
    "compare": ["compare", "COMPARISON", "--root", "ROOT"],
    "trials run": ["trials", "run", "SPECS", "--out", "ROOT/there"],
    "trials collect": ["trials", "collect", "FINISHED", "--name", "far", "--root", "ROOT"],
    "data prepare": ["data", "prepare", "fsdd", "--path", "FSDD", "--option", "train=9", "--root", "ROOT"],
    "report": ["report", "s", "--root", "ROOT"],
    "pack": ["pack", "MODEL", "ROOT/x.safetensors"],
    "export": ["export", "MODEL", "ROOT/x.onnx"],
}


@pytest.fixture
def words(
    run: Run, tmp_path: Path, sweep_file: Path, corpus: dict, study: Store, recogniser: Path, fsdd_path: Path
) -> Callable[..., list[str]]:
    """Put the files of this test in place of the names in capitals."""
    specs = tmp_path / "specs.jsonl"
    specs.write_text(run("trials", "export", sweep_file, "--set", "sparsity=[0.6]")[1])
    assert run("trials", "run", specs, "--out", tmp_path / "finished")[0] == 0
    specs.write_text(run("trials", "export", sweep_file, "--set", "sparsity=[0.8]")[1])
    comparison = tmp_path / "comparison.yaml"
    comparison.write_text(COMPARISON.replace("CORPUS", json.dumps(corpus)))
    places = {"SWEEP": sweep_file, "COMPARISON": comparison, "SPECS": specs, "FINISHED": tmp_path / "finished"}
    places |= {"MODEL": recogniser / "model", "FSDD": fsdd_path}

    def fill_in(command: list[str], root: Path) -> list[str]:
        found = [str(places.get(word, word)) for word in command]
        return [str(root) + word.removeprefix("ROOT") if word.startswith("ROOT") else word for word in found]

    return fill_in


@pytest.mark.parametrize("damage", [make_read_only, fill])
@pytest.mark.parametrize("command", WRITING.values(), ids=WRITING)
def test_a_disk_that_cannot_be_written_to_is_one_message(
    run: Run, words: Callable[..., list[str]], study: Store, disk: Path, command: list[str], damage: Callable
) -> None:
    root = disk / "runs"
    shutil.copytree(study.root, root)
    before = contents(root)
    damage(disk)
    message = assert_refused(run(*words(command, root)))
    assert str(disk) in message or "sqlite" in message
    assert {path: path.read_bytes() for path in before} == before


def test_no_folder_is_made_for_an_output_file(run: Run, recogniser: Path, tmp_path: Path) -> None:
    for command, file in (("pack", "x.safetensors"), ("export", "x.onnx")):
        message = assert_refused(run(command, recogniser / "model", tmp_path / "nope" / file))
        assert f"there is no folder {tmp_path / 'nope'}" in message
    assert not (tmp_path / "nope").exists()
