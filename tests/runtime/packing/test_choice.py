"""The packer takes what costs least here, and never what costs more than dense."""

from __future__ import annotations

import json
import multiprocessing
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from support.packed_models import pruned, trained

from cspbench.errors import CspbenchError
from cspbench.machine.lock import Reservation
from cspbench.runtime import extension
from cspbench.runtime.packing import PackedMatrix, PackingError, cost, pack_model
from cspbench.runtime.packing.choice import candidates, choose, fastest, smallest
from cspbench.runtime.packing.cost import Cost, cache_file, measured_costs

needs_native = pytest.mark.skipif(not extension.available(), reason="the native module was not built here")


def silent(_: str) -> None:
    pass


def sparse(density: float, rows: int = 64, columns: int = 128, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.where(rng.random((rows, columns)) < density, rng.standard_normal((rows, columns)), 0).astype(np.float32)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache_file()


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Measurements that were asked for; fewer bytes cost less."""
    asked: list[list[str]] = []

    def measure(found: dict[str, PackedMatrix]) -> dict[str, Cost]:
        asked.append(list(found))
        costs = {label: Cost(m.bytes * 1e-9, m.bytes * 2e-9) for label, m in found.items()}
        return costs | {cost.AGAIN: costs["dense"]}

    monkeypatch.setattr(cost, "measure", measure)
    return asked


def test_the_lowest_cost_wins() -> None:
    costs = {"dense": Cost(9, 20), "csr16": Cost(4, 9), "window": Cost(2, 8), "bitmap": Cost(5, 6)}
    sizes = {"dense": 100, "csr16": 30, "window": 40, "bitmap": 35}
    assert choose(costs, sizes) == "window"  # sqrt(16) < sqrt(30) < sqrt(36)


def test_what_is_slower_than_dense_in_or_out_of_the_cache_is_not_taken() -> None:
    sizes = {"dense": 100, "window": 10, "csr8": 20}
    assert choose({"dense": Cost(2, 9), "window": Cost(2.1, 1), "csr8": Cost(1, 9.5)}, sizes) == "dense"


def test_ties_go_to_the_smaller() -> None:
    sizes = {"dense": 100, "window": 40, "csr8": 30}
    assert choose({"dense": Cost(9, 9), "window": Cost(1, 1), "csr8": Cost(1.02, 1.02)}, sizes) == "csr8"
    assert choose({"dense": Cost(9, 9), "window": Cost(1, 1), "csr8": Cost(1.05, 1.05)}, sizes) == "window"


def test_smallest_counts_bytes() -> None:
    for density, format in ((1.0, "dense"), (0.5, "bitmap"), (0.02, "csr8")):
        assert smallest(sparse(density), "fp32", "m", silent).format == format


@needs_native
def test_candidates_take_fewer_bytes_than_dense() -> None:
    assert list(candidates(sparse(1.0), "fp32", "m")) == ["dense"]
    found = candidates(sparse(0.1), "fp32", "m")
    assert {
        "dense",
        "bitmap",
        "csr16",
        "csr8",
        "window:64",
        "window:128",
        "window:256",
        "window:64x16",
        "window:128x16",
        "window:256x16",
    } <= set(found)
    assert all(m.label == label for label, m in found.items())
    assert all(m.bytes < found["dense"].bytes for label, m in found.items() if label != "dense")
    assert not any(label.startswith(("block", "nm")) for label in found)  # nothing there that they could use


@needs_native
def test_a_window_may_take_hardly_more_bytes_than_dense() -> None:
    """In int8 half of the weights fill as many bytes as all, and are multiplied faster."""
    found = candidates(sparse(0.5, 1024, 512), "int8", "m")
    assert found["dense"].bytes < found["window:64x16"].bytes < 1.1 * found["dense"].bytes
    assert found["bitmap:4"].bytes < found["dense"].bytes
    assert not any(label.startswith("window") for label in candidates(sparse(0.7, 1024, 512), "int8", "m"))


@needs_native
def test_with_int4_windows_hold_int4_and_all_others_int8() -> None:
    found = candidates(sparse(0.1, 512, 512), "int4", "m")
    assert {m.values for m in found.values() if m.format == "window"} == {"int4"}
    assert {m.values for m in found.values() if m.format != "window"} == {"int8"}
    assert {"dense", "bitmap:4", "window:64x16"} <= set(found)
    few, many = (smallest(sparse(d, 512, 512), "int4", "m", silent) for d in (0.1, 0.6))
    assert (few.format, few.values) == ("window", "int4")
    assert (many.format, many.values) == ("bitmap", "int8")
    for values in ("fp32", "bf16", "int8"):
        assert {m.values for m in candidates(sparse(0.1), values, "m").values()} == {values}


@needs_native
def test_costs_with_int4_are_not_those_of_int8(cache: Path, measured: list[list[str]]) -> None:
    assert fastest(sparse(0.1, 512), "int4", "m", silent).values == "int4"
    assert fastest(sparse(0.1, 512), "int8", "m", silent).values == "int8"
    assert len(measured) == 2


@needs_native
def test_structure_is_found() -> None:
    two_of_four = np.where(np.arange(128) % 4 < 2, sparse(1.0), np.float32(0))
    assert "nm:2:4" in candidates(two_of_four, "fp32", "m")
    blocks = np.kron(sparse(0.2, 16, 32) != 0, np.ones((4, 4), np.float32)).astype(np.float32)
    found = candidates(blocks, "fp32", "m")
    assert "block:4x4" in found
    assert found["block:4x4"].bytes == min(m.bytes for m in found.values())


@needs_native
def test_costs_are_measured_once_for_alike_matrices(cache: Path, measured: list[list[str]]) -> None:
    heard: list[str] = []
    first = fastest(sparse(0.1), "fp32", "first", heard.append)
    again = fastest(sparse(0.1)[::-1], "fp32", "second", heard.append)
    assert len(measured) == 1
    assert [line.split(":")[0] for line in heard] == ["first"]
    assert first.format == again.format
    fastest(sparse(0.3), "fp32", "denser", silent)
    fastest(sparse(0.1), "int8", "of another type", silent)
    fastest(sparse(0.1, rows=65), "fp32", "of another shape", silent)
    uneven = sparse(0.1) * 0
    uneven[:10] = sparse(0.64, rows=10)
    fastest(uneven, "fp32", "uneven", silent)
    assert len(measured) == 5
    entries = json.loads(cache.read_text())["costs"]
    parts = json.loads(next(iter(entries)))
    machine = {"processor", "instructions", "build", "threads", "pages"}
    assert set(parts) == machine | {"shape", "values", "density", "uneven"}


@needs_native
def test_a_measurement_in_noise_is_repeated_marked_and_made_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ratios = [1.0, 1.2, 0.8, 1.2, 1.2, 1.04]  # of dense to itself, cold
    used: list[float] = []

    def measure(found: dict[str, PackedMatrix]) -> dict[str, Cost]:
        used.append(ratios.pop())
        return {label: Cost(1.0, 2.0) for label in found} | {cost.AGAIN: Cost(1.0, 2 * used[-1])}

    monkeypatch.setattr(cost, "measure", measure)
    lines: list[str] = []
    fastest(sparse(0.1), "fp32", "first", lines.append)
    assert used == [1.04]
    assert not any("too busy" in line for line in lines)
    fastest(sparse(0.3), "fp32", "second", lines.append)
    assert used[1:] == [1.2, 1.2, 0.8]
    assert "second: the machine was too busy" in lines[-1]
    assert [entry["quiet"] for entry in json.loads(cache.read_text())["costs"].values()] == [True, False]
    fastest(sparse(0.3), "fp32", "third", lines.append)
    assert used[4:] == [1.2, 1.0]
    fastest(sparse(0.3), "fp32", "fourth", lines.append)
    assert not ratios
    assert [entry["quiet"] for entry in json.loads(cache.read_text())["costs"].values()] == [True, True]


@needs_native
def test_formats_are_timed_while_the_machine_is_reserved(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "measuring", lambda: nullcontext(Reservation(alone=False, waited=30.0)))
    lines: list[str] = []
    fastest(sparse(0.1), "fp32", "m", lines.append)
    assert "too busy" in lines[-1]


@needs_native
@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"[]", b'{"version": 2}', b'{"version": 2, "costs": [1]}', b'{"version": 1, "costs": {}}'],
)
def test_a_cache_that_makes_no_sense_is_made_anew(content: bytes, cache: Path, measured: list[list[str]]) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_bytes(content)
    fastest(sparse(0.1), "fp32", "m", silent)
    fastest(sparse(0.1), "fp32", "m", silent)
    assert len(measured) == 1


@needs_native
@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -1.0, 0.0, "1", None])
def test_a_cost_that_makes_no_sense_is_measured_anew(odd: object, cache: Path, measured: list[list[str]]) -> None:
    fastest(sparse(0.1), "fp32", "m", silent)
    value = json.loads(cache.read_text())
    next(iter(value["costs"].values()))["costs"]["dense"] = [odd, 1.0]
    cache.write_text(json.dumps(value))
    fastest(sparse(0.1), "fp32", "m", silent)
    assert len(measured) == 2


@needs_native
def test_without_a_place_to_remember_it_still_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: list[list[str]]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for _ in range(2):
        with pytest.warns(UserWarning, match="measured anew each time"):
            fastest(sparse(0.1), "fp32", "m", silent)
    assert len(measured) == 2


def _measure_in_a_process(density: float) -> None:
    found = candidates(sparse(density), "fp32", "m")
    measured_costs(found, lambda: None)


@needs_native
def test_processes_share_the_cache(cache: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_measure_in_a_process, args=(d,)) for d in (0.05, 0.1, 0.2, 0.1)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert len(json.loads(cache.read_text())["costs"]) == 3


@needs_native
def test_auto_measures_for_real(cache: Path) -> None:
    model = pack_model(trained(pruned(0.9)))
    costs = json.loads(cache.read_text())["costs"]
    assert len(costs) == len({(m.rows, m.columns) for m in model.matrices.values()}) or len(costs) >= 4
    for known in costs.values():
        assert all(0 < hot < 1 and 0 < cold < 1 for hot, cold in known["costs"].values())
    assert np.array_equal(model.matrices["joint_encoder"].dense(), pruned(0.9).joint_encoder.weight.detach().numpy())


def test_without_the_native_module_auto_is_smallest(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setattr("cspbench.runtime.extension.available", lambda: False)
    for density in (1.0, 0.5, 0.02):
        assert (
            fastest(sparse(density), "fp32", "m", silent).format
            == smallest(sparse(density), "fp32", "m", silent).format
        )
    assert not cache.exists()
    with pytest.raises(PackingError, match="needs the native module"):
        pack_model(trained(pruned(0.5)), format="window")


def test_without_the_native_module_int4_is_refused(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    absent = ImportError("not built")
    monkeypatch.setattr("cspbench.runtime.extension.available", lambda: False)
    monkeypatch.setattr("cspbench.runtime.extension._load", lambda: absent)
    for format in ("auto", "smallest"):
        with pytest.raises(CspbenchError, match="packing int4 values needs the native module"):
            pack_model(trained(pruned(0.9)), format=format, values="int4")
