"""Audio is read completely and rightly, or refused in one line that says what is wrong with it."""

from __future__ import annotations

import io
import os
import struct
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from cspbench.corpora.audio import AudioFile, check_samples, read_audio, read_header, recordings
from cspbench.errors import CorpusError

RATE = 16000


def noise(frames: int, channels: int = 1) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal((frames, channels))).astype(np.float32)


def encoded(container: str, frames: int = RATE, channels: int = 1, subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, noise(frames, channels), RATE, format=container, subtype=subtype)
    return buffer.getvalue()


def streamed_flac(frames: int) -> bytes:
    """A FLAC as ffmpeg writes it to a pipe: no number of samples and no checksum in its header."""
    data = bytearray(encoded("FLAC", frames))
    data[21] &= 0xF0
    data[22:42] = bytes(20)
    return bytes(data)


def complaint(file: Path, data: bytes) -> str:
    """The message that both the header's reader and the decoder end in."""
    file.write_bytes(data)
    with pytest.raises(CorpusError) as of_header:
        read_header(file)
    with pytest.raises(CorpusError) as of_samples:
        read_audio(file)
    assert str(of_samples.value) == f"{file}: {of_header.value}"
    return str(of_header.value)


@pytest.mark.parametrize("container", ["WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "NIST", "SVX", "FLAC", "MP3"])
def test_audio_that_is_cut_off_is_refused_with_what_is_missing(tmp_path: Path, container: str) -> None:
    whole = encoded(container)
    (tmp_path / "whole").write_bytes(whole)
    assert len(read_audio(tmp_path / "whole")[0]) == RATE
    message = complaint(tmp_path / "half", whole[: len(whole) // 2])
    assert message.startswith("is cut off: 0.")
    assert message.endswith(" s of 1.00 s are missing; copy it again")


@pytest.mark.parametrize("container", ["OGG", "CAF"])
def test_other_containers_that_are_cut_off_are_refused_as_well(tmp_path: Path, container: str) -> None:
    whole = encoded(container)
    assert complaint(tmp_path / "half", whole[: len(whole) // 2])


def test_a_wav_without_any_of_its_audio(tmp_path: Path) -> None:
    assert "all of its audio is missing" in complaint(tmp_path / "a.wav", encoded("WAV")[:44])


@pytest.mark.parametrize("frames", [1, 480, 4096, 1 << 15, (1 << 15) + 1, 100_000])
def test_a_flac_that_states_no_length_is_decoded_to_its_end(tmp_path: Path, frames: int) -> None:
    (tmp_path / "whole.flac").write_bytes(encoded("FLAC", frames))
    (tmp_path / "piped.flac").write_bytes(streamed_flac(frames))
    expected = read_audio(tmp_path / "whole.flac")[0]
    np.testing.assert_array_equal(read_audio(tmp_path / "piped.flac")[0], expected)
    assert read_header(tmp_path / "piped.flac").duration == frames / RATE
    if frames > 5:
        middle, _ = read_audio(tmp_path / "piped.flac", offset=3 / RATE, duration=2 / RATE)
        np.testing.assert_array_equal(middle, expected[3:5])


def test_a_flac_that_states_no_length_and_is_cut_off(tmp_path: Path) -> None:
    data = streamed_flac(RATE)
    assert "is damaged or cut off" in complaint(tmp_path / "piped.flac", data[: len(data) // 2])


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0x7FFFF000, 0x7FFFFFDA])
def test_a_wav_out_of_a_pipe_is_decoded_to_its_end(tmp_path: Path, length: int) -> None:
    data = bytearray(encoded("WAV"))
    data[4:8] = data[40:44] = struct.pack("<I", length)
    (tmp_path / "piped.wav").write_bytes(data)
    assert read_header(tmp_path / "piped.wav").duration == 1.0
    assert len(read_audio(tmp_path / "piped.wav")[0]) == RATE


def test_a_wav_that_states_no_audio_before_some_is_not_taken_for_silence(tmp_path: Path) -> None:
    data = bytearray(encoded("WAV"))
    data[40:44] = bytes(4)
    assert "is of unknown length" in complaint(tmp_path / "piped.wav", bytes(data))
    (tmp_path / "empty.wav").write_bytes(encoded("WAV", 0))
    assert len(read_audio(tmp_path / "empty.wav")[0]) == 0


def test_an_au_of_unknown_length_is_decoded_to_its_end(tmp_path: Path) -> None:
    data = bytearray(encoded("AU"))
    data[8:12] = b"\xff" * 4
    (tmp_path / "piped.au").write_bytes(data)
    assert len(read_audio(tmp_path / "piped.au")[0]) == RATE


@pytest.mark.parametrize("kind", ["FLOAT", "DOUBLE"])
@pytest.mark.parametrize(
    ("value", "told"),
    [
        (np.nan, "nan; samples must be finite"),
        (-np.inf, "-inf; samples"),
        (12345.0, "12345: float audio has full scale"),
    ],
)
def test_samples_that_are_no_audio(tmp_path: Path, kind: str, value: float, told: str) -> None:
    samples = noise(50_000)
    samples[40_000] = value
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype=kind)
    with pytest.raises(CorpusError) as caught:
        read_audio(tmp_path / "a.wav", "list.jsonl:3")
    assert f"list.jsonl:3: {tmp_path}/a.wav: the sample at 2.500 s is {told}" in str(caught.value)
    assert len(read_audio(tmp_path / "a.wav", duration=2.5)[0]) == 40_000  # a segment before it can be used


def test_peaks_of_float_audio_may_exceed_full_scale() -> None:
    check_samples(np.array([1.5, -64.0], np.float32))
    with pytest.raises(CorpusError, match=r"sample 1 is 64\.5: float audio has full scale at 1"):
        check_samples(np.array([0.0, 64.5], np.float32))


def test_whole_numbers_are_scaled_by_their_width(tmp_path: Path) -> None:
    for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32"):
        soundfile.write(tmp_path / "a.wav", np.full(100, 0.5), RATE, subtype=subtype)
        np.testing.assert_allclose(read_audio(tmp_path / "a.wav")[0], 0.5, atol=1e-2)


def test_channels_are_averaged_or_chosen(tmp_path: Path) -> None:
    both = noise(1000, 2)
    soundfile.write(tmp_path / "call.wav", both, RATE, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(tmp_path / "call.wav")[0], both.mean(axis=1), atol=1e-7)
    for channel in (0, 1):
        np.testing.assert_array_equal(read_audio(tmp_path / "call.wav", channel=channel)[0], both[:, channel])
    with pytest.raises(CorpusError, match="has channels 0 to 1, not channel 2"):
        read_audio(tmp_path / "call.wav", channel=2)


@pytest.mark.parametrize("container", ["WAV", "FLAC"])
def test_segments_are_what_slicing_gives(tmp_path: Path, container: str) -> None:
    (tmp_path / "long").write_bytes(encoded(container, 200_000))
    whole = read_audio(tmp_path / "long")[0]
    part, _ = read_audio(tmp_path / "long", offset=2.5, duration=4.25)
    np.testing.assert_array_equal(part, whole[40_000:108_000])
    rest, _ = read_audio(tmp_path / "long", offset=12.0)
    np.testing.assert_array_equal(rest, whole[192_000:])
    with pytest.raises(CorpusError, match=r"ends at 12.50 s, before 13.00 s, where the segment ends"):
        read_audio(tmp_path / "long", offset=12.0, duration=1.0)


@pytest.mark.parametrize(
    ("data", "told"),
    [(b"", "is empty"), (b"RIFF and more", "audio cannot be read (Format"), (b"{}" * 500, "audio cannot be read")],
)
def test_files_that_are_no_audio(tmp_path: Path, data: bytes, told: str) -> None:
    assert complaint(tmp_path / "a.wav", data).startswith(told)


def test_names_that_lead_to_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "a.raw").write_bytes(b"1" * 100)
    for name, told in {
        "none.wav": "no such audio file",
        "nul\0.wav": "audio cannot be read",
        "folder.wav": "is a folder",
        "a.raw": "audio cannot be read",
        "a.raw/b.wav": "no such audio file",
        "x" * 300: "audio cannot be read (File name too long)",
    }.items():
        with pytest.raises(CorpusError) as caught:
            read_audio(tmp_path / name)
        assert told in str(caught.value)


def test_sample_rates_that_no_speech_has(tmp_path: Path) -> None:
    data = bytearray(encoded("WAV"))
    for rate in (1, 999, 2_000_000_000):
        data[24:28] = struct.pack("<I", rate)
        assert "which no recording of speech has" in complaint(tmp_path / "a.wav", bytes(data))


def test_a_named_pipe_and_a_stream_are_read_to_their_end(tmp_path: Path) -> None:
    data = streamed_flac(50_000)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(data))
    writer.start()
    assert len(read_audio(pipe)[0]) == 50_000
    writer.join()
    with AudioFile(io.BytesIO(data)) as audio:
        assert sum(map(len, audio.blocks())) == 50_000


def test_recordings_of_a_folder(tmp_path: Path) -> None:
    for name in ("b.FLAC", "a.wav", "c.opus", "notes.txt", "d.aif"):
        (tmp_path / name).touch()
    (tmp_path / "e.wav").mkdir()
    assert [file.name for file in recordings(tmp_path)] == ["a.wav", "b.FLAC", "c.opus", "d.aif"]
