"""What comes in from outside, command by command: refused in one message, before any work."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import typer
import yaml
from support.packed_models import RATE, TOKENIZER, pruned, trained
from support.small_recognisers import untrained

from cspbench.cli import app
from cspbench.runtime.packing import pack_model
from cspbench.spec import FeatureSpec
from cspbench.store import Store
from cspbench.training.checkpoint import save_model
from cspbench.trials.records import TrialLog
from cspbench.trials.remote import read_specs

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
    save_model(folder / "stateless", untrained("stateless_transducer", FeatureSpec(), TOKENIZER))
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
    "retry": ["retry", "s", "--root", "ROOT"],
    "sync": ["sync", "s", "--root", "ROOT"],
    "init": ["init", "ROOT/new.yaml", "--path", "CORPUS", "--root", "ROOT"],
    "trials export": ["trials", "export", "MADE", "--root", "ROOT"],
    "data check": ["data", "check", "spoken_commands", "--root", "ROOT"],
    "data stats": ["data", "stats", "spoken_commands", "--root", "ROOT"],
    "data prepare": ["data", "prepare", "fsdd", "--path", "FSDD", "--option", "train=9", "--root", "ROOT"],
    "report": ["report", "s", "--root", "ROOT"],
    "pack": ["pack", "MODEL", "ROOT/x.safetensors"],
    "export": ["export", "MODEL", "ROOT/x.onnx"],
    "export to sherpa-onnx": ["export", "STATELESS", "ROOT/x", "--to", "sherpa-onnx"],
}


@pytest.fixture
def places(
    run: Run, tmp_path: Path, sweep_file: Path, corpus: dict, study: Store, recogniser: Path, fsdd_path: Path
) -> dict[str, Path]:
    """Files and folders that stand for the names in capitals."""
    specs, comparison, finished = tmp_path / "specs.jsonl", tmp_path / "comparison.yaml", tmp_path / "finished"
    specs.write_text(run("trials", "export", sweep_file, "--set", "sparsity=[0.6]")[1])
    assert run("trials", "run", specs, "--out", finished)[0] == 0
    specs.write_text(run("trials", "export", sweep_file, "--set", "sparsity=[0.8]")[1])
    TrialLog(study.study("s").trials).write(read_specs(specs)[-1], "failed", "diverged")
    comparison.write_text(COMPARISON.replace("CORPUS", json.dumps(corpus)))
    profile, audio = tmp_path / "device.yaml", tmp_path / "audio"
    profile.write_text("{name: a, memory: b, source: a test, read_mb_per_s: 40}")
    audio.mkdir()
    soundfile.write(audio / "speech.wav", np.zeros(RATE), RATE)
    made = tmp_path / "made.yaml"
    made.write_text(yaml.safe_dump({"name": "m", "sparsity": [0.5], "methods": ["magnitude"]}))
    found = {
        "SWEEP": sweep_file,
        "MADE": made,
        "COMPARISON": comparison,
        "SPECS": specs,
        "FINISHED": finished,
        "FSDD": fsdd_path,
    }
    found |= {
        "MODEL": recogniser / "model",
        "STATELESS": recogniser / "stateless",
        "PACKED": recogniser / "packed.safetensors",
        "WAV": recogniser / "speech.wav",
    }
    found |= {"AUDIO": audio, "PROFILE": profile}
    return found | {"CORPUS": Path(corpus["path"]), "ROOT": study.root}


def filled(command: list[str], places: dict[str, Path]) -> list[str]:
    """Command in which places stand for the names in capitals, also at the beginning of a path."""
    parts = [word.partition("/") for word in command]
    return [
        str(places[name] / rest) if name in places else word
        for word, (name, _, rest) in zip(command, parts, strict=True)
    ]


@pytest.mark.parametrize("damage", [make_read_only, fill])
@pytest.mark.parametrize("command", WRITING.values(), ids=WRITING)
def test_a_disk_that_cannot_be_written_to_is_one_message(
    run: Run, places: dict[str, Path], study: Store, disk: Path, command: list[str], damage: Callable[[Path], None]
) -> None:
    root = disk / "runs"
    shutil.copytree(study.root, root)
    before = contents(root)
    damage(disk)
    message = assert_refused(run(*filled(command, places | {"ROOT": root})))
    assert str(disk) in message or "sqlite" in message
    assert {path: path.read_bytes() for path in before} == before


def test_no_folder_is_made_for_an_output_file(run: Run, recogniser: Path, tmp_path: Path) -> None:
    for command, file in (("pack", "x.safetensors"), ("export", "x.onnx")):
        message = assert_refused(run(command, recogniser / "model", tmp_path / "nope" / file))
        assert f"there is no folder {tmp_path / 'nope'}" in message
    assert not (tmp_path / "nope").exists()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "noise": lambda path: path.write_bytes(bytes(range(256)) * 8),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "of something else": lambda path: path.write_text("{}\n"),
    "a list": lambda path: path.write_text("[]\n"),
    "unreadable": lambda path: (path.unlink(), path.symlink_to(path)),
}

READING: dict[str, tuple[str, list[list[str]]]] = {
    "sweep file": (
        "SWEEP",
        [
            ["sweep", "SWEEP", "--root", "ROOT"],
            ["trials", "export", "SWEEP", "--root", "ROOT"],
            ["data", "stats", "SWEEP", "--root", "ROOT"],
            ["data", "check", "SWEEP", "--root", "ROOT"],
            ["data", "prepare", "SWEEP", "--root", "ROOT"],
            ["doctor", "SWEEP", "--root", "ROOT"],
        ],
    ),
    "comparison file": ("COMPARISON", [["compare", "COMPARISON", "--root", "ROOT"]]),
    "specs": ("SPECS", [["trials", "run", "SPECS", "--out", "ROOT/there"]]),
    "manifest": (
        "CORPUS/train.jsonl",
        [
            ["data", "stats", "SWEEP", "--root", "ROOT"],
            ["data", "check", "SWEEP", "--root", "ROOT"],
            ["data", "prepare", "SWEEP", "--root", "ROOT"],
            ["sweep", "SWEEP", "--root", "ROOT"],
            ["init", "ROOT/new.yaml", "--path", "CORPUS", "--root", "ROOT"],
        ],
    ),
    "recording": (
        "CORPUS/test0.wav",
        [
            ["data", "stats", "SWEEP", "--root", "ROOT"],
            ["data", "check", "SWEEP", "--root", "ROOT"],
            ["data", "prepare", "SWEEP", "--root", "ROOT"],
            ["sweep", "SWEEP", "--root", "ROOT"],
            ["transcribe", "PACKED", "CORPUS/test0.wav"],
        ],
    ),
    "recordings": ("AUDIO/speech.wav", [["latency", "PACKED", "--audio", "AUDIO"]]),
    "profile": ("PROFILE", [["latency", "PACKED", "--device-profile", "PROFILE"]]),
    "result": (
        "ROOT/trials/*/result.json",
        [
            ["results", "s", "--root", "ROOT"],
            ["results", "s", "--trials", "--root", "ROOT"],
            ["report", "s", "--root", "ROOT"],
            ["show", "s", "--root", "ROOT"],
            ["compare-trials", "s/magnitude", "s/control", "--root", "ROOT"],
            ["sync", "s", "--root", "ROOT"],
            ["sweep", "SWEEP", "--root", "ROOT"],
        ],
    ),
    "spec": (
        "ROOT/trials/*/spec.json",
        [["show", "s", "--root", "ROOT"], ["reproduce", "s/magnitude", "--root", "ROOT"]],
    ),
    "curve": ("ROOT/trials/*/curve.jsonl", [["show", "s", "--root", "ROOT"], ["report", "s", "--root", "ROOT"]]),
    "hypotheses": (
        "ROOT/trials/*/hypotheses.jsonl",
        [
            ["show", "s", "--root", "ROOT"],
            ["compare-trials", "s/magnitude", "s/control", "--root", "ROOT"],
            ["report", "s", "--root", "ROOT"],
        ],
    ),
    "list of trials": (
        "ROOT/studies/s/trials.jsonl",
        [
            ["results", "--root", "ROOT"],
            ["results", "s", "--root", "ROOT"],
            ["report", "s", "--root", "ROOT"],
            ["show", "s", "--root", "ROOT"],
            ["retry", "s", "--root", "ROOT"],
            ["sync", "s", "--root", "ROOT"],
        ],
    ),
    "study": (
        "ROOT/studies/s/sweep.json",
        [["sweep", "SWEEP", "--root", "ROOT"], ["retry", "s", "--root", "ROOT"], ["sync", "s", "--root", "ROOT"]],
    ),
    "log": ("ROOT/studies/s/tracking.json", [["sync", "s", "--root", "ROOT"], ["sweep", "SWEEP", "--root", "ROOT"]]),
    "optuna": ("ROOT/studies/s/optuna.db", [["sweep", "SWEEP", "--root", "ROOT"]]),
    "collected": ("FINISHED/trials.jsonl", [["trials", "collect", "FINISHED", "--name", "far", "--root", "ROOT"]]),
    "weights": (
        "MODEL/*.safetensors",
        [["pack", "MODEL", "ROOT/x"], ["transcribe", "MODEL", "WAV"], ["export", "MODEL", "ROOT/x"]],
    ),
    "model": ("MODEL/model.json", [["pack", "MODEL", "ROOT/x"], ["transcribe", "MODEL", "WAV"], ["latency", "MODEL"]]),
    "packed file": (
        "PACKED",
        [
            ["transcribe", "PACKED", "WAV"],
            ["latency", "PACKED"],
            ["export", "PACKED", "ROOT/x"],
            ["bench", "edges", "PACKED"],
            ["bench", "soak", "--model", "PACKED"],
        ],
    ),
    "mlflow": ("ROOT/mlflow/mlflow.db", [["sweep", "SWEEP", "--root", "ROOT"], ["sync", "s", "--root", "ROOT"]]),
}


@pytest.mark.parametrize("part", range(4))
def test_a_damaged_file_is_one_message(
    run: Run, places: dict[str, Path], part: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever is wrong with a file, and whoever reads it; a command may also do without the file, and say so."""
    wrong = []
    for kind in list(READING)[part::4]:
        target, commands = READING[kind]
        base, _, rest = target.partition("/")
        path, *_ = sorted(places[base].glob(rest)) if rest else [places[base]]
        kept = path.read_bytes()
        for (damage, apply), command in itertools.product(DAMAGES.items(), commands):
            apply(path)
            try:
                code, _, err = run(*filled(command, places))
                if code and (code not in (1, 2) or err.lower().count("error") < 1 or "Traceback" in err):
                    wrong.append(f"{kind}, {damage}: {command[:2]} ended with {code}: {err[-300:]}")
            except Exception as error:
                capsys.readouterr()
                wrong.append(f"{kind}, {damage}: {command[:2]}: {type(error).__name__}: {str(error)[:200]}")
            path.unlink(missing_ok=True)
            path.write_bytes(kept)
            (places["ROOT"] / "new.yaml").unlink(missing_ok=True)
    assert not wrong, "\n".join(wrong)


FILELESS = {"methods", "data list", "ui", "dashboard", "worker"}
"""Commands that neither read files nor write any but through a server: those of MLflow, Optuna and PostgreSQL."""


def test_every_command_is_tried() -> None:
    tried = {tuple(command[:2]) for _, commands in READING.values() for command in commands}
    tried |= {tuple(command[:2]) for command in WRITING.values()}
    for words in sorted(command_words(typer.main.get_command(app))):
        name = " ".join(words)
        assert name in FILELESS or words[0] == "bench" or any(found[: len(words)] == words for found in tried), name


def command_words(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command."""
    inner = getattr(command, "commands", {})
    for name, one in inner.items():
        yield from command_words(one, (*words, name))
    if not inner:
        yield words
