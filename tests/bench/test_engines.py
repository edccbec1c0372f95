"""The latency benchmark: every engine computes what it should, ratios say what they claim. No time is judged."""

from __future__ import annotations

import importlib.metadata
import json
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from cspbench.bench import engines
from cspbench.bench.peers import (
    CONTESTANTS,
    AbsentError,
    Contestant,
    end_to_end,
    mkl,
    native,
    onnx_runtime,
    openvino_peer,
)
from cspbench.bench.peers.engine import Evict, StepEngine, Stepping, seconds
from cspbench.bench.peers.race import COUNTS, Counts, Entry, Evictor, enter, paired, race
from cspbench.bench.peers.torch_peers import LSTM, quantise
from cspbench.bench.peers.workload import (
    BLOCK_SHAPES,
    LINEAR_WORKS,
    STEPS,
    Layer,
    LinearWork,
    Size,
    Work,
    block_work,
    random_work,
)
from cspbench.errors import ConfigError
from cspbench.machine.lock import Reservation
from cspbench.runtime import extension

SIZE = Size(layers=2, width=24, inputs=20)


@pytest.fixture(scope="module")
def work() -> Work:
    return random_work("S", 0.75, seed=1, size=SIZE)


@pytest.fixture(scope="module")
def layer() -> LinearWork:
    weight = random_work("S", 0.75, seed=1, size=SIZE).layers[0].weight
    inputs = np.random.default_rng(0).standard_normal((STEPS, weight.shape[1]), np.float32)
    return LinearWork("linear", 0.75, "random", (Layer(weight, weight[:, 0].copy()),), inputs)


@pytest.fixture(autouse=True)
def _no_gradients() -> Any:
    with torch.inference_mode():
        yield


class Clockwork(StepEngine):
    """Right by construction; takes so many seconds a step hot, and cold."""

    def __init__(self, work: Work, hot: float, cold: float, wrong: float = 0.0) -> None:
        self.setting, self.bytes = "clockwork", 1000
        self.work, self.hot, self.cold, self.wrong = work, hot, cold, wrong

    def outputs(self) -> np.ndarray:
        return self.work.reference + self.wrong

    def times(self, steps: int, evict: Evict | None = None) -> list[float]:
        return [self.cold if evict else self.hot] * steps


def clockwork(name: str, precision: Any, hot: float, cold: float, **more: Any) -> Contestant:
    wrong = more.pop("wrong", 0.0)
    return Contestant(name, precision, lambda work: Clockwork(work, hot, cold, wrong), **more)


def test_a_work_has_exactly_the_zeros_asked_for(work: Work) -> None:
    for layer in work.layers:
        assert np.count_nonzero(layer.weight == 0) == round(0.75 * layer.weight.size)
    assert work.nonzeros == sum(layer.weight.size - round(0.75 * layer.weight.size) for layer in work.layers)
    assert random_work("S", 0.0, size=SIZE).nonzeros == work.weights
    again = random_work("S", 0.75, seed=1, size=SIZE)
    assert all(np.array_equal(a.weight, b.weight) for a, b in zip(work.layers, again.layers, strict=True))


def test_the_sizes_are_those_of_the_claim() -> None:
    weights = {
        name: sum(4 * size.width * size.columns(i) for i in range(size.layers)) for name, size in engines.SIZES.items()
    }
    assert weights == {"L": 40_370_176, "S": 909_312}


def test_the_reference_is_torchs_lstm_in_64_bits(work: Work) -> None:
    module = LSTM(work).module.double()  # type: ignore[attr-defined]
    found, _ = module(torch.from_numpy(work.inputs).double()[:, None])
    np.testing.assert_allclose(work.reference, found[:, 0].numpy(), atol=1e-7)
    assert work.reference.std() > 0.05  # the gates are awake


