"""Options that several commands share, and where they print."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cspbench.errors import ConfigError
from cspbench.report.columns import Column, fit, lines_of

Root = Annotated[Path, typer.Option("--root", help="Folder of all results.", file_okay=False)]
Workers = Annotated[
    int, typer.Option("--workers", min=1, help="Processes on this machine; they pause while one measures latency.")
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
Changes = Annotated[list[str] | None, typer.Option("--set", help="Override a key: a.b=value, as often as needed.")]
OwnWorkers = Annotated[
    int | None, typer.Option("--workers", help="Processes on this machine, instead of what the file says.")
]
OwnTrialsPerGpu = Annotated[
    str | None,
    typer.Option("--trials-per-gpu", help="Processes that share a GPU: a number, or auto; instead of --workers there."),
]
OwnDevice = Annotated[
    str | None, typer.Option("--device", help="auto, cpu, cuda or cuda:N, instead of what the file says.")
]
Where = Annotated[
    str | None,
    typer.Option("--where", metavar="CONDITION", help="Only trials of the study for which it holds: size_bytes < 5e5"),
]
Storage = Annotated[
    str | None,
    typer.Option("--storage", help="Database shared with workers: postgresql://USER@HOST/NAME; or OPTUNA_STORAGE."),
]
TrackingUri = Annotated[
    str | None, typer.Option("--tracking-uri", help="MLflow server: http://HOST:PORT; or MLFLOW_TRACKING_URI.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

PLAIN_WIDTH = 160
"""Columns where output is no terminal and the environment does not set COLUMNS."""

SEPARATOR = "; "
NUMBER = re.compile(r"[~+-]?\d[\d.,e+-]*( ?(%|×|ms|µs|s|MB|kB|[GMk]?B/s))?")
"""Cells that are aligned to the right."""


def check_output(path: Path) -> None:
    """Refuse an output file that cannot be written, before any work; no folder is made for it.

    Raises:
        ConfigError: its folder does not exist, is no folder or may not be written to, or the file is a folder.
    """
    folder = path.parent
    if not folder.is_dir():
        raise ConfigError(f"{path}: there is no folder {folder}; make it, or name another file")
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; name a file")
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"{path}: {folder} may not be written to; name another folder")


def check_output_folder(path: Path) -> None:
    """Refuse an output folder that can be neither made nor written to, before any work.

    Raises:
        ConfigError: it is a file, or may not be written to, or the folder that it would be made in is not there.
    """
    if path.exists() and not path.is_dir():
        raise ConfigError(f"{path} is no folder; name another")
    if not path.is_dir():
        check_output(path)
    elif not os.access(path, os.W_OK):
        raise ConfigError(f"{path} may not be written to; name another folder")


def output() -> Console:
    """Console on stdout: results."""
    return _console(stderr=False)


def messages() -> Console:
    """Console on stderr: progress and notes."""
    return _console(stderr=True)


def print_rows(rows: list[dict[str, Any]], title: str | None = None) -> None:
    """Print rows of equal keys as a table; numbers are aligned to the right."""
    table = Table(title=title, title_justify="left")
    for heading in rows[0] if rows else []:
        numbers = all(NUMBER.fullmatch(str(row[heading])) for row in rows if row[heading] not in (None, ""))
        table.add_column(heading, overflow="fold", justify="right" if numbers else "left")
    for row in rows:
        table.add_row(*(Text("" if value is None else str(value)) for value in row.values()))
    output().print(table)


def print_columns(columns: Sequence[Column], title: str, notes: Sequence[str] = ()) -> None:
    """Print columns as a table, without those that do not fit; below it the headings of these, and notes.

    Notes share a line where there is room.
    """
    console = output()
    kept = fit(columns, console.width)
    for line in (title, *lines_of(kept)):
        console.print(line, no_wrap=True, crop=False)
    dropped = [column.heading for column in columns if column not in kept]
    if dropped:
        note = f"not shown: {', '.join(dropped)} (--json has all)"
        short = f"not shown: {len(dropped)} more columns (--json has all)"
        notes = (note if len(note) <= console.width else short, *notes)
    for line in _joined(notes, console.width):
        console.print(line, soft_wrap=True)


def _joined(notes: Sequence[str], width: int) -> list[str]:
    """Join each note to the first line that has room for it."""
    lines: list[str] = []
    for note in notes:
        room = (index for index, line in enumerate(lines) if len(line) + len(SEPARATOR) + len(note) <= width)
        index = next(room, None)
        if index is None:
            lines.append(note)
        else:
            lines[index] += SEPARATOR + note
    return lines


def _console(stderr: bool) -> Console:
    # Text is printed as it is: names of files and errors may hold brackets and colons, which rich takes for markup.
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = max(PLAIN_WIDTH, shutil.get_terminal_size().columns)
    return console
