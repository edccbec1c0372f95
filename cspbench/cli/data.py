"""``cspbench data``: corpora before they are trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cspbench.cli.options import AsJson, Root, messages, output, print_rows
from cspbench.cli.sweep import RUNS

if TYPE_CHECKING:
    from cspbench.corpora import Corpus
    from cspbench.hyper import Hyperparameters
    from cspbench.spec import CorpusSpec

app = typer.Typer(help="List, prepare and describe corpora.", no_args_is_help=True)

Target = Annotated[str, typer.Argument(help="A corpus by name, or a sweep file (.yaml) for the corpus it names.")]
AudioPath = Annotated[Path | None, typer.Option("--path", help="Where the audio lies.")]
Option = Annotated[list[str] | None, typer.Option("--option", help="Corpus option, name=value, as often as needed.")]


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the kinds of corpora and their options."""
    from cspbench.corpora import corpora

    loaders = {name: corpora.get(name) for name in corpora.names()}
    described: list[dict[str, Any]] = [
        {"name": n, "summary": c.summary, "needs_path": c.needs_path, "options": _options(c.Options)}
        for n, c in loaders.items()
    ]
    if as_json:
        typer.echo(json.dumps(described, indent=2))
        return
    for corpus in described:
        path = " (needs --path)" if corpus["needs_path"] else ""
        output().print(f"\n[bold]{corpus['name']}[/bold]{path}: {corpus['summary']}", soft_wrap=True)
        if corpus["options"]:
            print_rows(corpus["options"])


@app.command()
def prepare(target: Target, path: AudioPath = None, option: Option = None, root: Root = RUNS) -> None:
    """Make or join the audio of a corpus and check all of it, as a sweep would before training."""
    corpus, spec = _prepare(target, path, option, root)
    kind = "synthetic, " if corpus.synthetic else ""
    count = len(corpus.utterances)
    output().print(f"{corpus.name}: {kind}{count} utterances are fine; fingerprint {spec.fingerprint}", soft_wrap=True)


@app.command()
def stats(
    target: Target, path: AudioPath = None, option: Option = None, root: Root = RUNS, as_json: AsJson = False
) -> None:
    """Describe each split of a corpus."""
    from cspbench.corpora import statistics

    corpus, _ = _prepare(target, path, option, root)
    rows = statistics(corpus)
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    # One row a property and one column a split: there are more properties than a terminal is wide.
    splits = [str(row["split"]) for row in rows]
    properties = [key for key in rows[0] if key != "split"]
    print_rows([{"": key, **{s: row[key] for s, row in zip(splits, rows, strict=True)}} for key in properties])


def _options(options: type[Hyperparameters]) -> list[dict[str, str]]:
    properties = options.model_json_schema().get("properties", {})
    return [
        {"name": name, "default": json.dumps(schema.get("default")), "meaning": schema.get("description", "")}
        for name, schema in properties.items()
    ]


def _prepare(target: str, path: Path | None, option: list[str] | None, root: Path) -> tuple[Corpus, CorpusSpec]:
    from cspbench.store import Store
    from cspbench.sweep.plan import prepare_corpus

    return prepare_corpus(_spec(target, path, option or []), Store(root), messages().print)


def _spec(target: str, path: Path | None, options: list[str]) -> CorpusSpec:
    from cspbench.config import load_config, parse_override
    from cspbench.spec import CorpusSpec

    given = {".".join(map(str, o.at)): o.value for o in map(parse_override, options)}
    spec = load_config(target).corpus if target.endswith((".yaml", ".yml")) else CorpusSpec(name=target)
    where = str(path) if path is not None else spec.path
    return spec.model_copy(update={"path": where, "options": spec.options | given})
