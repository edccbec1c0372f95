"""Peak memory of an engine, measured in a process that runs nothing else.

``python -m cspbench.runtime.latency.memory FILE KIND`` is that process: it loads a packed file, streams some noise and
prints one JSON object.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from cspbench.errors import CspbenchError

if TYPE_CHECKING:
    from cspbench.runtime.latency.engine import Engine
    from cspbench.runtime.packing import PackedModel

Kind = Literal["native", "dense", "csr"]
"""Engine that runs the file: the native one, or torch on dense or CSR weights."""

SECONDS = 4.0
"""Of noise that are streamed."""


@contextmanager
def saved(packed: PackedModel) -> Iterator[Path]:
    """Have a packed model in a file for a while."""
    with tempfile.TemporaryDirectory(prefix="cspbench-") as folder:
        path = Path(folder) / "model.packed"
        packed.save(path)
        yield path


def peak_memory(packed: PackedModel, kind: Kind) -> tuple[int | None, int | None]:
    """Bytes a fresh process holds at most while it loads and runs a model, and what it held before (all resident).

    None where the system does not report it.

    Raises:
        CspbenchError: the process failed.
    """
    with saved(packed) as path:
        command = [sys.executable, "-m", __name__, str(path), kind]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise CspbenchError(f"the process that measures memory failed: {last[0]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return found["peak"], found["before"]


def resident() -> tuple[int | None, int | None]:
    """Bytes this process holds now, and held at most, resident; None where the system does not report it.

    Not `getrusage`: its maximum is inherited from whoever started the process.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None, None
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    now, most = (int(fields[key].split()[0]) * 1024 if key in fields else None for key in ("VmRSS", "VmHWM"))
    return now, most


def _engine(path: Path, kind: Kind) -> tuple[Engine, int]:
    """The engine, and the samples of one of its steps."""
    from cspbench.asr.trained import Pace
    from cspbench.runtime.packing import PackedModel

    packed = PackedModel.load(path)
    pace = Pace.of(packed.header.features, packed.header.sample_rate)
    if kind == "native":
        from cspbench.runtime.latency.native_engine import NativeEngine

        return NativeEngine("native", packed), pace.step_samples
    from cspbench.runtime.latency.torch_engine import TorchEngine

    return TorchEngine(kind, packed.trained(), kind), pace.step_samples


def _import(kind: Kind) -> None:
    """Import the libraries of an engine, which are not counted as its memory."""
    if kind == "native":
        import cspbench.runtime.latency.native_engine
    else:
        import cspbench.runtime.latency.torch_engine  # noqa: F401


def main() -> None:
    """Body of the process."""
    path, kind = Path(sys.argv[1]), sys.argv[2]
    _import(kind)  # type: ignore[arg-type]
    before, _ = resident()
    engine, size = _engine(path, kind)  # type: ignore[arg-type]
    noise = np.random.default_rng(0).normal(scale=0.05, size=round(SECONDS * 16_000)).astype(np.float32)
    engine.reset()
    for start in range(0, len(noise), size):
        engine.accept(noise[start : start + size])
    engine.finish()
    print(json.dumps({"before": before, "peak": resident()[1]}))


if __name__ == "__main__":
    main()
