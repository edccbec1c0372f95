"""Tables of the page: sparsity that costs little, errors, tests of significance, and provenance."""

from __future__ import annotations

import base64
import json
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

from cspbench.errors import CspbenchError
from cspbench.report.confusions import confused_words, worst_utterances
from cspbench.report.masks import mask_overlap
from cspbench.report.page_data import cell_name
from cspbench.report.search import importances
from cspbench.report.significance import LEVEL, compare_trials, holm
from cspbench.report.table import CONTROL, DENSE, PLACE
from cspbench.report.trial import Trial
from cspbench.spec import TrialSpec
from cspbench.store import Store, read_json
from cspbench.trials.clips import CLIPS

TOLERANCE = 0.05
"""Relative increase of the WER that "within 5 %" allows."""

RESAMPLES = 2000
CONFUSIONS, SPEAKERS = 8, 12

CLIP_BYTES = 2_000_000
"""Audio in a page, at most: it stays below 5 MB with all else."""

Rows = list[dict[str, str]]


def within_tolerance(table: pd.DataFrame) -> Rows:
    """Return, for each method, the highest sparsity whose WER exceeds that of a reference by 5 % or less, relative.

    Args:
        table: a `summary`.
    """
    rows = []
    pruned = table[~table["method"].isin([DENSE, CONTROL])]
    several = len(table[PLACE].drop_duplicates()) > 1
    for (corpus, schema, method), own in pruned.groupby([*PLACE, "method"]):
        row = {"corpus": f"{corpus}, schema {schema}"} if several else {}
        row["method"] = str(method)
        for name, column in (("dense", "wer_change"), ("control", "control_change")):
            if table[column].notna().any():
                kept = own[own[column] <= TOLERANCE + 1e-12]
                best = kept.sort_values("sparsity_requested").tail(1).to_dict("records")
                row[f"highest sparsity within 5 % of {name}"] = (
                    f"{100 * best[0]['sparsity_requested']:.4g} % ({100 * best[0][column]:+.1f} %)" if best else "none"
                )
        rows.append(row)
    return rows


def importance_rows(frame: pd.DataFrame) -> Rows:
    """Word the importances of hyperparameters; none where no method was tried with enough settings."""
    done = frame[frame["state"] == "complete"]
    several = len(done[PLACE].drop_duplicates()) > 1
    rows = []
    for (corpus, schema), part in done.groupby(PLACE):
        for found in importances(part):
            place = {"corpus": f"{corpus}, schema {schema}"} if several else {}
            texts = {name: str(found[name]) for name in ("method", "hyperparameter")}
            share = f"{100 * found['importance']:.0f}"
            rows.append({**place, **texts, "importance %": share, "settings": str(found["settings"])})
    return rows


def overlap_rows(trials: pd.DataFrame, store: Store) -> Rows:
    """Word `mask_overlap`, a row a cell and a column a method; nothing where no two masks can be compared."""
    found = mask_overlap(trials, store)
    methods = sorted(found["other"].unique())
    rows = []
    for (*_, sparsity, method), own in found.groupby([*PLACE, "sparsity_requested", "method"]):
        known = dict(zip(own["other"], own["overlap"], strict=True))
        name = cell_name({"method": method, "sparsity_requested": sparsity})
        cells = {f"also by {m}": f"{100 * known[m]:.0f}" if m in known else "–" for m in methods}
        rows.append({"kept by": name, **cells})
    return rows


class Clips:
    """Audio of utterances in base64: each once, and `CLIP_BYTES` of all."""

    def __init__(self) -> None:
        self.data: dict[str, str] = {}
        self._room = CLIP_BYTES

    def take(self, utterance: str, file: Path) -> str:
        """Return the name of a clip, that of its utterance; empty where there is no file or no room."""
        if utterance not in self.data:
            audio = base64.b64encode(file.read_bytes()).decode() if file.is_file() else ""
            if not 0 < len(audio) <= self._room:
                return ""
            self._room -= len(audio)
            self.data[utterance] = audio
        return utterance


def error_blocks(trials: pd.DataFrame, store: Store, clips: Clips) -> Iterator[dict[str, Any]]:
    """Describe the errors of trials on test: kinds, confused words, speakers, worst utterances.

    Args:
        trials: as from `cspbench.report.page_data.shown_cells`.
        store: holds them.
        clips: takes the audio of the worst utterances.
    """
    for row in trials.to_dict("records"):
        trial = str(row["trial_id"])
        if not store.trial(trial).hypotheses.is_file():
            continue
        hypotheses = Trial(trial, store).hypotheses
        words = hypotheses["words"].sum()
        kinds = [
            (kind, int(row[f"test_{kind}"]), 100 * row[f"test_{kind}"] / words)
            for kind in ("substitutions", "deletions", "insertions")
            if pd.notna(row[f"test_{kind}"])
        ]
        yield {
            "name": cell_name(row) + (f", seed {row['seed']}" if trials["seed"].nunique() > 1 else ""),
            "trial": trial,
            "kinds": kinds,
            "confused": [
                {"said": str(pair["reference"]), "recognised": str(pair["hypothesis"]), "times": str(pair["count"])}
                for pair in confused_words(hypotheses[hypotheses["edits"] > 0]).head(CONFUSIONS).to_dict("records")
            ],
            "speakers": _by_speaker(hypotheses),
            "worst": [
                {
                    "said": str(one["reference"]),
                    "recognised": str(one["hypothesis"]) or "(nothing)",
                    "edits": str(one["edits"]),
                    "clip": clips.take(str(one["id"]), store.trial(trial).clip(int(str(line)))),
                }
                for line, one in worst_utterances(hypotheses, CLIPS).iterrows()
            ],
        }


