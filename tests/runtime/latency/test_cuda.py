"""Engines on CUDA. What is more than moving tensors is tested on the processor; the rest waits for a device."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from support.talkative_model import FEATURES, TOKENIZER, talkative, trained

from cspbench.asr.trained import TrainedModel
from cspbench.errors import CspbenchError
from cspbench.runtime.latency.engine import wall_clock
from cspbench.runtime.latency.engines import check_engines
from cspbench.runtime.latency.measure import measure, quiet_place
from cspbench.runtime.latency.torch_engine import TorchEngine
from cspbench.runtime.torch_affine import Layout
from cspbench.spec import LatencySpec

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
NOISE = (np.random.default_rng(0).normal(size=16_000) * 0.05).astype(np.float32)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def labels(engine: TorchEngine) -> list[int]:
    engine.reset()
    return [label for start in range(0, len(NOISE), 480) for label in engine.accept(NOISE[start : start + 480])]


@needs_cuda
@pytest.mark.parametrize("layout", ["dense", "csr"])
def test_the_device_decodes_what_the_processor_decodes(layout: Layout) -> None:
    plain, moved = (TorchEngine("torch", trained(talkative()), layout, device) for device in ("cpu", "cuda"))
    expected = labels(plain)
    assert len(expected) > 5
    assert labels(moved) == expected
    assert labels(moved) == expected  # reset clears the state of the utterance before
    assert moved.traffic == plain.traffic


def test_what_needs_a_device_says_so() -> None:
    with pytest.raises(CspbenchError, match="need a CUDA device"):
        TorchEngine("2:4", trained(talkative()), "2:4")
    if not torch.cuda.is_available():
        with pytest.raises(CspbenchError, match="sees no CUDA device"):
            check_engines(["cuda"])


@needs_cuda
def test_the_protocol_runs_on_the_device() -> None:
    """Matrices large enough for 2:4 products, whose rows and columns are multiples of 64."""
    from cspbench.asr.recognisers.lstm_transducer import LSTMTransducer, Shape

    model = LSTMTransducer(Shape(192, TOKENIZER.size, 2, 128, 1, 64, 64), mels=64).eval()
    features = FEATURES.model_copy(update={"mels": 64})
    layouts: list[Layout] = ["dense", "csr", "2:4"]
    recogniser = TrainedModel(model, TOKENIZER, features, 16_000)
    engines = [TorchEngine(name, recogniser, name, "cuda") for name in layouts]
    with quiet_place(1) as place:
        found = measure(engines, [NOISE], recogniser.pace, LatencySpec(repeats=2), place)
    assert list(found.engines) == layouts
    assert all(one.median_ms > 0 for one in found.engines.values())
    assert found.engines["2:4"].step_bytes < found.engines["dense"].step_bytes / 2


def test_the_wall_clock_returns_what_the_call_does() -> None:
    result, seconds = wall_clock(sum, [1, 2])
    assert result == 3
    assert seconds >= 0
