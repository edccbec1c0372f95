"""Access to the native module, which may be absent.

It is compiled when cspbench is installed. On a machine without a compiler the package installs without it: packed
models then run as CSR matrices of torch, which is slower.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from types import ModuleType

from cspbench.errors import CspbenchError

_REMEDY = "install a C++17 compiler (Debian: apt install g++) and then cspbench again"


class NativeError(CspbenchError):
    """The native module is needed and absent."""


@functools.cache
def _load() -> ModuleType | ImportError:
    try:
        return importlib.import_module("cspbench.runtime._native")
    except ImportError as error:
        return error


def require(what: str) -> ModuleType:
    """Return the native module.

    Raises:
        NativeError: it is absent; the message names `what` needs it ("measuring kernels") and the remedy.
    """
    module = _load()
    if isinstance(module, ImportError):
        raise NativeError(f"{what} needs the native module of cspbench ({module}); {_REMEDY}") from module
    return module


@functools.cache
def available() -> bool:
    """Return True if packed models can run natively; warn, once in a process, if they cannot."""
    module = _load()
    if isinstance(module, ImportError):
        warnings.warn(
            f"cspbench was installed without its native module ({module}): packed models run as CSR matrices of torch, "
            f"several times slower. To have it, {_REMEDY}.",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    return True
