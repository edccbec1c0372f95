"""Paths of all results: one root, one folder a stage, every folder named by the hash of what it holds.

::

    runs/
      corpora/             audio made or joined by a corpus loader
      features/<id>/       log-mel features
      dense/<id>/          a trained dense recogniser: `DenseFolder`
      trials/<id>/         a finished (or interrupted) trial: `TrialFolder`
      studies/<name>/      what belongs to one sweep or comparison: `StudyFolder`
      mlflow/              the tracking database and artifacts

File names are written here and nowhere else.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EIO
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock

from cspbench.errors import ConfigError, FileAccessError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class ModelFolder:
    """Files of a trained recogniser, dense or pruned."""

    path: Path

    @property
    def spec(self) -> Path:
        """The spec it was trained from."""
        return self.path / "spec.json"

    @property
    def result(self) -> Path:
        """The outcome. It is written last: a folder that has it is complete."""
        return self.path / "result.json"

    @property
    def finished(self) -> bool:
        """True once the result is there."""
        return self.result.is_file()

    @property
    def environment(self) -> Path:
        """Machines, threads and versions that it was worked on with, a list."""
        return self.path / "environment.json"

    @property
    def curve(self) -> Path:
        """The training curve, one JSON object a line."""
        return self.path / "curve.jsonl"

    @property
    def steps(self) -> Path:
        """Loss, learning rate, gradient norm, speed and sparsity of single steps, one JSON object a line."""
        return self.path / "steps.jsonl"

    @property
    def model(self) -> Path:
        """Shape, tokenizer and front end of the recogniser."""
        return self.path / "model.json"

    @property
    def weights(self) -> Path:
        """Weights of the recogniser."""
        return self.path / "model.safetensors"

    @property
    def checkpoint(self) -> Path:
        """State of an interrupted training; removed before the result is written."""
        return self.path / "checkpoint.pt"


@dataclass(frozen=True)
class DenseFolder(ModelFolder):
    """Files of a trained dense recogniser."""

    def snapshot(self, fraction: float) -> Path:
        """Weights at a fraction of the training steps, in thousandths."""
        return self.path / f"snapshot-{round(fraction * 1000):04d}.safetensors"

    @property
    def snapshots(self) -> list[Path]:
        """Weights from during the training, in its order."""
        return sorted(self.path.glob("snapshot-*.safetensors"))


@dataclass(frozen=True)
class TrialFolder(ModelFolder):
    """Files of a trial."""

    @property
    def usage(self) -> Path:
        """Use of the machine while the trial ran, one JSON object a line; only where it was asked for."""
        return self.path / "usage.jsonl"

    @property
    def hypotheses(self) -> Path:
        """References and hypotheses of the test utterances, one JSON object a line."""
        return self.path / "hypotheses.jsonl"

    @property
    def weight_log(self) -> Path:
        """Weights by magnitude at some steps of the pruning run, one JSON object a line."""
        return self.path / "weights.jsonl"

    def clip(self, utterance: int) -> Path:
        """Audio of a test utterance that was misrecognised, by its line in the hypotheses, from 0."""
        return self.path / f"utterance-{utterance:05d}.mp3"

    @property
    def clips(self) -> list[Path]:
        """Audio of misrecognised test utterances, in the order of the hypotheses."""
        return sorted(self.path.glob("utterance-*.mp3"))

    @property
    def training(self) -> Path:
        """Steps and seconds of the pruning run; written when the pruned model is saved."""
        return self.path / "training.json"

    @property
    def evaluation(self) -> Path:
        """Word errors of dev and test."""
        return self.path / "evaluation.json"

    @property
    def size(self) -> Path:
        """Sparsity, and bytes of the packed and the dense model."""
        return self.path / "size.json"

    @property
    def latency(self) -> Path:
        """Latency report."""
        return self.path / "latency.json"

    @property
    def error(self) -> Path:
        """Traceback of the last attempt, if it failed."""
        return self.path / "error.txt"


@dataclass(frozen=True)
class StudyFolder:
    """Files of a sweep or a comparison."""

    path: Path

    @property
    def trials(self) -> Path:
        """The list of its trials, one JSON object whenever one starts or ends."""
        return self.path / "trials.jsonl"

    @property
    def tuning(self) -> Path:
        """The list of a comparison's tuning trials."""
        return self.path / "tuning.jsonl"

    @property
    def sweep(self) -> Path:
        """The sweep file as it was resolved, and its identity."""
        return self.path / "sweep.json"

    @property
    def comparison_file(self) -> Path:
        """The comparison file as it was resolved."""
        return self.path / "comparison.json"

    @property
    def comparison(self) -> Path:
        """Folder of a comparison's tables."""
        return self.path / "comparison"

    @property
    def report(self) -> Path:
        """Folder of figures and tables."""
        return self.path / "report"

    @property
    def tracking(self) -> Path:
        """Everything that MLflow is told of the study as a whole."""
        return self.path / "tracking.json"

    @property
    def home(self) -> Path:
        """A random id, by which a shared database knows that its sweep of this name was started from this folder."""
        return self.path / "home.json"

    @property
    def optuna(self) -> Path:
        """Database of the Optuna study."""
        return self.path / "optuna.db"


