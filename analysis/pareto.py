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
# # A study of pruned speech recognisers
#
# Reads a finished (or running) sweep through `cspbench` and looks at it: word error rate, sparsity and latency against
# each other, what training did, which layers were pruned, and what the recognisers hear. Open it with
# `jupytext --to notebook analysis/pareto.py`, or in an editor that knows `# %%` cells.
#
# Everything is chosen on dev and shown on test. Which study: set `CSPBENCH_STUDY` (and `CSPBENCH_ROOT` if the results
# do not lie in `./runs`), or change the next cell.

# %%
import os

STUDY = os.environ.get("CSPBENCH_STUDY", "rnnt")
ROOT = os.environ.get("CSPBENCH_ROOT", "runs")
METHOD, RIVAL = "csp", "magnitude"  # compared in the last section

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import cspbench
from cspbench.report.figures import PANELS, draw, heading, legend_handles, looks
from cspbench.report.results import load_curve, load_hypotheses, load_result
from cspbench.report.significance import compare_trials
from cspbench.report.table import display_rows, fronts, select_on_dev, summary
from cspbench.store import Store

store = Store(ROOT)
trials = cspbench.load_results(STUDY, ROOT)
chosen = select_on_dev(trials)
table = summary(trials)
style = looks(chosen["method"])
assert len(chosen), f"no trial of study '{STUDY}' has finished: {trials['state'].value_counts().to_dict()}"
print(heading(trials, STUDY))
trials["state"].value_counts()

# %% [markdown]
# ## Methods by sparsity
# The setting with the best dev WER of each cell; WER on test with its 95 % interval, means over seeds.

# %%
pd.DataFrame(display_rows(table))

# %% [markdown]
# ## WER, sparsity, latency
# Rings mark the Pareto front; bars are 95 % intervals (of a latency: up to the 95th percentile).

# %%
for _, part in trials.groupby("corpus"):
    figure, axes = plt.subplots(1, 3, figsize=(14, 4.9), layout="constrained")
    for panel, place in zip(PANELS, axes, strict=True):
        draw(place, part, panel)
    figure.suptitle(heading(part, STUDY))
    handles = legend_handles(part)
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    plt.show()

# %% [markdown]
# What lies on a front:

# %%
fronts(table)[["wer_vs_sparsity", "wer_vs_latency", "corpus", "method", "sparsity_requested", "test_wer", "latency_ms"]]

# %% [markdown]
# ## Dev against test
# Selection on dev is only worth something if dev foretells test. Each dot is a trial, chosen or not.

# %%
done = trials[trials["state"] == "complete"]
figure, axes = plt.subplots(figsize=(4.6, 4.4), layout="constrained")
for method, part in done.groupby("method"):
    look = style[method]
    axes.scatter(100 * part["dev_wer"], 100 * part["wer"], color=look.colour, marker=look.marker, s=22, label=method)
limit = 100 * done[["dev_wer", "wer"]].max().max() * 1.05
axes.plot([0, limit], [0, limit], color="0.6", linewidth=0.8)
axes.set(xlabel="dev WER (%)", ylabel="test WER (%)")
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# ## Training
# Dev WER and sparsity over the pruning run, at the highest sparsity of the study; one line a seed.

# %%
highest = chosen[chosen["sparsity_requested"] == chosen["sparsity_requested"].max()]
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
for row in highest.itertuples():
    curve = load_curve(store, row.trial_id)
    for axes, quantity in ((left, "dev_wer"), (right, "sparsity")):
        if quantity in curve:
            known = curve.dropna(subset=[quantity])
            axes.plot(known["step"], 100 * known[quantity], color=style[row.method].colour, alpha=0.8)
left.set(xlabel="step", ylabel="dev WER (%)", title=f"at {100 * highest['sparsity_requested'].max():g} % sparsity")
right.set(xlabel="step", ylabel="sparsity (%)")
left.legend(handles=legend_handles(highest)[:-2], frameon=False)
plt.show()

# %% [markdown]
# ## Where the zeros are
# Sparsity of each layer (%), mean over seeds, at the highest sparsity: does a method spare some layers?

# %%
layers = pd.DataFrame(
    [{"method": row.method, **load_result(store, row.trial_id).layer_sparsity} for row in highest.itertuples()]
)
(100 * layers.groupby("method").mean()).T.round(1)

# %% [markdown]
# ## What they hear
# The utterances that the method gets most wrong at the highest sparsity, beside what its rival heard.

# %%
methods = [method for method in (METHOD, RIVAL) if method in set(highest["method"])] or [highest["method"].iloc[0]]
heard = [load_hypotheses(store, highest[highest["method"] == method]["trial_id"].iloc[0]) for method in methods]
worst = heard[0].sort_values("edits", ascending=False).head(8)[["id", "reference"]]
for method, hypotheses in zip(methods, heard, strict=True):
    columns = {"hypothesis": method, "edits": f"{method} edits"}
    worst = worst.merge(hypotheses[["id", *columns]].rename(columns=columns), on="id")
with pd.option_context("display.max_colwidth", None):
    display(worst)  # noqa: F821 - Jupyter's

# %% [markdown]
# ## Is the difference real?
# Paired bootstrap over test utterances, errors averaged over seeds: negative differences favour the first method.

# %%
rows = []
for (corpus, sparsity), cell in chosen.groupby(["corpus", "sparsity_requested"]):
    ours, theirs = (cell[cell["method"] == method]["trial_id"].tolist() for method in (METHOD, RIVAL))
    if ours and theirs:
        test = compare_trials(store, ours, theirs)
        rows.append(
            {
                "corpus": corpus,
                "sparsity %": 100 * sparsity,
                f"{METHOD} WER %": 100 * test.wer_a,
                f"{RIVAL} WER %": 100 * test.wer_b,
                "difference": 100 * test.difference,
                "95 % interval": f"[{100 * test.low:.2f}, {100 * test.high:.2f}]",
                "p": test.p_value,
            }
        )
significance = pd.DataFrame(rows).round(4)
display(significance)  # noqa: F821 - Jupyter's

# %%
if rows:
    figure, axes = plt.subplots(figsize=(6, 0.5 * len(rows) + 1.4), layout="constrained")
    places = np.arange(len(rows))
    axes.axvline(0, color="0.6", linewidth=0.8)
    axes.plot(significance["difference"], places, "o", color=style[METHOD].colour)
    bounds = np.array([row["95 % interval"].strip("[]").split(", ") for row in rows], dtype=float)
    axes.hlines(places, *bounds.T, color=style[METHOD].colour)
    axes.set_yticks(places, [f"{row['corpus']} at {row['sparsity %']:g} %" for row in rows])
    axes.set(xlabel=f"WER of {METHOD} minus WER of {RIVAL} (percentage points)", ylim=(-0.6, len(rows) - 0.4))
    plt.show()
