"""Errors that are the user's to mend: one line that says what is wrong, where, and what would be right."""

from __future__ import annotations


class UserError(Exception):
    """A mistake in a command, a configuration, a data source or a file; shown as one line without a traceback."""


class NonFinite(UserError):
    """A loss, weights or samples became NaN or infinite; the run stops and names it, and what to change.

    The same command would end the same; the state of a run says so by the words of `SAID`.
    """

    SAID = "became NaN or infinite"
