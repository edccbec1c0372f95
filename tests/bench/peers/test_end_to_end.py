"""The whole recogniser beside other runtimes: labels are compared before anything is timed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support.small_recognisers import talkative_lstm, talkative_stateless, untrained
from support.talkative_model import RATE, talkative, trained

from cspbench.asr.tokenizer import CharacterTokenizer, Tokenizer
from cspbench.asr.trained import TrainedModel
from cspbench.bench.peers import end_to_end
from cspbench.bench.peers.end_to_end import Decoding, measure
from cspbench.bench.peers.recogniser_peers import PEERS, RecogniserPeer
from cspbench.runtime import extension
from cspbench.runtime.latency.audio import Audio
from cspbench.runtime.latency.engines import make_engine
from cspbench.spec import FeatureSpec

SECONDS = 1.0


@pytest.fixture(autouse=True)
def _no_gradients() -> Any:
    with torch.inference_mode():
        yield


def decoding(recogniser: TrainedModel) -> Decoding:
    """Two recordings of a tone that comes and goes."""
    time = np.arange(round(SECONDS * RATE)) / RATE
    rng = np.random.default_rng(0)
    made = [0.2 * np.sin(2 * np.pi * f * time) * (np.sin(9 * time) > 0) for f in (300, 1200)]
    noisy = [(tone + 0.003 * rng.standard_normal(len(tone))).astype(np.float32) for tone in made]
    return Decoding(recogniser, Audio(noisy, "tones"), "of a test")


def rows_of(recogniser: TrainedModel, peers: Sequence[RecogniserPeer] = PEERS) -> tuple[dict[str, Any], dict[str, Any]]:
    """Rows by engine, and ratios."""
    rows, ratios = measure(decoding(recogniser), 1, lambda _: None, peers)
    return {row["engine"].removeprefix("recogniser "): row for row in rows}, ratios


def test_onnx_runtime_decodes_as_torch_does() -> None:
    pytest.importorskip("onnxruntime")
    rows, ratios = rows_of(trained(talkative()))
    assert rows["torch_dense"]["labels"] > 10
    assert rows["onnxruntime"]["label_edits"] == 0
    assert rows["onnxruntime"]["median_us"] > 0
    assert 0 < rows["onnxruntime_int8"]["label_edits"] < rows["torch_dense"]["labels"] / 2
    if extension.available():
        zeros = f"{rows['ours']['zeros']:.2f}"
        assert {f"recogniser:{x}/ours@{zeros}" for x in ("torch_dense", "native_dense", "onnxruntime")} <= set(ratios)
        assert not any("onnxruntime/ours_int8" in name for name in ratios)


@pytest.mark.parametrize("made", [talkative_stateless, talkative_lstm])
def test_sherpa_onnx_decodes_as_torch_does(made: Callable[[FeatureSpec, Tokenizer], TrainedModel]) -> None:
    pytest.importorskip("sherpa_onnx")
    rows, _ = rows_of(made(FeatureSpec(), CharacterTokenizer(" ABCDEFGHIJK")))
    assert rows["sherpa_onnx"]["labels"] == rows["torch_dense"]["labels"] > 10
    assert rows["sherpa_onnx"]["label_edits"] == rows["torch_dense"]["label_edits"] == 0
    assert rows["sherpa_onnx"]["median_us"] > 0
    assert rows["sherpa_onnx_int8"]["labels"] > 0


def test_a_recogniser_without_a_packed_file_has_no_row_of_a_native_engine() -> None:
    rows, ratios = rows_of(talkative_stateless(FeatureSpec(), CharacterTokenizer(" ABCDEFGHIJK")))
    assert "native_dense" not in rows
    assert "lstm_transducer" in rows["onnxruntime"]["protocol"]
    if extension.available():
        assert "torch" in rows["ours"]["protocol"]
        assert any(name.startswith("recogniser:sherpa_onnx/ours@") for name in ratios)


def test_a_recogniser_without_a_streaming_step_is_measured_on_whole_recordings() -> None:
    rows, _ = rows_of(untrained("lstm_ctc", FeatureSpec(), CharacterTokenizer("ab"), scale=3.0), peers=())
    assert rows["torch_dense"]["labels"] > 0
    assert rows["torch_dense"]["median_us"] > 0


class Parrot:
    """The engine of torch, but every `every`-th label is another."""

    def __init__(self, recogniser: TrainedModel, every: int) -> None:
        self.inner, self.every, self.count = make_engine("torch", recogniser), every, 0
        self.name, self.description = "parrot", "parrot"
        self.weight_bytes, self.state_bytes, self.file_bytes, self.traffic = 1, 1, None, None
        self.stopwatch = self.inner.stopwatch

    def reset(self) -> None:
        self.inner.reset()

    def accept(self, samples: NDArray[np.float32]) -> list[int]:
        return self._changed(self.inner.accept(samples))

    def finish(self) -> list[int]:
        return self._changed(self.inner.finish())

    def _changed(self, labels: Sequence[int]) -> list[int]:
        self.count += len(labels)
        numbered = enumerate(labels, self.count - len(labels) + 1)
        return [label % 7 + 1 if number % self.every == 0 else label for number, label in numbered]


@pytest.mark.parametrize(
    ("precision", "every", "timed"), [("fp32", 10**9, True), ("fp32", 5, False), ("int8", 2, False), ("int8", 40, True)]
)
def test_a_peer_with_other_labels_is_flagged_and_not_timed(
    precision: Any, every: int, timed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(end_to_end, "default_engines", lambda _: ("torch",))
    peer = RecogniserPeer("parrot", precision, lambda _, recogniser, __: Parrot(recogniser, every))
    rows, _ = rows_of(trained(talkative()), [peer])
    row = rows["parrot"]
    assert (row["median_us"] is not None) == timed
    assert (row["label_edits"] == 0) == (every == 10**9)
    assert (f"{row['label_edits']} edits of {rows['torch_dense']['labels']} labels" in row["protocol"]) != timed


def test_ratios_are_those_of_equal_precision() -> None:
    runners = [
        end_to_end.Runner("torch_dense", "fp32", rounds=[8.0, 9.0]),
        end_to_end.Runner("ours", "fp32", rounds=[2.0, 3.0]),
        end_to_end.Runner("ours_int8", "int8", rounds=[1.0, 1.0]),
        end_to_end.Runner("a", "fp32", peer=True, rounds=[4.0, 15.0]),
        end_to_end.Runner("b", "int8", peer=True, rounds=[2.0, 4.0]),
        end_to_end.Runner("c", "int8", peer=True, absent="other labels"),
    ]
    assert end_to_end._ratios(runners, 0.9) == {
        "recogniser:torch_dense/ours@0.90": 3.5,
        "recogniser:a/ours@0.90": 3.5,
        "recogniser:torch_dense/ours_int8@0.90": 8.5,
        "recogniser:b/ours_int8@0.90": 3.0,
    }
