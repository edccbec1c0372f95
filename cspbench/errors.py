"""Errors meant for people: what was wrong, where, and what to do about it."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable


class CspbenchError(Exception):
    """Base of every error a user can mend. The command line prints the message alone and exits with `exit_code`."""

    exit_code = 1


class ConfigError(CspbenchError):
    """A sweep file, a spec or a command-line override that cannot be used."""

    exit_code = 2


class CorpusError(CspbenchError):
    """Audio or transcripts that cannot be used; the message names file, line and remedy."""

    exit_code = 2


class InterruptedSweepError(CspbenchError):
    """A person or a cluster stopped the work; nothing finished is lost."""

    exit_code = 130

    def __init__(self) -> None:
        super().__init__("stopped; the same command goes on from here")


class PruningError(CspbenchError):
    """A request a pruning method cannot satisfy, e.g. a sparsity outside [0, 1)."""


class FileAccessError(CspbenchError):
    """A file or folder that cannot be read or written: which one, and why."""

    @classmethod
    def of(cls, error: OSError) -> FileAccessError:
        """Put an error of the operating system into words."""
        place = error.filename2 or error.filename  # of a copy, the file that is written
        where = f"{place}: " if place is not None else ""
        remedy = _REMEDIES.get(error.errno or 0, "")
        return cls(f"{where}{error.strerror or error}{remedy}")


_REMEDIES = {
    **dict.fromkeys(
        (errno.ENOSPC, errno.EDQUOT), "; free some space and run the same command again: what was finished is kept"
    ),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "; change its permissions, or name another folder"),
}


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest known word, or an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""
