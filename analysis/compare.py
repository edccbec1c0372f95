# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # CSP beside every method worth comparing with
#
# Draws a comparison from the small files that `cspbench compare` writes and this repository keeps: one row a trial,
# what each method reached, the paired tests, the verdicts, and the word errors behind them. Nothing is trained or
# chosen here.
# Open it with `jupytext --to notebook analysis/compare.py`, or in an editor that knows `# %%` cells.
#
# Which comparison: set `CSPBENCH_COMPARISON` to its folder, or change the next cell.

# %%
import io
import os
from pathlib import Path

beside = Path("compare") if Path("compare").is_dir() else Path("analysis/compare")
FOLDER = Path(os.environ.get("CSPBENCH_COMPARISON", beside))
ROOT = os.environ.get("CSPBENCH_ROOT", "runs")  # of the trials, if they are at hand: only the hypotheses need them

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Image

import cspbench
from cspbench.comparison.report import (
    evaluate_finals,
    load_evaluation,
    pictures,
    recorded_errors,
    rival_names,
    styles,
    verdict_row,
)
from cspbench.errors import CspbenchError

evaluation = load_evaluation(FOLDER)
finals, proposed = evaluation.finals, evaluation.proposed
done = finals[finals["state"] == "complete"]
style = styles(evaluation)
print(f"{proposed} against {len(rival_names(evaluation))} methods: {len(done)} of {len(finals)} trials finished")

# %% [markdown]
# ## What came out
# The proposed method against the best rival of each row. Errors of an utterance are averaged over the pruning runs of a
# dense model, then over dense models; differences (percentage points, negative: the proposed method is better) come
# with the 95 % interval of a paired bootstrap over speakers; p-values are Holm-corrected over the claims of the table.

# %%
display(pd.DataFrame([verdict_row(row) for row in evaluation.verdicts.to_dict("records")]))  # noqa: F821 - Jupyter's

# %% [markdown]
# ## WER, cost, lead

# %%
for picture in pictures(evaluation).values():
    image = io.BytesIO()
    picture.savefig(image, dpi=110)
    display(Image(image.getvalue()))  # noqa: F821 - Jupyter's

# %% [markdown]
# ## Was it fair?
# Dev trials that chose each setting, optimiser steps and seconds beside the proposed method's, whether the runs started
# from the same dense models, and whether the seeds of a cell share one setting.

# %%
display(evaluation.costs)  # noqa: F821 - Jupyter's

# %% [markdown]
# The settings that were chosen on dev, by method and sparsity:

# %%
columns = ["corpus", "method", "sparsity_requested", "budget", "selection", "learning_rate", "params"]
settings = done[columns].drop_duplicates()
with pd.option_context("display.max_colwidth", None):
    display(settings)  # noqa: F821 - Jupyter's

# %% [markdown]
# How they were chosen: dev WER (%) of every setting that was tried, by its number; 0 is the method's default.

# %%
if (FOLDER / "tuning.csv").is_file():
    tuning = pd.read_csv(FOLDER / "tuning.csv")
    tried = tuning.pivot_table(index=["method", "sparsity_requested", "budget"], columns="candidate", values="dev_wer")
    display((100 * tried).round(2))  # noqa: F821 - Jupyter's

# %% [markdown]
# ## Dev against test
# Selection on dev is only worth something if dev foretells test. Each dot is a final trial.

# %%
corpora = sorted(done["corpus"].unique())
figure, panels = plt.subplots(1, len(corpora), figsize=(4.8 * len(corpora), 4.4), layout="constrained", squeeze=False)
for axes, corpus in zip(panels[0], corpora, strict=True):
    here = done[done["corpus"] == corpus]
    for method, part in here.groupby("method"):
        look = style[method]
        axes.scatter(
            100 * part["dev_wer"], 100 * part["test_wer"], color=look.colour, marker=look.marker, s=14, alpha=0.7
        )
    limit = 100 * here[["dev_wer", "test_wer"]].max().max() * 1.05
    axes.plot([0, limit], [0, limit], color="0.6", linewidth=0.8)
    axes.set(xlabel="dev WER (%)", ylabel="test WER (%)", title=corpus)
