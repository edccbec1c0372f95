"""``cspbench transcribe``: text of recordings."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from cspbench.cli.options import AsJson
from cspbench.errors import ConfigError, CspbenchError

if TYPE_CHECKING:
    import numpy as np

    from cspbench.corpora.audio import AudioFile
    from cspbench.runtime import Recogniser

CHUNK_SECONDS = 0.03
STDIN = Path("-")
AT_LIMIT = "the recogniser emits labels at its limit, many times as many as speech has; it may be pruned too far"


class TranscribeError(CspbenchError):
    """Some recordings could not be transcribed; the others were."""


def transcribe(
    model: Annotated[
        Path, typer.Argument(help="A packed file, or the folder of a trial or dense recogniser (runs/trials/ID).")
    ],
    files: Annotated[
        list[Path],
        typer.Argument(help="Recordings (WAV, FLAC, ...; any sample rate), folders of them, or - for standard input."),
    ],
    stream: Annotated[
        bool, typer.Option("--stream", help="Print new text as it appears, with the seconds of audio decoded.")
    ] = False,
    as_json: AsJson = False,
    channel: Annotated[
        int | None, typer.Option(min=0, help="Decode this channel alone, from 0; unset: the average of all.")
    ] = None,
    values: Annotated[
        str | None, typer.Option("--values", help="For a folder: fp32 (the default), fp16, bf16, int8 or int4.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, max=256, help="Threads of a product; for large models.")] = 1,
) -> None:
    """Decode recordings as a stream and print their text.

    A recording that cannot be read is named on stderr; the others are transcribed all the same. The exit code says so.
    A recogniser that emits labels at its limit, as one does that was pruned too far, is named there as well.

    Examples: `cspbench transcribe model.packed.safetensors speech.flac`,
    `cspbench transcribe runs/trials/ID my/folder`,
    `cat speech.wav | cspbench transcribe model.packed.safetensors - --stream`
    """
    from cspbench.machine.cpu import check_threads
    from cspbench.runtime import Recogniser

    if values is not None and model.is_file():
        raise ConfigError(f"{model} is a packed file, whose values are what they are; --values is for folders")
    check_threads(threads)
    recogniser = Recogniser.load(model, threads, values=values or "fp32")
    recordings = [recording for given in files for recording in _recordings(given)]
    failed = 0
    for file in recordings:
        try:
            for event in _decode(recogniser.stream(), file, channel, CHUNK_SECONDS if stream else None):
                line = json.dumps(event) if as_json else _line(event, len(recordings) > 1, stream)
                if line is not None:
                    typer.echo(line)
                if event.get("at_limit"):
                    typer.echo(f"note: {file}: {AT_LIMIT}", err=True)
        except CspbenchError as error:
            failed += 1
            typer.echo(f"error: {file}: {error}", err=True)
            if as_json:
                typer.echo(json.dumps({"file": str(file), "error": str(error)}))
    if failed:
        raise TranscribeError(f"{failed} of {len(recordings)} recordings could not be transcribed")


def _recordings(given: Path) -> list[Path]:
    """The recording, or the recordings of a folder."""
    from cspbench.corpora.audio import recordings

    if not given.is_dir():
        return [given]
    found = recordings(given)
    if not found:
        raise ConfigError(f"{given} holds no recording (.wav, .flac, ...); name files, or a folder that holds some")
    return found


def _decode(
    recogniser: Recogniser, file: Path, channel: int | None, chunk_seconds: float | None
) -> Iterator[dict[str, Any]]:
    """Yield an event with the new text whenever there is some, if `chunk_seconds` are given, and a final one."""
    from cspbench.corpora.audio import AudioFile

    seconds, before = 0.0, ""
    source: Path | BinaryIO = sys.stdin.buffer if file == STDIN else file
    with AudioFile(source) as audio:
        for samples in _chunks(audio, channel, chunk_seconds):
            text = recogniser.accept(samples, audio.sample_rate)
            seconds += len(samples) / audio.sample_rate
            if chunk_seconds is not None and len(text) > len(before):
                yield {"file": str(file), "seconds": round(seconds, 3), "new": text[len(before) :]}
                before = text
        text = recogniser.finish()
    event = {"file": str(file), "seconds": round(seconds, 3), "text": text, "final": True}
    event["at_limit"] = recogniser.at_limit
    yield event if chunk_seconds is None else event | {"new": text[len(before) :]}


def _chunks(audio: AudioFile, channel: int | None, seconds: float | None) -> Iterator[np.ndarray]:
    """The samples in blocks as they are decoded, or in chunks of some seconds."""
    for block in audio.blocks(channel):
        size = len(block) if seconds is None else max(1, round(audio.sample_rate * seconds))
        yield from (block[start : start + size] for start in range(0, len(block), size))


def _line(event: dict[str, Any], many: bool, stream: bool) -> str | None:
    """An event as a line of tab-separated fields; None where a stream has nothing new."""
    text = event["new"] if stream else event["text"]
    if stream and not text:
        return None
    return "\t".join([*([event["file"]] if many else []), *([f"{event['seconds']:.2f}"] if stream else []), text])
