"""Copy the tables and figures of a finished comparison to where they are kept, with what they were computed on.

    cspbench compare FILE --root ROOT --json > written.json
    python analysis/publish_comparison.py written.json ROOT RESULTS

RESULTS receives `computed_on.json` besides: number of final trials by device, torch, and the commit. A comparison with
trials missing is left where it is.
"""

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
import torch

from cspbench.store import Store, read_json


def publish(written: Path, root: Path, results: Path) -> None:
    files = [Path(name) for name in json.loads(written.read_text())["files"]]
    finals = pd.read_csv(next(path for path in files if path.name == "finals.csv"))
    missing = int((finals["state"] != "complete").sum())
    if missing:
        print(f"{missing} of {len(finals)} final trials are missing: {results} stays as it is")
        return
    results.mkdir(parents=True, exist_ok=True)
    for path in files:
        shutil.copy(path, results / path.name)
    store = Store(root)
    devices = Counter(read_json(store.trial(id).result)["device"] for id in finals["trial_id"])
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    facts = {"devices": dict(devices), "torch": torch.__version__, "commit": commit or None}
    (results / "computed_on.json").write_text(json.dumps(facts, indent=2) + "\n")
    print(f"{len(files)} files in {results}; computed on {', '.join(devices)}")


if __name__ == "__main__":
    publish(*map(Path, sys.argv[1:]))
