"""cspbench: pruning of speech recognisers put to the test."""

__version__ = "0.1.0"
