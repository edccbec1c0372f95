"""Inputs of matrices by forward hooks: what was seen, multiplied by the matrix, is what the layer computed with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence

from cspbench.errors import PruningError
from cspbench.pruning import inputs
from cspbench.pruning.inputs import input_moments, observes, positions


def seen(layer: nn.Module, call: Callable[[], object]) -> dict[str, Tensor]:
    """All inputs (n, in) of every matrix of a layer, in the order in which they were shown."""
    found: dict[str, list[Tensor]] = {}
    parameters = {name: p for name, p in layer.named_parameters() if p.dim() > 1}
    with inputs.watching(layer, parameters, lambda name, x: found.setdefault(name, []).append(x)), torch.no_grad():
        call()
    return {name: torch.cat(parts) for name, parts in found.items()}


def moments(model: nn.Module, call: Callable[[], object]) -> dict[str, Tensor]:
    return input_moments(model, {n: p for n, p in model.named_parameters() if p.dim() > 1}, call)()


def test_linear() -> None:
    layer, x = nn.Linear(5, 3, bias=False), torch.randn(2, 4, 5)
    (found,) = seen(layer, lambda: layer(x)).values()
    torch.testing.assert_close(found @ layer.weight.T, layer(x).flatten(0, 1))
    expected = x.flatten(0, 1)
    torch.testing.assert_close(moments(layer, lambda: [layer(x)])["weight"], expected.T @ expected / 8)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding": "same", "dilation": 2},
        {"stride": 2, "padding": 1},
        {"groups": 2, "padding": 2, "padding_mode": "circular"},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [nn.Conv1d, nn.Conv2d])
def test_convolutions(kind: Any, options: dict[str, Any]) -> None:
    layer = kind(4, 6, 3, bias=False, **options)
    x = torch.randn(2, 4, 9, *((8,) if kind is nn.Conv2d else ()))
    (found,) = seen(layer, lambda: layer(x)).values()
    expected = layer(x).flatten(2)  # (N, out, L)
    groups = options.get("groups", 1)
    windows = found.view(len(x), groups, -1, found.shape[1])
    weight = layer.weight.flatten(1).view(groups, -1, found.shape[1])
    products = torch.einsum("nglk,gok->ngol", windows, weight).flatten(1, 2)
    torch.testing.assert_close(products, expected)


@pytest.mark.parametrize("given", ["batch_first", "time_first", "alone", "state", "lengths"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_stack_of_recurrent_layers(bidirectional: bool, given: str) -> None:
    """The state of a GRU is its output: one step of a cell on what was seen gives what comes next."""
    layer = nn.GRU(4, 3, num_layers=3, bidirectional=bidirectional, batch_first=given == "batch_first", dropout=0.5)
    layer.eval()
    directions = 2 if bidirectional else 1
    x: Any = torch.randn(5, 2, 4)
    state = torch.randn(3 * directions, 2, 3) if given in ("state", "lengths") else None
    if given == "alone":
        x = x[:, 0]
    if given == "lengths":
        x = pack_sequence([torch.randn(3, 4), torch.randn(5, 4), torch.randn(2, 4)], enforce_sorted=False)
        state = torch.randn(3 * directions, 3, 3)
    found = seen(layer, lambda: layer(x, state))
    below = []
    for index in range(3):
        outputs = []
        for suffix in ("", "_reverse")[:directions]:
            names = {f"{kind}_{m}": f"{kind}_{m}_l{index}{suffix}" for kind in ("weight", "bias") for m in ("ih", "hh")}
            cell = nn.GRUCell(getattr(layer, names["weight_ih"]).shape[1], 3)
            cell.load_state_dict({own: getattr(layer, name) for own, name in names.items()})
            outputs.append(cell(found[names["weight_ih"]], found[names["weight_hh"]]))
        below.append(torch.cat(outputs, 1))
    torch.testing.assert_close(found["weight_ih_l1"], below[0])
    torch.testing.assert_close(found["weight_ih_l2"], below[1])
    y = layer(x, state)[0]
    if given == "lengths":
        padded, lengths = nn.utils.rnn.pad_packed_sequence(y)
        expected = padded[torch.arange(len(padded))[:, None] < lengths]
    else:
        expected = y.reshape(-1, 3 * directions)  # in the order of the layer
    torch.testing.assert_close(below[2], expected)


@pytest.mark.parametrize("projection", [0, 2])
def test_a_stacked_lstm_is_two_of_one_layer(projection: int) -> None:
    stack = nn.LSTM(4, 3, num_layers=2, bidirectional=True, proj_size=projection)
    x = torch.randn(6, 2, 4)
    found = seen(stack, lambda: stack(x))
    between = x
    for index in range(2):
        one = nn.LSTM(between.shape[-1], 3, bidirectional=True, proj_size=projection)
        weights = {name: getattr(stack, name.replace("_l0", f"_l{index}")) for name, _ in one.named_parameters()}
        one.load_state_dict(weights)
        for name, rows in seen(one, lambda one=one, between=between: one(between)).items():
            torch.testing.assert_close(found[name.replace("_l0", f"_l{index}")], rows)
        between = one(between)[0].detach()


def test_plain_recurrent_layers_and_states_of_an_lstm() -> None:
    layer, x = nn.RNN(4, 3, nonlinearity="relu"), torch.randn(5, 2, 4)
    h = torch.randn(1, 2, 3)
    found = seen(layer, lambda: layer(x, h))
    torch.testing.assert_close(found["weight_hh_l0"], torch.cat([h, layer(x, h)[0][:-1]]).flatten(0, 1))
    lstm, c = nn.LSTM(4, 3), torch.randn(1, 2, 3)
    found = seen(lstm, lambda: lstm(x, (h, c)))
    torch.testing.assert_close(found["weight_hh_l0"], torch.cat([h, lstm(x, (h, c))[0][:-1]]).flatten(0, 1))


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("sizes", [{}, {"kdim": 6, "vdim": 5}])
def test_attention(sizes: dict[str, int], batch_first: bool) -> None:
    layer = nn.MultiheadAttention(4, 2, batch_first=batch_first, dropout=0.5, **sizes).eval()
    q, k, v = torch.randn(3, 2, 4), torch.randn(3, 2, sizes.get("kdim", 4)), torch.randn(3, 2, sizes.get("vdim", 4))
    found = seen(layer, lambda: layer(q, key=k, value=v, need_weights=False))
    expected = layer(q, k, v)[0].flatten(0, 1)
    torch.testing.assert_close(found["out_proj.weight"] @ layer.out_proj.weight.T + layer.out_proj.bias, expected)
    if sizes:
        assert torch.equal(found["k_proj_weight"], k.flatten(0, 1))
        assert torch.equal(found["v_proj_weight"], v.flatten(0, 1))
    else:
        assert torch.equal(found["in_proj_weight"], torch.cat([x.flatten(0, 1) for x in (q, k, v)]))


def test_every_matrix_of_a_transformer_is_seen_although_evaluation_has_a_fast_path() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.TransformerEncoder(layer, 2)
    x, padding = torch.randn(2, 5, 8), torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    found = moments(model, lambda: [model(x, src_key_padding_mask=padding)])
    assert found.keys() == {name for name, p in model.named_parameters() if p.dim() > 1}
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_shared_matrix_sees_the_inputs_of_all_its_layers() -> None:
    first, second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
    second.weight = first.weight
    x = torch.randn(7, 3)
    model = nn.Sequential(first, second)
    rows = torch.cat([x, first(x)]).detach()
    torch.testing.assert_close(moments(model, lambda: [model(x)])["0.weight"], rows.T @ rows / 14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sums_are_float32_in_whatever_mode_the_model_runs(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has to be converted is converted in chunks."""
    monkeypatch.setattr(inputs, "ROWS", 3)
    model, x = nn.Linear(4, 2), 256 * torch.randn(8, 4).round().to(dtype)

    def run() -> Iterator[object]:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            yield model(x)

    found = moments(model, run)["weight"]
    torch.testing.assert_close(found, x.float().T @ x.float() / 8)
    assert not found.is_inference()
    with torch.autocast("cpu", torch.bfloat16):
        shown: list[Tensor] = []
        with inputs.watching(model, dict(model.named_parameters()), lambda _, rows: shown.append(rows)):
            model(x)
    assert [len(rows) for rows in shown] == ([8] if dtype == torch.float32 else [3, 3, 2])


