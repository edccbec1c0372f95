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
# # Prune a model of one's own
#
# Any torch model, in any training loop: `cspbench.Pruner` hooks into the optimiser. Then the pruned model is packed and
# timed. No sweep and no corpus is needed.

# %%
import copy
from functools import partial

import pandas as pd
import torch
from torch import nn

import cspbench
from cspbench.runtime import packed, packed_layers

torch.manual_seed(0)
torch.set_num_threads(1)


# %% [markdown]
# The model is a GRU that tells ten patterns apart, each hidden in noise. Put your own in its place.


# %%
class Classifier(nn.Module):
    """Scores of ten patterns, (N, 10), from sequences of (N, T, 40)."""

    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(40, 256, batch_first=True)
        self.scores = nn.Linear(256, 10)

    def forward(self, x):
        return self.scores(self.gru(x)[0][:, -1])


patterns = torch.randn(10, 20, 40)


def batch(number, size=16):
    """Sequences (N, 20, 40) and the pattern in each, (N,); equal for equal numbers."""
    generator = torch.Generator().manual_seed(number)
    labels = torch.randint(0, 10, (size,), generator=generator)
    return patterns[labels] + 4 * torch.randn(size, 20, 40, generator=generator), labels


def train(model, steps, **pruning):
    """Train a model; returns the report of the pruner, None without pruning."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    pruner = cspbench.Pruner(model, optimizer, steps=steps, **pruning) if pruning else None
    for step in range(steps):
        x, labels = batch(step)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()
    return pruner.finish() if pruner else None


@torch.no_grad()
def error(model):
    """Fraction of wrong answers on sequences that no model was trained on."""
    x, labels = batch(10**6, 1000)
    return (model(x).argmax(1) != labels).float().mean().item()


dense = Classifier()
train(dense, 150)
f"{100 * error(dense):.1f} % wrong"

# %% [markdown]
# Each method begins with the trained model and trains it on. `calibration` runs the model on some batches: methods
# such as `csp` measure the inputs of its layers then.

# %%
pruned, rows = {}, []
for method in ("csp", "magnitude", "random"):
    model = pruned[method] = copy.deepcopy(dense)
    calibration = partial(map, model, [batch(2000 + number)[0] for number in range(8)])
    report = train(model, 80, method=method, sparsity=0.95, calibration=calibration)
    rows.append({"method": method, "zeros %": 100 * report.sparsity, "wrong %": 100 * error(model)})
pd.DataFrame(rows).round(1)

# %% [markdown]
# `finish` returns a report with the zeros of every matrix, here that of the last method:

# %%
print(report)

# %% [markdown]
# ## Is it faster?
#
# `packed` keeps the layers that are faster without their zeros, in the format that was measured to be fastest here.
# `latency` times callables in turns, and says whether the machine was quiet enough to believe it.

# %%
model = pruned["csp"].eval()
fast = packed(model)
pd.DataFrame(packed_layers(fast)).round(2)

# %%
x = batch(0, 1)[0]
with torch.inference_mode():
    found = cspbench.latency({"torch": lambda: model(x), "packed": lambda: fast(x)}, repeats=5)
print(f"packed: {found.ratios['torch/packed'].value:.1f} times as fast as torch; quiet: {found.noise.conclusive}")
