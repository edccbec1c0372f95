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
# # A pruning method of one's own in 20 lines
#
# A method says which weights matter least. Everything else (the ramp, exact counts, masks that hold, resuming,
# hyperparameters that a sweep can search) comes with the base class.

# %%
from typing import Annotated

import pandas as pd
import torch
from pydantic import Field

import cspbench
from cspbench.hyper import Search
from cspbench.pruning import RampedMethod, describe_methods, register
from cspbench.pruning.bases import RampParams


@register("fair_rows")
class FairRows(RampedMethod):
    """Compare a weight with the others of its row: no output loses all its inputs."""

    class Params(RampParams):
        """Options of this method, beside those of the ramp."""

        power: Annotated[float, Search(0.0, 1.0)] = Field(
            0.5, ge=0, le=1, description="0: magnitude alone; 1: relative to the row"
        )

    summary = "magnitude, relative to the mean of the row"
    source = "this notebook"

    def _scores(self):
        sizes = {name: weight.detach().abs() for name, weight in self.context.weights.items()}
        return {n: size / size.mean(dim=1, keepdim=True) ** self.params.power for n, size in sizes.items()}


# %% [markdown]
# That is all. Any training loop can use it: `Pruner` hooks into the optimiser. Here is a small regression in which
# some inputs matter much more than others.

# %%
torch.manual_seed(0)
inputs = torch.randn(2000, 64) * torch.linspace(0.1, 2, 64)
targets = torch.tanh(inputs @ torch.randn(64, 8) / 8)


def train(method, sparsity, steps=600):
    """Train a small network, pruned by a method; returns its error and the zeros of each layer."""
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 8))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    pruner = cspbench.Pruner(model, optimizer, method=method, sparsity=sparsity, steps=steps)
    for step in range(steps):
        batch = torch.randint(0, 1600, (64,), generator=torch.Generator().manual_seed(step))
        loss = (model(inputs[batch]) - targets[batch]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    pruner.finish()
    with torch.no_grad():
        error = (model(inputs[1600:]) - targets[1600:]).square().mean().item()
    return error, [round((layer.weight == 0).float().mean().item(), 3) for layer in (model[0], model[2])]


# %%
rows = [
    {"method": method, "sparsity": sparsity, "error": error, "zeros of the layers": zeros}
    for sparsity in (0.8, 0.9, 0.95)
    for method in ("fair_rows", "magnitude", "random")
    for error, zeros in [train(method, sparsity)]
]
pd.DataFrame(rows).round(4)

# %% [markdown]
# In a sweep file it is one more line under `methods:`. Put the class into a package of your own and name it in the
# entry points `cspbench.methods`, so that every process finds it: see `docs/howto/method.md`. Its hyperparameters
# describe themselves:

# %%
next(method for method in describe_methods() if method.name == "fair_rows").options[-1]