def test_a_measurement_repeats_itself_and_leaves_modes_and_random_numbers_alone() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 2))
    model.train()
    model[0].eval()
    before = torch.get_rng_state()
    grams = input_moments(model, {"2.weight": model[2].weight}, lambda: (model(torch.randn(9, 4)) for _ in range(2)))
    assert torch.equal(grams(64, 0)["2.weight"], grams(64, 64)["2.weight"])
    assert torch.equal(torch.get_rng_state(), before)
    assert [module.training for module in model] == [False, True, True]
    assert not model[0]._forward_hooks


def test_a_matrix_that_no_input_reaches_is_named() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with pytest.raises(PruningError, match=r"showed no input of 1\.weight: run the parts"):
        moments(model, lambda: [model[0](torch.randn(2, 4))])


def test_a_layer_of_your_own_registers_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "_observers", dict(inputs._observers))

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.matrix = nn.Parameter(torch.randn(3, 3))

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.matrix.T

    @observes(Twice)
    def _twice(layer: Twice, args: Any, kwargs: Any, output: Any) -> Iterator[tuple[str, Tensor]]:
        yield "matrix", args[0]

    model, x = Twice(), torch.randn(5, 3)
    torch.testing.assert_close(moments(model, lambda: [model(x)])["matrix"], x.T @ x / 5)


class Mixed(nn.Module):
    """Layers of all kinds over (N, T, 4) that do not look beyond the end of an utterance."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.conv = nn.Conv1d(4, 6, 3, padding="same")
        self.lstm = nn.LSTM(6, 4, num_layers=2, batch_first=batch_first)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=batch_first)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x.transpose(1, 2)).transpose(1, 2)
        h = self.lstm(h if self.batch_first else h.transpose(0, 1))[0]
        future = torch.ones(x.shape[1], x.shape[1]).triu(1).bool()
        return self.head(self.attention(h, h, h, attn_mask=future)[0])


@pytest.mark.parametrize("batch_first", [False, True])
def test_padding_is_left_out(batch_first: bool) -> None:
    model = Mixed(batch_first)
    utterances = [torch.randn(length, 4) for length in (3, 5, 4, 2)]
    lengths = torch.tensor([len(x) for x in utterances])
    padded = nn.utils.rnn.pad_sequence(utterances, batch_first=True)

    def together() -> Iterator[object]:
        with positions(torch.arange(5) < lengths[:, None]):
            yield model(padded)

    expected = moments(model, lambda: [model(x[None]) for x in utterances])
    for name, found in moments(model, together).items():
        torch.testing.assert_close(found, expected[name])
    assert not inputs._counted