@pytest.mark.parametrize("contestant", CONTESTANTS, ids=lambda c: f"{c.kind}-{c.name}")
def test_every_engine_computes_what_it_should(
    contestant: Contestant, work: Work, layer: LinearWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BLOCK_SHAPES, "tiny", (48, 40))
    if contestant.kind == "linear":
        work = layer
    elif contestant.kind != "lstm":
        work = block_work(LINEAR_WORKS[contestant.kind], "tiny", 0.75)
    entry = enter(contestant, work)
    if entry.absent and entry.error is None:
        pytest.skip(entry.absent)
    assert entry.absent is None
    assert entry.engine is not None
    assert entry.engine.outputs().shape == work.reference.shape
    if contestant.precision == "fp32":
        assert entry.error < 1e-5
    else:
        assert 0 < entry.relative < 0.1, "no error at all: it was not quantised"
    assert (entry.saturates is None) == (contestant.precision != "int8" or contestant.ours)
    assert entry.bytes > 0
    assert entry.setting
    times = entry.engine.times(3)
    assert 0 < len(times) <= 3
    assert all(math.isfinite(x) for x in times)
    np.testing.assert_array_equal(entry.engine.outputs(), entry.engine.outputs())  # timing left no state behind


class Saturating(StepEngine):
    """A layer in int8 whose products are added in pairs, in 16 bits."""

    setting, bytes = "pairs in 16 bits", 1000

    def __init__(self, work: Work, limit: float) -> None:
        self.work, self.limit = work, limit

    def outputs(self) -> np.ndarray:
        layer, inputs = self.work.layers[0], self.work.inputs
        scale, step = np.abs(layer.weight).max() / 127, np.abs(inputs).max() / 255
        products = np.round(inputs / step)[:, None] * np.round(layer.weight / scale)
        pairs = products.reshape(*products.shape[:2], -1, 2).sum(-1).clip(-self.limit, self.limit)
        return pairs.sum(-1) * scale * step + layer.bias

    def times(self, steps: int, evict: Evict | None = None) -> list[float]:
        return [1.0] * steps


@pytest.mark.parametrize("saturates", [True, False])
def test_a_peer_that_saturates_is_flagged(layer: LinearWork, saturates: bool) -> None:
    limit = 2**15 - 1 if saturates else 2**31 - 1
    entry = enter(Contestant("peer", "int8", lambda work: Saturating(work, limit), kind="linear"), layer)
    assert entry.relative is not None
    assert entry.relative < 0.1
    assert entry.absent is None
    assert entry.saturates is saturates
    assert engines._rows(entry)[0]["saturates"] is saturates


def test_torchs_bare_lstm_would_not_be_quantised(work: Work) -> None:
    module = torch.nn.LSTM(4, 4)
    assert type(quantise(torch.nn.Sequential(module), torch.nn.LSTM)[0]) is not torch.nn.LSTM
    assert type(quantise(module, torch.nn.LSTM)) is torch.nn.LSTM  # the trap


def test_our_formats_are_measured_one_by_one(work: Work) -> None:
    if not extension.available():
        pytest.skip("no native module")
    sizes = {c.name: enter(c, work).bytes for c in native.CONTESTANTS}
    assert set(sizes) >= {"ours_fp32", "ours_bf16", "ours_int8", "ours_int4", "ours_fp32_window", "ours_int8_bitmap"}
    assert sizes["ours_fp32_dense"] == 4 * work.weights
    rows = sum(len(layer.weight) for layer in work.layers)
    assert sizes["ours_fp32_csr16"] == (4 + 2) * work.nonzeros + 4 * (rows + len(work.layers))