plt.show()

# %% [markdown]
# ## Every run
# The proposed method's WER minus the rival's in each pair of runs (same fold, dense model and seed), percentage points:
# no mean hides a run.

# %%
keys = ["corpus", "budget", "sparsity_requested", "fold", "dense_seed", "seed"]
ours = done[done["method"] == proposed].set_index(keys)["test_wer"].rename("ours")
rivals = [method for method in rival_names(evaluation) if not method.endswith("_post")]
pairs = done[done["method"].isin(rivals)].join(ours, on=keys).dropna(subset=["ours"])
pairs["gap"] = 100 * (pairs["ours"] - pairs["test_wer"])
figure, panels = plt.subplots(1, len(corpora), figsize=(5.4 * len(corpora), 3.8), layout="constrained", squeeze=False)
for axes, corpus in zip(panels[0], corpora, strict=True):
    here = pairs[pairs["corpus"] == corpus]
    levels = sorted(here["sparsity_requested"].unique())
    for shift, method in enumerate(rivals):
        part = here[here["method"] == method]
        across = np.searchsorted(levels, part["sparsity_requested"]) + 0.6 * (shift / max(1, len(rivals) - 1) - 0.5)
        look = style[method]
        axes.scatter(across, part["gap"], color=look.colour, marker=look.marker, s=20, alpha=0.8, label=method)
    axes.axhline(0, color="0.5", linewidth=0.8)
    axes.set_xticks(range(len(levels)), [f"{100 * level:g} %" for level in levels])
    axes.set(title=corpus, ylabel=f"WER of {proposed} minus rival's")
panels[0][0].legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# ## What they recognise
# If the trials themselves are at hand: the test utterances that the proposed method gets most wrong at the highest
# sparsity, beside those of its best rival in the paired run.

# %%
highest = evaluation.verdicts.dropna(subset=["best_rival", "difference"])
highest = highest[(highest["proposed"] == proposed) & highest["corpus"].isin(corpora)]
if len(highest):
    verdict = highest.sort_values(["sparsity_requested", "budget"]).iloc[-1]
    where = ["corpus", "budget", "sparsity_requested"]
    cell = done[(done[where] == verdict[where]).all(axis=1)]
    first, second = (cell[cell["method"] == method] for method in (proposed, verdict["best_rival"]))
    pair = first.merge(second, on=["fold", "dense_seed", "seed"]).iloc[0]
    names = {proposed: pair["trial_id_x"], verdict["best_rival"]: pair["trial_id_y"]}
    try:
        recognised = [cspbench.trial(trial, ROOT).hypotheses.set_index("id") for trial in names.values()]
    except CspbenchError as error:
        print(error)
    else:
        worst = recognised[0].sort_values("edits", ascending=False).index[:8]
        sides = {method: own.loc[worst, "hypothesis"] for method, own in zip(names, recognised, strict=True)}
        with pd.option_context("display.max_colwidth", None):
            display(pd.DataFrame({"reference": recognised[0].loc[worst, "reference"]} | sides).reset_index(drop=True))  # noqa: F821 - Jupyter's

# %% [markdown]
# ## Do the committed errors give the committed numbers?
# The tests are made again from `errors.csv` and must agree with `tests.csv`. With other word errors, a changed seed of
# the bootstrap or a changed method of testing they would not.

# %%
columns = ["corpus", "kind", "budget", "sparsity_requested", "rival", "difference", "p_exact", "z_mapsswe"]
if (FOLDER / "errors.csv").is_file():
    again = evaluate_finals(finals, recorded_errors(FOLDER), proposed, resamples=200).tests  # the columns draw nothing
    pd.testing.assert_frame_equal(again[columns], evaluation.tests[columns], rtol=1e-4, atol=1e-9)
    print(f"{len(again)} tests made again from {FOLDER / 'errors.csv'}: they agree")
