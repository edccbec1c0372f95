"""Results folders that were moved or copied: MLflow keeps absolute addresses of artifacts, which are put right here."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from cspbench.sweep.database import sqlite_told

_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Columns of MLflow's tables that hold addresses of artifacts."""


def follow_artifacts(database: Path, folder: Path) -> int:
    """Let the artifacts of a database be those of the folder beside it, wherever they were when they were logged.

    Experiments whose artifacts never lay in a folder of that name, such as those in a bucket, are left alone.

    Args:
        database: MLflow's, on sqlite.
        folder: of all artifacts; the experiment ``demo`` has its own in ``<folder>/demo``.

    Returns:
        Number of experiments whose artifacts were elsewhere.

    Raises:
        DatabaseError: the database cannot be read or written to.
    """
    here = folder.as_uri()
    with sqlite_told(database), closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        known = connection.execute("SELECT name, artifact_location FROM experiments").fetchall()
        suffixes = {name: f"/mlflow/artifacts/{name}" for name, _ in known}
        # An address is told by its end: the root of the results comes before it.
        old = {
            name: place
            for name, place in known
            if place and place.startswith("file:") and place.endswith(suffixes[name])
        }
        moved = {place: f"{here}/{name}" for name, place in old.items() if place != f"{here}/{name}"}
        for before, now in moved.items():
            for table, column in _ADDRESSES:
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",  # noqa: S608
                    (now, len(before) + 1, len(before), before),
                )
    return len(moved)
