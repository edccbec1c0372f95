"""``cspbench worker`` and ``cspbench sync``: sweeps on several machines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cspbench.cli import completion
from cspbench.cli.options import Device, Root, Storage, TrackingUri, messages, output
from cspbench.cli.stopping import stopped_by_signals
from cspbench.cli.sweep import RUNS, TrialsError


def worker(
    study: Annotated[str, typer.Argument(help="The sweep, by its name.")],
    storage: Storage = None,
    tracking_uri: TrackingUri = None,
    device: Device = "auto",
    corpus_path: Annotated[Path | None, typer.Option(help="Where the audio lies on this machine.", exists=True)] = None,
    patience: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for the sweep to begin, or to be heard of again.")
    ] = 600.0,
    root: Root = RUNS,
) -> None:
    """Run trials of a sweep that another machine started with --storage, until it has ended.

    Examples: `cspbench worker an4 --storage postgresql://cspbench@db/cspbench`, `cspbench worker an4 --device cuda`
    """
    from cspbench.store import Store
    from cspbench.sweep.servers import Servers
    from cspbench.sweep.worker import work
    from cspbench.trials.progress import label_of, make_display

    servers, store = Servers.of(storage, tracking_uri), Store(root)
    with stopped_by_signals(), make_display(messages()) as display:
        outcomes = work(study, store, servers, display, device=device, corpus_path=corpus_path, patience=patience)
    failures = [f"  {label_of(outcome.spec)}: {outcome.error}" for outcome in outcomes if outcome.state == "failed"]
    complete = sum(outcome.state == "complete" for outcome in outcomes)
    finished = f"{complete} of {len(outcomes)} trials finished here"
    output().print(f"{finished}; the sweep '{study}' has ended", markup=False, soft_wrap=True)
    if failures:
        raise TrialsError("\n".join([f"{len(failures)} trials failed here:", *failures]))


def sync(
    study: Annotated[
        str | None,
        typer.Argument(help="The sweep or comparison; default: all.", autocompletion=completion.studies),
    ] = None,
    tracking_uri: TrackingUri = None,
    root: Root = RUNS,
) -> None:
    """Log in MLflow what it lacks of results on disk, after its server was gone.

    Examples: `cspbench sync`, `cspbench sync an4 --tracking-uri http://mlflow:5000`
    """
    from cspbench.store import Store
    from cspbench.sweep.servers import Servers
    from cspbench.sweep.sync import sync as log_missing

    store, servers = Store(root), Servers.of(None, tracking_uri)
    names = [study] if study is not None else [name for name in store.studies() if store.study(name).tracking.is_file()]
    for name in names:
        count = log_missing(name, store, servers.tracking)
        place = servers.tracking or store.mlflow
        output().print(f"{name}: {count} trial{'s' * (count != 1)} logged in {place}", markup=False, soft_wrap=True)
