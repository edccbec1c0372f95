"""Files and folders: odd names, and places that cannot be read from or written to."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from cspbench.bench.input_kinds.shared import (
    NAMES,
    check,
    corpus,
    encoded,
    problems,
    sweep_file,
    transcribe,
)
from cspbench.bench.inputs import Input, Judge, Outcome, Workshop, accepted, refused


def names(workshop: Workshop) -> Iterator[Input]:
    """Names of files and folders that URLs, shells and terminals read in their own way."""
    for name in NAMES:
        folder = workshop.place() / name
        folder.mkdir(parents=True)
        told = re.escape(str(folder))
        yield Input(f"{name!r}: a missing file", transcribe(workshop, folder / "none.wav"), refused(told))
        (folder / "a.wav").write_bytes(encoded(workshop.noise(0.3)))
        yield Input(f"{name!r}: a recording", transcribe(workshop, folder / "a.wav", "--json"), accepted('"text"'))
        yield Input(f"{name!r}: results", ["results", "--root", str(folder)], accepted(told))
    for name in workshop.random.sample(NAMES, 6):
        folder = workshop.place() / name
        shutil.copytree(corpus(workshop, []), folder)
        yield Input(f"{name!r}: a corpus", check(folder), problems({}))
        out = folder / "m.safetensors"
        words = ["pack", str(workshop.trained), str(out), "--format", "csr8"]
        yield Input(f"{name!r}: a packed file", words, accepted(re.escape(str(out))))
        words = ["trials", "export", str(sweep_file(workshop, folder)), "--root", str(folder / "runs")]
        yield Input(f"{name!r}: specs", words, accepted(re.escape(json.dumps(str(folder)))))


def places(workshop: Workshop) -> Iterator[Input]:
    """Places that cannot be read from or written to, for every command that does."""
    folder = corpus(workshop, [])
    file, specs = sweep_file(workshop, folder), workshop.place() / "specs.jsonl"
    words = ["trials", "export", str(file), "--root", str(workshop.place())]
    yield Input("specs", words, kept(specs))
    writing = {
        "pack": ["pack", str(workshop.trained), "OUT", "--format", "csr8"],
        "export": ["export", str(workshop.trained), "OUT"],
        "trials run": ["trials", "run", str(specs), "--out", "OUT"],
        "sweep": ["sweep", str(file), "--root", "OUT"],
        "trials export": ["trials", "export", str(file), "--set", "corpus={name: spoken_commands}", "--root", "OUT"],
    }
    reading = {
        "transcribe": ["transcribe", str(workshop.model), "IN"],
        "transcribe, model": ["transcribe", "IN", str(folder / "u0.wav")],
        "pack": ["pack", "IN", str(workshop.place() / "x")],
        "export": ["export", "IN", str(workshop.place() / "x.onnx")],
        "latency": ["latency", "IN", "--repeats", "1"],
        "latency, audio": ["latency", str(workshop.model), "--audio", "IN"],
        "latency, profile": ["latency", str(workshop.model), "--device-profile", "IN"],
        "sweep": ["sweep", "IN", "--root", str(workshop.place())],
        "compare": ["compare", "IN", "--root", str(workshop.place())],
        "trials export": ["trials", "export", "IN"],
        "trials run": ["trials", "run", "IN", "--out", str(workshop.place())],
        "trials collect": ["trials", "collect", "IN", "--name", "x", "--root", str(workshop.place())],
        "data check": ["data", "check", "IN"],
        "data stats": ["data", "stats", "manifest", "--path", "IN"],
        "data prepare": ["data", "prepare", "an4", "--path", "IN"],
    }
    for place in _places(workshop):
        for command, words in reading.items():
            filled = [str(place) if word == "IN" else word for word in words]
            yield Input(f"{command} from {place.name[:20]}", filled, refused(re.escape(place.name[:20])))
    for place in _places(workshop, "child"):
        for command, words in writing.items():
            filled = [str(place) if word == "OUT" else word for word in words]
            yield Input(f"{command} to {place.parent.name[:20]}", filled, refused(re.escape(place.parent.name[:20])))


def kept(file: Path) -> Judge:
    """The command succeeds; what it prints is kept for those that follow."""

    def judge(found: Outcome) -> str | None:
        file.write_text(found.out)
        return accepted(r"\{")(found)

    return judge


def _places(workshop: Workshop, child: str = "") -> list[Path]:
    """Places that even an administrator can neither read as a file or folder of ours nor make files in."""
    made = workshop.place()
    loop, dangling, plain = made / "loop", made / "dangling", made / "plain.txt"
    loop.symlink_to(loop)
    dangling.symlink_to(made / "gone" / "away")
    plain.write_bytes(bytes(range(256)))
    found = [loop, dangling, plain, made / ("n" * 300), Path("/proc/missing")]
    return [place / child for place in found] if child else [*found, made / "missing", plain / "inside"]
