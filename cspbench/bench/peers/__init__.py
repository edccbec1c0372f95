"""Engines for LSTM steps and linear layers, those of others and ours, all behind one interface."""

from __future__ import annotations

from cspbench.bench.peers import block_kernels, linear, mkl, native, onnx_runtime, openvino_peer, torch_peers
from cspbench.bench.peers.engine import AbsentError, Contestant, StepEngine

CONTESTANTS: list[Contestant] = [
    *torch_peers.CONTESTANTS,
    *mkl.CONTESTANTS,
    *onnx_runtime.CONTESTANTS,
    *openvino_peer.CONTESTANTS,
    *native.CONTESTANTS,
    *linear.CONTESTANTS,
    *block_kernels.CONTESTANTS,
]
"""All, in the order of the table."""

__all__ = ["CONTESTANTS", "AbsentError", "Contestant", "StepEngine"]
