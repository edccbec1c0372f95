"""The streaming recogniser: samples in, text out, as they arrive.

>>> recogniser = Recogniser.load("model.cspb")
>>> recogniser.accept(samples)  # as they come from the microphone
'HELLO WO'
>>> recogniser.finish()
'HELLO WORLD'

Packed models run natively. Where cspbench was installed without its native module they run as torch CSR matrices,
through the same interface; a warning says so once.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
import soxr

from cspbench.asr.tokenizer import BLANK, MAX_SYMBOLS
from cspbench.corpora.audio import check_samples
from cspbench.corpora.frames import flush
from cspbench.errors import CorpusError, CspbenchError
from cspbench.runtime import extension
from cspbench.runtime.packing import MatrixOption, PackedModel, open_model

if TYPE_CHECKING:
    from cspbench.runtime import _native
    from cspbench.runtime.torch_recogniser import TorchRecogniser
    from cspbench.spec import FeatureSpec

SNAPSHOT = b"cspbench-stream-1\n"
"""First bytes of a snapshot; the digit is its version."""


class RecogniserError(CspbenchError):
    """A request that a recogniser cannot serve."""


class Decoder(Protocol):
    """One stream of an engine: samples at the model's rate in, new labels out."""

    def accept(self, samples: np.ndarray) -> list[int]: ...
    def finish(self) -> None: ...
    def reset(self) -> None: ...
    def state(self) -> bytes: ...
    def restore(self, state: bytes) -> None: ...
    @property
    def steps(self) -> int: ...


