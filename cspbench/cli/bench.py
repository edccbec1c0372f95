"""``cspbench bench``: claims about speed, measured here and now."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cspbench.cli.options import AsJson, Root, Storage, messages, print_rows
from cspbench.errors import ConfigError, CspbenchError, FileAccessError

if TYPE_CHECKING:
    from cspbench.bench import Benchmark
    from cspbench.bench.inputs import Outcome

app = typer.Typer(help="Measure speed on this machine.", no_args_is_help=True)

Repeats = Annotated[int, typer.Option("--repeats", min=1, help="Measured rounds; every contestant runs in each.")]


@app.command()
def recovery(
    rows: Annotated[int, typer.Option("--rows", min=1, help="Signals.")] = 1024,
    nonzeros: Annotated[int, typer.Option("--nonzeros", min=1, max=320, help="Non-zero entries of 640.")] = 32,
    repeats: Repeats = 3,
    device: Annotated[str, typer.Option("--device", help="Where ours run: cpu or cuda.")] = "cpu",
    as_json: AsJson = False,
) -> None:
    """Time the recovery solvers of cspbench.sensing beside scikit-learn's.

    Examples: `cspbench bench recovery`, `cspbench bench recovery --rows 256 --json`
    """
    from cspbench.bench.recovery import run
    from cspbench.training.dense import resolve_device

    resolve_device(device)

    messages().print("a minute or two: scikit-learn fits row by row", soft_wrap=True)
    print_benchmark(run(rows=rows, nonzeros=nonzeros, repeats=repeats, device=device), as_json)


@app.command()
def overhead(
    corpus: Annotated[str | None, typer.Option("--corpus", help="Train on this corpus, not on random speech.")] = None,
    path: Annotated[str | None, typer.Option("--path", help="Folder of its audio.")] = None,
    method: Annotated[list[str] | None, typer.Option("--method", help="Only this one; may be repeated.")] = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Pruning budget that mask updates spread over.")] = 500,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Real training steps of every method.")] = 16,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Utterances of a step.")] = 8,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of torch.")] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="A run of seconds, on a tiny model, to try it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Time a training step under every pruning method beside a dense one and torch.nn.utils.prune.

    Examples: `cspbench bench overhead --quick`, `cspbench bench overhead --method csp --method magnitude`
    """
    from cspbench.bench.overhead import QUICK, run
    from cspbench.machine.cpu import check_threads

    def say(line: str) -> None:
        messages().print(line, soft_wrap=True)

    check_threads(threads)
    sizes = QUICK if quick else {"steps": steps, "rounds": rounds, "batch_size": batch_size}
    found = run(corpus=corpus, path=path, names=method or None, threads=threads, progress=say, **sizes)
    if not as_json:  # hyperparameters would not fit into a table
        rows = [{key: value for key, value in row.items() if key != "params"} for row in found.rows]
        found = replace(found, rows=rows)
    print_benchmark(found, as_json)


