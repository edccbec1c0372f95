"""JSONL manifests: one utterance a line, under our field names or NeMo's."""

from __future__ import annotations

import gzip
import json
import math
import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from cspbench.corpora.audio import DURATION_TOLERANCE, read_header
from cspbench.corpora.problems import Problems
from cspbench.corpora.text import named, normalise
from cspbench.corpora.utterance import SPLITS, Split, Utterance
from cspbench.errors import CorpusError

Normalise = Callable[[str], str]
LONGEST = 86400.0  # seconds; a day in one utterance is a mistake


def read_manifest(
    files: dict[Path, Split | None], problems: Problems, normalise: Normalise = normalise
) -> list[Utterance]:
    """Read manifests.

    Each line is a JSON object with `audio` (or `audio_filepath`), `text`, and optionally `duration` in seconds (read
    from the audio where absent), `speaker`, `id`, `split`, `lang`, `channel` (from 0) and `offset` in seconds, which
    makes the line a segment of a longer recording. Relative audio paths start at the manifest's folder.

    Args:
        files: manifest -> the split all its lines belong to, or None to read each line's `split` field.
        problems: takes manifests and lines that cannot be used.
        normalise: applied to every transcript; raises CorpusError where one cannot be used.

    Returns:
        The utterances of all lines that can be used.
    """
    found = []
    for file, split in files.items():
        for origin, row in json_lines(file, problems):
            try:
                found.append(_utterance(row, file.parent, split, normalise, origin))
            except CorpusError as error:
                problems.add(origin, str(error))
    return with_ids(found)


def json_lines(file: Path, problems: Problems) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ``file:line`` and JSON object of each line that is one; note a problem for every other line."""
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        lines = content.decode("utf-8-sig").split("\n")  # splitlines() would part at U+2028 too
    except (OSError, UnicodeDecodeError, EOFError, zlib.error) as error:
        problems.add(file, f"cannot be read as UTF-8 text ({error})", "file")
        return
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        origin = f"{file}:{number}"
        try:
            row = json.loads(line, object_pairs_hook=_once)
            json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            problems.add(origin, "holds half of a surrogate pair (\\ud800 to \\udfff); write the whole character")
        except CorpusError as error:
            problems.add(origin, str(error))
        except (ValueError, RecursionError) as error:
            problems.add(origin, f"not JSON ({error}); write one JSON object a line")
        else:
            if isinstance(row, dict):
                yield origin, row
            else:
                problems.add(origin, 'not a JSON object; write {"audio": …, "text": …}')


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose keys occur once."""
    repeated = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    if repeated:
        raise CorpusError(f"field '{repeated[0]}' occurs twice; keep one")
    return dict(pairs)


def _utterance(row: dict[str, Any], folder: Path, split: Split | None, normalise: Normalise, origin: str) -> Utterance:
    audio = audio_path(text_field(row, "audio", "audio_filepath"), folder)
    offset, duration = span(seconds(row, "offset"), seconds(row, "duration"), audio)
    return Utterance(
        id=name(row, "id"),
        audio=audio,
        duration=duration,
        speaker=name(row, "speaker"),
        text=normalise(text_field(row, "text")),
        split=split or _split(row),
        origin=origin,
        offset=offset,
        channel=_channel(row),
        lang=name(row, "lang"),
    )


def span(offset: float | None, duration: float | None, audio: Path) -> tuple[float | None, float]:
    """Complete offset and duration of an utterance from its file.

    Args:
        offset: seconds; None where none is given.
        duration: seconds; None where none is given.
        audio: the file.

    Returns:
        Offset, None where the utterance is its whole file, and duration.

    Raises:
        CorpusError: they are needed and the file cannot be read, or they lie outside any recording.
    """
    if duration is not None and not 0 < duration < LONGEST:
        raise CorpusError(f"duration {duration:g} is not a number of seconds above 0 and below a day")
    if offset is not None and not 0 <= offset < LONGEST:
        raise CorpusError(f"offset {offset:g} is not a number of seconds from 0 to a day")
    if offset is None:
        return None, _whole(audio) if duration is None else duration
    if duration is None:
        duration = _whole(audio) - offset
        if duration <= 0:
            raise CorpusError(f"offset {offset:g} lies behind the end of the audio, at {duration + offset:.2f} s")
    return (None if offset == 0 and _is_whole(audio, duration) else offset), duration


