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
# each other, training curves, the sparsity of layers, and hypotheses. Open it with
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
import pandas as pd

from cspbench import report

trials = report.load_results(STUDY, ROOT)
chosen = report.select_on_dev(trials)
assert len(chosen), f"no trial of study '{STUDY}' has finished: {trials['state'].value_counts().to_dict()}"
print(report.heading(trials, STUDY))
trials["state"].value_counts()

# %% [markdown]
# ## Methods by sparsity
# The setting with the best dev WER of each cell; WER on test with its 95 % interval, means over seeds.

# %%
table = report.summary(trials)
pd.DataFrame(report.display_rows(table))

# %% [markdown]
# ## WER, sparsity, latency
# Rings mark the Pareto front; bars are 95 % intervals (of a latency: up to the 95th percentile).

# %%
for _, part in trials.groupby(["corpus", "schema"]):
    figure, axes = plt.subplots(1, 3, figsize=(14, 4.9), layout="constrained")
    report.plot_wer_vs_sparsity(part, axes[0])
    report.plot_wer_vs_latency(part, axes[1])
    report.plot_latency_vs_sparsity(part, axes[2])
    figure.suptitle(report.heading(part, STUDY))
    handles = report.legend_handles(part)
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    plt.show()

# %% [markdown]
# What lies on a front:

# %%
fronts = ["wer_vs_sparsity", "wer_vs_latency", "wer_vs_size"]
report.fronts(table)[[*fronts, "corpus", "method", "sparsity_requested", "test_wer", "latency_ms", "size_bytes"]]

# %% [markdown]
# ## Dev against test
# Selection on dev is only worth something if dev foretells test. Each dot is a trial, chosen or not.

# %%
plt.figure(figsize=(4.6, 4.4), layout="constrained")
report.plot_dev_vs_test(trials)
plt.show()

# %% [markdown]
# ## Training
# Dev WER and sparsity over the pruning run, at the highest sparsity of the study; one line a seed.

# %%
highest = chosen[chosen["sparsity_requested"] == chosen["sparsity_requested"].max()]
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
curves = report.load_curves(STUDY, ROOT).query("trial_id in @highest.trial_id")
report.plot_curves(curves, "dev_wer", left)
report.plot_curves(curves, "sparsity", right)
figure.suptitle(f"at {100 * highest['sparsity_requested'].max():g} % sparsity")
plt.show()

# %% [markdown]
# ## Sparsity of the layers
# Fraction of zeros of each layer (%), mean over seeds, at the highest sparsity.

# %%
layers = report.load_layers(STUDY, ROOT).query("trial_id in @highest.trial_id")
plt.figure(figsize=(7, 4), layout="constrained")
report.plot_layers(layers)
plt.show()

# %% [markdown]
# ## Hypotheses
# The utterances that the method gets most wrong at the highest sparsity, beside the hypotheses of its rival.

# %%
methods = [method for method in (METHOD, RIVAL) if method in set(highest["method"])] or [highest["method"].iloc[0]]
texts = report.load_hypotheses(STUDY, ROOT).query("trial_id in @highest.trial_id")
decoded = [texts[(texts["method"] == m) & (texts["seed"] == texts["seed"].min())] for m in methods]
worst = decoded[0].sort_values("edits", ascending=False).head(8)[["id", "reference"]]
for method, hypotheses in zip(methods, decoded, strict=True):
    columns = {"hypothesis": method, "edits": f"{method} edits"}
    worst = worst.merge(hypotheses[["id", *columns]].rename(columns=columns), on="id")
with pd.option_context("display.max_colwidth", None):
    display(worst)  # noqa: F821 - Jupyter's

# %% [markdown]
# ## Is the difference real?
# Paired bootstrap over test utterances, errors averaged over seeds: negative differences favour the first method.

# %%
found = {}
for (corpus, version, sparsity), cell in chosen.groupby(["corpus", "schema", "sparsity_requested"]):
    ours, theirs = (cell[cell["method"] == method]["trial_id"].tolist() for method in (METHOD, RIVAL))
    if ours and theirs:
        found[corpus, version, 100 * sparsity] = report.compare_trials(ours, theirs, ROOT)
significance = pd.DataFrame(
    [
        {
            "corpus": corpus,
            "sparsity %": sparsity,
            f"{METHOD} WER %": 100 * test.wer_a,
            f"{RIVAL} WER %": 100 * test.wer_b,
            "difference": 100 * test.difference,
            "95 % interval": f"[{100 * test.low:.2f}, {100 * test.high:.2f}]",
            "p": test.p_value,
        }
        for (corpus, _, sparsity), test in found.items()
    ]
).round(4)
display(significance)  # noqa: F821 - Jupyter's

# %%
if found:
    plt.figure(figsize=(6, 0.5 * len(found) + 1.4), layout="constrained")
    labels = [f"{corpus} at {sparsity:g} %" for corpus, _, sparsity in found]
    axes = report.plot_differences(list(found.values()), labels)
    axes.set_title(f"WER of {METHOD} minus WER of {RIVAL}")
    plt.show()
