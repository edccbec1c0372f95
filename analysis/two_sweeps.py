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
# # Two sweeps side by side
#
# Did a change of the recipe help, and is the difference more than noise? Both sweeps lie in one results folder, or in
# two: a source is the name of a study, a folder of results, or the address of an MLflow server. Set
# `CSPBENCH_BEFORE` and `CSPBENCH_AFTER`, or change the next cell. Here: do three epochs of pruning (`make sweep`)
# help over one (`cspbench sweep sweeps/rnnt.yaml --set name=rnnt_short --set prune.epochs=1 --set sparsity=[0.9]
# --set methods=[csp,magnitude]`)?

# %%
import os

BEFORE = os.environ.get("CSPBENCH_BEFORE", "runs/studies/rnnt_short")
AFTER = os.environ.get("CSPBENCH_AFTER", "runs/studies/rnnt")

# %%
import matplotlib.pyplot as plt
import pandas as pd

from cspbench import report

sweeps = {"before": report.load_results(BEFORE), "after": report.load_results(AFTER)}
for name, frame in sweeps.items():
    print(f"{name}: {report.heading(frame, frame['study'].iloc[0])}, {len(frame)} trials")

# %% [markdown]
# ## Methods by sparsity
# Test WER (%) of the setting that is best on dev; means over seeds.

# %%
tables = {name: report.summary(frame) for name, frame in sweeps.items()}
cells = {
    name: table.set_index(["method", "sparsity_requested"])[["test_wer", "size_bytes", "latency_ms"]]
    for name, table in tables.items()
}
(100 * pd.concat({name: cell["test_wer"] for name, cell in cells.items()}, axis=1)).round(1)

# %%
figure, axes = plt.subplots(1, 2, figsize=(9.5, 4), sharey=True, layout="constrained")
for one, (name, frame) in zip(axes, sweeps.items(), strict=True):
    report.plot_wer_vs_sparsity(frame, one).set_title(name)
handles = report.legend_handles(pd.concat(sweeps.values()))
figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
plt.show()

# %% [markdown]
# ## Is the difference real?
# A paired bootstrap over the test utterances, where both sweeps were tested on the same ones. Negative: the second
# sweep is better. With many rows some are small by chance: the p-values are corrected for their number (Holm).

# %%
sources = {"before": BEFORE, "after": AFTER}
chosen = {name: set(report.select_on_dev(frame)["trial_id"]) for name, frame in sweeps.items()}
texts = {name: report.load_hypotheses(source).query("trial_id in @chosen[@name]") for name, source in sources.items()}


def errors(name, method, sparsity):
    """Word errors of each utterance, means over seeds."""
    own = texts[name].query("method == @method and sparsity_requested == @sparsity")
    return own.groupby("id").agg(edits=("edits", "mean"), words=("words", "first"), reference=("reference", "first"))


rows = []
for method, sparsity in cells["after"].index.intersection(cells["before"].index):
    if method == "dense":
        continue
    after, before = (errors(name, method, sparsity) for name in ("after", "before"))
    if not after["reference"].equals(before["reference"]):
        print(f"{method} at {100 * sparsity:g} %: not tested on the same utterances")
        continue
    test = report.paired_bootstrap(after["edits"], before["edits"], after["words"])
    rows.append((method, 100 * sparsity, 100 * test.difference, 100 * test.low, 100 * test.high, test.p_value))
tests = pd.DataFrame(rows, columns=["method", "sparsity %", "after − before", "low", "high", "p"])
tests.assign(corrected=report.holm(tests["p"])).round(4)
