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
# # CSP under the microscope
#
# Which weights `csp` removes, when it removes them, and what that costs, beside another method of the same sweep. Open
# it with `jupyter lab` (`pip install 'cspbench[notebooks]'`). Set `CSPBENCH_STUDY` and `CSPBENCH_ROOT`, or change the
# next cell.

# %%
import os

STUDY = os.environ.get("CSPBENCH_STUDY", "rnnt")
ROOT = os.environ.get("CSPBENCH_ROOT", "runs")
METHOD, RIVAL = "csp", "magnitude"

# %%
import matplotlib.pyplot as plt
import pandas as pd
from safetensors.numpy import load_file

from cspbench import report

trials = report.select_on_dev(report.load_results(STUDY, ROOT))
both = trials[trials["method"].isin([METHOD, RIVAL])]
sparsity = both["sparsity_requested"].max()
highest = both[both["sparsity_requested"] == sparsity]
print(f"{report.heading(trials, STUDY)}: {METHOD} and {RIVAL} at {100 * sparsity:g} % zeros")

# %% [markdown]
# ## When
# Zeros and dev WER during the pruning run, a point an epoch. Both follow a ramp that ends at a fraction of the steps
# (`end`); what differs is which weights are removed, and that `csp` corrects those that stay.

# %%
curves = report.load_curves(STUDY, ROOT).query("trial_id in @highest.trial_id")
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
report.plot_curves(curves, "sparsity", left)
report.plot_curves(curves, "dev_wer", right)
plt.show()

# %% [markdown]
# ## Which layers
# Both reach the same overall sparsity. Where the zeros lie is each method's own choice.

# %%
layers = report.load_layers(STUDY, ROOT).query("trial_id in @highest.trial_id")
plt.figure(figsize=(5, 3.6), layout="constrained")
report.plot_layers(layers)
plt.show()

# %% [markdown]
# ## Which weights
# Of the weights that one method keeps, how many does the other keep too? By chance it would be the fraction kept.

# %%
(ours,) = report.find_trials(f"{STUDY}/{METHOD}@{sparsity}", ROOT)[:1]
(theirs,) = report.find_trials(f"{STUDY}/{RIVAL}@{sparsity}", ROOT)[:1]
kept = {
    trial.spec.method.name: {name: w != 0 for name, w in load_file(trial.store.trial(trial.id).weights).items()}
    for trial in (ours, theirs)
}
pd.DataFrame(
    [
        {
            "layer": layer,
            f"kept by {METHOD} %": 100 * kept[METHOD][layer].mean(),
            f"kept by {RIVAL} %": 100 * kept[RIVAL][layer].mean(),
            f"of {METHOD}'s also {RIVAL}'s %": 100 * kept[RIVAL][layer][kept[METHOD][layer]].mean(),
        }
        for layer in ours.layers["layer"]
    ]
).round(1)

# %% [markdown]
# ## What it costs
# Test WER of both at every sparsity, and a paired bootstrap of the difference: negative favours the first.

# %%
found = {}
for value, cell in both.groupby("sparsity_requested"):
    ids = [cell[cell["method"] == name]["trial_id"].tolist() for name in (METHOD, RIVAL)]
    if all(ids):
        found[f"{100 * value:g} %"] = report.compare_trials(*ids, ROOT)
plt.figure(figsize=(6, 0.5 * len(found) + 1.2), layout="constrained")
axes = report.plot_differences(list(found.values()), list(found))
axes.set_title(f"WER of {METHOD} minus WER of {RIVAL}")
plt.show()

# %% [markdown]
# ## What it mishears

# %%
plt.figure(figsize=(5, 3.2), layout="constrained")
report.plot_confused_words(report.load_hypotheses(ours.id, ROOT))
plt.show()

# %% [markdown]
# ## Its settings

# %%
pd.Series(ours.spec.method.params, name="value").to_frame()
