"""Reading audio: opening, decoding, header, sample rate, channel, sample values and segments, for every command.

Whatever cannot be used ends in a `CorpusError` that says why. Nothing is left out in silence: a file that is cut off
is refused, and a file whose header states no length is decoded to its end.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple

import numpy as np
import soundfile

from cspbench.corpora.containers import ContainerError, missing_fraction
from cspbench.corpora.utterance import Utterance
from cspbench.errors import CorpusError

MAX_AMPLITUDE = 64.0
"""Full scale is 1. Float audio may exceed it, but not as far as 16-bit integers stored as floats do."""
DURATION_TOLERANCE = 0.1
"""Seconds that a manifest and an audio file may differ by."""
BLOCK_FRAMES = 1 << 15
RATES = (1000, 768_000)
"""Sample rates in Hz that a recording of speech can have."""
UNKNOWN_FRAMES = 1 << 62
"""libsndfile reports more frames than this where the header states none."""


class Header(NamedTuple):
    """Sample rate in Hz, number of channels, and seconds of an audio file."""

    sample_rate: int
    channels: int
    duration: float


class AudioFile:
    """An opened recording, in any format that libsndfile reads; a context manager.

    Args:
        source: a file, or a binary stream such as standard input, which is first read to its end.

    Attributes:
        sample_rate: Hz.
        channels: their number.
        frames: samples of each channel that the header states; None if it states none.

    Raises:
        CorpusError: there is no such file, or it cannot be read, is no audio, or is cut off.
    """

    def __init__(self, source: Path | BinaryIO) -> None:
        with _told():
            self._sound, missing = _open(source)
        self.sample_rate: int = self._sound.samplerate
        self.channels: int = self._sound.channels
        self.frames: int | None = self._sound.frames if self._sound.frames < UNKNOWN_FRAMES else None
        try:
            self._check(missing)
        except CorpusError:
            self._sound.close()
            raise

    def __enter__(self) -> AudioFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sound.close()

    def blocks(
        self, channel: int | None = None, offset: float = 0.0, duration: float | None = None
    ) -> Iterator[np.ndarray]:
        """Decode block by block.

        Args:
            channel: index of the channel to take, from 0; None averages all.
            offset: seconds to skip.
            duration: seconds to decode; None decodes to the end.

        Yields:
            Samples (N,), N >= 1, float32, finite, in [-1, 1] but for peaks of float audio.

        Raises:
            CorpusError: the channel does not exist, the file is damaged, it ends before ``offset + duration``, or
                its samples are not audio (see `check_samples`).
        """
        self._check_channel(channel)
        position = round(offset * self.sample_rate)
        end = None if duration is None else round((offset + duration) * self.sample_rate)
        for block in self._decoded(position):
            taken = block if end is None else block[: end - position]
            check_samples(taken, position, self.sample_rate)
            position += len(taken)
            yield taken.mean(axis=1) if channel is None else np.ascontiguousarray(taken[:, channel])
            if position == end:
                return
        if end is not None and end - position > DURATION_TOLERANCE * self.sample_rate:
            there = position / self.sample_rate if position > offset * self.sample_rate else None
            raise CorpusError(
                f"ends {'' if there is None else f'at {there:.2f} s, '}before {end / self.sample_rate:.2f} s, where the"
                " segment ends; correct offset and duration"
            )

    def count_frames(self) -> int:
        """Return the samples of each channel, decoding the file where its header does not tell them for certain."""
        if self.frames is None or self._estimated:
            return sum(len(block) for block in self._decoded(0))
        # A FLAC that is cut off keeps its whole header: only decoding its end shows the loss.
        for _ in self._decoded(max(0, self.frames - 1)):
            pass
        return self.frames

    @property
    def _estimated(self) -> bool:
        """True where the length that libsndfile reports is an estimate."""
        return bool(self._sound.format == "MP3")

    def _check(self, missing: float) -> None:
        if not RATES[0] <= self.sample_rate <= RATES[1]:
            raise CorpusError(f"states a sample rate of {self.sample_rate} Hz, which no recording of speech has")
        if missing and self.frames is not None:
            raise self._cut_off(self.frames, round(self.frames / (1 - missing)) if missing < 1 else None)

    def _check_channel(self, channel: int | None) -> None:
        if channel is not None and not 0 <= channel < self.channels:
            there = "only channel 0" if self.channels == 1 else f"channels 0 to {self.channels - 1}"
            raise CorpusError(f"has {there}, not channel {channel}; correct the channel")

    def _decoded(self, skip: int) -> Iterator[np.ndarray]:
        """Blocks (N, channels), N >= 1, after `skip` frames, up to the end."""
        if self.frames is None:
            for block in self._stream():
                if len(block) > skip:
                    yield block[skip:]
                skip = max(0, skip - len(block))
            return
        position = min(skip, self.frames)
        with _told():
            self._sound.seek(position)
        error = None
        while position < self.frames and error is None:
            block, error = self._read(min(BLOCK_FRAMES, self.frames - position))
            position += len(block)
            if not len(block):
                break
            yield block
        tolerance = DURATION_TOLERANCE * self.sample_rate if self._estimated else 0
        if self.frames - position > tolerance:
            raise self._cut_off(position, self.frames)

    def _stream(self) -> Iterator[np.ndarray]:
        """Blocks of a file that states no length: libsndfile fails to seek to an end that it does not know."""
        with _told():
            self._sound.seek(0)
        error = None
        while error is None:
            block, error = self._read(BLOCK_FRAMES)
            if len(block):
                yield block
            elif error is None:
                return
        if "seek" not in error:
            raise CorpusError(f"is damaged or cut off ({error}); copy it again")

    def _read(self, frames: int) -> tuple[np.ndarray, str | None]:
        """Up to `frames` frames, (N, channels), and the decoder's error if it met one after them."""
        buffer = np.full((frames, self.channels), np.nan, np.float32)
        try:
            return buffer[: len(self._sound.read(out=buffer))], None
        except (soundfile.SoundFileError, RuntimeError) as error:
            return buffer[: int(np.isfinite(buffer[:, 0]).sum())], _reason(error)  # what is still NaN was not read

    def _cut_off(self, present: int, stated: int | None) -> CorpusError:
        if stated is None:
            return CorpusError("is cut off: all of its audio is missing; copy it again")
        missing, whole = (frames / self.sample_rate for frames in (stated - present, stated))
        return CorpusError(f"is cut off: {missing:.2f} s of {whole:.2f} s are missing; copy it again")


