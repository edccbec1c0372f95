"""Studies: values of sweep files, databases, and counts that are shown to people.

No trial is trained: results of all trials are written beforehand, as if another sweep had run them.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

from cspbench.bench.input_kinds.shared import NAMES, corpus, sweep_file
from cspbench.bench.inputs import Input, Judge, Outcome, Workshop, accepted, refused
from cspbench.result import Latency, LatencyReport, TrialResult, WordErrors
from cspbench.spec import TrialSpec
from cspbench.store import Store, write_json

NUMBERS = (
    "dense.learning_rate", "dense.epochs", "prune.epochs", "prune.learning_rate", "features.mels", "features.hop_ms",
    "workers", "dense.batch_size",
)  # fmt: skip
NO_NUMBERS = (".inf", "-.inf", ".nan", "1e999", "-1", "true", "many", "[1]", "{a: 1}", '"\\0"')
REFUSED = {
    "features.mels=128": "128 mels are too many for windows of 25 ms at 16000 Hz",
    "features.hop_ms=1000": r"features\.hop_ms: should be less than or equal to 100",
    "dense.augment.speeds=[0]": r"dense\.augment\.speeds\.0: should be greater than or equal to 0\.5",
    "methods=csp": r"methods: must be a list, such as \[a, b\], got 'csp'",
    "prunable=[nothing*]": r"prunable\.0: 'nothing\*' matches no weight matrix",
    "methods=[magnitud]": "did you mean 'magnitude'",
    "sparsity=[1.0]": r"sparsity\.0: should be less than 1",
    "sparsity=[0.5, 0.5]": "the same sparsity is listed twice",
    "seeds=[]": "seeds",
    "name=a b": "'a b' cannot name a folder",
    "corpus.options.sped=1": "unknown key",
    "nothing.at.all=1": "unknown key",
}
TAKEN = {
    "dense.epochs=2": r'"epochs":2\b',
    "prune.learning_rate=1e-4": r'"learning_rate":0\.0001',
    "features.mels=64": '"mels":64',
    "sparsity=[0.75]": r'"sparsity":0\.75',
    "methods=[csp]": '"name":"csp"',
    "seeds=[7, 8]": r'(?s)"seed":7\b.*"seed":8\b',
    "dense.augment.speeds=[0.9, 1.0]": r'"speeds":\[0\.9,1\.0\]',
}


def values(workshop: Workshop) -> Iterator[Input]:
    """Values of a sweep file that cannot be, and that can."""
    folder = corpus(workshop, [])
    file = sweep_file(workshop, folder)
    command = ["trials", "export", str(file), "--root", str(folder / "runs"), "--set"]
    for key in NUMBERS:
        for value in NO_NUMBERS:
            yield Input(f"{key}={value}", [*command, f"{key}={value}"], refused(re.escape(key)))
    for change, told in REFUSED.items():
        yield Input(change, [*command, change], refused(told))
    for change, printed in TAKEN.items():
        yield Input(change, [*command, change], accepted(printed))


def databases(workshop: Workshop) -> Iterator[Input]:
    """Databases that are damaged, of another version, left half-made, or under an odd name."""
    folder = corpus(workshop, [])
    file = sweep_file(workshop, folder)
    root = folder / "runs"
    yield from finished(file, root)
    yield Input("no database yet", sweep(file, root), swept(root))
    for library, place in {"Optuna": "studies/s/optuna.db", "MLflow": "mlflow/mlflow.db"}.items():
        for name, damage in DAMAGES.items():
            copy = shutil.copytree(root, workshop.place() / "runs")
            damage(copy / place)
            told = f"made by another version of {library}.*cp .* && " if "schema" in name else "is damaged"
            yield Input(f"{library}: {name}", sweep(file, copy), refused(f"{copy / place} (was )?{told}"))
    for name, leave in LEFTOVERS.items():
        copy = shutil.copytree(root, workshop.place() / "runs")
        database = copy / "studies" / "s" / "optuna.db"
        database.unlink()
        leave(database)
        yield Input(f"left behind: {name}", sweep(file, copy), swept(copy))
    for name in workshop.random.sample(NAMES, 2):
        copy = shutil.copytree(root, workshop.place() / name)
        yield Input(f"results in {name!r}", sweep(file, copy), swept(copy))


def counts(workshop: Workshop) -> Iterator[Input]:
    """Numbers of trials and settings that are shown to people."""
    folder = corpus(workshop, [])
    sparsities = [0.5, 0.75, 0.9]
    file, root = sweep_file(workshop, folder, sparsity=sparsities), folder / "runs"
    yield from finished(file, root)
    specs = [json.dumps(json.loads(path.read_text())) for path in (root / "trials").glob("*/spec.json")]
    for number, copies in ((1, 1), (2, 1), (3, 1), (3, 2), (1, 5)):
        lines = workshop.file("specs.jsonl", ("\n".join(specs[:number] * copies) + "\n").encode())
        words = ["trials", "run", str(lines), "--out", str(root)]
        yield Input(f"{number} trials, {copies} times", words, worked_through(number))
    for number, trials in ((2, 8), (3, 4)):
        changes = {"sparsity": sparsities[:number], "sampler": "tpe", "trials": trials}
        words = sweep(sweep_file(workshop, folder, name=f"tpe{number}", **changes), root)
        yield Input(f"{trials} settings of {number}", words, proposed(trials, number))
    yield Input("again", words, accepted())
    listed = accepted(r"tpe2 +2 +2 +0 (?s:.*)tpe3 +([123]) +\1 +0 ")
    yield Input("all studies", ["results", "--root", str(root)], listed)


def sweep(file: Path, root: Path) -> list[str]:
    """The command that runs a sweep."""
    return ["sweep", str(file), "--root", str(root)]


def finished(file: Path, root: Path) -> Iterator[Input]:
    """Write a result of every trial of a sweep, in the outcome of the command that prints its trials."""

    def judge(found: Outcome) -> str | None:
        for line in found.out.splitlines():
            spec = TrialSpec.model_validate_json(line)
            trial = Store(root).trial(spec.id)
            write_json(trial.spec, spec.model_dump(mode="json"))
            write_json(trial.result, _result(spec).model_dump(mode="json"))
        return None if found.code == 0 and found.out else f"no trials: {found.error}"

    yield Input("trials of a sweep", ["trials", "export", str(file), "--root", str(root)], judge)


def _result(spec: TrialSpec) -> TrialResult:
    errors = WordErrors(wer=0.1, low=0.05, high=0.15, edits=10, words=100, utterances=20)
    time = Latency(median_ms=0.5, p95_ms=0.6, rtf=0.01, steps=100, file_bytes=1000)
    return TrialResult(
        trial_id=spec.id,
        dense_id=spec.dense.id,
        method=spec.method.name,
        sparsity_requested=spec.sparsity,
        sparsity=spec.sparsity,
        layer_sparsity={"joint_output.weight": spec.sparsity},
        seed=spec.seed,
        dev=errors,
        test=errors,
        dense_dev=errors,
        dense_test=errors,
        latency=LatencyReport(packed=time, dense=time, protocol={}),
        size_bytes=1000,
        dense_size_bytes=2000,
        steps=10,
        train_seconds=1.0,
        seconds=2.0,
        device="cpu",
        synthetic=True,
    )


def swept(root: Path) -> Judge:
    """The sweep ends, prints a command that survives a shell, and puts nothing beside its folder."""

    def judge(found: Outcome) -> str | None:
        if found.code:
            return f"refused: {found.error}"
        line = found.out.partition("look at all of it: ")[2].rstrip("\n")
        if shlex.split(line) != ["cspbench", "ui", "s", "--root", str(root)]:
            return f"the command becomes {shlex.split(line)}"
        beside = {path.name for path in root.parent.iterdir()} - {root.name, "manifest.jsonl"}
        beside = {name for name in beside if not name.endswith(".wav")}
        return f"there are {beside} beside the results" if beside else None

    return judge


def worked_through(number: int) -> Judge:
    """All trials are counted once, whatever the number of lines that name them."""

    def judge(found: Outcome) -> str | None:
        shown = re.findall(r"^\[(\d+)/(\d+)\]", found.error, re.MULTILINE)
        if shown != [(str(i), str(number)) for i in range(1, number + 1)]:
            return f"counted {shown}"
        return accepted(f"^{number} of {number} trials finished")(found)

    return judge


def proposed(trials: int, number: int) -> Judge:
    """Trials are counted up to those that ran, and settings that were proposed more than once are told apart."""

    def judge(found: Outcome) -> str | None:
        ended, totals = zip(*re.findall(r"^\[(\d+)/(\d+)\]", found.error, re.MULTILINE), strict=True)
        if ended != tuple(str(i) for i in range(1, len(ended) + 1)) or max(map(int, totals)) > number:
            return f"counted {ended} of {totals}"
        told = re.search(
            r"^(\d+) settings, (\d+) distinct(: the search space holds no others)?; done$", found.error, re.M
        )
        asked, distinct, exhausted = (int(told[1]), int(told[2]), bool(told[3])) if told else (trials, trials, False)
        if distinct != len(ended) or exhausted != (distinct == number) or not distinct <= asked <= trials:
            return f"said {told and told[0]!r} after {len(ended)} trials of {number}"
        return accepted()(found)

    return judge


def _set_schema(version: str, database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("update alembic_version set version_num = ?", (version,))


def _become_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _become_link(target: str, path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name(target.format(path.name)))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("no database at all\n" * 500),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "first page lost": lambda path: path.write_bytes(bytes(4096) + path.read_bytes()[4096:]),
    "a folder": _become_folder,
    "a link to itself": partial(_become_link, "{}"),
    "a link to nothing": partial(_become_link, "gone"),
    "schema of an older version": partial(_set_schema, "v2.6.0.a"),
    "schema of a newer version": partial(_set_schema, "v99.0.0.a"),
}
LEFTOVERS: dict[str, Callable[[Path], object]] = {
    "a lock": lambda path: path.with_name(f".{path.name}.lock").touch(),
    "half of it": lambda path: path.with_name(f".{path.name}.new").write_bytes(b"SQLite format 3\0" + bytes(99)),
    "half of it and a journal": lambda path: [
        path.with_name(f".{path.name}.new{end}").write_bytes(bytes(range(256))) for end in ("", "-journal")
    ],
}
