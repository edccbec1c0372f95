"""Where results live: one root, one folder a stage, every folder named by the hash of what it holds.

::

    runs/
      corpora/             audio made or joined by a corpus loader
      features/<id>/       log-mel features
      dense/<id>/          a trained dense recogniser
      trials/<id>/         a finished (or interrupted) trial
      studies/<name>/      what belongs to one sweep: its file, the Optuna study, the list of its trials, its report
      mlflow/              the tracking database and artifacts
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from cspbench.errors import ConfigError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Store:
    """Paths under one root folder. Nothing is created until something is written."""

    def __init__(self, root: Path | str = "runs") -> None:
        self.root = Path(root).absolute()

    @property
    def corpora(self) -> Path:
        return self.root / "corpora"

    @property
    def mlflow(self) -> Path:
        return self.root / "mlflow"

    def features(self, id: str) -> Path:
        return self._child("features", id)

    def dense(self, id: str) -> Path:
        return self._child("dense", id)

    def trial(self, id: str) -> Path:
        return self._child("trials", id)

    def study(self, name: str) -> Path:
        return self._child("studies", name)

    def _child(self, kind: str, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise ConfigError(f"'{name}' cannot name a folder: use letters, digits, '.', '_' and '-'")
        return self.root / kind / name


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder against other processes; the folder is made if needed. The lock goes when its holder dies."""
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        yield


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a whole file or nothing: readers and interrupted runs never see half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = data.encode() if isinstance(data, str) else data
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(raw)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically. NaN is refused: it is not JSON."""
    write_atomic(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text())
