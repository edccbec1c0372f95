"""Finds the places where a host would wait for its GPU, without a GPU."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ATEN = torch.ops.aten
WAITING = {
    ATEN._local_scalar_dense,  # .item(), int(), float(), bool()
    ATEN.nonzero,
    ATEN.masked_select,
    ATEN.equal,
    ATEN.is_nonzero,
    ATEN._ctc_loss,  # brings lengths to the host, and other lengths back
}


class HostSyncs(TorchDispatchMode):
    """Notes where the values of tensors that stand for those of a device are asked for: `found`, file:line each.

    Args:
        tensors: stand for tensors on a device; whatever is computed from them does too. They lie on the CPU, so that
            there are values to go on with. Reads that avoid the dispatcher, such as `tolist` on a CPU, are not seen.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        super().__init__()
        self.found: list[str] = []
        self.mark(tensors)

    def mark(self, tensors: Iterable[Any]) -> None:
        """Take more tensors for tensors on a device."""
        for tensor in tensors:
            if isinstance(tensor, Tensor):
                tensor.lies_on_device = True  # type: ignore[attr-defined]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        operation = func.overloadpacket
        out = func(*args, **(kwargs or {}))
        if any(_marked(x) for x in tree_leaves((args, kwargs))):
            to_host = operation is ATEN.copy_ and not _marked(args[0])
            if to_host or operation in WAITING or (operation is ATEN.index and _by_mask(args[1])):
                self.found.append(f"{func} at {_caller()}")
            if not to_host:
                self.mark(tree_leaves(out))
        return out


def _marked(x: Any) -> bool:
    return hasattr(x, "lies_on_device")


def _by_mask(indices: list[Tensor | None]) -> bool:
    return any(index is not None and index.dtype == torch.bool for index in indices)


def _caller() -> str:
    with suppress(StopIteration):
        frame = next(f for f in reversed(traceback.extract_stack()) if "/cspbench/" in f.filename)
        return f"{frame.filename.rpartition('/cspbench/')[2]}:{frame.lineno}"
    return "?"