def significance_rows(chosen: pd.DataFrame, store: Store) -> Rows:
    """Compare each method at each sparsity with its best rival there, the other method with the lowest dev WER.

    Paired bootstrap by utterance; the p-values are those of one family, adjusted by Holm's method.

    Args:
        chosen: finished trials of the chosen settings, as from `select_on_dev`.
        store: holds them.
    """
    rows, tests = [], []
    pruned = chosen.loc[
        chosen["sparsity_requested"] > 0, [*PLACE, "sparsity_requested", "method", "trial_id", "dev_wer"]
    ]
    at = pruned.groupby([*PLACE, "sparsity_requested"])
    pruned = pruned[at["method"].transform("nunique") > 1]
    for _, part in pruned.groupby([*PLACE, "sparsity_requested"]):
        sparsity = float(part["sparsity_requested"].iloc[0])
        trials = {method: own["trial_id"].tolist() for method, own in part.groupby("method")}
        dev = part.groupby("method")["dev_wer"].mean().sort_values(kind="stable")
        for method in trials:
            rivals = [other for other in dev.index if other != method]
            try:
                found = compare_trials(trials[method], trials[rivals[0]], store, resamples=RESAMPLES)
            except CspbenchError:  # tested on other utterances, or without hypotheses
                continue
            tests.append(found)
            difference, low, high = (100 * value for value in (found.difference, found.low, found.high))
            rows.append(
                {
                    "method": str(method),
                    "sparsity": f"{100 * sparsity:.4g} %",
                    "best rival": str(rivals[0]),
                    "difference of WER, points": f"{difference:+.1f} [{low:+.1f}, {high:+.1f}]",
                    "p": f"{found.p_value:.3g}",
                }
            )
    for row, test, adjusted in zip(rows, tests, holm([test.p_value for test in tests]), strict=True):
        verdict = "–" if adjusted >= LEVEL else "better" if test.difference < 0 else "worse"
        row |= {"p, Holm": f"{adjusted:.3g}", "verdict": verdict}
    return rows


def provenance_rows(name: str, frame: pd.DataFrame, store: Store) -> Rows:
    """Say what the results come from: corpus and its hash, speech, dense recognisers, machine, versions."""
    first = str(frame[frame["state"] == "complete"]["trial_id"].iloc[0])
    spec = TrialSpec.model_validate(read_json(store.trial(first).spec)) if store.trial(first).spec.is_file() else None
    corpus = spec.dense.corpus if spec else None
    pretrained = spec.dense.pretrained if spec else None
    versions = ", ".join(
        f"{package} {_version(package)}" for package in ("cspbench", "torch", "optuna", "mlflow", "numpy")
    )
    facts = {
        "study": name,
        "corpus": ", ".join(sorted(frame["corpus"].unique())),
        "corpus hash": corpus.fingerprint if corpus else None,
        "corpus options": json.dumps(corpus.options, sort_keys=True) if corpus and corpus.options else None,
        "speech": "synthetic" if frame["synthetic"].eq(True).any() else "recorded from people",
        "dense recognisers": ", ".join(sorted(frame["dense_id"].unique())),
        "pretrained": f"{pretrained.path}, hash {pretrained.fingerprint}" if pretrained else None,
        "schema version": ", ".join(str(version) for version in sorted(frame["schema"].unique())),
        "trained on": ", ".join(sorted(map(str, frame["device"].dropna().unique()))),
        "page made with": f"{versions}, Python {platform.python_version()}",
    }
    return [{"fact": fact, "value": str(value)} for fact, value in facts.items() if value]


def sweep_file(name: str, store: Store) -> str | None:
    """Return the resolved sweep file of a study as JSON, None where it was not made by a sweep."""
    path = store.study(name).sweep
    return json.dumps(read_json(path)["config"], indent=1, sort_keys=True) if path.is_file() else None


def _by_speaker(hypotheses: pd.DataFrame) -> Rows:
    """WER of each speaker, the highest first."""
    if "speaker" not in hypotheses:
        return []
    sums = hypotheses.groupby("speaker")[["edits", "words"]].sum()
    sums = sums[sums["words"] > 0].assign(wer=lambda own: own["edits"] / own["words"])
    worst = sums.sort_values("wer", ascending=False, kind="stable").head(SPEAKERS)
    return [
        {"speaker": str(speaker), "WER %": f"{100 * row['wer']:.1f}", "words": f"{row['words']:.0f}"}
        for speaker, row in worst.iterrows()
    ]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
