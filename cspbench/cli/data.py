"""``cspbench data``: list, check and describe corpora."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from cspbench.cli import completion
from cspbench.cli.options import AsJson, Root, messages, output, print_rows
from cspbench.cli.sweep import RUNS
from cspbench.errors import CorpusError

if TYPE_CHECKING:
    from cspbench.corpora import Corpus
    from cspbench.corpora.scan import Scan
    from cspbench.hyper import Hyperparameters
    from cspbench.spec import CorpusSpec

SWEEP_FILES = (".yaml", ".yml")

app = typer.Typer(help="List, prepare and describe corpora.", no_args_is_help=True)

TARGET = "A corpus by name, or a sweep file (.yaml) for the corpus it names."
Target = Annotated[str, typer.Argument(help=TARGET, autocompletion=completion.corpora)]
AudioPath = Annotated[Path | None, typer.Option("--path", help="Where the audio lies.")]
Option = Annotated[list[str] | None, typer.Option("--option", help="Corpus option, name=value, as often as needed.")]


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the kinds of corpora and their options.

    Examples: `cspbench data list`, `cspbench data list --json`
    """
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
        line = Text.assemble("\n", (corpus["name"], "bold"), f"{path}: {corpus['summary']}")
        output().print(line, soft_wrap=True)
        if corpus["options"]:
            print_rows(corpus["options"])


@app.command()
def prepare(target: Target, path: AudioPath = None, option: Option = None, root: Root = RUNS) -> None:
    """Make the audio of a corpus where it must be made, and check all of it.

    Examples: `cspbench data prepare sweeps/rnnt.yaml`, `cspbench data prepare fsdd --path ../shared/data/fsdd`
    """
    corpus, spec, _ = _prepare(target, path, option, root)
    kind = "synthetic, " if corpus.synthetic else ""
    count = len(corpus.utterances)
    output().print(f"{corpus.name}: {kind}{count} utterances are fine; fingerprint {spec.fingerprint}", soft_wrap=True)


@app.command()
def stats(
    target: Target, path: AudioPath = None, option: Option = None, root: Root = RUNS, as_json: AsJson = False
) -> None:
    """Describe each split of a corpus: utterances, minutes, speakers, words, characters, levels.

    Examples: `cspbench data stats sweeps/rnnt.yaml`, `cspbench data stats manifest --path my/folder --json`
    """
    from cspbench.corpora import statistics

    corpus, _, scans = _prepare(target, path, option, root)
    rows = statistics(corpus, scans)
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    # One row a property and one column a split: there are more properties than a terminal is wide.
    splits = [str(row["split"]) for row in rows]
    properties = [key for key in rows[0] if key != "split"]
    print_rows([{"": key, **{s: row[key] for s, row in zip(splits, rows, strict=True)}} for key in properties])


@app.command()
def check(
    target: Annotated[
        str, typer.Argument(help="A manifest or folder of speech, a corpus by name, or a sweep file (.yaml).")
    ],
    path: AudioPath = None,
    option: Option = None,
    root: Root = RUNS,
    as_json: AsJson = False,
) -> None:
    """Read all headers, samples, transcripts and splits of a corpus once, and list every problem by its kind.

    Examples: `cspbench data check my/folder`, `cspbench data check manifest.jsonl --option digits=spell`
    """
    from cspbench.corpora import corpora
    from cspbench.corpora.inspection import detect, inspect_corpus
    from cspbench.store import Store

    given = Path(target).expanduser()
    if path is None and target not in corpora.names() and given.suffix not in SWEEP_FILES:
        if given.exists():
            target, path = detect(given), given
        elif given.name != target:
            raise CorpusError(f"{given}: no such file or folder")
    spec = corpus_spec(target, path, option or [])
    found = inspect_corpus(spec, Store(root).corpora, messages().print)
    summary = found.summary() | {"path": spec.path}
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
    else:
        _print_check(summary)
    if found.problems:
        kinds = len(summary["problems"])
        raise CorpusError(f"{len(found.problems)} problems of {kinds} {'kind' if kinds == 1 else 'kinds'}")


def _print_check(summary: dict[str, Any]) -> None:
    for heading in ("problems", "notes"):
        for group in summary[heading]:
            output().print(f"{heading[:-1]}: {group['kind']} ({group['count']})", soft_wrap=True)
            for example in group["examples"]:
                output().print(f"  {example}", soft_wrap=True)
            if group["count"] > len(group["examples"]):
                output().print(f"  and {group['count'] - len(group['examples'])} more")
    if not summary["problems"]:
        fine = f"{summary['corpus']}: {summary['utterances']} utterances are fine"
        output().print(f"{fine}; fingerprint {summary['fingerprint']}", soft_wrap=True)


def _options(options: type[Hyperparameters]) -> list[dict[str, str]]:
    properties = options.model_json_schema().get("properties", {})
    return [
        {"name": name, "default": json.dumps(schema.get("default")), "meaning": schema.get("description", "")}
        for name, schema in properties.items()
    ]


def _prepare(
    target: str, path: Path | None, option: list[str] | None, root: Path
) -> tuple[Corpus, CorpusSpec, list[Scan]]:
    """The corpus, its resolved spec, and its decoded audio in numbers; CorpusError for what cannot be decoded."""
    from cspbench.corpora.problems import Problems
    from cspbench.corpora.scan import scan
    from cspbench.store import Store
    from cspbench.sweep.plan import prepare_corpus

    corpus, spec = prepare_corpus(corpus_spec(target, path, option or []), Store(root), messages().print)
    problems = Problems(f"corpus '{corpus.name}' cannot be used:")
    scans = scan(corpus, problems, messages().print)
    problems.check()
    return corpus, spec, scans


def corpus_spec(target: str, path: Path | None, options: list[str]) -> CorpusSpec:
    """Return the spec of a corpus that the command line names.

    Args:
        target: its name, or a sweep file.
        path: where the audio lies; unset: where the file says.
        options: ``name=value``, over those of the file.
    """
    from cspbench.config import load_config, parse_override
    from cspbench.spec import CorpusSpec

    given = {".".join(map(str, o.at)): o.value for o in map(parse_override, options)}
    spec = load_config(target).corpus if target.endswith(SWEEP_FILES) else CorpusSpec(name=target)
    where = str(path) if path is not None else spec.path
    return spec.model_copy(update={"path": where, "options": spec.options | given})
