"""``cspbench transcribe``: what is said in a recording."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cspbench.cli.options import AsJson
from cspbench.errors import ConfigError, CspbenchError

if TYPE_CHECKING:
    import numpy as np

    from cspbench.runtime import Recogniser

CHUNK_SECONDS = 0.03


class TranscribeError(CspbenchError):
    """Some recordings could not be transcribed; the others were."""


def transcribe(
    model: Annotated[
        Path, typer.Argument(help="A packed file, or the folder of a trial or dense recogniser (runs/trials/ID).")
    ],
    files: Annotated[
        list[Path], typer.Argument(help="Recordings: WAV, FLAC, ...; any sample rate; channels are averaged.")
    ],
    stream: Annotated[
        bool, typer.Option("--stream", help="Print text as it appears, with seconds of audio heard.")
    ] = False,
    as_json: AsJson = False,
    values: Annotated[
        str | None, typer.Option("--values", help="For a folder: fp32 (unless you say otherwise), fp16, bf16 or int8.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, max=256, help="Threads of a product; for large models.")] = 1,
) -> None:
    """Print what is said in recordings, hearing them as a stream.

    A recording that cannot be read is named on stderr; the others are transcribed all the same. The exit code says so.
    """
    from cspbench.machine.cpu import check_threads
    from cspbench.runtime import Recogniser

    if values is not None and model.is_file():
        raise ConfigError(f"{model} is a packed file, whose values are what they are; --values is for folders")
    check_threads(threads)
    recogniser = Recogniser.load(model, threads, values=values or "fp32")
    failed = 0
    for file in files:
        try:
            for event in _decode(recogniser.stream(), file):
                if event.get("final", False) or stream:
                    typer.echo(json.dumps(event) if as_json else _line(event, len(files) > 1, stream))
        except CspbenchError as error:
            failed += 1
            typer.echo(f"error: {file}: {error}", err=True)
            if as_json:
                typer.echo(json.dumps({"file": str(file), "error": str(error)}))
    if failed:
        raise TranscribeError(f"{failed} of {len(files)} recordings could not be transcribed")


def _decode(stream: Recogniser, file: Path) -> Iterator[dict[str, Any]]:
    """An event whenever the text has grown, and a final one."""
    seconds, before = 0.0, ""
    for samples, rate in _chunks(file):
        text = stream.accept(samples, rate)
        seconds += len(samples) / rate
        if text != before:
            yield {"file": str(file), "seconds": round(seconds, 3), "text": text}
        before = text
    yield {"file": str(file), "seconds": round(seconds, 3), "text": stream.finish(), "final": True}


def _chunks(file: Path) -> Iterator[tuple[np.ndarray, int]]:
    import soundfile

    if not file.is_file():
        raise TranscribeError("there is no such file")
    try:
        with soundfile.SoundFile(file) as audio:
            size = max(1, round(audio.samplerate * CHUNK_SECONDS))
            for block in audio.blocks(size, dtype="float32", always_2d=True):
                yield block.mean(axis=1), audio.samplerate
    except (soundfile.LibsndfileError, OSError) as error:
        raise TranscribeError(f"it cannot be read as audio: {error}") from error


def _line(event: dict[str, Any], many: bool, stream: bool) -> str:
    name = [event["file"]] if many else []
    when = [f"{event['seconds']:.2f}"] if stream else []
    return "\t".join([*name, *when, event["text"]])
