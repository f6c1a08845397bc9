"""The one error a user can cause: a single clear line, exit code 2, no traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["ScalexError", "resumable"]


class ScalexError(Exception):
    """What is wrong, where, and the way out, in one line.

    The command line prints the message alone and exits with code 2. Anything else that is raised is a bug and keeps
    its traceback.
    """

    def __init__(self, wrong: str, way_out: str = "") -> None:
        self.wrong = wrong
        self.way_out = way_out
        super().__init__(f"{wrong}. {way_out}" if way_out else wrong)


@contextmanager
def resumable(kept: str) -> Iterator[None]:
    """Long work that the same command goes on with: Ctrl-C says so in one line, and what is kept.

    Raises:
        ScalexError: interrupted.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise ScalexError(f"interrupted: {kept}", "Run the same command again to go on from there") from None