@contextmanager
def _told() -> Iterator[None]:
    """Turn the errors of opening and decoding into a `CorpusError`."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CorpusError("no such audio file; restore it or correct its name") from error
    except IsADirectoryError as error:
        raise CorpusError("is a folder, not an audio file") from error
    except ContainerError as error:
        raise CorpusError(f"{error}; copy it again or re-encode it (ffmpeg -i IN OUT.wav)") from error
    except OSError as error:
        raise CorpusError(f"audio cannot be read ({error.strerror or error}); copy it again") from error
    except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError) as error:
        # TypeError: a name that ends in .raw; ValueError: a null character in a name.
        raise CorpusError(f"audio cannot be read ({_reason(error)}); copy it again") from error


def _reason(error: Exception) -> str:
    """The text of an error; libsndfile's own, which its wrapper puts behind the name of the file."""
    return str(getattr(error, "error_string", error)).removeprefix("Error : ").rstrip(".")


class _Memory(io.BytesIO):
    """Bytes in which libsndfile may seek as in a file: a seek that cannot be done leaves the position as it was.

    `io.BytesIO` takes a place before its start for its start, and an exception in a callback of libsndfile would be
    printed, not raised.
    """

    def seek(self, offset: int, whence: int = 0, /) -> int:
        start = (0, self.tell(), self.getbuffer().nbytes)[whence]
        try:
            return super().seek(start + offset) if start + offset >= 0 else self.tell()
        except OverflowError:
            return self.tell()


