"""Databases of Optuna and MLflow on sqlite: addresses, creation in one piece, and schemas of other versions."""

from __future__ import annotations

import os
import shlex
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from filelock import FileLock
from sqlalchemy import URL

from cspbench.errors import CspbenchError
from cspbench.store import sync_folder


class DatabaseError(CspbenchError):
    """A database that cannot be used as it is."""


def sqlite_url(path: Path) -> str:
    """Return the address of an sqlite file; characters such as ``?`` and ``%`` stay part of its name."""
    # The driver is named because MLflow takes what follows a plain "sqlite:///" for a path as it is written, and makes
    # its folder: "50%25 done" beside "50% done".
    return URL.create("sqlite+pysqlite", database=str(path)).render_as_string(hide_password=False)


def create_database(path: Path, make: Callable[[str], object]) -> None:
    """Create a database unless it is there: a process that is killed meanwhile leaves none, rather than half of one.

    Args:
        path: of the database; its folder is made if needed.
        make: called with the address of a temporary file, makes all tables in it.

    Raises:
        DatabaseError: the file is there and is damaged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        if path.exists() or path.is_symlink():
            _check(path)
            return
        temporary = path.with_name(f".{path.name}.new")
        temporary.unlink(missing_ok=True)
        temporary.with_name(f"{temporary.name}-journal").unlink(missing_ok=True)
        make(sqlite_url(temporary))
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)


def _check(path: Path) -> None:
    """Refuse a file that is no database, or holds no tables."""
    try:
        # Not read-only: what a killed process left half-written is rolled back on opening. Nothing is created.
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as connection:
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        reason = "" if tables else "it is empty"
    except sqlite3.DatabaseError as error:
        reason = str(error)
    if reason:
        raise DatabaseError(
            f"{path} is damaged ({reason}): put a copy back, or move it away, and start again; "
            "finished trials are reused"
        )


@contextmanager
def sqlite_told(path: Path) -> Iterator[None]:
    """Turn errors of sqlite, such as a full disk, into a `DatabaseError` that names the file."""
    try:
        yield
    except sqlite3.Error as error:
        raise unusable(path, str(error)) from error


def unusable(path: Path | str, reason: str) -> DatabaseError:
    """Return the error for a database whose disk is full, or that may not be written to."""
    return DatabaseError(
        f"{path} cannot be used ({reason}): see that its disk has space, and that it may be written to, and start "
        "again; finished trials are reused"
    )


def other_schema(path: Path, library: str, upgrade: str) -> DatabaseError:
    """Return the error for a database whose schema is that of another version of the library.

    Args:
        path: of the database.
        library: such as ``Optuna``.
        upgrade: command that upgrades the database whose address follows it.
    """
    backup = shlex.join(["cp", str(path), f"{path}.backup"])
    return DatabaseError(
        f"{path} was made by another version of {library}. If that is a newer one, install it. If it is an older one, "
        f"back the file up and upgrade it, then start again (finished trials are reused): {backup} && {upgrade} "
        f"{shlex.quote(sqlite_url(path))}"
    )
