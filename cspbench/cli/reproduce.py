"""``cspbench reproduce``."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cspbench.cli import completion
from cspbench.cli.options import AsJson, OwnDevice, Root, messages, output, print_rows
from cspbench.cli.stopping import stopped_by_signals
from cspbench.cli.sweep import RUNS
from cspbench.errors import CspbenchError

if TYPE_CHECKING:
    from cspbench.trials.reproduce import Difference, Reproduction


class NotReproducedError(CspbenchError):
    """A trial gave other results under the same circumstances."""


def reproduce(
    id: Annotated[
        str, typer.Argument(help="The trial: its id or the first digits of it.", autocompletion=completion.trials)
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the new results, kept; give the same again to go on.", file_okay=False),
    ] = None,
    device: OwnDevice = None,
    corpus_path: Annotated[Path | None, typer.Option(help="Where the audio lies on this machine.", exists=True)] = None,
    root: Root = RUNS,
    as_json: AsJson = False,
) -> None:
    """Repeat a finished trial from its record, and say whether masks, weights and word error rates agree.

    The dense recogniser is trained again as well. On the same machine, with the same threads and versions, everything
    but latency must be equal: if it is not, the exit code is 1. Elsewhere the differences are printed.

    Examples: `cspbench reproduce 0ea1`, `cspbench reproduce 0ea1 --out again --json`
    """
    from cspbench.store import Store
    from cspbench.trials.progress import make_display
    from cspbench.trials.reproduce import reproduce as repeat

    with (
        tempfile.TemporaryDirectory(prefix="cspbench-reproduce-") as temporary,
        stopped_by_signals(),
        make_display(messages()) as display,
    ):
        place = out or Path(temporary)
        found = repeat(id, Store(root), place, device=device, corpus_path=corpus_path, progress=display.event)
    if as_json:
        typer.echo(json.dumps(asdict(found) | {"failed": found.failed}, indent=2))
    else:
        _print(found)
    if found.failed:
        raise NotReproducedError(f"trial {found.trial_id} gave other results under the same circumstances")


def _print(found: Reproduction) -> None:
    from cspbench.trials.reproduce import LEVELS

    output().print(f"trial {found.trial_id}, {LEVELS[found.level]}", soft_wrap=True)
    if found.environment:
        print_rows(_rows(found.environment), "environments that differ")
    if found.results:
        print_rows(_rows(found.results), "results that differ")
    else:
        compared = "masks, weights and word error rates" if found.weights else "word error rates"
        output().print(f"{compared} agree exactly", soft_wrap=True)
    if not found.weights:
        output().print("the weights of the first run are not in this store: masks and weights were not compared")


def _rows(differences: list[Difference]) -> list[dict[str, Any]]:
    return [{"": each.name, "before": _shown(each.before), "now": _shown(each.now)} for each in differences]


def _shown(value: float | str | None) -> str:
    if value is None:
        return "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
