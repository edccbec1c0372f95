"""What several kinds of inputs are made of: recordings, corpora, and the commands that read them."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from cspbench.bench.input_recognisers import RATE
from cspbench.bench.inputs import Judge, Outcome, Workshop

NAMES = (
    "runs?", "50% done", "50%25 done?", "my%20runs", "a#b;c", "{x}", "it's", 'say "hi"', "$HOME", "`id`", "a&b|c",
    "ü é", "-dash", "--help", " edges ", "two\nlines", "[bold]x[/]", "x[/y]", ":smile:", "*", "~", "a\\b", "e:mc=2",
)  # fmt: skip
"""Names of files and folders that URLs, shells and terminals read in their own way."""


def encoded(samples: np.ndarray, container: str = "WAV", subtype: str | None = None, rate: int = RATE) -> bytes:
    """A recording in a container."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=container, subtype=subtype)
    return buffer.getvalue()


def transcribe(workshop: Workshop, file: Path | str, *more: str) -> list[str]:
    """The command that prints the text of a recording."""
    return ["transcribe", str(workshop.model), str(file), *more]


def counted(workshop: Workshop, file: Path | str, *more: str) -> list[str]:
    """The command that prints an ``a`` for each burst of noise in a recording."""
    return ["transcribe", str(workshop.counter), str(file), *more]


def piece(data: bytes, **fields: Any) -> dict[str, Any]:
    """A manifest row with the bytes of its recording."""
    return {"data": data} | fields


def corpus(workshop: Workshop, rows: list[Any], order: tuple[str, ...] = ("train", "train", "dev", "test")) -> Path:
    """A folder with a manifest: rows (dicts with `data`, or lines), then sound ones, up to all of `order`."""
    folder = workshop.place()
    lines = []
    for index in range(max(len(rows), len(order))):
        given = rows[index] if index < len(rows) else {}
        if isinstance(given, str):
            lines.append(given)
            continue
        fields = dict(given)
        data = fields.pop("data", None)
        (folder / f"u{index}.wav").write_bytes(encoded(workshop.noise(0.5)) if data is None else data)
        base = {"audio": f"u{index}.wav", "text": "some words", "split": order[min(index, len(order) - 1)]}
        lines.append(json.dumps({key: value for key, value in (base | fields).items() if value is not ...}))
    (folder / "manifest.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def check(folder: Path, *more: str) -> list[str]:
    """The command that lists the problems of a corpus."""
    return ["data", "check", str(folder), "--root", str(folder / "runs"), "--json", *more]


def stats(folder: Path) -> list[str]:
    """The command that describes a corpus."""
    return ["data", "stats", "manifest", "--path", str(folder), "--root", str(folder / "runs"), "--json"]


def problems(kinds: dict[str, int], *patterns: str) -> Judge:
    """`data check` finds problems of these kinds and numbers, and its examples match the patterns."""

    def judge(found: Outcome) -> str | None:
        summary = json.loads(found.out)
        counted = {group["kind"]: group["count"] for group in summary["problems"]}
        if counted != kinds:
            return f"found {summary['problems']}, not {kinds}"
        if bool(summary["problems"]) != (found.code != 0):
            return f"exit code {found.code} with {summary['problems']}"
        examples = "\n".join(example for group in summary["problems"] for example in group["examples"])
        missing = [pattern for pattern in patterns if not re.search(pattern, examples)]
        return f"{examples!r} lacks {missing}" if missing else None

    return judge


def sweep_file(workshop: Workshop, folder: Path, **changes: Any) -> Path:
    """A sweep file on a corpus of `corpus`."""
    settings: dict[str, Any] = {
        "name": "s",
        "corpus": {"name": "manifest", "path": str(folder)},
        "sparsity": [0.5, 0.9],
    }
    settings |= {"methods": ["magnitude"], "control": False}
    return workshop.file("sweep.yaml", json.dumps(settings | changes).encode())
