"""Tags and notes of runs in MLflow: who ran what from which code, and a page of Markdown about each run."""

from __future__ import annotations

import getpass
import shlex
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlencode

from cspbench.result import TrialResult
from cspbench.spec import TrialSpec
from cspbench.store import Store
from cspbench.units import size_unit, time_unit

TRIAL, SWEEP, CONTENT = "cspbench.trial_id", "cspbench.sweep", "cspbench.content"
KIND, DENSE = "cspbench.kind", "cspbench.dense_id"
PARENT, NOTE = "mlflow.parentRunId", "mlflow.note.content"
LONGEST_NOTE = 7500
"""Characters; MLflow's limit is 8000."""


def source_tags() -> dict[str, str]:
    """Return user and command, and the revision of the package and whether it is dirty where it is a git checkout."""
    tags = {"mlflow.source.type": "LOCAL", "mlflow.source.name": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])}
    with suppress(OSError, KeyError):  # a container's user may have no name
        tags["mlflow.user"] = getpass.getuser()
    return tags | git_tags(Path(__file__).resolve().parents[1])


def git_tags(package: Path) -> dict[str, str]:
    """Return revision and dirty flag of the git checkout that tracks a package; nothing for an installed package."""
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return {}
    commit, changes = _git(package, "rev-parse", "HEAD"), _git(package, "status", "--porcelain", "--untracked-files=no")
    if commit is None or changes is None:
        return {}
    return {"mlflow.source.git.commit": commit, "mlflow.source.git.dirty": str(bool(changes)).lower()}


def trial_note(spec: TrialSpec, result: TrialResult, store: Store, run_id: str, figure: str | None) -> str:
    """Word a trial as Markdown: table, figure, commands.

    Args:
        spec: of the trial.
        result: its outcome.
        store: where it lies.
        run_id: of its run.
        figure: artifact of the run to show; None for none.
    """
    synthetic = " (synthetic speech)" if result.synthetic else ""
    lines = [f"**{spec.method.name} at {100 * spec.sparsity:g} % sparsity**, seed {spec.seed}{synthetic}", ""]
    lines += ["| | dense | this trial | |", "|---|---:|---:|---:|", *_table_rows(result), ""]
    if figure is not None:
        lines += [_picture(figure, run_id), ""]
    if spec.method.params:
        values = ", ".join(f"`{name}={value}`" for name, value in spec.method.params.items())
        lines += [f"Hyperparameters: {values}", ""]
    root = shlex.quote(str(store.root))
    lines += ["```", f"cspbench show {spec.id} --root {root}"]
    lines += [f"cspbench pack {shlex.quote(str(store.trial(spec.id).path))} model.packed.safetensors", "```"]
    return "\n".join(lines)


def sweep_note(summary: str, run_id: str, figure: str | None, command: str) -> str:
    """Word a study as Markdown.

    Args:
        summary: its summary as Markdown, see `cspbench.report.write`; lines beyond MLflow's limit are left out.
        run_id: of the parent run.
        figure: artifact of the run to show; None for none.
        command: that opens the UI.
    """
    heading, _, rest = summary.partition("\n\n")
    head = [heading, "", *([_picture(figure, run_id), ""] if figure is not None else [])]
    end = ["", "```", command, "```"]
    kept: list[str] = []
    room = LONGEST_NOTE - sum(len(line) + 1 for line in (*head, *end))
    for line in rest.splitlines():
        room -= len(line) + 1
        if room < 0:
            kept.append("\nThe whole table is the artifact `report/summary.md`.")
            break
        kept.append(line)
    return "\n".join([*head, *kept, *end])


def _table_rows(result: TrialResult) -> list[str]:
    metrics = result.metrics()
    rows = []
    if result.test is not None:
        dense, own = result.dense_test, result.test
        interval = f"{100 * own.wer:.1f} [{100 * own.low:.1f}, {100 * own.high:.1f}]"
        change = f"{100 * metrics['wer_change']:+.0f} %" if "wer_change" in metrics else ""
        rows.append(f"| test WER % | {100 * dense.wer:.1f} | {interval} | {change} |")
    if "size_bytes" in metrics:
        size = size_unit([metrics["size_bytes"]])
        dense_size, own_size = size.format(metrics["dense_size_bytes"]), size.format(metrics["size_bytes"])
        rows.append(f"| size {size.name} | {dense_size} | {own_size} | {metrics['compression']:.1f}× smaller |")
    if "latency_ms" in metrics:
        time = time_unit([metrics["latency_ms"]])
        doubt = " (noisy machine)" if metrics.get("latency_conclusive") == 0 else ""
        dense_time, own_time = time.format(metrics["dense_latency_ms"]), time.format(metrics["latency_ms"]) + doubt
        rows.append(f"| latency {time.name} a step | {dense_time} | {own_time} | {metrics['speedup']:.2f}× as fast |")
    return rows


def _picture(path: str, run_id: str) -> str:
    return f"![{Path(path).stem}](get-artifact?{urlencode({'path': path, 'run_uuid': run_id})})"


def _git(folder: Path, *words: str) -> str | None:
    """Output of a git command, None where it fails or there is no git."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
