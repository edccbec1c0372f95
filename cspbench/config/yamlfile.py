"""YAML as people expect it: the words, numbers and errors of YAML 1.2, with the line every value stands on.

PyYAML follows YAML 1.1, where ``1e-3`` is text, ``no`` is False, ``1:30`` is 90 and a key given twice quietly wins.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from cspbench.errors import ConfigError

Location = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """Safe loader with the core schema of YAML 1.2; infinities and NaN stay text and so fail as numbers."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own way


def _resolve(tag: str, pattern: str, first: str) -> None:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), list(first))


_resolve("bool", "true|True|TRUE|false|False|FALSE", "tTfF")
_resolve("null", "~|null|Null|NULL|", "~nN")
_Loader.yaml_implicit_resolvers.setdefault("", []).append(("tag:yaml.org,2002:null", re.compile("^$")))
_resolve("int", "[-+]?[0-9]+", "-+0123456789")
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(str(node.value)))  # 010 is ten
_resolve("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789")
_resolve("merge", "<<", "<")


def parse_value(text: str) -> Any:
    """One value as it would be read from a file, for ``--set key=value``; raises ConfigError."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - _Loader is a SafeLoader
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"'{text}' is not a YAML value: {_reason(error)}") from None


def read_yaml(path: Path) -> tuple[Any, dict[Location, int]]:
    """Content of a file, and the line (from 1) of every key and list item by its location.

    Raises:
        ConfigError: the file is absent, unreadable, not YAML, or gives a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"cannot read {path}: {reason}") from None
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, {}
        lines = dict(_lines(node, (), path))
        return loader.construct_document(node), lines
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path} is not YAML: {_reason(error)}") from None
    finally:
        loader.dispose()


def _lines(node: yaml.Node, at: Location, path: Path, above: tuple[int, ...] = ()) -> Iterator[tuple[Location, int]]:
    if id(node) in above:
        raise ConfigError(f"{path}, line {node.start_mark.line + 1}: an alias that contains itself")
    above = (*above, id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield (*at, index), item.start_mark.line + 1
            yield from _lines(item, (*at, index), path, above)
    elif isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in seen:
                raise ConfigError(f"{path}, line {line}: '{name}' is given twice, first on line {seen[name]}")
            seen[name] = line
            yield (*at, name), line
            yield from _lines(value, (*at, name), path, above)


def _reason(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem or error.context}"
    return str(error)