class Recogniser:
    """A recogniser with one stream; `stream` opens more on the same weights, independent of each other.

    A stream decodes one utterance at a time, in chunks of any length. The text does not depend on where the chunks are
    cut. Streams may be used from different threads, each from one thread at a time.

    Args:
        model: the packed recogniser.
        threads: of the native engine, for each product; more than one pays for large matrices only.
        max_symbols: labels emitted in one step at most.

    Attributes:
        labels: ids of the units decoded so far.
        header: facts about the packed model.
        tokenizer: its output units.
        sample_rate: of the model, Hz.
        max_symbols: labels emitted in one step at most.
        native: it runs on the native engine, not on torch.
    """

    def __init__(self, model: PackedModel, threads: int = 1, max_symbols: int = MAX_SYMBOLS) -> None:
        self.header = model.header
        self.tokenizer = model.tokenizer
        self.sample_rate = model.header.sample_rate
        self.max_symbols = max_symbols
        self.native = extension.available()
        self._network: _native.Network | TorchRecogniser
        if self.native:
            self._network = native_network(model, threads, max_symbols)
        else:
            # Here, so that a device that runs packed files natively never loads torch.
            from cspbench.runtime.torch_recogniser import TorchRecogniser

            self._network = TorchRecogniser(model.trained(), "csr", max_symbols)
        self._decoder = self._new_decoder()
        self._begin()

    @classmethod
    def load(
        cls,
        path: Path | str,
        threads: int = 1,
        *,
        format: MatrixOption = "auto",
        values: MatrixOption = "fp32",
        max_symbols: int = MAX_SYMBOLS,
    ) -> Recogniser:
        """Open a packed file, or the folder of a trial or dense recogniser, which is then packed now.

        Args:
            path: file or folder.
            threads: see `Recogniser`.
            format: for a folder; see `cspbench.runtime.packing.pack_model`.
            values: for a folder: fp32, fp16, bf16, int8 or int4.
            max_symbols: see `Recogniser`.

        Raises:
            CspbenchError: there is no model, or it is damaged.
        """
        return cls(open_model(path, format=format, values=values), threads, max_symbols)

    def stream(self) -> Recogniser:
        """Open another stream on the same weights."""
        other = copy.copy(self)
        other._decoder = self._new_decoder()
        other._begin()
        return other

    def _new_decoder(self) -> Decoder:
        if self.native:
            return extension.require("streaming").Stream(self._network)
        return cast("TorchRecogniser", self._network).stream()

    def _begin(self) -> None:
        self.labels: list[int] = []
        self._text = ""
        self._rate: int | None = None
        self._resampler: soxr.ResampleStream | None = None
        self._finished = False

    @property
    def step_seconds(self) -> float:
        """Audio that one step of the model covers."""
        return self.header.features.hop_ms / 1000 * self.header.features.stack

    @property
    def text(self) -> str:
        """The text decoded so far."""
        return self._text

    @property
    def steps(self) -> int:
        """Steps of the model so far."""
        return self._decoder.steps

    @property
    def at_limit(self) -> bool:
        """True if the utterance has at least half of the labels that `max_symbols` allows: many times those of speech.

        A recogniser that was pruned too far emits so, mostly one label over and over, and is slower for it.
        """
        return 0 < self.max_symbols * self.steps <= 2 * len(self.labels)

    def accept(self, samples: np.ndarray, sample_rate: int | None = None) -> str:
        """Decode a chunk of samples.

        Args:
            samples: one channel, (N,), N >= 0: floats in [-1, 1], or 16- or 32-bit integers.
            sample_rate: Hz, the same for all of an utterance; None for the model's. Another rate is resampled.

        Returns:
            The text so far. It grows, and what is there does not change (word pieces may add to the last word).

        Raises:
            RecogniserError: samples of another shape, type or range, a rate that changes, a finished utterance.
        """
        self._decode(self._resampled(*self._checked(samples, sample_rate)))
        return self._text

    def finish(self) -> str:
        """End the utterance and return its text.

        Decodes what the resampler still holds, and then the flush: the silence that the model was trained to expect
        after an utterance, in which it emits its last labels.
        """
        if self._finished:
            return self._text
        if self._resampler is not None:
            self._decode(self._resampler.resample_chunk(np.zeros(0, np.float32), last=True))
        self._decode(flush(self.header.features, self.sample_rate))
        self._decoder.finish()
        self._finished = True
        return self._text

    def reset(self) -> None:
        """Reset the decoder state: the next samples start a new utterance."""
        self._decoder.reset()
        self._begin()

    def advance(
        self, streams: Sequence[Recogniser], samples: Sequence[np.ndarray], sample_rate: int | None = None
    ) -> list[str]:
        """Decode a chunk of samples in each of many streams of this recogniser; return their texts so far.

        Natively, streams that have a step of the model ready take it together, so that weights are read once for all:
        many streams cost less together than one after the other.

        Args:
            streams: each at most once.
            samples: one chunk for each, of any length; see `accept`.
            sample_rate: of all chunks, Hz; None for the model's.

        Raises:
            RecogniserError: as `accept`, or streams of other weights; no stream has advanced then.
        """
        if len(streams) != len(samples):
            raise RecogniserError(f"{len(streams)} streams cannot take {len(samples)} chunks of samples")
        if any(s._network is not self._network for s in streams) or len(set(map(id, streams))) != len(streams):
            raise RecogniserError("streams that advance together are streams of one recogniser, each once")
        # All chunks are checked before any is decoded, or one would be lost to its stream because of another.
        checked = [stream._checked(chunk, sample_rate) for stream, chunk in zip(streams, samples, strict=True)]
        chunks = [stream._resampled(*chunk) for stream, chunk in zip(streams, checked, strict=True)]
        if not self.native:
            for stream, chunk in zip(streams, chunks, strict=True):
                stream._decode(chunk)
            return [stream.text for stream in streams]
        try:
            emitted = extension.require("streaming").advance([stream._decoder for stream in streams], chunks)
        except ValueError as error:
            raise RecogniserError(str(error)) from error
        for stream, labels in zip(streams, emitted, strict=True):
            stream._emit(labels)
        return [stream.text for stream in streams]

    def snapshot(self) -> bytes:
        """The state of the stream, to go on from in another stream, process or machine, also within a step.

        Raises:
            RecogniserError: audio at another rate than the model's is under way; the resampler keeps what it holds.
        """
        if self._resampler is not None and not self._finished:
            raise RecogniserError(
                f"a stream that is resampled from {self._rate} Hz has no snapshot; give it samples at "
                f"{self.sample_rate} Hz"
            )
        about = {"native": self.native, "labels": self.labels, "finished": self._finished}
        body = json.dumps(about).encode() + b"\n" + self._decoder.state()
        return SNAPSHOT + hashlib.sha256(body).digest() + body

    def restore(self, snapshot: bytes) -> None:
        """Go on from a snapshot of a stream of the same model, or of one of the same shape on the same kind of engine.

        Raises:
            RecogniserError: it is none, or damaged, or of something else; the stream is then as it was.
        """
        of_native, finished, labels, state = _opened(snapshot)
        if of_native != self.native:
            raise RecogniserError("this snapshot is of the other engine: native and torch streams do not mix")
        if not all(type(i) is int and BLANK < i < self.tokenizer.size for i in labels):
            raise RecogniserError("this snapshot is of a model with other units")
        try:
            self._decoder.restore(state)
        except ValueError as error:
            raise RecogniserError(f"this snapshot cannot be used: {error}") from error
        self._begin()
        self._finished = finished
        self._emit(labels)

    def _checked(self, samples: np.ndarray, sample_rate: int | None) -> tuple[np.ndarray, int]:
        """The samples as float32, and their rate; nothing is decoded yet."""
        if self._finished:
            raise RecogniserError("this utterance has been finished; reset() begins another")
        samples = _as_floats(samples)
        rate = sample_rate or self._rate or self.sample_rate
        if rate != (self._rate or rate):
            raise RecogniserError(f"the utterance began with {self._rate} Hz and cannot go on with {rate} Hz")
        if rate != self.sample_rate or not self.native:  # a resampler would remember them; the native engine checks
            try:
                check_samples(samples)
            except CorpusError as error:
                raise RecogniserError(str(error)) from error
        return samples, rate

    def _resampled(self, samples: np.ndarray, rate: int) -> np.ndarray:
        """Checked samples at the model's rate."""
        if self._rate is None:
            self._rate = rate
            if rate != self.sample_rate:
                self._resampler = soxr.ResampleStream(rate, self.sample_rate, 1, dtype="float32")
        return samples if self._resampler is None else self._resampler.resample_chunk(samples)

    def _decode(self, samples: np.ndarray) -> None:
        try:
            self._emit(self._decoder.accept(samples))
        except ValueError as error:
            raise RecogniserError(str(error)) from error

    def _emit(self, labels: list[int]) -> None:
        if labels:
            self.labels += labels
            self._text += self.tokenizer.decode_more(labels, self._text)


