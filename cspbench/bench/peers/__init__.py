"""LSTM engines that latency is compared with, and ours, all behind one interface."""

from __future__ import annotations

from cspbench.bench.peers import mkl, native, onnx_runtime, openvino_peer, torch_peers
from cspbench.bench.peers.engine import AbsentError, Contestant, Engine

CONTESTANTS: list[Contestant] = [
    *torch_peers.CONTESTANTS,
    *mkl.CONTESTANTS,
    *onnx_runtime.CONTESTANTS,
    *openvino_peer.CONTESTANTS,
    *native.CONTESTANTS,
]
"""All, in the order of the table."""

__all__ = ["CONTESTANTS", "AbsentError", "Contestant", "Engine"]
