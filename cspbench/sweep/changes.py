"""Sweep files that changed: a study is resumed only under the identity it was started with."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from cspbench.errors import ConfigError
from cspbench.hyper import flatten
from cspbench.store import StudyFolder, read_object, write_json
from cspbench.sweep.plan import Plan

SHOWN = 8
"""Differences listed when a sweep file has changed."""


def claim(folder: StudyFolder, plan: Plan) -> Mapping[str, Any] | None:
    """Write down what a study is of, unless its folder holds a study of something else.

    Returns:
        The search space before, if it is all that has changed: nothing is written then until the study has been merged,
        and `write_claim` called. None otherwise.

    Raises:
        ConfigError: it does.
    """
    path = folder.sweep
    if path.exists():
        known = read_object(path, "identity")
        changes = _changes(known, plan)
        mergeable = known.get("version", 1) == plan.version and all(change.startswith("space.") for change in changes)
        if changes and mergeable:
            return known["identity"]["space"]
        if changes:
            more = [f"and {len(changes) - SHOWN} more"] if len(changes) > SHOWN else []
            raise ConfigError(
                f"{folder.path} holds a study named '{plan.config.name}' of something else:\n"
                + "\n".join(f"  {change}" for change in [*changes[:SHOWN], *more])
                + "\nGive this sweep another name, or delete that folder: finished trials lie elsewhere and are reused."
            )
    write_claim(folder, plan)
    return None


def write_claim(folder: StudyFolder, plan: Plan) -> None:
    """Write down what a study is of."""
    described = {"identity": plan.identity(), "version": plan.version, "config": plan.config.model_dump(mode="json")}
    write_json(folder.sweep, described)


def _changes(known: Mapping[str, Any], plan: Plan) -> list[str]:
    """Differences between a study on disk and a plan.

    A study of an earlier schema version is compared as that version would have described the plan; hyperparameters that
    the file leaves to their defaults may have other defaults since, and belong to the trials that are still to run.
    """
    version = known.get("version", 1)
    changes = list(_differences(known["identity"], plan.identity(version)))
    if version == plan.version:
        return changes
    written = {(entry.name, name) for entry in plan.config.methods for name in flatten(entry.params)}
    added = [f"{name}: new" for name in plan.newer_fields(version)]
    return added + [change for change in changes if not change.endswith(": new") and not _of_default(change, written)]


def _of_default(change: str, written: Collection[tuple[str, str]]) -> bool:
    """True for a fixed hyperparameter that the sweep file leaves to its default; `written` are those it sets."""
    found = re.match(r"space\.methods\.([^.]+)\.fixed\.([^:]+): ", change)
    return found is not None and found.groups() not in written


def _differences(old: Any, new: Any, at: str = "") -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            inner = f"{at}.{key}" if at else key
            if key not in old or key not in new:
                yield f"{inner}: {'new' if key in new else 'gone'}"
            else:
                yield from _differences(old[key], new[key], inner)
    elif old != new:
        yield f"{at}: was {old}, is {new}"