def native_network(model: PackedModel, threads: int = 1, max_symbols: int = MAX_SYMBOLS) -> _native.Network:
    """The native engine's network of a packed model.

    Raises:
        NativeError: there is no native module.
    """
    module = extension.require("the native engine")
    matrices = {name: matrix.native() for name, matrix in model.matrices.items()}
    features, vectors, shape = model.header.features, model.vectors, model.header.model.shape

    def layers(stack: str, count: int) -> list[tuple[_native.Matrix, np.ndarray]]:
        names = [f"{stack}.layers.{i}" for i in range(count)]
        return [(matrices[n], vectors[f"{n}.bias_ih_l0"] + vectors[f"{n}.bias_hh_l0"]) for n in names]

    return module.make_network(
        encoder=layers("encoder", shape.encoder_layers),
        embedding=vectors["embedding.weight"],
        prediction=layers("prediction", shape.prediction_layers),
        joint_encoder=(matrices["joint_encoder"], vectors["joint_encoder.bias"]),
        joint_prediction=matrices["joint_prediction"],
        joint_output=(matrices["joint_output"], vectors["joint_output.bias"]),
        mean=vectors["feature_mean"],
        scale=vectors["feature_scale"],
        stack=features.stack,
        front_end=native_front_end(features, model.header.sample_rate),
        max_symbols=max_symbols,
        blank=BLANK,
        threads=threads,
    )


def native_front_end(spec: FeatureSpec, sample_rate: int) -> _native.FrontEnd:
    """Make the native engine's front end.

    Raises:
        NativeError: there is no native module.
        ValueError: a front end that cannot be, such as one with bins that hold no frequency.
    """
    floor = 0.0 if spec.floor is None else math.exp(spec.floor)
    front = extension.require("the native engine").FrontEnd(sample_rate, spec.window_ms, spec.hop_ms, spec.mels, floor)
    if spec.level_fall is not None:
        front.follow_level(spec.level_fall, spec.level_above, spec.level_follows_background)
    return front


def _opened(snapshot: bytes) -> tuple[bool, bool, list[int], bytes]:
    """Return from a snapshot: is it native, is its utterance finished, its labels, its decoder's state.

    Raises:
        RecogniserError: it is none, or damaged.
    """
    digest, body = snapshot[len(SNAPSHOT) :][:32], snapshot[len(SNAPSHOT) + 32 :]
    try:
        if not snapshot.startswith(SNAPSHOT) or hashlib.sha256(body).digest() != digest:
            raise ValueError("sums differ")
        head, _, state = body.partition(b"\n")
        about = json.loads(head)
        return bool(about["native"]), bool(about["finished"]), list(about["labels"]), state
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RecogniserError("this is no snapshot of a stream, or it has been damaged") from error


def _as_floats(samples: np.ndarray) -> np.ndarray:
    samples = np.asarray(samples)
    if samples.ndim != 1:
        raise RecogniserError(f"samples must be one channel, (N,), not {samples.shape}; average the channels")
    if samples.dtype in (np.int16, np.int32):
        return np.asarray(samples / -float(np.iinfo(samples.dtype).min), np.float32)
    if samples.dtype.kind != "f":
        raise RecogniserError(f"samples must be floats in [-1, 1] or int16 or int32, not {samples.dtype}")
    return np.ascontiguousarray(samples, np.float32)
