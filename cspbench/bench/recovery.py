"""Sparse recovery of many rows: `cspbench.sensing` beside scikit-learn, at equal accuracy.

The problems: rows of random sparse entries, measured by one gaussian operator, with noise. The LASSO solvers face
``Lasso`` (coordinate descent), the greedy ones ``orthogonal_mp_gram``, both in a loop with one fit a row and the Gram
computed beforehand, as ours is. Two more peers show other ways of scikit-learn: ``lars_path_gram`` (the LASSO by
least angle regression), and ``orthogonal_mp_gram`` in a single call for all rows.
"""

from __future__ import annotations

import importlib
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cspbench import sensing
from cspbench.bench import Benchmark, interleaved, machine, median_ratio
from cspbench.errors import CspbenchError

NOISE = 0.01
"""Norm of the noise, as a fraction of that of the measurements."""

PENALTY = 0.1
"""Weight of the l1 norm, as a fraction of the weight that leaves nothing of a row."""

Solve = Callable[[], Tensor]


@dataclass(frozen=True)
class Signals:
    """Sparse signals to recover, one a row.

    Attributes:
        operator: sensing operator, shape (q, n).
        measurements: shape (rows, q), with noise.
        correlations: shape (rows, n).
        penalty: of the LASSO, shape (rows, 1).
        nonzeros: entries of each row that are not zero.
    """

    operator: sensing.Operator
    measurements: Tensor
    correlations: Tensor
    penalty: Tensor
    nonzeros: int


