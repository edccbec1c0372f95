"""Packed layers give what the layers of torch give, are saved packed, and are taken only where they pay."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from cspbench.errors import ConfigError
from cspbench.machine.cpu import usable_threads
from cspbench.runtime import extension, pack_layers
from cspbench.runtime.layers import PackedLayerError, PackedLinear, PackedLSTM
from cspbench.runtime.pack_layers import load_packed, packed, packed_layers, set_threads
from cspbench.runtime.packing import PackingError

pytestmark = pytest.mark.skipif(not extension.available(), reason="the native module is not built here")
EXACT, INT8, INT4 = 1e-5, 0.02, 0.2
"""The stated errors of a layer, norm of the difference over norm of the outputs."""


@pytest.fixture(autouse=True)
def always_pays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No clock decides, but where a test says so; small layers are tried, too."""
    monkeypatch.setattr(pack_layers, "SMALLEST", 1)
    monkeypatch.setattr(pack_layers, "_gain", lambda *_: 2.0)
    with torch.inference_mode():
        yield


def sparse(module: nn.Module, sparsity: float = 0.8, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    for parameter in module.parameters():
        if parameter.dim() > 1:
            parameter.data *= torch.rand_like(parameter) >= sparsity
    return module.eval()


def smaller(module: nn.Module, **options: Any) -> nn.Module:
    return packed(module, **{"format": "bitmap", **options})


def off(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found - expected).norm() / expected.norm())


