"""``cspbench init``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cspbench.cli import completion
from cspbench.cli.data import AudioPath, Option, corpus_spec
from cspbench.cli.options import AsJson, Root, check_output, messages, output
from cspbench.cli.sweep import RUNS
from cspbench.errors import ConfigError


def init(
    file: Annotated[Path, typer.Argument(help="The sweep file to write; its name without .yaml names the study.")],
    corpus: Annotated[
        str | None,
        typer.Option(
            help="A corpus by name; unset: found out from --path, else spoken_commands.",
            autocompletion=completion.corpora,
        ),
    ] = None,
    path: AudioPath = None,
    option: Option = None,
    root: Root = RUNS,
    as_json: AsJson = False,
) -> None:
    """Write a commented sweep file for a corpus: epochs, model and masks suit what it holds.

    Reads transcripts and headers of the audio, not the samples: `cspbench data check` reads all.

    Examples: `cspbench init my.yaml --path my/folder`, `cspbench init an4.yaml --corpus an4 --path ../shared/data/an4`
    """
    from cspbench.config.template import advise, sweep_template
    from cspbench.corpora.inspection import detect
    from cspbench.store import NAME, Store, write_atomic
    from cspbench.sweep.plan import prepare_corpus

    check_output(file)
    if file.exists():
        raise ConfigError(f"{file} is there already: delete it, or name another file")
    if file.suffix not in (".yaml", ".yml") or not NAME.fullmatch(file.stem):
        raise ConfigError(f"{file}: name a .yaml file with letters, digits, '.', '_' and '-' only")
    name = corpus or (detect(path) if path is not None else "spoken_commands")
    spec = corpus_spec(name, path, option or [])
    found, _ = prepare_corpus(spec, Store(root), messages().print)
    advice = advise(found)
    write_atomic(file, sweep_template(file.stem, spec, found, advice))
    if as_json:
        typer.echo(json.dumps({"file": str(file), "corpus": name, **asdict(advice)}, indent=2))
        return
    dense, prune = (advice.steps_an_epoch * epochs for epochs in (advice.dense_epochs, advice.prune_epochs))
    output().print(f"{file}: {name}, {advice.preset} model, {dense} dense steps, {prune} steps a trial", soft_wrap=True)
    for note in advice.notes:
        output().print(f"mind: {note}", soft_wrap=True)
    output().print(f"next: cspbench data check {file}, then cspbench sweep {file}", soft_wrap=True)