def make_signals(rows: int, columns: int, nonzeros: int, ratio: float, seed: int, device: str = "cpu") -> Signals:
    """Rows of `nonzeros` normal entries at random places, measured by ``ratio * columns`` gaussian rows."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(rows, columns, generator=generator)
    truth = values * sensing.keep_largest(torch.rand(values.shape, generator=generator), nonzeros)
    operator = sensing.random_operator("gaussian", columns, ratio, seed + 1, device)
    exact = operator.measure(truth.to(device))
    noise = torch.randn(exact.shape, generator=generator).to(device)
    measurements = exact + NOISE * noise * exact.norm(dim=1, keepdim=True) / noise.norm(dim=1, keepdim=True)
    correlations = operator.adjoint(measurements)
    penalty = PENALTY * correlations.abs().amax(1, keepdim=True)
    return Signals(operator, measurements, correlations, penalty, nonzeros)


def lasso_solvers(signals: Signals) -> dict[str, Solve]:
    """Ours, each at its cheapest setting that is at least as accurate as the peer."""
    o, b, penalty = signals.operator, signals.correlations, signals.penalty
    return {
        "ista": lambda: sensing.ista(o, b, penalty, tolerance=1e-6, polish=20).solution,
        "fista": lambda: sensing.fista(o, b, penalty, tolerance=1e-6, polish=8).solution,
        "admm": lambda: sensing.admm(o, b, penalty, tolerance=1e-6, polish=8).solution,
        "amp": lambda: sensing.amp(o, b, penalty, tolerance=1e-6, polish=5).solution,
    }


def greedy_solvers(signals: Signals) -> dict[str, Solve]:
    """Ours, constrained to the number of entries."""
    o, b, count = signals.operator, signals.correlations, signals.nonzeros
    rule = sensing.keep_per_row(count)
    return {
        "iht": lambda: sensing.iht(o, b, rule, tolerance=1e-4).solution,
        "htp": lambda: sensing.htp(o, b, rule, iterations=10).solution,
        "cosamp": lambda: sensing.cosamp(o, b, count, iterations=10).solution,
        "omp": lambda: sensing.omp(o, b, count).solution,
    }


def peers(signals: Signals) -> dict[str, Solve]:
    """scikit-learn on the same numbers.

    Raises:
        CspbenchError: it is not installed.
    """
    try:
        linear = importlib.import_module("sklearn.linear_model")
    except ImportError as error:
        raise CspbenchError("the benchmark compares with scikit-learn: pip install scikit-learn") from error
    phi = signals.operator.measure(torch.eye(signals.operator.columns, device=signals.operator.device)).T
    design, y = np.asfortranarray(phi.cpu().numpy()), signals.measurements.cpu().numpy()
    gram = np.ascontiguousarray(design.T @ design)
    correlations = np.asfortranarray((y @ design).T)
    penalties, count = signals.penalty[:, 0].tolist(), signals.nonzeros

    def lasso() -> Tensor:
        found = np.empty((len(y), design.shape[1]), dtype=np.float32)
        for row, penalty in enumerate(penalties):
            # Its objective is ours over the number of measurements.
            model = linear.Lasso(alpha=penalty / len(design), fit_intercept=False, precompute=gram, copy_X=False)
            found[row] = model.fit(design, y[row]).coef_
        return torch.from_numpy(found)

    def lars() -> Tensor:
        found = np.empty((len(y), design.shape[1]), dtype=np.float32)
        for row, penalty in enumerate(penalties):
            found[row] = linear.lars_path_gram(
                correlations[:, row],
                gram,
                n_samples=len(design),
                alpha_min=penalty / len(design),
                method="lasso",
                return_path=False,
            )[2]
        return torch.from_numpy(found)

    def pursuit() -> Tensor:
        each = [linear.orthogonal_mp_gram(gram, target, n_nonzero_coefs=count) for target in correlations.T]
        return torch.from_numpy(np.stack(each))

    def pursuit_at_once() -> Tensor:
        return torch.from_numpy(linear.orthogonal_mp_gram(gram, correlations, n_nonzero_coefs=count).T)

    return {"lasso": lasso, "lars": lars, "omp": pursuit, "omp_one_call": pursuit_at_once}


def run(
    rows: int = 1024,
    columns: int = 640,
    nonzeros: int = 32,
    ratio: float = 0.5,
    repeats: int = 3,
    seed: int = 0,
    device: str = "cpu",
) -> Benchmark:
    """Time every solver and every peer, interleaved.

    Args:
        rows: signals.
        columns: length of each.
        nonzeros: entries of each that are not zero.
        ratio: measurements per column.
        repeats: measured rounds.
        seed: of the problems.
        device: where ours run; scikit-learn stays on the CPU.

    Raises:
        CspbenchError: scikit-learn is not installed.
    """
    signals = make_signals(rows, columns, nonzeros, ratio, seed, device)
    theirs = peers(signals)
    prepare(signals)
    measured: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    groups = (
        (lasso_solvers(signals), {"sklearn": "lasso", "lars": "lars"}, lasso_gap),
        (greedy_solvers(signals), {"sklearn": "omp", "omp_one_call": "omp_one_call"}, misfit),
    )
    for ours, against, inaccuracy in groups:
        found: dict[str, Tensor] = {}
        entrants = ours | {f"sklearn {peer}": theirs[peer] for peer in against.values()}
        times = interleaved({name: _keeping(found, name, solve, device) for name, solve in entrants.items()}, repeats)
        measured += [_row(name, times[name], inaccuracy(signals, x)) for name, x in found.items()]
        for label, peer in against.items():
            ratios |= {f"ours/{label}@{name}": median_ratio(times[f"sklearn {peer}"], times[name]) for name in ours}
    return Benchmark(measured, ratios, _protocol(signals, repeats))


def prepare(signals: Signals) -> None:
    """Compute what an operator keeps: Gram, step size, factorisation. The peers get their Gram beforehand, too."""
    operator = signals.operator
    operator.gram()
    operator.resolvent(signals.correlations[:1], operator.mean_curvature)
    operator.normal(signals.correlations[:1] / operator.lipschitz)


def lasso_gap(signals: Signals, x: Tensor) -> dict[str, float]:
    """Largest relative duality gap of a row, in 64 bits: a bound on how far its objective is from the least one."""
    x = x.double().to(signals.measurements.device)
    y, penalty = signals.measurements.double(), signals.penalty[:, 0].double()
    phi = signals.operator.measure(torch.eye(x.shape[1], device=x.device)).T.double()
    residual = y - x @ phi.T
    # Scaled until no correlation exceeds the penalty, a residual is feasible in the dual signals.
    scaled = residual * (penalty / (residual @ phi).abs().amax(1)).clamp_max(1)[:, None]
    primal = residual.square().sum(1) / 2 + penalty * x.abs().sum(1)
    dual = y.square().sum(1) / 2 - (y - scaled).square().sum(1) / 2
    return {"gap": float(((primal - dual) / primal).max())}


def misfit(signals: Signals, x: Tensor) -> dict[str, float]:
    """Mean over rows of ``||x Phi^T - y|| / ||y||``."""
    y = signals.measurements
    found = signals.operator.measure(x.to(y.device, y.dtype))
    return {"misfit": float(((found - y).norm(dim=1) / y.norm(dim=1)).mean())}


def _keeping(found: dict[str, Tensor], name: str, solve: Solve, device: str) -> Callable[[], None]:
    def call() -> None:
        found[name] = solve()
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize()  # a call returns before its work is done

    return call


def _row(name: str, seconds: list[float], accuracy: dict[str, float]) -> dict[str, Any]:
    spread = [round(s, 5) for s in (statistics.median(seconds), min(seconds), max(seconds))]
    times = dict(zip(("median_s", "min_s", "max_s"), spread, strict=True))
    return {"solver": name, **times, "gap": None, "misfit": None} | accuracy


def _protocol(signals: Signals, repeats: int) -> dict[str, Any]:
    rows, columns = signals.correlations.shape
    return machine() | {
        "scikit_learn": importlib.import_module("sklearn").__version__,
        "device": str(signals.operator.device),
        "dtype": "fp32, both sides",
        "rows": rows,
        "columns": columns,
        "measurements": signals.operator.measurements,
        "nonzeros": signals.nonzeros,
        "noise": NOISE,
        "penalty": f"{PENALTY} of that which leaves nothing",
        "repeats": repeats,
        "ratios": "scikit-learn's seconds / ours, all rows; median over rounds of all solvers",
        "sklearn": "lasso, lars, omp: a loop over all rows, one fit a row, default tolerances; omp_one_call: all rows",
        "prepared": "both sides have their Gram; ours also step size and ADMM's factorisation",
        "gap": "LASSO: largest relative duality gap of a row, in 64 bits",
        "misfit": "greedy: mean of ||x Phi^T - y|| / ||y||",
    }
