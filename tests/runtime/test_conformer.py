"""A natively encoded conformer gives what torch gives, chunk by chunk, and goes wherever a packed model goes."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator

import pytest
import torch
from support.small_recognisers import small
from torch import Tensor, nn

from cspbench.asr.conformer import ConformerEncoder, ConformerShape
from cspbench.asr.recognisers import build_model
from cspbench.runtime import extension, pack_layers
from cspbench.runtime.conformer import NativeConformerEncoder
from cspbench.runtime.layers import PackedLayerError
from cspbench.runtime.pack_layers import load_packed, packed, packed_layers, set_threads
from cspbench.spec import FeatureSpec

pytestmark = pytest.mark.skipif(not extension.available(), reason="the native module is not built here")
SHAPE = ConformerShape(inputs=10, layers=3, width=24, heads=3, kernel=5, chunk=4, left=8)


@pytest.fixture(autouse=True)
def always_pays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No clock decides, but where a test says so."""
    monkeypatch.setattr(pack_layers, "SMALLEST", 1)
    monkeypatch.setattr(pack_layers, "_gain", lambda *_: 2.0)
    monkeypatch.setattr(pack_layers, "_chunk_gain", lambda *_: 2.0)
    with torch.inference_mode():
        yield


def some_encoder(shape: ConformerShape = SHAPE) -> ConformerEncoder:
    torch.manual_seed(0)
    encoder = ConformerEncoder(shape, dropout=0.1).eval()
    for name, parameter in encoder.named_parameters():
        if parameter.dim() == 2:
            parameter.data *= 2 * (torch.rand_like(parameter) >= 0.7)
        elif "norm" in name:
            parameter.data += 0.3 * torch.randn_like(parameter)
    return encoder


def off(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found - expected).norm() / expected.norm())


def streamed(encoder: ConformerEncoder, x: Tensor, size: int) -> Tensor:
    state, encoded = None, []
    for part in x.split(size, dim=1):
        y, state = encoder.advance(part, state)
        encoded.append(y)
    return torch.cat(encoded, dim=1)


@pytest.mark.parametrize(
    "change",
    [{}, {"kernel": 1}, {"chunk": 1, "left": 1}, {"chunk": 8}, {"heads": 12}, {"heads": 1, "layers": 1}],
    ids=str,
)
def test_chunks_are_encoded_as_in_torch(change: dict[str, int]) -> None:
    shape = SHAPE._replace(**change)
    encoder, x = some_encoder(shape), torch.randn(1, 27, shape.inputs)  # the last chunk is not whole
    native = NativeConformerEncoder(encoder)
    expected, (*_, before) = encoder.advance(x, None)
    found, ((keys, values, gated),) = native.advance(x, None)
    assert off(found, expected) < 1e-5
    assert torch.equal(streamed(native, x, shape.chunk), found)
    assert torch.equal(streamed(native, x, 2 * shape.chunk), found)
    torch.testing.assert_close(keys[-1:], before[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(values[-1:], before[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gated[-1:], before[2], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(native.encode(x, torch.tensor([27])), encoder.encode(x, torch.tensor([27])))


def test_a_state_is_left_as_it_was() -> None:
    native, x = NativeConformerEncoder(some_encoder()), torch.randn(1, 12, SHAPE.inputs)
    _, state = native.advance(x[:, :8], None)
    once, again = native.advance(x[:, 8:], state)[0], native.advance(x[:, 8:], state)[0]
    assert torch.equal(once, again)


def test_several_streams_at_once() -> None:
    native, x = NativeConformerEncoder(some_encoder()), torch.randn(3, 12, SHAPE.inputs)
    together = streamed(native, x, 4)
    assert torch.equal(together, torch.cat([streamed(native, one[None], 4) for one in x]))


@pytest.mark.parametrize(("values", "error"), [("fp32", 1e-5), ("int8", 0.03)])
def test_a_packed_conformer_is_native_saved_and_loaded(values: str, error: float) -> None:
    model = nn.Sequential(some_encoder())
    fast, x = packed(model, format="bitmap", values=values), torch.randn(1, 16, SHAPE.inputs)
    assert isinstance(fast[0], NativeConformerEncoder)
    assert len(packed_layers(fast)) == 1 + 8 * SHAPE.layers
    expected, found = model[0].advance(x, None)[0], fast[0].advance(x, None)[0]
    assert off(found, expected) < error
    assert type(model[0]) is ConformerEncoder
    for again in (load_packed(model, fast.state_dict()), copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        assert torch.equal(again[0].advance(x, None)[0], found)
    set_threads(fast, 1)
    assert fast[0].threads == 1


def test_new_weights_are_taken_up() -> None:
    first, second = some_encoder(), some_encoder()
    second.projection.weight *= 2
    native, x = NativeConformerEncoder(first), torch.randn(1, 4, SHAPE.inputs)
    before = native.advance(x, None)[0]
    native.load_state_dict(second.state_dict())
    after = native.advance(x, None)[0]
    assert off(after, second.advance(x, None)[0]) < 1e-5
    assert off(after, before) > 0.1


def test_a_conformer_stays_in_torch_where_that_is_faster_or_hooks_watch_it(monkeypatch: pytest.MonkeyPatch) -> None:
    hooked = some_encoder()
    hooked.blocks[1].norm.register_forward_hook(lambda *_: None)
    assert type(packed(hooked, format="bitmap")) is ConformerEncoder
    told: list[str] = []
    monkeypatch.setattr(pack_layers, "_chunk_gain", lambda *_: 0.9)
    assert type(packed(some_encoder(), format="bitmap", progress=told.append)) is ConformerEncoder
    assert told[-1] == "chunks of the conformer: 0.90 times as fast natively"


def test_the_gain_is_measured_on_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(pack_layers, "ROUNDS", 1)
    encoder = some_encoder()
    assert pack_layers._chunk_gain(encoder, NativeConformerEncoder(encoder), threads=1) > 0


def test_the_recogniser_gives_the_same_labels() -> None:
    torch.manual_seed(0)
    model = build_model(small("conformer_transducer"), FeatureSpec(mels=8, stack=2), 9).eval()
    for name, weight in model.named_parameters():
        if weight.dim() > 1:
            weight.data *= 3 if name.startswith("joint") else 1.5
    fast, x = packed(model, format="bitmap", batch=4), torch.randn(37, 16)
    found = []
    for one in (model, fast):
        stream = one.stream()
        labels = [label for part in x.split(5) for label in stream.accept(part)] + stream.finish()
        found.append(labels)
        assert all(part.numel() for part in stream.state())
    assert found[0] == found[1]
    assert found[0]


def test_what_does_not_fit_is_refused() -> None:
    native = NativeConformerEncoder(some_encoder())
    with pytest.raises(PackedLayerError, match=r"float32 on the CPU, not torch\.float64"):
        native.advance(torch.randn(1, 4, SHAPE.inputs).double(), None)
    with pytest.raises(ValueError, match=r"x must be \(rows, 10\), 1 to 4 rows"):
        native.advance(torch.randn(1, 4, 11), None)
    y = torch.zeros(3, 1, 9, 24)
    with pytest.raises(ValueError, match="not those of a stream of this encoder"):
        native.advance(torch.randn(1, 4, SHAPE.inputs), [(y, y, y)])
    broken = some_encoder()
    broken.blocks[0].attention.output = nn.Linear(24, 23)
    with pytest.raises(ValueError, match="output of the attention and width: 23 and 24 do not fit"):
        NativeConformerEncoder(broken).advance(torch.randn(1, 4, SHAPE.inputs), None)
