"""Latency, measured so that it can be believed, or said that it cannot.

``measure`` holds the protocol, ``engines`` what takes part, ``noise`` the doubts; ``run`` is the command line's and
``trial`` the sweep's way in. Only what needs no torch is imported here.
"""

from cspbench.machine.cpu import machine, pinned, processor_name

__all__ = ["machine", "pinned", "processor_name"]
