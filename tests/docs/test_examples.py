"""The scripts in examples/ run and print what they promise."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.skipif(
    find_spec("transformers") is None, reason="TRANSFORMERS ABSENT: pip install 'cspbench[transformers]'"
)
def test_wav2vec2_is_pruned_in_a_loop_of_its_own() -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "wav2vec2_ctc.py"], check=False, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    assert "csp: 80.00% of 18,976 weights are zero, step 12/12" in done.stdout
    assert "encoder.layers.1.attention.out_proj.weight" in done.stdout