def _whole(audio: Path) -> float:
    try:
        return read_header(audio).duration
    except CorpusError as error:
        raise CorpusError(f"{audio}: {error}") from error


def _is_whole(audio: Path, duration: float) -> bool:
    try:
        return abs(read_header(audio).duration - duration) <= DURATION_TOLERANCE
    except CorpusError:
        return True  # the check of all headers says what is wrong


def text_field(row: dict[str, Any], *names: str) -> str:
    """Return the first of some fields that holds a string; CorpusError if none does."""
    for field in names:
        if isinstance(row.get(field), str):
            return str(row[field])
    wanted = " or ".join(f"'{field}'" for field in names)
    raise CorpusError(f"no field {wanted} that holds a string; found the fields {', '.join(sorted(row)) or 'none'}")


def seconds(row: dict[str, Any], field: str) -> float | None:
    """Return a field in seconds, None where it is absent; CorpusError if it is no number."""
    value = row.get(field)
    if value is None:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not abs(value) < LONGEST * 1e6:  # a whole number may be beyond floats
        raise CorpusError(f"{field} {shown(value)} is not a number of seconds")
    return float(value)


def _channel(row: dict[str, Any]) -> int | None:
    value = row.get("channel", row.get("channel_selector"))
    if value is None or value == "average":
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1024:
        raise CorpusError(f"channel {shown(value)} is not the index of a channel, from 0")
    return value


def name(row: dict[str, Any], field: str) -> str:
    """Return an id, speaker or language, which may be written as a number; empty where it is unknown.

    Raises:
        CorpusError: a value that is no name.
    """
    value = row.get(field)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise CorpusError(f"{field} {shown(value)} is neither a string nor a number")
    wrong = next((c for c in str(value) if not c.isprintable()), None)
    if wrong is not None:
        raise CorpusError(f"{field} {shown(value)} holds {named(wrong)}; remove it")
    return str(value)


def shown(value: Any) -> str:
    """A value as a message shows it, cut to a line."""
    text = repr(value) if not isinstance(value, int) or abs(value) < 1 << 64 else "of hundreds of digits"
    return text if len(text) <= 80 else f"{text[:77]}..."


def audio_path(written: str, folder: Path) -> Path:
    """Return the path of an audio file, which is written relative to `folder`.

    Raises:
        CorpusError: it names no file, or leads out of the folder other than as an absolute path.
    """
    path = PurePath(written)
    if not path.name:
        raise CorpusError(f"audio path '{written}' names no file")
    if not path.is_absolute() and ".." in path.parts:
        raise CorpusError(f"audio path '{written}' climbs out of the manifest's folder; write it as an absolute path")
    return folder / path


def _split(row: dict[str, Any]) -> Split:
    for split in SPLITS:
        if row.get("split") == split:
            return split
    choices = ", ".join(SPLITS)
    if row.get("split") is None:
        raise CorpusError(
            f"no field 'split' (one of {choices}); write it, or keep one file a split: train.jsonl, dev.jsonl and"
            " test.jsonl in corpus.path, or others named by options.train, options.dev and options.test"
        )
    raise CorpusError(f"split {shown(row['split'])} is none of {choices}")


def with_ids(found: list[Utterance]) -> list[Utterance]:
    """Name what has no `id` by its path below the folder all audio shares, so that ids survive a move."""
    if not found:
        return []
    shared = os.path.commonpath([u.audio.parent for u in found])
    return [u if u.id else replace(u, id=_id(u, shared)) for u in found]


def _id(utterance: Utterance, shared: str) -> str:
    id = utterance.audio.relative_to(shared).with_suffix("").as_posix()
    if utterance.offset is not None:
        id += f"@{utterance.offset:.3f}+{utterance.duration:.3f}"
    return id if utterance.channel is None else f"{id}#{utterance.channel}"