class Tower(nn.Module):
    """A stack that is not ours: convolution, two directions of recurrence, attention, a tied and a twice used layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.embedding = nn.Embedding(30, 24)
        self.mix = nn.Conv1d(24, 40, 1)
        self.wide = nn.Conv1d(40, 40, 3, padding=1)
        self.lstm = nn.LSTM(40, 16, 2, batch_first=True, bidirectional=True, dropout=0.5)
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)
        self.same = nn.Linear(32, 32)
        self.narrow = nn.Linear(32, 24, bias=False)
        self.head = nn.Linear(24, 30)
        self.head.weight = self.embedding.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.wide(self.mix(self.embedding(ids).transpose(1, 2))).transpose(1, 2)
        x, _ = self.lstm(x)
        x = x + self.attention(x, x, x)[0]
        return self.head(self.narrow(self.same(torch.relu(self.same(x)))))


@pytest.mark.parametrize(("values", "error"), [("fp32", EXACT), ("int8", INT8)])
@pytest.mark.parametrize("shape", [(48,), (1, 48), (16, 48), (3, 5, 48), (0, 48)])
def test_linear(shape: tuple[int, ...], values: str, error: float) -> None:
    for bias in (True, False):
        layer = sparse(nn.Linear(48, 33, bias=bias))
        x = torch.randn(shape)
        found, expected = smaller(layer, values=values)(x), layer(x)
        assert found.shape == expected.shape
        assert not x.numel() or off(found, expected) < error


def test_int4_is_within_its_stated_error_and_comes_back() -> None:
    layer, x = sparse(nn.Sequential(nn.Linear(256, 64))), torch.randn(4, 256)
    fast = smaller(layer, values="int4", format="window")
    assert off(fast(x), layer(x)) < INT4
    assert torch.equal(load_packed(layer, fast.state_dict())(x), fast(x))


@pytest.mark.parametrize(("values", "error"), [("fp32", EXACT), ("int8", INT8)])
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv1d(24, 17, 1), (2, 24, 7)),
        (nn.Conv1d(24, 17, 1, bias=False), (24, 5)),
        (nn.Conv2d(24, 9, 1), (2, 24, 3, 4)),
    ],
)
def test_pointwise_convolution(layer: nn.Module, shape: tuple[int, ...], values: str, error: float) -> None:
    sparse(layer)
    x = torch.randn(shape)
    assert off(smaller(layer, values=values)(x), layer(x)) < error


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_recurrence(kind: type[nn.LSTM | nn.GRU], bias: bool, batch_first: bool, bidirectional: bool) -> None:
    layer = sparse(kind(20, 12, 2, bias=bias, batch_first=batch_first, bidirectional=bidirectional), 0.5)
    fast = smaller(layer)
    torch.manual_seed(0)
    for x, size in ((torch.randn(6, 3, 20), 6 if batch_first else 3), (torch.randn(5, 20), None)):
        state = torch.randn(4 if bidirectional else 2, *(() if size is None else (size,)), 12)
        given = (state, -state) if kind is nn.LSTM else state
        for before in (None, given):
            found, expected = fast(x, before), layer(x, before)
            assert off(found[0], expected[0]) < EXACT
            for a, b in zip(*((s if kind is nn.LSTM else (s,)) for s in (found[1], expected[1])), strict=True):
                assert off(a, b) < EXACT


def test_steps_of_a_stream_are_those_of_the_whole() -> None:
    layer = sparse(nn.LSTM(20, 12, batch_first=True))
    fast, x = smaller(layer, values="int8"), torch.randn(1, 9, 20)
    whole, state, steps = fast(x)[0], None, []
    for t in range(9):
        y, state = fast(x[:, t : t + 1], state)
        steps.append(y)
    assert torch.equal(torch.cat(steps, 1), whole)
    assert off(whole, layer(x)[0]) < 2 * INT8


def test_a_model_of_any_make() -> None:
    model = sparse(Tower())
    before = copy.deepcopy(model.state_dict())
    fast = smaller(model)
    ids = torch.arange(12).reshape(1, 12)
    assert off(fast(ids), model(ids)) < EXACT
    assert {row["matrix"] for row in packed_layers(fast)} == {
        "mix.weight",
        "same.weight",
        "narrow.weight",
        "head.weight",
        *(f"lstm.weight_{kind}_l{n}{side}" for kind in ("ih", "hh") for n in (0, 1) for side in ("", "_reverse")),
    }
    assert type(fast.wide) is nn.Conv1d  # three taps
    assert isinstance(fast.attention.out_proj, nn.Linear)  # attention reads its weights itself
    assert torch.equal(fast.embedding.weight, model.embedding.weight)
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())
    assert all(type(m) in (nn.Linear, nn.Conv1d) for m in (model.same, model.mix))


def test_the_state_is_saved_packed_and_comes_back() -> None:
    model = sparse(Tower(), 0.95)
    fast = smaller(model, values="int8")
    state = fast.state_dict()
    assert not {"lstm.weight_hh_l0", "same.weight"} & set(state)
    ids = torch.arange(12).reshape(1, 12)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    for read in (torch.load(buffer, weights_only=True), load(save(state))):
        again = load_packed(Tower(), read)
        assert torch.equal(again(ids), fast(ids))
        assert packed_layers(again) == packed_layers(fast)
    assert torch.equal(pickle.loads(pickle.dumps(fast))(ids), fast(ids))
    assert torch.equal(copy.deepcopy(fast)(ids), fast(ids))


def test_states_of_other_models_are_refused() -> None:
    state = smaller(sparse(nn.Linear(8, 4))).state_dict()
    with pytest.raises(PackedLayerError, match="not one of a packed model"):
        load_packed(Tower(), state)
    with pytest.raises(PackedLayerError, match=r"\(4, 8\) in the state and \(4, 9\) in the model"):
        load_packed(nn.Linear(9, 4), state)
    broken = dict(state) | {"packed.weight.values": state["packed.weight.values"][:-1]}
    with pytest.raises(PackedLayerError, match="cannot be read"):
        load_packed(nn.Linear(8, 4), broken)


def test_a_layer_stays_where_packing_does_not_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    model, told = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 8)), []
    gains = iter([1.01, 3.0])
    monkeypatch.setattr(pack_layers, "_gain", lambda *_: next(gains))
    fast = packed(model, format="bitmap", progress=told.append)
    assert [type(layer) for layer in fast] == [nn.Linear, PackedLinear]
    assert told == ["0: 1.01 times as fast packed, stays in torch", "1: 3.00 times as fast packed, replaced"]
    monkeypatch.setattr(pack_layers, "SMALLEST", 1000)
    assert packed_layers(packed(model)) == []


def test_gains_are_measured_on_the_layer_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(pack_layers, "ROUNDS", 1)
    monkeypatch.setattr(pack_layers, "SMALLEST", 1)
    kinds = [
        nn.Linear(32, 8),
        nn.Conv1d(32, 8, 1),
        nn.Conv2d(32, 8, 1),
        nn.LSTM(32, 8),
        nn.GRU(32, 8, batch_first=True),
    ]
    for layer in kinds:
        told: list[str] = []
        packed(sparse(layer), format="bitmap", batch=2, progress=told.append)
        assert len(told) == 1
        assert float(told[0].split()[1]) > 0


def test_layers_that_do_more_than_they_seem_stay() -> None:
    hooked, parametrised = nn.Linear(8, 8), nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))
    hooked.register_forward_hook(lambda module, inputs, output: output + 1)

    class Special(nn.Linear):
        pass

    model = nn.Sequential(hooked, parametrised, Special(8, 8), nn.LSTM(8, 8, proj_size=4), nn.Linear(8, 8).double())
    assert packed_layers(smaller(model)) == []


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_transformer_takes_its_packed_layers() -> None:
    model = sparse(nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2))
    fast, x = smaller(model), torch.randn(2, 5, 16)
    assert len(packed_layers(fast)) == 4
    mask = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    assert off(fast(x), model(x)) < EXACT
    found, expected = fast(x, src_key_padding_mask=mask), model(x, src_key_padding_mask=mask)
    assert off(found[1, :3], expected[1, :3]) < EXACT


def test_what_cannot_be_multiplied_is_said() -> None:
    fast = smaller(sparse(nn.Linear(8, 4)))
    with pytest.raises(PackedLayerError, match=r"float32 on the CPU, not torch\.float64"):
        fast(torch.randn(1, 8).double())
    with torch.inference_mode(False), pytest.raises(PackedLayerError, match="for inference"):
        fast(torch.randn(1, 8, requires_grad=True))
    lstm = smaller(sparse(nn.LSTM(8, 4)))
    assert isinstance(lstm, PackedLSTM)
    with pytest.raises(PackedLayerError, match="not PackedSequence"):
        lstm(nn.utils.rnn.pack_sequence([torch.randn(3, 8)]))
    broken = nn.Linear(8, 4)
    broken.weight[1, 2] = torch.nan
    with pytest.raises(PackingError, match="nan in row 1, column 2"):
        smaller(broken)


def test_casts_and_moves_leave_packed_weights_alone() -> None:
    model = sparse(nn.Sequential(nn.Linear(8, 4)))
    fast, x = smaller(model), torch.randn(1, 8)
    expected = fast(x)
    torch.testing.assert_close(fast.to(torch.bfloat16)(x), expected, rtol=0, atol=0.01)  # the bias was rounded
    assert packed_layers(fast)[0]["values"] == "fp32"


def test_threads_can_be_set_and_change_nothing() -> None:
    fast, x = smaller(sparse(nn.Linear(64, 64))), torch.randn(1, 64)
    expected = fast(x)
    set_threads(fast, usable_threads())
    assert torch.equal(fast(x), expected)
    with pytest.raises(ConfigError, match="9999 threads cannot run"):
        set_threads(fast, 9999)
    with pytest.raises(ConfigError, match="9999 threads cannot run"):
        packed(nn.Linear(8, 4), threads=9999)
