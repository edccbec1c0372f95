"""``cspbench latency``: streaming latency of a recogniser on several engines, with the noise of the measurement."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cspbench.cli.options import AsJson, messages, output, print_columns, print_rows
from cspbench.errors import ConfigError

if TYPE_CHECKING:
    from cspbench.report.columns import Column
    from cspbench.result import Latency, Measured
    from cspbench.runtime.latency.audio import Audio
    from cspbench.runtime.latency.run import LatencyRun

DEFAULT_REPEATS = 10
DEFAULT_UTTERANCES = 8


def latency(
    model: Annotated[
        Path, typer.Argument(help="A packed file, or the folder of a trial or a dense model.", exists=True)
    ],
    audio: Annotated[
        Path | None, typer.Option("--audio", help="Stream the recordings of this folder.", exists=True, file_okay=False)
    ] = None,
    corpus: Annotated[str | None, typer.Option("--corpus", help="Stream test utterances of this corpus.")] = None,
    path: Annotated[Path | None, typer.Option("--path", help="Folder of its audio.", exists=True)] = None,
    engines: Annotated[
        str | None,
        typer.Option("--engines", help="Of torch, torch-csr, dense, packed, int8, cuda, cuda-csr, cuda-2:4"),
    ] = None,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads, each pinned to a processor.")] = 1,
    utterances: Annotated[
        int, typer.Option("--utterances", min=1, help="Number of utterances streamed.")
    ] = DEFAULT_UTTERANCES,
    repeats: Annotated[
        int, typer.Option("--repeats", min=1, help="Measured rounds; every engine runs in each.")
    ] = DEFAULT_REPEATS,
    warmup: Annotated[int, typer.Option("--warmup", min=0, help="Rounds before that, not counted.")] = 1,
    device_profile: Annotated[
        list[Path] | None,
        typer.Option(
            "--device-profile", help="Estimate for a memory-bound device (YAML); may be repeated.", exists=True
        ),
    ] = None,
    memory: Annotated[bool, typer.Option(help="Peak memory, each engine in a process of its own.")] = True,
    as_json: AsJson = False,
) -> None:
    """Measure the streaming latency of a recogniser on several engines, interleaved in one process.

    Waits until no other cspbench measures on this machine. Trainings of cspbench pause meanwhile.

    Examples: `cspbench latency runs/trials/ID`, `cspbench latency model.packed.safetensors --engines dense,packed,int8`
    """
    from cspbench.machine.cpu import check_threads
    from cspbench.runtime.latency.device import load_profile
    from cspbench.runtime.latency.engines import check_engines, default_engines
    from cspbench.runtime.latency.run import open_recogniser, run
    from cspbench.spec import LatencySpec

    names = [name.strip() for name in engines.split(",")] if engines else []
    check_engines(names)
    check_threads(threads)
    profiles = [load_profile(file) for file in device_profile or []]
    spec = LatencySpec(threads=threads, utterances=utterances, warmup=warmup, repeats=repeats)
    trained, packed = open_recogniser(model)
    speech = _speech(audio, corpus, path, trained.sample_rate, utterances)
    found = run(
        trained,
        names or default_engines(trained),
        speech,
        spec,
        profiles,
        memory,
        packed,
        progress=lambda line: messages().print(line, soft_wrap=True),
    )
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
    else:
        _print(found)


def _speech(audio: Path | None, corpus: str | None, path: Path | None, rate: int, most: int) -> Audio:
    """The audio that the user named, or noise."""
    from cspbench.runtime.latency.audio import from_folder, from_utterances, noise

    if audio is not None and corpus is not None:
        raise ConfigError("give --audio or --corpus, not both")
    if path is not None and corpus is None:
        raise ConfigError("--path is the folder of a --corpus: name that too, or give --audio")
    if audio is not None:
        return from_folder(audio, rate, most)
    if corpus is None:
        return noise(rate, most)
    from cspbench.cli.sweep import RUNS
    from cspbench.corpora import load_corpus
    from cspbench.spec import CorpusSpec
    from cspbench.store import Store

    spec = CorpusSpec(name=corpus, path=None if path is None else str(path))
    return from_utterances(load_corpus(spec, Store(RUNS).corpora).split("test"), rate, most, f"{corpus} test")


def _print(found: LatencyRun) -> None:
    engines = found.measured.engines
    print_columns(_engine_columns(engines), "Measured: medians unless they say otherwise, [95 % interval]")
    ratios = found.measured.ratios
    if ratios:
        rows = [
            {
                "of": name.replace("/", " over "),
                "ratio": f"{r.value:.2f} [{r.low:.2f}, {r.high:.2f}]",
                "the second is": r.verdict,
            }
            for name, r in ratios.items()
        ]
        print_rows(rows, "Ratios of times, medians of paired runs")
    _print_noise(found.measured)
    _print_roofline(found.roofline)
    for one in found.estimates:
        _print_estimate(one)
    print_rows([{"protocol": name, "": value} for name, value in found.measured.protocol.items()])


def _engine_columns(engines: Mapping[str, Latency]) -> list[Column]:
    """One row an engine; columns without a single value are left out."""
    from cspbench.report.columns import Column
    from cspbench.units import size_unit, time_unit

    time = time_unit(one.median_ms for one in engines.values())
    size = size_unit(one.memory.weights for one in engines.values() if one.memory is not None)

    def step(one: Latency) -> str:
        interval = one.median
        bounds = "" if interval is None else f" [{time.format(interval.low)}, {time.format(interval.high)}]"
        return time.format(one.median_ms) + bounds

    def timed(value: float | None) -> str:
        return "" if value is None else time.format(value)

    def sized(value: float | None) -> str:
        return "" if value is None else size.format(value)

    described: list[tuple[str, int, Callable[[Latency], str]]] = [
        (f"step {time.name}", 0, step),
        (f"p95 {time.name}", 2, lambda one: timed(one.p95_ms)),
        (f"p99 {time.name}", 5, lambda one: timed(one.p99_ms)),
        ("real time ×", 3, lambda one: f"{1 / one.rtf:.0f}" if one.rtf else ""),
        (f"first label {time.name}", 6, lambda one: timed(one.first_token.work_ms) if one.first_token else "none"),
        ("since start ms", 10, lambda one: f"{one.first_token.since_start_ms:.1f}" if one.first_token else ""),
        (f"finish {time.name}", 7, lambda one: timed(one.finish_ms)),
        ("labels", 11, lambda one: "" if one.labels is None else str(one.labels)),
        (f"file {size.name}", 1, lambda one: sized(one.file_bytes)),
        (f"weights {size.name}", 4, lambda one: sized(one.memory.weights if one.memory else None)),
        (f"{size.name} a step", 8, lambda one: sized(one.step_bytes)),
        ("peak MB", 9, lambda one: f"{one.memory.peak / 1e6:.0f}" if one.memory and one.memory.peak else ""),
        ("for the model MB", 12, _growth),
    ]
    columns = [Column("engine", tuple(engines), right=False)]
    columns += [Column(heading, tuple(map(cell, engines.values())), rank) for heading, rank, cell in described]
    return [column for column in columns if any(column.cells)]


def _growth(one: Latency) -> str:
    if one.memory is None or one.memory.peak is None or one.memory.before is None:
        return ""
    return f"{(one.memory.peak - one.memory.before) / 1e6:.1f}"


def _print_noise(measured: Measured) -> None:
    noise, console = measured.noise, output()
    trusted = "only ratios called faster or slower lie beyond the noise that was seen"
    if noise.conclusive:
        console.print("Quiet enough: nothing speaks against these numbers.")
    elif noise.verdict == "throttled":
        console.print(f"THROTTLED: {trusted}. Measure again with fewer --threads, or with a larger CPU quota.")
    else:
        console.print(f"TOO NOISY TO TELL: {trusted}. Measure again on a quieter machine, or with more --repeats.")
    for reason in noise.reasons:
        console.print(f"  - {reason}", soft_wrap=True)
    figures = {name.replace("_", " "): f"{value:.4g}" for name, value in noise.figures.items()}
    if noise.same is not None:
        figures["an engine over itself"] = f"{noise.same.value:.3f} ({noise.same.low:.3f} to {noise.same.high:.3f})"
    print_rows([{"noise": name, "": text} for name, text in figures.items()])


def _print_roofline(roofline: dict[str, Any]) -> None:
    from cspbench.units import time_unit

    roofs = roofline["engines"]
    if not roofs:  # of recognisers that do not count what a step reads
        return
    time = time_unit(roof["bound_ms"] for roof in roofs.values())
    rows = [
        {
            "engine": name,
            "MB a step": f"{roof['step_bytes'] / 1e6:.3f}",
            "GB/s where they lie": f"{roof['bandwidth']['gb_per_s']:.1f}",
            f"bound {time.name}": time.format(roof["bound_ms"]),
            f"step {time.name}": time.format(roof["step_ms"]),
            "achieved": f"{roof['achieved']:.0%}",
            f"bound from main memory {time.name}": time.format(roof["memory_bound_ms"]),
        }
        for name, roof in roofs.items()
    ]
    memory = roofline["main_memory"]
    print_rows(rows, f"Roofline: main memory reads {memory['gb_per_s']:.1f} GB/s on one thread ({memory['how']})")


def _print_estimate(estimate: dict[str, Any]) -> None:
    profile = estimate["profile"]
    rows = [
        {
            "engine": name,
            "MB a step": f"{one['step_bytes'] / 1e6:.3f}",
            "estimated ms a step": f"{one['step_ms']:.3f}",
            "in real time": "yes" if one["real_time"] else "no",
        }
        for name, one in estimate["engines"].items()
    ]
    place = f"{profile['memory']}, {profile['read_mb_per_s']:g} MB/s; source: {profile['source']}"
    print_rows(rows, f"ESTIMATE, not a measurement: {profile['name']} ({place})")
