"""Write the reference pages of the documentation from the code: sweep file, methods, metrics and commands."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import mkdocs_gen_files

from cspbench.config import SweepConfig
from cspbench.pruning import describe_methods
from cspbench.result import ALIASES, METRICS


def write(page: str, lines: Iterator[str]) -> None:
    """Write a generated page."""
    with mkdocs_gen_files.open(f"reference/{page}.md", "w") as file:
        file.write("\n".join(lines) + "\n")


def sweep_file() -> Iterator[str]:
    """One table for the file, and one for each of its parts."""
    schema = SweepConfig.model_json_schema()
    yield "# Sweep file\n"
    yield "A sweep file is YAML. Unknown keys are refused, and all problems of a file are reported at once."
    yield "Override a key on the command line with `--set dense.epochs=10`.\n"
    yield from _table(schema, schema)
    for name, part in schema.get("$defs", {}).items():
        if "properties" in part:
            yield f"\n## {name}\n\n{_prose(part.get('description', ''))}\n"
            yield from _table(part, schema)


def _table(part: dict[str, Any], schema: dict[str, Any]) -> Iterator[str]:
    yield "| key | type | default | meaning |\n|---|---|---|---|"
    for key, field in part["properties"].items():
        default = f"`{field['default']}`" if "default" in field and not isinstance(field["default"], dict) else ""
        yield f"| `{key}` | {_kind(field, schema)} | {default} | {_cell(field.get('description', ''))} |"


def _kind(field: dict[str, Any], schema: dict[str, Any]) -> str:
    if "$ref" in field:
        name = field["$ref"].rsplit("/", 1)[1]
        part = schema["$defs"][name]
        return f"[{name}](#{name.lower()})" if "properties" in part else ", ".join(f"`{v}`" for v in part["enum"])
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_kind(option, schema) for option in field["anyOf"]))
    if field.get("type") == "array":
        return f"list of {_kind(field['items'], schema)}" if "items" in field else "list"
    bounds = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    limits = [f"{sign} {field[name]:g}" for name, sign in bounds.items() if name in field]
    return " ".join([field.get("type", "any"), *limits])


def methods() -> Iterator[str]:
    """Each registered method with its hyperparameters."""
    yield "# Methods\n"
    yield "`cspbench methods` prints the same. All methods reach the requested sparsity exactly.\n"
    for method in describe_methods():
        yield f"## {method.name}\n\n{_prose(method.summary)}. Source: {_prose(method.source)}.\n"
        if method.options:
            yield "| hyperparameter | type | default | allowed | searched | meaning |\n|---|---|---|---|---|---|"
        for option in method.options:
            cells = (option.kind, f"`{option.default}`", option.allowed, option.search, option.description)
            yield f"| `{option.name}` | " + " | ".join(map(_cell, cells)) + " |"
        yield ""


def metrics() -> Iterator[str]:
    """The vocabulary of results."""
    yield "# Metrics\n"
    yield "The same names are columns of DataFrames and CSV files, metrics in MLflow, and keys of JSON.\n"
    yield "| metric | unit | meaning |\n|---|---|---|"
    for name, metric in METRICS.items():
        yield f"| `{name}` | {metric.unit} | {_cell(metric.meaning)} |"
    for alias, name in ALIASES.items():
        yield f"| `{alias}` | | another name of `{name}` |"


def commands() -> Iterator[str]:
    """The help text of every command."""
    yield "# Commands\n"
    for words in ((), *(tuple(line.split()) for line in COMMANDS)):
        shown = subprocess.run(
            [sys.executable, "-m", "cspbench", *words, "--help"], check=True, capture_output=True, text=True, env=PLAIN
        )
        yield f"## cspbench {' '.join(words)}\n\n```text\n{shown.stdout.strip()}\n```\n"


def _prose(text: str) -> str:
    return " ".join(text.replace("<", "&lt;").split()).rstrip(".")


def _cell(value: object) -> str:
    return _prose(str(value)).replace("|", "\\|")


COMMANDS = """
doctor
init
sweep
retry
compare
results
show
compare-trials
report
ui
methods
data list
data stats
data check
pack
transcribe
latency
export
trials export
trials run
trials collect
bench latency
bench edges
bench overhead
bench recovery
bench soak
bench threads
""".strip().splitlines()

PLAIN = {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb", "PATH": "/usr/bin:/bin", "HOME": "/tmp"}  # noqa: S108

for page, lines in {"sweep": sweep_file, "methods": methods, "metrics": metrics, "commands": commands}.items():
    write(page, lines())
