"""Errors that a user can cause, each one line that names the input, the limit and the way out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


class UserError(Exception):
    """Bad input or usage. The command line prints it and exits with 2; the service answers INVALID_ARGUMENT."""


class CheckpointError(UserError):
    """A checkpoint directory that is missing, incomplete, corrupt or of another version."""


def checked_texts(texts: Iterable[str]) -> Iterator[str]:
    """The texts, one by one; UserError for what is none. A single one would be taken for a list of its letters."""
    if isinstance(texts, str):
        raise UserError("texts is a single text: give a list of texts")
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise UserError(f"texts[{i}] is of type {type(text).__name__}: give a str")
        yield text
