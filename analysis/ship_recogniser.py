"""Train the recogniser that cspbench comes with: the dense one of sweeps/rnnt.yaml, written in half precision.

    python analysis/ship_recogniser.py    # two minutes of one core; a training that runs/ holds is not repeated

The hash it prints stands in the documentation and in a test: training on another machine gives another one.
"""

from pathlib import Path

from cspbench import load_config
from cspbench.store import Store
from cspbench.sweep.plan import resolve
from cspbench.training.dense import train_dense
from cspbench.training.pretrained import SHIPPED, ship

store = Store("runs")
plan = resolve(load_config(Path(__file__).parents[1] / "sweeps" / "rnnt.yaml"), store, print)
(spec,) = plan.dense_specs()
result = train_dense(spec, store, device="cpu")
print(f"dev WER {100 * result.dev.wer:.1f} %, test WER {100 * result.test.wer:.1f} % (synthetic speech)")
print("hash", ship(store.dense(spec.id), SHIPPED.dense("spoken_commands")))
