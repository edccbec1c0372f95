"""Length checks of audio containers: libsndfile reads a truncated WAV to its end and reports the length that is left.

Each reader below returns the bytes of audio the container states. A stated length that only a streaming writer uses
(0xFFFFFFFF and the like) means "unknown" and is None.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

STREAMED = (0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
"""Lengths that writers to a pipe leave in 32-bit headers; sox and arecord round them down to whole blocks."""
ROUNDING = 1 << 16
OGG_TAIL = 1 << 17  # bytes; an Ogg page has at most 65,307


class ContainerError(ValueError):
    """Audio data that is cut off, or of a length that cannot be known."""


class Stated(NamedTuple):
    """Audio bytes a container states, and where they start."""

    start: int
    bytes: int


def missing_fraction(file: BinaryIO) -> float:
    """Return the fraction of the stated audio bytes that a file lacks: 0 where it is whole or states no length.

    Args:
        file: opened for reading, seekable; left at its start.

    Raises:
        ContainerError: the length cannot be told: a WAV that states no audio before bytes that are some, or an Ogg
            file that ends within a page.
    """
    size = file.seek(0, 2)
    if not size:
        raise ContainerError("is empty")
    file.seek(0)
    head = file.read(12)
    stated = None
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"FORM"):
        stated = _of_chunks(file, head, size)
    elif head[:4] == b".snd":
        start, length = (int.from_bytes(head[at : at + 4], "big") for at in (4, 8))
        stated = None if _streamed(length) else Stated(start, length)
    elif head[:4] == b"caff":
        stated = _of_caf(file, size)
    elif head[:4] == b"riff":
        stated = _of_wave64(file, size)
    elif head[:7] == b"NIST_1A":
        stated = _of_sphere(file)
    elif head[:4] == b"OggS":
        _check_ogg(file, size)
    file.seek(0)
    if stated is None or stated.bytes <= 0:
        return 0.0
    return max(0.0, 1 - max(0, size - stated.start) / stated.bytes)


def _streamed(length: int) -> bool:
    return length == 0xFFFFFFFF or any(0 <= mark - length < ROUNDING for mark in STREAMED)


def _of_chunks(file: BinaryIO, head: bytes, size: int) -> Stated | None:
    """Stated audio of a RIFF (WAV) or IFF (AIFF, 8SVX) file."""
    order = "big" if head[:4] in (b"RIFX", b"FORM") else "little"
    long = None
    for name, start, length in _chunks(file, order, size):
        if name == b"ds64":
            file.seek(start + 8)
            long = int.from_bytes(file.read(8), "little")
        elif name in (b"data", b"SSND", b"BODY"):
            if length == 0 and size - start > 8 and not _chunk_follows(file, start):
                raise ContainerError("is of unknown length: its header states no audio, yet bytes follow")
            if long is not None and length == 0xFFFFFFFF:
                length = long
            return None if _streamed(length) else Stated(start, length)
    return None


def _chunks(file: BinaryIO, order: str, size: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and length in bytes of each chunk up to the end of the file."""
    at = 12
    while at + 8 <= size:
        file.seek(at)
        name, length = file.read(4), int.from_bytes(file.read(4), order)  # type: ignore[arg-type]
        yield name, at + 8, length
        at += 8 + length + length % 2


def _chunk_follows(file: BinaryIO, start: int) -> bool:
    file.seek(start)
    name = file.read(4)
    return len(name) == 4 and name.isascii() and name.decode().isprintable()


def _of_wave64(file: BinaryIO, size: int) -> Stated | None:
    """Stated audio of a Wave64 file: chunks of a 16-byte name and 8 bytes of length, both included in the length."""
    at = 40
    while at + 24 <= size:
        file.seek(at)
        name, length = file.read(16), int.from_bytes(file.read(8), "little")
        if name[:4] == b"data":
            return Stated(at + 24, length - 24)
        at += max(24, length + -length % 8)
    return None


def _of_caf(file: BinaryIO, size: int) -> Stated | None:
    """Stated audio of a Core Audio file: chunks of a 4-byte name and 8 bytes of length; -1 where it is unknown."""
    at = 8
    while at + 12 <= size:
        file.seek(at)
        name, length = file.read(4), int.from_bytes(file.read(8), "big", signed=True)
        if name == b"data":
            return Stated(at + 12, length)
        at += 12 + max(0, length)
    return None


def _of_sphere(file: BinaryIO) -> Stated | None:
    """Stated audio of a NIST SPHERE file: a text header of ``name -type value`` lines."""
    file.seek(0)
    head = file.read(1024).split(b"\n")
    try:
        start = int(head[1])
        fields = {words[0]: words[2] for line in head[2:] if len(words := line.split()) == 3}
        count, width = int(fields[b"sample_count"]), int(fields[b"sample_n_bytes"])
        return Stated(start, count * width * int(fields.get(b"channel_count", b"1")))
    except (IndexError, KeyError, ValueError):
        return None  # no length is stated; libsndfile says what else is wrong with it


def _check_ogg(file: BinaryIO, size: int) -> None:
    """Refuse an Ogg file whose last page is not whole."""
    start = max(0, size - OGG_TAIL)
    file.seek(start)
    tail = file.read()
    page = tail.rfind(b"OggS")
    segments = tail[page + 26] if page >= 0 and len(tail) >= page + 27 else None
    table = tail[page + 27 : page + 27 + (segments or 0)]
    if segments is None or len(table) < segments or page + 27 + segments + sum(table) > len(tail):
        raise ContainerError("is cut off within an Ogg page")