@app.command()
def latency(
    models: Annotated[
        str,
        typer.Option("--models", help="Of L (5 LSTM layers of 1024), S (2 of 256), linear (1024 x 4096) and blocks."),
    ] = "L,S,linear",
    zeros: Annotated[str, typer.Option("--zeros", help="Fractions of zeros, 0 to below 1.")] = "0,0.5,0.75,0.9,0.95",
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Measured rounds; every engine runs in each.")] = 11,
    masks: Annotated[Path | None, typer.Option("--masks", help="Pruned model; its zeros are measured as well.")] = None,
    recogniser: Annotated[
        Path | None, typer.Option("--recogniser", help="Pruned model; the whole of it is measured.")
    ] = None,
    path: Annotated[Path | None, typer.Option("--path", help="Folder of the AN4 corpus.")] = None,
    codec_kernels: Annotated[
        Path | None, typer.Option("--codec-kernels", help="Folder of libraries that are raced on blocks.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A run of seconds, on S at 90 %, to try it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Time one step of a sparse LSTM, and a whole recogniser, beside every other engine.

    Examples: `cspbench bench latency --quick`, `cspbench bench latency --models S --zeros 0.9`
    """
    from cspbench.bench.engines import QUICK, run

    def say(line: str) -> None:
        messages().print(line, soft_wrap=True)

    sizes = QUICK if quick else _lstm_sizes(models, zeros, rounds)
    found = run(**sizes, masks=masks, model=recogniser, path=path, kernels=codec_kernels, progress=say)
    if not as_json:
        shown = ("engine", "model", "zeros", "mask", "state", "median_us", "p95_us", "bytes", "over_bound")
        checked = ("saturates", "label_edits", "protocol")
        found = replace(found, rows=[{key: row.get(key) for key in (*shown, *checked)} for row in found.rows])
    print_benchmark(found, as_json)


@app.command()
def threads(
    models: Annotated[str, typer.Option("--models", help="Of L (5 LSTM layers of 1024) and S (2 of 256).")] = "L,S",
    zeros: Annotated[str, typer.Option("--zeros", help="Fractions of zeros, 0 to below 1.")] = "0,0.5,0.75,0.9,0.95",
    counts: Annotated[str, typer.Option("--threads", help="Numbers of threads.")] = "1,2",
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Measured rounds; all run in each.")] = 7,
    quick: Annotated[bool, typer.Option("--quick", help="A run of seconds, on S at 90 %, to try it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Time one step of a sparse LSTM on one thread and on several, beside reading its bytes.

    Examples: `cspbench bench threads --quick`, `cspbench bench threads --models L --threads 1,2,4`
    """
    from cspbench.bench.threads import QUICK, run

    def say(line: str) -> None:
        messages().print(line, soft_wrap=True)

    sizes = _lstm_sizes(models, zeros, rounds)
    allowed = _counts("--threads", counts)
    print_benchmark(run(**(QUICK if quick else sizes), threads=allowed, progress=say), as_json)


@app.command()
def soak(
    hours: Annotated[float, typer.Option("--hours", help="Hours of audio, all streams together.")] = 6.0,
    streams: Annotated[int, typer.Option("--streams", min=1, help="Decoded at the same time.")] = 16,
    model: Annotated[Path | None, typer.Option("--model", help="Packed file or folder; else random weights.")] = None,
    path: Annotated[Path | None, typer.Option("--path", help="Folder of the AN4 corpus; else noise.")] = None,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of the engine.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Decode hours of audio in many streams; check that memory stays flat and that no output changes.

    Examples: `cspbench bench soak --hours 0.1`, `cspbench bench soak --model model.packed.safetensors --streams 4`
    """
    from cspbench.bench.soak import run
    from cspbench.machine.cpu import check_threads

    def say(line: str) -> None:
        messages().print(line, soft_wrap=True)

    check_threads(threads)
    print_benchmark(run(hours=hours, streams=streams, model=model, path=path, threads=threads, progress=say), as_json)


@app.command()
def edges(
    model: Annotated[Path, typer.Argument(help="Packed file, or folder of a trial or dense recogniser.")],
    corpus: Annotated[str, typer.Option("--corpus", help="Corpus whose test split is decoded.")] = "an4",
    path: Annotated[Path | None, typer.Option("--path", help="Folder of its audio.")] = None,
    utterances: Annotated[int | None, typer.Option("--utterances", min=1, help="First so many; default: all.")] = None,
    root: Root = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Decode test with silence around the speech, with its end cut off, quieter and louder; print the WER of each.

    Examples: `cspbench bench edges runs/trials/ID --path ../shared/data/an4 --utterances 50`
    """
    from cspbench.bench.edges import run

    def say(line: str) -> None:
        messages().print(line, soft_wrap=True)

    found = run(model=model, corpus=corpus, path=path, utterances=utterances, root=root, progress=say)
    print_benchmark(found, as_json)


@app.command()
def faults(
    file: Annotated[Path, typer.Option("--file", help="Sweep file.")] = Path("sweeps/smoke.yaml"),
    kills: Annotated[int, typer.Option("--kills", min=0, help="Kills, in every phase of the sweep.")] = 50,
    minutes: Annotated[
        float | None, typer.Option("--minutes", help="Kill nothing after so many minutes of it.")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes of the sweep.")] = 2,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another seed gives other moments and victims.")] = 0,
    keep: Annotated[Path | None, typer.Option("--keep", help="Folder for logs, and for results that differ.")] = None,
    as_json: AsJson = False,
) -> None:
    """Kill a sweep and a Ray node, lock databases, fill the disk; count what is lost, repeated or different.

    Examples: `cspbench bench faults --kills 50 --json`, `cspbench bench faults --kills 5 --minutes 5 --keep faults`
    """
    from cspbench.bench.faults import run

    def say(line: str) -> None:
        messages().print(line, markup=False, soft_wrap=True)

    print_benchmark(
        run(file=file, kills=kills, minutes=minutes, workers=workers, seed=seed, keep=keep, say=say), as_json
    )


@app.command("overhead-sweep")
def overhead_sweep(
    trials: Annotated[
        str, typer.Option("--trials", help="Numbers of trials that take no time, the smallest first.")
    ] = "100,1000,10000",
    sampler: Annotated[str, typer.Option("--sampler", help="As in a sweep file: random, tpe, ...")] = "random",
    mlflow: Annotated[
        bool, typer.Option("--mlflow", help="Log these to MLflow as well: as long again, many times.")
    ] = False,
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Drive SIMULATED trials through real sweeps; print the time between trials, the speed-up, and costs by number.

    Examples: `cspbench bench overhead-sweep --trials 100`, `cspbench bench overhead-sweep --storage postgresql://me@db/x`
    """
    from cspbench.bench.overhead_sweep import run
    from cspbench.sweep.servers import Servers

    def say(line: str) -> None:
        messages().print(line, soft_wrap=True)

    counts = _counts("--trials", trials)
    if counts != sorted(counts):
        raise ConfigError(f"--trials takes numbers from 1, the smallest first, got '{trials}'")
    database = Servers.of(storage, None).storage
    print_benchmark(run(trials=counts, sampler=sampler, mlflow=mlflow, storage=database, say=say), as_json)


@app.command()
def inputs(
    kind: Annotated[
        list[str] | None, typer.Option("--kind", help="Only this one, such as K4; may be repeated.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another seed gives other inputs of the same kinds.")] = 0,
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, help="Passes over all kinds, with inputs of their own.")
    ] = 1,
    as_json: AsJson = False,
) -> None:
    """Give hundreds of unusual and damaged inputs to the real commands, and count those that are taken wrongly.

    Examples: `cspbench bench inputs`, `cspbench bench inputs --seed 1 --rounds 3`
    """
    from cspbench.bench.inputs import run

    found = run(
        _invoke, kinds=kind or None, seed=seed, rounds=rounds, say=lambda line: messages().print(line, soft_wrap=True)
    )
    print_benchmark(found, as_json)


def _invoke(words: list[str], stdin: bytes | None) -> Outcome:
    """Run ``cspbench`` in this process, as its entry point does."""
    import traceback

    from typer.testing import CliRunner

    from cspbench.bench.inputs import Outcome
    from cspbench.cli import app as commands

    result = CliRunner().invoke(commands, words, input=stdin)
    error = result.exception
    if isinstance(error, OSError):
        error = FileAccessError.of(error)
    if isinstance(error, CspbenchError):
        return Outcome(error.exit_code, result.stdout, f"{result.stderr}error: {error}")
    if error is not None and not isinstance(error, SystemExit):
        return Outcome(1, result.stdout, result.stderr, "".join(traceback.format_exception(error)))
    return Outcome(result.exit_code, result.stdout, result.stderr)


def _lstm_sizes(models: str, zeros: str, rounds: int) -> dict[str, Any]:
    """Arguments of the benchmarks of LSTM steps."""
    return {
        "models": [name.strip() for name in models.split(",")],
        "zeros": _numbers("--zeros", zeros),
        "rounds": rounds,
    }


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"{option} takes numbers with commas between them, got '{text}'") from error


def _counts(option: str, text: str) -> list[int]:
    numbers = _numbers(option, text)
    if not all(number >= 1 and number.is_integer() for number in numbers):
        raise ConfigError(f"{option} takes whole numbers from 1 with commas between them, got '{text}'")
    return [int(number) for number in numbers]


def print_benchmark(benchmark: Benchmark, as_json: bool) -> None:
    """Print one JSON object, or tables; rows of other columns than those before are a table of their own."""
    if as_json:
        typer.echo(json.dumps(asdict(benchmark), indent=2))
        return
    rows = [{k: v if not isinstance(v, float) else f"{v:.4g}" for k, v in row.items()} for row in benchmark.rows]
    for _, table in groupby(rows, key=list):
        print_rows(list(table))
    print_rows([{"ratio": name, "value": f"{value:.3g}"} for name, value in benchmark.ratios.items()])
    print_rows([{"protocol": name, "": value} for name, value in benchmark.protocol.items()])
