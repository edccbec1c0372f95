"""Modules of Triton kernels on a machine without a GPU: interpreted, or compiled to machine code without a launch."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@contextmanager
def interpreted(module: ModuleType) -> Iterator[ModuleType]:
    """The module with its kernels interpreted, whatever has imported it before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        yield importlib.reload(module)
    importlib.reload(module)


def machine_code(
    module: ModuleType, kinds: Sequence[str], constants: Mapping[str, Any], capability: int, warps: int, cache: Path
) -> bytes:
    """Machine code of the module's `_walk` for a GPU, by the assembler that Triton brings.

    Args:
        module: of the kernel.
        kinds: of its arguments, in Triton's notation.
        constants: by argument.
        capability: of the GPU, ten times its major number plus its minor one.
        warps: of a program.
        cache: an empty folder.
    """
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TRITON_INTERPRET", raising=False)
        patch.setenv("TRITON_CACHE_DIR", str(cache))
        kernel = importlib.reload(module)._walk
        signature = dict(zip(kernel.arg_names, [*kinds, *["constexpr"] * len(constants)], strict=True))
        source = ASTSource(kernel, signature, constexprs=dict(constants))
        return compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": warps}).asm["cubin"]
