"""Reading a file of settings: parse, override, validate, and report everything wrong at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from cspbench.config.problems import Problem, from_validation, not_finite, report
from cspbench.config.rules import rule_problems
from cspbench.config.schema import SweepConfig
from cspbench.config.yamlfile import Location, parse_value, read_yaml
from cspbench.errors import ConfigError

Config = TypeVar("Config", bound=BaseModel)


@dataclass(frozen=True)
class Kind(Generic[Config]):
    """A kind of file.

    Attributes:
        model: what it may say.
        rules: what must hold between its parts.
        stand_ins: by key that must be given, what the rules see where it is broken.
        items: by key of a list, what the rules see in place of a broken item, and pass over.
    """

    model: type[Config]
    rules: Callable[[Config], Iterator[Problem]]
    stand_ins: Mapping[str, Any]
    items: Mapping[str, Any]


SWEEP = Kind(SweepConfig, rule_problems, {"name": "unnamed", "sparsity": [0.0], "methods": [""]}, items={"methods": ""})


@dataclass(frozen=True)
class Override:
    """A value from the command line: where it goes, what it is, and the words it came from."""

    at: Location
    value: Any
    origin: str


def parse_override(text: str) -> Override:
    """Read ``prune.epochs=4`` or ``methods.0.params.damping=[0.1, 1e-2]``; the value is YAML. Raises ConfigError."""
    key, equals, value = text.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or not all(parts):
        raise ConfigError(f"--set {text}: must look like key.inner=value")
    at = tuple(int(part) if part.isdigit() else part for part in parts)
    return Override(at, parse_value(value), f"--set {text}")


def load_config(path: Path | str, overrides: Iterable[Override] = ()) -> SweepConfig:
    """Read and check a sweep file.

    Raises:
        ConfigError: the file cannot be read, or one message with all that is wrong in it.
    """
    return load_file(path, overrides, SWEEP)


def load_file(path: Path | str, overrides: Iterable[Override], kind: Kind[Config]) -> Config:
    """Read and check a file of some kind; raises ConfigError as `load_config` does."""
    path = Path(path)
    data, lines = read_yaml(path)
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: must be a mapping of keys to values, such as `name: my-sweep`")
    origins: dict[Location, str] = {}
    problems = []
    for override in overrides:
        wrong = _set(data, override)
        problems += [wrong] if wrong else []
        origins[override.at] = override.origin
    config, found = _check(data, kind)
    if problems or found or config is None:
        raise ConfigError(report(str(path), [*problems, *found], lines, origins))
    return config


def _check(data: dict[str, Any], kind: Kind[Config]) -> tuple[Config | None, list[Problem]]:
    """Validate parsed data; the configuration is None where there are problems."""
    problems: list[Problem] = list(not_finite(data))
    config, found = _validate(data, kind.model)
    known = {problem.at for problem in problems}
    problems += [problem for problem in found if problem.at not in known]
    if config is None:
        # What is broken is left out, so that the rules can still judge the rest.
        config, _ = _validate(_without(data, [problem.at for problem in found], kind), kind.model)
    if config is not None:
        broken = {problem.at[0] for problem in found if problem.at} - set(kind.items)
        problems += [p for p in kind.rules(config) if p.at[0] not in broken]
    return (None if problems else config), problems


def _validate(data: dict[str, Any], model: type[Config]) -> tuple[Config | None, list[Problem]]:
    try:
        return model.model_validate(data), []
    except ValidationError as error:
        found: dict[Location, Problem] = {}
        for problem in from_validation(error, model):
            at = _as_written(data, problem.at)
            found.setdefault(at, Problem(at, problem.message))
        return None, list(found.values())


def _as_written(data: Any, at: Location) -> Location:
    """Location without what the schema adds where a shorthand was written out (`[0.5]` is `{values: [0.5]}`)."""
    kept: list[str | int] = []
    for part in at:
        if isinstance(data, dict):
            data = data.get(part, {})
        elif isinstance(data, list) and isinstance(part, int):
            data = data[part] if part < len(data) else None  # a pair of which one is missing
        else:
            continue
        kept.append(part)
    return tuple(kept)


def _without(data: dict[str, Any], places: list[Location], kind: Kind[Config]) -> dict[str, Any]:
    """Copy that the schema accepts: broken keys take their default or a stand-in, broken items one that rules skip."""
    rest = deepcopy(data)
    for at in places:
        key = str(at[0]) if at else ""
        if key in kind.items and len(at) > 1 and isinstance(at[1], int):
            rest[key][at[1]] = deepcopy(kind.items[key])
        elif key in kind.stand_ins:
            rest[key] = deepcopy(kind.stand_ins[key])
        else:
            rest.pop(key, None)
    return rest


def _set(data: dict[str, Any], override: Override) -> Problem | None:
    """Put a value where it belongs, making mappings on the way."""
    here: Any = data
    for depth, part in enumerate(override.at, 1):
        key = str(part) if isinstance(here, dict) else part
        if isinstance(here, list) and not (isinstance(key, int) and key < len(here)):
            return Problem(override.at[:depth], f"no such item: the list has {len(here)}, counted from 0")
        if depth == len(override.at):
            here[key] = override.value
            break
        inner = here.get(key) if isinstance(here, dict) else here[key]
        if not isinstance(inner, (dict, list)):
            inner = here[key] = _opened(inner)
        here = inner
    return None


def _opened(value: Any) -> dict[str, Any]:
    """Mapping in place of a shorthand: `csp` becomes `{name: csp}`, so that `methods.0.params.x=1` can be set."""
    return {"name": value} if isinstance(value, str) else {}