class Store:
    """Paths under one root folder. Nothing is created until something is written.

    Args:
        root: the folder, or a store of it.
    """

    def __init__(self, root: Store | Path | str = "runs") -> None:
        self.root: Path = root.root if isinstance(root, Store) else Path(root).absolute()

    @property
    def corpora(self) -> Path:
        return self.root / "corpora"

    @property
    def mlflow(self) -> Path:
        return self.root / "mlflow"

    def features(self, id: str) -> Path:
        return self._child("features", id)

    def dense(self, id: str) -> DenseFolder:
        return DenseFolder(self._child("dense", id))

    def trial(self, id: str) -> TrialFolder:
        return TrialFolder(self._child("trials", id))

    def study(self, name: str) -> StudyFolder:
        return StudyFolder(self._child("studies", name))

    def find_trial(self, id: str) -> TrialFolder:
        """Return the folder of a trial that is there.

        Args:
            id: of the trial, or the first digits of it.

        Raises:
            ConfigError: no such trial, or several.
        """
        names = sorted(path.name for path in self.root.glob("trials/*") if path.is_dir() and path.name.startswith(id))
        if id in names:
            return self.trial(id)
        if len(names) != 1:
            known = f"{len(names)} trials start so: {', '.join(names[:4])}" if names else f"{self.root} has none"
            raise ConfigError(f"no trial '{id}': {known}")
        return self.trial(names[0])

    def studies(self) -> list[str]:
        """Names of the studies that have a list of trials, sorted."""
        folders = self.root.glob("studies/*")
        return sorted(folder.name for folder in folders if StudyFolder(folder).trials.is_file())

    def _child(self, kind: str, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise ConfigError(f"'{name}' cannot name a folder: use letters, digits, '.', '_' and '-'")
        return self.root / kind / name


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder against other processes; the folder is made if needed. The lock goes when its holder dies."""
    make_folder(folder)
    with FileLock(folder / ".lock"):
        yield


def make_folder(path: Path) -> None:
    """Make a folder and its parents unless they are there; their entries are on disk when this returns."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync_folder(folder.parent)


def sync_folder(path: Path) -> None:
    """Write the entries of a folder to disk: a file that was made or renamed there outlives a power cut."""
    if os.name != "posix":  # elsewhere folders cannot be opened
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let errors of the operating system name `path`: those of an open file, such as a full disk, name none."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno or EIO, error.strerror or str(error), str(path)) from error


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that appears whole or not at all: readers and interrupted runs never see half of it.

    It is on disk, not only in the system's memory, when it appears.

    Raises:
        OSError: it cannot be written; the error names `path`, whichever step failed.
    """
    with naming(path):
        make_folder(path.parent)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
            sync_folder(path.parent)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a whole file or nothing, see `atomic_file`."""
    with atomic_file(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically. NaN is refused: it is not JSON."""
    write_atomic(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        FileAccessError: it is damaged.
        OSError: it cannot be read.
    """
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise FileAccessError(f"{path} is damaged: no JSON ({error}); put a copy back, or delete it") from None


def read_object(path: Path, *keys: str) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: the file.
        keys: that it must hold.

    Raises:
        FileAccessError: it is damaged, or holds something else.
        OSError: it cannot be read.
    """
    value = read_json(path)
    missing = [key for key in keys if not isinstance(value, dict) or key not in value]
    if missing or not isinstance(value, dict):
        lacking = f"it lacks {', '.join(missing)}" if missing else "no JSON object"
        raise FileAccessError(f"{path} is damaged: {lacking}; put a copy back, or delete it")
    return value


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line, atomically."""
    write_atomic(path, "".join(json.dumps(row) + "\n" for row in rows))
