"""JSONL manifests: one utterance a line, our field names or NeMo's."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from cspbench.corpora.audio import read_header
from cspbench.corpora.checks import Problems
from cspbench.corpora.utterance import SPLITS, Split, Utterance
from cspbench.errors import CorpusError

Normalise = Callable[[str], str]
LONGEST = 86400.0  # seconds; a day in one utterance is a mistake


def collapse(text: str) -> str:
    """Words parted by single spaces."""
    return " ".join(text.split())


def lower(text: str) -> str:
    """Lower case, words parted by single spaces."""
    return collapse(text.lower())


def read_manifest(files: dict[Path, Split | None], normalise: Normalise = lower) -> list[Utterance]:
    """Read manifests.

    Each line is a JSON object with `audio` (or `audio_filepath`), `text`, and optionally `duration` in seconds (read
    from the audio where absent), `speaker`, `id` and `split`. Relative audio paths start at the manifest's folder.

    Args:
        files: manifest -> the split all its lines belong to, or None to read each line's `split` field.
        normalise: applied to every transcript.

    Raises:
        CorpusError: missing manifests and every line that cannot be used.
    """
    problems = Problems("manifest cannot be read:")
    found = []
    for file, split in files.items():
        for origin, row in _rows(file, problems):
            try:
                found.append(_utterance(row, file.parent, split, normalise, origin))
            except CorpusError as error:
                problems.add(origin, str(error))
    problems.check()
    return _with_ids(found)


def _rows(file: Path, problems: Problems) -> Iterable[tuple[str, dict[str, Any]]]:
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")  # splitlines() would part at U+2028 too
    except (OSError, UnicodeDecodeError) as error:
        problems.add(file, f"cannot be read as UTF-8 text ({error})")
        return
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        origin = f"{file}:{number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            problems.add(origin, f"not JSON ({error}); write one JSON object a line")
            continue
        if isinstance(row, dict):
            yield origin, row
        else:
            problems.add(origin, 'not a JSON object; write {"audio": …, "text": …}')


def _utterance(row: dict[str, Any], folder: Path, split: Split | None, normalise: Normalise, origin: str) -> Utterance:
    if row.get("offset"):
        raise CorpusError(f"offset {row['offset']} is not supported; cut the audio into one file an utterance")
    audio = _audio(_field(row, "audio", "audio_filepath"), folder)
    duration = row.get("duration")
    if duration is None:
        duration = read_header(audio).duration
    if isinstance(duration, bool) or not isinstance(duration, int | float) or not 0 < duration < LONGEST:
        raise CorpusError(f"duration {duration!r} is not a number of seconds above 0 and below a day")
    return Utterance(
        id=_name(row, "id"),
        audio=audio,
        duration=float(duration),
        speaker=_name(row, "speaker"),
        text=normalise(_field(row, "text")),
        split=split or _split(row),
        origin=origin,
    )


def _field(row: dict[str, Any], *names: str) -> str:
    for name in names:
        if isinstance(row.get(name), str):
            return str(row[name])
    wanted = " or ".join(f"'{name}'" for name in names)
    raise CorpusError(f"no field {wanted} that holds a string; found the fields {', '.join(sorted(row)) or 'none'}")


def _name(row: dict[str, Any], field: str) -> str:
    """An id or speaker, which may be written as a number; empty where unknown."""
    value = row.get(field)
    return "" if value is None else str(value)


def _audio(name: str, folder: Path) -> Path:
    path = PurePath(name)
    if not path.name:
        raise CorpusError(f"audio path '{name}' names no file")
    if not path.is_absolute() and ".." in path.parts:
        raise CorpusError(f"audio path '{name}' climbs out of the manifest's folder; write it as an absolute path")
    return folder / path


def _split(row: dict[str, Any]) -> Split:
    for name in SPLITS:
        if row.get("split") == name:
            return name
    raise CorpusError(f"split {row.get('split')!r} is none of {', '.join(SPLITS)}")


def _with_ids(found: list[Utterance]) -> list[Utterance]:
    """Name what has no `id` by its path below the folder all audio shares, so that ids survive a move."""
    if not found:
        return []
    shared = os.path.commonpath([u.audio.parent for u in found])
    return [u if u.id else replace(u, id=u.audio.relative_to(shared).with_suffix("").as_posix()) for u in found]