def test_peers_that_are_not_installed_are_named(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise importlib.metadata.PackageNotFoundError(name)

    mkl.library.cache_clear()
    monkeypatch.setattr(importlib.metadata, "files", missing)
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    for contestant in (*mkl.CONTESTANTS, *onnx_runtime.CONTESTANTS, *openvino_peer.CONTESTANTS):
        entry = enter(contestant, work)
        assert entry.engine is None
        assert "pip install 'cspbench[peers]'" in str(entry.absent)
        row = engines._rows(entry)
        assert [(r["engine"], r["median_us"], r["state"]) for r in row] == [(contestant.name, None, None)]
        assert "not installed" in row[0]["protocol"]
    mkl.library.cache_clear()


def test_wrong_outputs_put_an_engine_out(work: Work) -> None:
    for wrong in (1e-3, math.nan):
        entry = enter(clockwork("liar", "fp32", 1, 1, wrong=wrong), work)
        assert entry.engine is None
        assert "wrong outputs" in str(entry.absent)
    assert enter(clockwork("rough", "int8", 1, 1, wrong=1e-3), work).engine is not None
    assert enter(clockwork("rougher", "int8", 1, 1, wrong=1.0), work).engine is None
    fifth = 0.2 * float(np.sqrt(np.mean(work.reference**2)))
    assert enter(clockwork("eight", "int8", 1, 1, wrong=fifth), work).engine is None
    assert enter(clockwork("four", "int4", 1, 1, wrong=fifth), work).engine is not None
    assert enter(clockwork("wild", "int4", 1, 1, wrong=2 * fifth), work).engine is None


def test_an_empty_call_is_subtracted(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    class Called(Stepping):
        setting, bytes = "", 1

        def reset(self) -> None: ...
        def load(self, x: np.ndarray) -> None:
            clock[0] += 100  # not timed

        def step(self) -> None:
            clock[0] += 5

        def output(self) -> np.ndarray:
            return np.zeros(1)

    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    engine = Called(work)
    assert engine.times(2) == [5, 5]

    def empty() -> None:
        clock[0] += 2

    engine.empty = empty
    assert engine.times(2) == [3, 3]
    assert seconds(empty) == 2


def test_rounds_are_paired_and_who_begins_changes(work: Work) -> None:
    log: list[str] = []

    class Recorder(Clockwork):
        def times(self, steps: int, evict: Evict | None = None) -> list[float]:
            log.append(f"{self.setting}{steps}{'c' if evict else ''}")
            return super().times(steps, evict)

    def make(name: str) -> Callable[[Work], StepEngine]:
        def build(work: Work) -> StepEngine:
            engine = Recorder(work, 1, 1)
            engine.setting = name
            return engine

        return build

    entries = [enter(Contestant(name, "fp32", make(name)), work) for name in "ab"]
    race(entries, 2, Counts(1, 3, 2), Evictor(1 << 12))
    assert log == ["a1", "a3", "a2c", "b1", "b3", "b2c", "b1", "b3", "b2c", "a1", "a3", "a2c"]
    assert [len(t) for t in entries[0].rounds["hot"]] == [3, 3]
    assert [len(t) for t in entries[0].rounds["cold"]] == [2, 2]
    entries[0].rounds["hot"] = [[4.0], [30.0], [6.0]]
    entries[1].rounds["hot"] = [[2.0], [10.0], [1.0]]
    assert paired(entries[0], entries[1], "hot") == 3


def test_ratios_say_the_lower_of_hot_and_cold(work: Work) -> None:
    rivals = [
        clockwork("torch_dense", "fp32", 10, 12),
        clockwork("sparse", "fp32", 4, 9),
        clockwork("other", "fp32", 5, 8),
        clockwork("eight", "int8", 3, 3),
        clockwork("eight_lookahead", "int8", 1, 1, lookahead=True),
        clockwork("ours_fp32", "fp32", 2, 5, ours=True),
        clockwork("ours_int8", "int8", 1, 2, ours=True),
        clockwork("ours_fp32_better", "fp32", 0.1, 0.1, ours=True),
    ]
    large = replace(work, model="L", zeros=0.9)
    entries = [enter(c, large) for c in rivals]
    race(entries, 3, Counts(1, 1, 1), Evictor(1 << 12))
    for entry in entries:
        entry.bandwidths = [100.0, 400.0, 500.0]
    found = engines._ratios(entries, "")
    assert found == {
        "best_fp32/ours_fp32@0.90": 8 / 5,
        "best_fp32/ours_fp32@0.90:hot": 2,
        "best_fp32/ours_fp32@0.90:cold": 8 / 5,
        "torch_dense/ours_fp32@0.90": 12 / 5,
        "torch_dense/ours_fp32@0.90:hot": 5,
        "torch_dense/ours_fp32@0.90:cold": 12 / 5,
        "bound/fp32@0.90": 5 * 400 / 1000,
        "best_int8/ours_int8@0.90": 3 / 2,
        "best_int8/ours_int8@0.90:hot": 3,
        "best_int8/ours_int8@0.90:cold": 3 / 2,
        "lookahead_int8/ours_int8@0.90:hot": 1,
        "bound/int8@0.90": 2 * 400 / 1000,
    }
    small = [replace(entry, work=replace(large, model="S", zeros=0.95)) for entry in entries]
    assert engines._ratios(small, "pruned:")["pruned:S:best_int8/ours_int8@0.95"] == 3 / 2


def test_a_time_that_noise_made_negative_gives_no_ratio(work: Work) -> None:
    large = replace(work, model="L", zeros=0.9)
    contestants = [
        clockwork("torch_dense", "fp32", 10, 12),
        clockwork("noisy", "fp32", 4, -1),
        clockwork("ours_fp32", "fp32", 2, -3, ours=True),
    ]
    entries = [enter(contestant, large) for contestant in contestants]
    race(entries, 3, Counts(1, 1, 1), Evictor(1 << 12))
    for entry in entries:
        entry.bandwidths = [100.0, 400.0, 500.0]
    assert engines._ratios(entries, "") == {"best_fp32/ours_fp32@0.90:hot": 2, "torch_dense/ours_fp32@0.90:hot": 5}


def test_an_empty_call_is_timed_beside_each_step(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    durations = {"empty": [1.0, 2.0, 9.0], "step": [5.0, 6.0, 7.0]}

    def seconds(call: Callable[[], object], evict: Evict | None = None) -> float:
        calls.append("empty" if call() == "empty" else "step")
        return durations[calls[-1]].pop(0)

    engine = LSTM(work)
    engine.empty = lambda: "empty"
    monkeypatch.setattr("cspbench.bench.peers.engine.seconds", seconds)
    assert engine.times(3) == [3.0, 4.0, 5.0]
    assert calls == ["empty", "step"] * 3


def test_without_ours_or_without_peers_there_is_no_ratio(work: Work) -> None:
    alone = enter(clockwork("ours_fp32", "fp32", 1, 1, ours=True), work)
    race([alone], 1, Counts(0, 1, 1), Evictor(1 << 12))
    assert engines._ratios([alone], "") == {}
    peer = enter(clockwork("torch_dense", "fp32", 1, 1), work)
    race([peer], 1, Counts(0, 1, 1), Evictor(1 << 12))
    assert engines._ratios([peer], "") == {}


def test_time_over_bound_is_paired_by_rounds(work: Work) -> None:
    ours = enter(clockwork("ours_fp32", "fp32", 1, 1, ours=True), work)  # of 1000 bytes
    ours.rounds["cold"] = [[2.0], [8.0, 4.0, 3.0], [10.0]]
    ours.bandwidths = [1000.0, 500.0, 150.0]
    assert engines._over_bound(ours) == 2.0
    assert engines._over_bound(replace(ours, bandwidths=[])) is None


def test_each_part_reserves_the_machine_and_one_that_was_disturbed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    came = iter([Reservation(True, 0.0), Reservation(False, 0.0), Reservation(True, 0.0)])
    monkeypatch.setattr(engines, "measuring", lambda: nullcontext(next(came)))
    reserved = engines._Reservations()
    told = []
    for part in range(3):
        assert reserved(lambda x: x + 1, part) == part + 1
        told.append(reserved.alone)
    assert told == [True, False, False]


def test_falls_are_between_neighbours(work: Work) -> None:
    def ours(zeros: float, hot: float, cold: float) -> list[Entry]:
        return [enter(clockwork("ours_fp32", "fp32", hot, cold, ours=True), replace(work, zeros=zeros))]

    races = [ours(0.9, 2, 3), ours(0.0, 10, 11), ours(0.5, 4, 4)]
    found = engines._falls(races, 1, Evictor(1 << 12), lambda _: None)
    assert found == {"S:falls/ours_fp32": 4 / 3}
    assert all(entries[0].rounds["hot"] == [] for entries in races)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that takes long is small."""
    monkeypatch.setitem(engines.SIZES, "S", SIZE)
    monkeypatch.setitem(COUNTS, "S", Counts(1, 2, 1))
    monkeypatch.setattr(engines, "last_cache_bytes", lambda: 1 << 14)
    monkeypatch.setattr(engines, "measuring", lambda: nullcontext(Reservation(alone=True, waited=0.0)))
    tiny = end_to_end.random_recogniser("tiny")
    monkeypatch.setattr(end_to_end, "random_recogniser", lambda: tiny)
    monkeypatch.setattr(end_to_end, "NOISE", 1)


@pytest.mark.usefixtures("small")
def test_the_command_prints_one_object(run: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = run("bench", "latency", "--quick", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert set(found) == {"rows", "ratios", "protocol"}
    assert {row["engine"] for row in found["rows"]} >= {
        contestant.name for contestant in CONTESTANTS if contestant.kind == "lstm"
    }
    keys = {"engine", "model", "zeros", "mask", "state", "median_us", "p95_us", "bytes", "protocol"}
    assert all(keys <= set(row) for row in found["rows"])
    if not extension.available():
        return
    names = ("S:best_fp32/ours_fp32@0.90", "S:best_int8/ours_int8@0.90", "S:torch_dense/ours_fp32@0.90")
    whole = ("recogniser:torch_dense/ours@0.90", "recogniser:native_dense/ours@0.90")
    assert set(found["ratios"]) >= {*names, *whole, "S:bound/fp32@0.90", "S:bound/int8@0.90"}
    dense, ours = (next(r for r in found["rows"] if r["engine"] == f"recogniser {x}") for x in ("torch_dense", "ours"))
    assert ours["utterances_unlike_torch"] == 0
    assert ours["labels"] == dense["labels"] > 0
    assert "noise" in found["protocol"]["recogniser"]


@pytest.mark.usefixtures("small")
def test_without_the_native_module_peers_are_measured_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def require(what: str) -> Any:
        raise extension.NativeError(f"{what} needs a compiler")

    monkeypatch.setattr(extension, "available", lambda: False)
    monkeypatch.setattr(extension, "require", require)
    chosen = [c for c in CONTESTANTS if c.name in ("torch_dense", "mkl_sparse", "ours_fp32")]
    found = engines.run(**engines.QUICK, contestants=chosen)
    rows = {row["engine"]: row for row in found.rows}
    assert rows["ours_fp32"]["median_us"] is None
    assert "needs a compiler" in rows["ours_fp32"]["protocol"]
    assert rows["torch_dense"]["median_us"] > 0
    assert "recogniser torch_dense" in rows
    assert found.ratios == {}
    assert found.protocol["read_gb_per_s"] is None
    assert "ours_fp32" in found.protocol["absent"]


def test_requests_that_make_no_sense_are_refused(run: Callable[..., tuple[int, str, str]]) -> None:
    with pytest.raises(ConfigError, match=r"there is no model 'M' \(L, S, linear, blocks\)"):
        engines.run(models=["M"])
    with pytest.raises(ConfigError, match="lies in"):
        engines.run(zeros=[1.0])
    code, _, err = run("bench", "latency", "--zeros", "many")
    assert code == ConfigError.exit_code
    assert "--zeros takes numbers" in err


def test_an_engine_that_cannot_run_is_told_apart_from_one_that_breaks(work: Work) -> None:
    def breaks(work: Work) -> StepEngine:
        raise ZeroDivisionError

    def cannot(work: Work) -> StepEngine:
        raise AbsentError("no such instruction")

    assert enter(Contestant("x", "fp32", cannot), work).absent == "no such instruction"
    with pytest.raises(ZeroDivisionError):
        enter(Contestant("x", "fp32", breaks), work)
