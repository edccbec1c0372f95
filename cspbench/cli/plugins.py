"""``cspbench methods``."""

from __future__ import annotations

import json
from typing import Any

import typer

from cspbench.cli.options import AsJson, output, print_rows


def methods(as_json: AsJson = False) -> None:
    """List the pruning methods: hyperparameters, defaults, ranges and source."""
    from cspbench.pruning import methods as registry

    entries = {name: registry.get(name) for name in registry.names()}
    described: list[dict[str, Any]] = [
        {"name": name, "summary": m.summary, "source": m.source, "hyperparameters": hyperparameters(m.Params)}
        for name, m in entries.items()
    ]
    if as_json:
        typer.echo(json.dumps(described, indent=2))
        return
    for method in described:
        output().print(f"\n[bold]{method['name']}[/bold]: {method['summary']}\n  {method['source']}", soft_wrap=True)
        if method["hyperparameters"]:
            print_rows(method["hyperparameters"])


def hyperparameters(params: Any) -> list[dict[str, Any]]:
    """Each hyperparameter with its default, what it may be, the range a search covers, and its meaning."""
    properties = params.model_json_schema().get("properties", {})
    searched = params.search_space()
    return [
        {
            "name": name,
            "default": json.dumps(schema.get("default")),
            "allowed": _allowed(schema),
            "search": _search(searched[name]) if name in searched else "",
            "meaning": schema.get("description", ""),
        }
        for name, schema in properties.items()
    ]


def _allowed(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if "anyOf" in schema:
        return " or ".join(_allowed(option) for option in schema["anyOf"])
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {schema[key]:g}" for key, sign in signs.items() if key in schema]
    return " ".join([schema.get("type", "any"), ", ".join(bounds)]).strip()


def _search(note: Any) -> str:
    if note.choices is not None:
        return ", ".join(map(str, note.choices))
    return f"{note.low:g} to {note.high:g}{', log' if note.log else ''}"
