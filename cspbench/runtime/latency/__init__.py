"""Latency, measured with the noise of the measurement beside it.

``measure`` holds the protocol, ``engines`` the engines, ``noise`` the verdict; ``run`` serves the command line,
``paired`` the trials of a sweep, ``calls`` any callable. Only modules that need no torch are imported here.
"""

from cspbench.machine.cpu import machine, pinned, processor_name

__all__ = ["machine", "pinned", "processor_name"]
