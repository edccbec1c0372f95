"""``cspbench doctor``: what of cspbench works on this machine."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import sqlite3
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cspbench.cli.options import AsJson, Root, output
from cspbench.cli.sweep import RUNS
from cspbench.errors import ConfigError, CspbenchError

if TYPE_CHECKING:
    from cspbench.spec import CorpusSpec

SWEEPS = Path("sweeps")
SWEEP_PACKAGES = ("optuna", "mlflow", "pandas", "matplotlib")
COMPILERS = ("c++", "g++", "clang++")
LITTLE_SPACE = 2e9
"""Free bytes below which the disk is named: a study of small recognisers takes a few hundred megabytes."""


@dataclass(frozen=True)
class Check:
    """Outcome of one check.

    Attributes:
        name: what was checked.
        status: ``ok``; ``note`` for what is absent and not needed by every command; ``broken`` for what is needed.
        found: versions, numbers, paths.
        remedy: what to do; empty where all is well.
    """

    name: str
    status: Literal["ok", "note", "broken"]
    found: str
    remedy: str = ""


class BrokenError(CspbenchError):
    """Something that every command needs is broken."""


def doctor(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Sweep files whose corpora are looked for; by default sweeps/*.yaml.")
    ] = None,
    root: Root = RUNS,
    as_json: AsJson = False,
) -> None:
    """Check this machine: versions, processors, compiler, GPU, corpora, write access. Exit code 1: something is broken.

    A line says `ok`, `note` (absent, and only some commands need it) or `broken`, and then what to do.

    Examples: `cspbench doctor`, `cspbench doctor my_sweep.yaml --json`
    """
    found = list(checks(root, files or sorted(SWEEPS.glob("*.yaml"))))
    if as_json:
        typer.echo(json.dumps([asdict(check) for check in found], indent=2))
    else:
        width = max(len(check.name) for check in found)
        for check in found:
            text = f"{check.found}; {check.remedy}" if check.remedy else check.found
            line = f"{check.status:6}  {check.name:{width}}  {text}"
            indent = " " * (width + 10)
            output().print(textwrap.fill(line, output().width, subsequent_indent=indent))
    broken = [check.name for check in found if check.status == "broken"]
    if broken:
        raise BrokenError(f"broken: {', '.join(broken)}")


def checks(root: Path, sweep_files: list[Path]) -> Iterator[Check]:
    """Check everything.

    Args:
        root: folder of all results; it need not exist.
        sweep_files: sweep and comparison files whose corpora are looked for.
    """
    yield _versions()
    yield _sweep_packages()
    yield _processors()
    yield _native()
    yield _compiler()
    yield _gpu()
    yield _synthesis()
    yield _results_folder(root)
    yield _sqlite(root)
    yield _locks()
    yield from _corpora(sweep_files)


def _versions() -> Check:
    python = f"Python {platform.python_version()}"
    try:
        versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("cspbench", "torch", "numpy"))
        import torch  # noqa: F401 - that it can be imported is what is checked
    except (ImportError, OSError) as error:
        return Check("versions", "broken", python, f"{error}: install cspbench again, in an environment of its own")
    return Check("versions", "ok", f"{versions}, {python}, {platform.system()} {platform.machine()}")


def _sweep_packages() -> Check:
    known = {name: _version(name) for name in SWEEP_PACKAGES}
    found = ", ".join(f"{name} {version}" for name, version in known.items() if version)
    absent = [name for name, version in known.items() if not version]
    if not absent:
        return Check("sweeps", "ok", found)
    remedy = "needed by sweep, results and report, not by trials run: pip install 'cspbench[sweep]'"
    return Check("sweeps", "note", f"{', '.join(absent)} not installed", remedy)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processors() -> Check:
    from cspbench.machine.cpu import load_average, processor_name, usable_threads
    from cspbench.machine.quota import cpu_quota

    quota, load = cpu_quota(), load_average()
    limit = "no quota" if quota is None else f"quota {quota:g}"
    found = f"{processor_name()}, {os.cpu_count()} processors, {usable_threads()} usable, {limit}, load {load}"
    if quota is not None and quota < 1:
        return Check("processors", "note", found, "latencies measured under less than one processor are not reliable")
    return Check("processors", "ok", found)


def _native() -> Check:
    from cspbench.runtime.extension import NativeError, require

    try:
        module = require("measuring latency")
    except NativeError as error:
        return Check("native code", "note", "packed models run on torch, several times slower", str(error))
    return Check("native code", "ok", f"uses {module.current()}, of {', '.join(module.instruction_sets())}")


def _compiler() -> Check:
    found = [path for name in (os.environ.get("CXX", ""), *COMPILERS) if name and (path := shutil.which(name))]
    if found:
        return Check("compiler", "ok", found[0])
    remedy = "needed to install the native code from source: apt install g++ (Debian)"
    return Check("compiler", "note", "no C++ compiler", remedy)


def _gpu() -> Check:
    try:
        import torch
    except (ImportError, OSError):
        return Check("GPU", "note", "not known without torch")
    if torch.cuda.is_available():
        names = (torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
        return Check("GPU", "ok", f"{', '.join(names)}; CUDA {torch.version.cuda}")
    if torch.version.cuda is None:
        return Check("GPU", "ok", "none used: this torch was built for the CPU alone")
    return Check("GPU", "ok", f"none seen by this torch, which was built for CUDA {torch.version.cuda}")


def _synthesis() -> Check:
    from cspbench.corpora.espeak import espeak_version

    try:
        return Check("espeak-ng", "ok", f"espeakng_loader {espeak_version()}, for the synthetic corpus")
    except CspbenchError as error:
        return Check("espeak-ng", "note", "no synthetic corpus", str(error))


def _results_folder(root: Path) -> Check:
    place = _existing(root)
    if not os.access(place, os.W_OK):
        return Check("results", "broken", f"{root.absolute()} may not be written to", "give another --root")
    free = shutil.disk_usage(place).free
    found = f"{root.absolute()} can be written to, {free / 1e9:.0f} GB free"
    return Check("results", "ok", found) if free > LITTLE_SPACE else Check("results", "note", found, "free some space")


def _sqlite(root: Path) -> Check:
    """Optuna and MLflow keep their databases in the results folder: some network file systems cannot lock them."""
    place = _existing(root)
    try:
        with (
            tempfile.TemporaryDirectory(prefix=".cspbench-doctor-", dir=place) as folder,
            closing(sqlite3.connect(Path(folder) / "test.db")) as connection,
        ):
            connection.execute("CREATE TABLE numbers (value INTEGER)")
            connection.commit()
    except (OSError, sqlite3.Error) as error:
        return Check("sqlite", "broken", f"no database can be kept in {place} ({error})", "give another --root")
    return Check("sqlite", "ok", f"{sqlite3.sqlite_version}, databases can be kept in {place}")


def _existing(folder: Path) -> Path:
    """The folder, or the closest one around it that exists."""
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if place.is_dir())


def _locks() -> Check:
    from cspbench.machine.lock import lock_folder

    try:
        return Check("locks", "ok", str(lock_folder()))
    except (CspbenchError, OSError) as error:
        return Check("locks", "broken", "measurements cannot be locked against each other", str(error))


def _corpora(files: list[Path]) -> Iterator[Check]:
    """A check for each place where the files look for a corpus, and one for each file that cannot be read."""
    places: dict[tuple[str, str | None], list[str]] = {}
    for file in files:
        try:
            for corpus in _named_in(file):
                places.setdefault((corpus.name, corpus.path), []).append(file.name)
        except CspbenchError as error:
            yield Check("corpus", "note", f"{file} is no sweep file", str(error).splitlines()[-1].strip())
    for (name, path), users in places.items():
        found = f"{name} (of {', '.join(users)})"
        if path is None:
            yield Check("corpus", "ok", f"{found} is made here")
        elif (folder := Path(path).expanduser().absolute()).exists():
            yield Check("corpus", "ok", f"{found} lies in {folder.resolve()}")
        else:
            yield Check("corpus", "note", f"{found} does not lie in {folder}", "give --set corpus.path=FOLDER")


def _named_in(file: Path) -> list[CorpusSpec]:
    """Corpora that a sweep or comparison file names."""
    from cspbench.comparison.load import load_comparison_config
    from cspbench.config import load_config

    try:
        return [load_config(file).corpus]
    except ConfigError as error:
        try:
            return [entry.corpus for entry in load_comparison_config(file).corpora]
        except ConfigError:
            raise error from None
