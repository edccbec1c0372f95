"""Options that several commands share, and where they print."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

Root = Annotated[Path, typer.Option("--root", help="Folder of all results.", file_okay=False)]
Workers = Annotated[
    int, typer.Option("--workers", min=1, help="Processes on this machine; they pause while one measures latency.")
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
Changes = Annotated[list[str] | None, typer.Option("--set", help="Override a key: a.b=value, as often as needed.")]
OwnWorkers = Annotated[
    int | None, typer.Option("--workers", help="Processes on this machine, instead of what the file says.")
]
OwnDevice = Annotated[
    str | None, typer.Option("--device", help="auto, cpu, cuda or cuda:N, instead of what the file says.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

PLAIN_WIDTH = 160
"""Columns where output is no terminal."""


def output() -> Console:
    """Console on stdout: results."""
    return _console(stderr=False)


def messages() -> Console:
    """Console on stderr: progress and notes."""
    return _console(stderr=True)


def print_rows(rows: list[dict[str, Any]], title: str | None = None) -> None:
    """Print rows of equal keys as a table."""
    table = Table(title=title, title_justify="left")
    for heading in rows[0] if rows else []:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if value is None else str(value)) for value in row.values()))
    output().print(table)


def _console(stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = max(PLAIN_WIDTH, shutil.get_terminal_size().columns)
    return console