def _open(source: Path | BinaryIO) -> tuple[soundfile.SoundFile, float]:
    """Open a file or stream; return it with the fraction of its stated audio that is missing."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            if file.seekable():
                missing = missing_fraction(file)
                return soundfile.SoundFile(source), missing
            whole = _Memory(file.read())
    else:
        whole = _Memory(source.read())
    missing = missing_fraction(whole)
    return soundfile.SoundFile(whole), missing


def read_header(file: Path) -> Header:
    """Read the header of an audio file; remembered until the file changes.

    Raises:
        CorpusError: the file is missing, or not audio that can be decoded to its end.
    """
    with _told():
        stat = file.stat()
    return _header(file, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=1 << 16)
def _header(file: Path, size: int, modified: int) -> Header:
    try:
        with AudioFile(file) as audio:
            return Header(audio.sample_rate, audio.channels, audio.count_frames() / audio.sample_rate)
    except CorpusError:
        with AudioFile(file) as audio:
            for _ in audio.blocks():  # decoding all of it tells how much is missing
                pass
        raise


def read_audio(
    path: Path, origin: str = "", *, offset: float = 0.0, duration: float | None = None, channel: int | None = None
) -> tuple[np.ndarray, int]:
    """Decode a file, or a segment of it.

    Args:
        path: the file.
        origin: ``file:line`` that named it, for error messages.
        offset: seconds to skip.
        duration: seconds to decode; None decodes to the end.
        channel: index of the channel to take, from 0; None averages all.

    Returns:
        Samples (N,), float32, finite, in [-1, 1] but for peaks of float audio; and the sample rate in Hz.

    Raises:
        CorpusError: the file cannot be read, is cut off or shorter than the segment, or holds samples that are no
            audio; the message names file and origin.
    """
    try:
        with AudioFile(path) as audio:
            blocks = list(audio.blocks(channel, offset, duration))
            return np.concatenate(blocks) if blocks else np.zeros(0, np.float32), audio.sample_rate
    except CorpusError as error:
        raise CorpusError(f"{origin}: {path}: {error}" if origin else f"{path}: {error}") from error


def read_utterance(utterance: Utterance, sample_rate: int | None = None) -> np.ndarray:
    """Decode what an utterance refers to: a file, or a segment and channel of one.

    Args:
        utterance: of a checked corpus.
        sample_rate: Hz that the file must have; None accepts any.

    Returns:
        Samples (N,), float32; see `read_audio`.

    Raises:
        CorpusError: as `read_audio`, or another sample rate.
    """
    segment = {} if utterance.offset is None else {"offset": utterance.offset, "duration": utterance.duration}
    samples, rate = read_audio(utterance.audio, utterance.origin, channel=utterance.channel, **segment)
    if sample_rate not in (None, rate):
        where = f"{utterance.origin}: {utterance.audio}"
        raise CorpusError(f"{where} has {rate} Hz, the corpus {sample_rate} Hz; resample it")
    return samples


def check_samples(samples: np.ndarray, start: int = 0, sample_rate: int | None = None) -> None:
    """Check that samples are finite and at most `MAX_AMPLITUDE` in size.

    Args:
        samples: of any shape, time first, floats that have full scale at 1.
        start: index of the first of them, for the message.
        sample_rate: Hz, to tell the place in seconds.

    Raises:
        CorpusError: naming the first value that is not audio.
    """
    if not samples.size or np.abs(samples).max() <= MAX_AMPLITUDE:  # NaN compares false
        return
    wrong = ~(np.abs(samples) <= MAX_AMPLITUDE)
    frame = int(np.flatnonzero(wrong.reshape(len(samples), -1).any(axis=1))[0])
    value = samples[wrong][0]
    remedy = "float audio has full scale at 1; divide 16-bit integers by 32768"
    told = f"{value:g}: {remedy}" if np.isfinite(value) else f"{value:g}; samples must be finite"
    place = f"at {(start + frame) / sample_rate:.3f} s" if sample_rate else f"{start + frame}"
    raise CorpusError(f"the sample {place} is {told}")


def recordings(folder: Path) -> list[Path]:
    """Return the audio files of a folder, by name: those with the ending of a format that libsndfile reads."""
    endings = {f".{name.lower()}" for name in soundfile.available_formats()} | set(OTHER_ENDINGS)
    with _told():
        return sorted(p for p in folder.iterdir() if p.suffix.lower() in endings and p.is_file())


OTHER_ENDINGS = (".aif", ".aifc", ".oga", ".opus", ".sph", ".snd", ".wave")
